//! Tells the API server how the node is: every 2 s, and when something changed.

use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Datapath;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_runtime::{ErrorChain, Shutdown};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::bpf;
use crate::status::Status;

const PERIOD: Duration = Duration::from_secs(2);
/// Changes that come closer together are told together.
const SPACING: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Reporter {
    pub channel: Channel,
    pub status: watch::Receiver<Status>,
    pub datapath: Arc<Datapath>,
}

impl Reporter {
    /// A report that does not arrive is not repeated: the next one says all.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut client = AgentClient::new(self.channel.clone());
        let speak = async {
            loop {
                tokio::time::sleep(SPACING).await;
                let changed = tokio::time::timeout(PERIOD.saturating_sub(SPACING), self.status.changed());
                if matches!(changed.await, Ok(Err(_sender_gone))) {
                    return;
                }
                let dropped = bpf::dropped_packets(&self.datapath).unwrap_or_else(|error| {
                    tracing::warn!(error = %ErrorChain(&error), "cannot read the counters");
                    0
                });
                let mut request = tonic::Request::new(self.status.borrow_and_update().report(dropped));
                request.set_timeout(PATIENCE);
                if let Err(status) = client.report_status(request).await {
                    tracing::debug!(error = %ErrorChain(&status), "report not taken");
                }
            }
        };
        shutdown.unless_requested(speak).await;
    }
}
