//! What the service does in the store with clusters that are no peers any more, when [`super::partings`] says so.

use std::time::Instant;

use mesh_runtime::{ErrorChain, clock};
use mesh_types::{ClusterId, ClusterName};

use super::partings::Step;
use super::{Error, Service};
use crate::mirror;

impl Service {
    /// Ends the session. What it mirrored goes in two steps, of which this is the first.
    pub(super) async fn remove(&mut self, name: &ClusterName) {
        self.stop(name).await;
        self.boards.write().remove(name);
        self.shared.metrics.forget(name);
        self.partings.add(name, Instant::now());
        self.part_due().await;
    }

    /// Does every step that is due.
    pub(super) async fn part_due(&mut self) {
        self.partings.set_grace(self.shared.tuning.borrow().disconnect_grace);
        for (name, step) in self.partings.due(Instant::now()) {
            let done = match step {
                Step::Mark => self.mark(&name).await,
                Step::Drain => self.drain(&name).await,
            };
            match done {
                Ok(()) => {}
                // The watch of peers tells of it in a moment.
                Err(mirror::Error::PeerReturned { .. }) => drop(self.partings.forget(&name)),
                Err(error) => {
                    let again_in = self.partings.failed(&name, Instant::now());
                    tracing::warn!(peer = %name, error = %ErrorChain(&error), ?again_in, "former peer not removed yet");
                }
            }
        }
    }

    /// Removes at once what is left of clusters that had the id of one that is joined now.
    pub(super) async fn drain_former(&mut self, joined: &ClusterName, id: ClusterId) -> Result<(), Error> {
        for former in self.partings.of_id(id) {
            match self.drain(&former).await {
                Ok(()) => {}
                Err(mirror::Error::PeerReturned { .. }) => drop(self.partings.forget(&former)),
                Err(source) => return Err(Error::SameId { former, joined: joined.clone(), source }),
            }
        }
        Ok(())
    }

    async fn mark(&mut self, name: &ClusterName) -> Result<(), mirror::Error> {
        let now_unix_nanos = clock::unix_nanos();
        match mirror::mark(&*self.shared.store, name, now_unix_nanos).await? {
            Some(mark) => {
                self.partings.marked(name, mark, Instant::now(), now_unix_nanos);
                tracing::info!(peer = %name, "parted: its configuration is withdrawn, its facts follow after the grace");
            }
            None => drop(self.partings.forget(name)),
        }
        Ok(())
    }

    async fn drain(&mut self, name: &ClusterName) -> Result<(), mirror::Error> {
        mirror::drain(&*self.shared.store, name).await?;
        self.partings.forget(name);
        tracing::info!(peer = %name, "former peer's facts removed");
        Ok(())
    }
}
