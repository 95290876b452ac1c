//! Attaches the pod programs. Apart from `control`, which never waits: an attachment takes the kernel tens of milliseconds on
//! a busy machine, and a node may have hundreds of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Datapath;
use mesh_runtime::{ErrorChain, Shutdown};
use tokio::sync::watch;

const RETRY: Duration = Duration::from_millis(500);

/// Pods' devices by index, with their names.
pub type Devices = BTreeMap<u32, String>;

pub struct Attacher {
    datapath: Arc<Datapath>,
    wanted: watch::Receiver<Devices>,
    failures: watch::Sender<BTreeMap<u32, String>>,
    attached: BTreeSet<u32>,
}

impl Attacher {
    pub fn new(datapath: Arc<Datapath>, wanted: watch::Receiver<Devices>) -> Self {
        Self { datapath, wanted, failures: watch::Sender::new(BTreeMap::new()), attached: BTreeSet::new() }
    }

    /// Devices that have no programs yet, with the reason.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<u32, String>> {
        self.failures.subscribe()
    }

    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let failures = self.attach(&wanted, &shutdown).await;
            let is_done = failures.is_empty();
            self.failures.send_if_modified(|old| {
                let changed = *old != failures;
                *old = failures;
                changed
            });
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if !is_done => {}
                () = shutdown.requested() => return,
            }
        }
    }

    async fn attach(&mut self, wanted: &Devices, shutdown: &Shutdown) -> BTreeMap<u32, String> {
        let gone = self.attached.iter().any(|index| !wanted.contains_key(index));
        self.attached.retain(|index| wanted.contains_key(index));
        if gone && let Err(error) = self.datapath.prune_links() {
            tracing::warn!(error = %ErrorChain(&error), "cannot remove the pins of vanished devices");
        }
        let mut failures = BTreeMap::new();
        for (index, name) in wanted {
            if self.attached.contains(index) {
                continue;
            }
            if shutdown.is_requested() {
                break;
            }
            let (datapath, device) = (Arc::clone(&self.datapath), *index);
            let error = match tokio::task::spawn_blocking(move || datapath.attach_pod(device)).await {
                Ok(Ok(done)) => {
                    tracing::debug!(device = name, ?done, "pod attached");
                    self.attached.insert(*index);
                    continue;
                }
                Ok(Err(error)) => ErrorChain(&error).to_string(),
                Err(panicked) => panicked.to_string(),
            };
            failures.insert(*index, format!("{name}: {error}"));
        }
        failures
    }
}
