//! The verdict on a joined cluster as the store carries it: written by the judge's term, read by every replica's view.
//!
//! The view has no clock. What hangs on a time is therefore written when the time has come: `outlived_seconds` grows at each
//! period that some Service asks for, and every replica concludes the same from the same revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::mvcc::{Compare, CompareResult, CompareTarget, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_types::{ClusterName, WithdrawAfter};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::contract::keys;
use crate::state::State;

/// What was lost of a cluster whose backends are withdrawn. A later one includes what the earlier ones withdraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Its control plane has been silent to the end of the grace; packets may still reach it.
    Control,
    /// Packets do not reach it; its control plane answers.
    Paths,
    /// Both.
    Cluster,
}

/// `isthmus/v1/health/<cluster>`, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub state: State,
    pub since_unix_nanos: u64,
    /// As it was when the record was written.
    pub reason: String,
    /// Set while `state` is `Withdrawn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// When the newest heartbeat before `since_unix_nanos` arrived; 0 for none.
    #[serde(default)]
    pub last_heartbeat_unix_nanos: u64,
    /// The longest period in use that its silence has outlived; 0 for none. Goes back to 0 only when it is live again.
    #[serde(default)]
    pub outlived_seconds: u64,
    /// The same of the periods after which some Service shows a silent cluster as stale.
    #[serde(default)]
    pub stale_seconds: u64,
}

/// The verdicts on all joined clusters.
pub type Verdicts = BTreeMap<ClusterName, Health>;

impl Health {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// Whether a Service with this setting does not use the cluster's backends.
    pub fn withdraws(&self, setting: Option<WithdrawAfter>) -> bool {
        match (setting, self.loss) {
            (Some(WithdrawAfter::Never), _) => false,
            (_, Some(Loss::Cluster | Loss::Paths)) => true,
            (None, loss) => loss.is_some(),
            (Some(WithdrawAfter::Seconds(seconds)), _) => self.outlived_seconds >= u64::from(seconds),
        }
    }

    /// What decides something: a newer reason alone is not worth a write. The time stands for the state's beginning: a cluster
    /// that was parted and is back has no record, whatever was written of it before.
    fn decides(&self) -> (State, u64, Option<Loss>, u64, u64) {
        (self.state, self.since_unix_nanos, self.loss, self.outlived_seconds, self.stale_seconds)
    }
}

/// The verdict that an earlier term left; `None` where there is none or it cannot be read.
pub(crate) async fn find(
    store: &dyn Store,
    cluster: &ClusterName,
) -> Result<Option<Health>, mesh_store::backend::Error> {
    let key = keys::health(cluster);
    let found = store.range(RangeRequest::get(key.clone())).await?;
    Ok(found.kvs.first().and_then(|kv| match Health::decode(&kv.value) {
        Ok(health) => Some(health),
        Err(error) => {
            tracing::warn!(key, %error, "the former verdict cannot be read: judged anew");
            None
        }
    }))
}

/// Writes verdicts into the store. The only writer of these keys; a drain of a former peer deletes them.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    written: Verdicts,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>, verdicts: watch::Receiver<Arc<Verdicts>>) -> Self {
        Self { store, verdicts, written: Verdicts::new() }
    }

    pub(crate) async fn run(mut self, shutdown: &Shutdown) {
        shutdown.unless_requested(self.follow()).await;
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let wanted = Arc::clone(&self.verdicts.borrow_and_update());
            self.written.retain(|cluster, _| wanted.contains_key(cluster));
            let mut failed = false;
            for (cluster, health) in wanted.iter() {
                if self.written.get(cluster).is_some_and(|known| known.decides() == health.decides()) {
                    continue;
                }
                match self.write(cluster, health).await {
                    Ok(()) => drop(self.written.insert(cluster.clone(), health.clone())),
                    Err(error) => {
                        failed = true;
                        tracing::warn!(peer = %cluster, error = %ErrorChain(&error), "verdict not written, trying again");
                    }
                }
            }
            if failed {
                backoff.wait().await;
                continue;
            }
            backoff.reset();
            if self.verdicts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Writes nothing once the cluster is no peer any more.
    async fn write(&self, cluster: &ClusterName, health: &Health) -> Result<(), mesh_store::backend::Error> {
        let is_peer = Compare {
            range: KeyRange::single(keys::peer(cluster)),
            result: CompareResult::Greater,
            target: CompareTarget::CreateRevision(0),
        };
        let put = TxnOp::Put(PutRequest::new(keys::health(cluster), health.encode()));
        let request = TxnRequest { compare: vec![is_peer], success: vec![put], failure: Vec::new() };
        self.store.txn(request).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_and_the_services_own_setting_decide_together() {
        use Loss::{Cluster, Control, Paths};
        let (usual, minute, never) = (None, Some(WithdrawAfter::Seconds(60)), Some(WithdrawAfter::Never));
        // (loss, outlived) -> withdrawn for a Service without a setting, with a minute, with never
        let table = [
            (None, 0, [false, false, false]),
            (None, 59, [false, false, false]),
            (None, 60, [false, true, false]),
            (Some(Control), 45, [true, false, false]),
            (Some(Control), 60, [true, true, false]),
            (Some(Paths), 0, [true, true, false]),
            (Some(Cluster), 0, [true, true, false]),
        ];
        for (loss, outlived_seconds, want) in table {
            let health = Health {
                state: if loss.is_some() { State::Withdrawn } else { State::Stale },
                since_unix_nanos: 1,
                reason: "told".into(),
                loss,
                last_heartbeat_unix_nanos: 0,
                outlived_seconds,
                stale_seconds: 0,
            };
            assert_eq!(
                [usual, minute, never].map(|setting| health.withdraws(setting)),
                want,
                "{loss:?} {outlived_seconds}"
            );
            assert_eq!(Health::decode(&health.encode()).unwrap(), health);
        }
    }
}
