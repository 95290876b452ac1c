//! Keeps the agent's leaf fresh, and its CAs those that its cluster has: renewed well before the end, when the cluster goes
//! over to another CA, and when an administrator asks for it. Open streams keep theirs. Where it is too late for that, and the
//! agent may, it enrols anew.

use std::time::Duration;

use certs::{CaHash, PendingLeaf, TrustBundle};
use mesh_proto::v1;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_runtime::{Backoff, ErrorChain, Shutdown, clock};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{Identity, PATIENCE};

/// How often the leaf's age is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What the API server says that this agent should hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    trusts: Vec<String>,
    issuer: String,
    leaf_epoch: u64,
}

impl From<v1::ReportStatusResponse> for Wanted {
    fn from(said: v1::ReportStatusResponse) -> Self {
        let v1::ReportStatusResponse { mut trusts, issuer, leaf_epoch } = said;
        trusts.sort_unstable();
        Self { trusts, issuer, leaf_epoch }
    }
}

/// The task, and what it tells of itself.
pub struct Renewal {
    identity: Identity,
    client: AgentClient<Channel>,
    wanted: watch::Receiver<Wanted>,
    held: watch::Sender<v1::Credentials>,
    leaf_epoch: u64,
}

impl Renewal {
    /// `wanted` is what the API server says newest, `held` becomes what the agent holds.
    pub fn new(
        identity: Identity,
        channel: Channel,
        wanted: watch::Receiver<Wanted>,
        held: watch::Sender<v1::Credentials>,
    ) -> Self {
        let renewal = Self { identity, client: AgentClient::new(channel), wanted, held, leaf_epoch: 0 };
        renewal.show(String::new());
        renewal
    }

    pub async fn run(self, shutdown: Shutdown) {
        shutdown.unless_requested(self.keep_fresh()).await;
    }

    async fn keep_fresh(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if !self.is_due(&wanted) {
                tokio::select! {
                    // The reporter ends with the process.
                    Ok(()) = self.wanted.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                continue;
            }
            match self.renew().await {
                // A server that wants what another one does not give yet is asked again, and not without a pause.
                Ok(()) => self.show(String::new()),
                Err(error) => {
                    tracing::warn!(error, "certificate not renewed yet");
                    self.show(error);
                    backoff.wait().await;
                    continue;
                }
            }
            if self.is_due(&wanted) {
                backoff.wait().await;
            } else {
                backoff.reset();
            }
        }
    }

    fn is_due(&self, wanted: &Wanted) -> bool {
        let now = jiff::Timestamp::UNIX_EPOCH.saturating_add(clock::since_epoch()).unwrap_or(jiff::Timestamp::MAX);
        let held = self.held.borrow();
        // Before the first report was answered nothing is wanted.
        let is_other = !wanted.trusts.is_empty()
            && (held.trusts != wanted.trusts || held.issuer != wanted.issuer || self.leaf_epoch < wanted.leaf_epoch);
        is_other || self.identity.leaf.get().is_renewal_due(now) || self.identity.is_past_renewal()
    }

    async fn renew(&mut self) -> Result<(), String> {
        let text = |error: &(dyn std::error::Error + 'static)| ErrorChain(error).to_string();
        let identity = &self.identity;
        if identity.is_past_renewal() {
            return identity.enrol_anew().await;
        }
        let pending = PendingLeaf::generate(&identity.options.node).map_err(|e| text(&e))?;
        let mut request = tonic::Request::new(v1::RenewRequest { csr_pem: pending.csr_pem().to_owned() });
        request.set_timeout(PATIENCE);
        let answer = self.client.renew(request).await.map_err(|status| status.message().to_owned())?.into_inner();
        let leaf = pending.complete(&answer.certificate_pem).map_err(|e| text(&e))?;
        let bundle = TrustBundle::from_pem(&answer.trust_bundle_pem).map_err(|e| text(&e))?;
        identity.files.replace(&bundle, &leaf).map_err(|e| text(&e))?;
        identity.trust.replace(bundle).map_err(|e| text(&e))?;
        identity.leaf.replace(leaf);
        self.leaf_epoch = answer.leaf_epoch;
        Ok(())
    }

    fn show(&self, problem: String) {
        let (trust, leaf) = (self.identity.trust.get(), self.identity.leaf.get());
        let validity = leaf.validity();
        let nanos = |time: jiff::Timestamp| u64::try_from(time.as_nanosecond()).unwrap_or_default();
        self.held.send_replace(v1::Credentials {
            trusts: trust.hash_set().iter().map(CaHash::to_string).collect(),
            issuer: trust.issuer_of(&leaf).map(|hash| hash.to_string()).unwrap_or_default(),
            not_before_unix_nanos: nanos(validity.not_before),
            not_after_unix_nanos: nanos(validity.not_after),
            renew_unix_nanos: nanos(validity.renew_at()),
            leaf_epoch: self.leaf_epoch,
            problem,
        });
    }
}
