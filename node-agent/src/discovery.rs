//! Keeps the list of pod devices: scans when a device comes or goes, shortly after (addresses come later, silently), and
//! when somebody misses a pod.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{ErrorChain, Shutdown};
use tokio::sync::{Notify, watch};

use crate::netlink::Netlink;
use crate::netlink::pods::PodDevice;
use crate::netlink::watch::Nudges;
use crate::underlay;

/// Waits between the scans that follow a change; after the last one only the slow round is left.
const FOLLOW_UPS: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(40),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
];
const ROUND: Duration = Duration::from_secs(10);

pub struct Discovery {
    netlink: Netlink,
    nudges: watch::Receiver<Nudges>,
    underlay: watch::Receiver<underlay::State>,
    pods: watch::Sender<Option<Arc<Vec<PodDevice>>>>,
    missed: Arc<Notify>,
}

impl Discovery {
    pub fn new(
        netlink: Netlink,
        nudges: watch::Receiver<Nudges>,
        underlay: watch::Receiver<underlay::State>,
        missed: Arc<Notify>,
    ) -> Self {
        Self { netlink, nudges, underlay, pods: watch::Sender::new(None), missed }
    }

    /// `None` until the first scan.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Vec<PodDevice>>>> {
        self.pods.subscribe()
    }

    pub async fn run(mut self, shutdown: Shutdown) {
        // Without the uplink a lab node's own device would pass for a pod's.
        let known = self.underlay.wait_for(|state| state.uplink.is_some());
        if !matches!(shutdown.unless_requested(known).await, Some(Ok(_))) {
            return;
        }
        let mut follow_up = 0;
        loop {
            let links = self.nudges.borrow_and_update().links;
            self.scan().await;
            let wait = FOLLOW_UPS.get(follow_up).copied().unwrap_or(ROUND);
            tokio::select! {
                changed = self.nudges.wait_for(|nudges| nudges.links != links) => {
                    if changed.is_err() { return }
                    follow_up = 0;
                }
                () = self.missed.notified() => follow_up = 0,
                () = tokio::time::sleep(wait) => follow_up = (follow_up + 1).min(FOLLOW_UPS.len()),
                () = shutdown.requested() => return,
            }
        }
    }

    async fn scan(&self) {
        let uplinks = self.underlay.borrow().uplink.as_ref().map(|u| u.not_pods.clone()).unwrap_or_default();
        match self.netlink.pod_devices(&uplinks).await {
            Ok(found) => {
                self.pods.send_if_modified(|old| {
                    let changed = old.as_deref() != Some(&found);
                    if changed {
                        tracing::debug!(devices = found.len(), "pod devices");
                        *old = Some(Arc::new(found));
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "cannot look for pods"),
        }
    }
}
