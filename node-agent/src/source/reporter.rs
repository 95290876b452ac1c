//! Tells the API server how the node is: every 2 s, and when something changed.

use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Datapath;
use mesh_proto::v1;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_runtime::{ErrorChain, Shutdown};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::bpf;
use crate::enrol::Wanted;
use crate::status::Status;

const PERIOD: Duration = Duration::from_secs(2);
/// Changes that come closer together are told together.
const SPACING: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Reporter {
    pub channel: Channel,
    pub status: watch::Receiver<Status>,
    pub datapath: Arc<Datapath>,
    /// By what this agent calls.
    pub credentials: watch::Receiver<v1::Credentials>,
    /// What the answers say that it should hold.
    pub wanted: watch::Sender<Wanted>,
}

impl Reporter {
    /// A report that does not arrive is not repeated: the next one says all.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut client = AgentClient::new(self.channel.clone());
        let speak = async {
            loop {
                tokio::time::sleep(SPACING).await;
                let pause = tokio::time::sleep(PERIOD.saturating_sub(SPACING));
                let is_over = tokio::select! {
                    changed = self.status.changed() => changed.is_err(),
                    changed = self.credentials.changed() => changed.is_err(),
                    () = pause => false,
                };
                if is_over {
                    return;
                }
                let dropped = bpf::dropped_packets(&self.datapath).unwrap_or_else(|error| {
                    tracing::warn!(error = %ErrorChain(&error), "cannot read the counters");
                    0
                });
                let mut report = self.status.borrow_and_update().report(dropped);
                report.credentials = Some(self.credentials.borrow_and_update().clone());
                let mut request = tonic::Request::new(report);
                request.set_timeout(PATIENCE);
                match client.report_status(request).await {
                    Ok(answer) => self.note(answer.into_inner().into()),
                    Err(status) => tracing::debug!(error = %ErrorChain(&status), "report not taken"),
                }
            }
        };
        shutdown.unless_requested(speak).await;
    }

    fn note(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|known| {
            let is_news = *known != wanted;
            *known = wanted;
            is_news
        });
    }
}
