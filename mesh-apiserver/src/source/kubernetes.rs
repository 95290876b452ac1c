//! An API server of Kubernetes as a source of objects.
//!
//! ```text
//!  for each resource:  list in pages --> watch --> watch again from where it ended
//!                        ^                 |
//!                        +---- 410 Gone ---+
//!  text --wire--> Item (object, or why not) --inventory--> what differs from what was delivered --> Batch
//! ```
//! The only code that names `kube`, and of it only the client: its configuration, credentials, TLS and requests. What is
//! asked and what an answer means is here, in pure parts (`wire`, `progress`, `inventory`), because a list must replace
//! what is known without taking anything back in between, and a malformed object must be left out alone.
//!
//! It only ever reads. Only the replica that exports for its cluster runs it: one set of watches a cluster.

mod access;
mod failure;
mod follower;
mod inventory;
mod progress;
mod resource;
mod wire;

use std::sync::Arc;

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use self::access::{Access, AccessError, Options};
pub use self::failure::Failure;
use self::follower::Follower;
use self::inventory::Inventory;
use self::resource::Resource;
use super::{Batch, Status};

/// Why the API server is not followed any more. Whatever it does or does not answer is no reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the consumer of objects is gone")]
    Closed,
}

/// The task that follows an API server.
pub struct Kubernetes {
    access: Access,
    /// Written by the task; read when somebody asks for the status.
    inventory: Arc<Mutex<Inventory>>,
    out: mpsc::Sender<Batch>,
    resources: Vec<&'static Resource>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct StatusHandle(Arc<Mutex<Inventory>>);

impl StatusHandle {
    pub fn get(&self) -> Status {
        self.0.lock().status()
    }
}

impl Kubernetes {
    /// `with_imports`: ServiceImports are followed, too.
    pub fn new(access: Access, with_imports: bool, out: mpsc::Sender<Batch>) -> (Self, StatusHandle) {
        let imports = with_imports.then_some(&resource::IMPORTS);
        let resources: Vec<&'static Resource> = resource::ALL.iter().chain(imports).collect();
        let kinds = resources.iter().map(|resource| resource.kind);
        let inventory = Arc::new(Mutex::new(Inventory::new(access.location().to_owned(), kinds)));
        let status = StatusHandle(Arc::clone(&inventory));
        (Self { access, inventory, out, resources }, status)
    }

    /// Follows the API server until the consumer goes away. Cancel-safe: dropping the future stops it.
    pub async fn run(self) -> Result<(), Error> {
        let follow = self.resources.iter().map(|resource| {
            // Large by the client's requests; there are few.
            Box::pin(Follower::new(resource, &self.access, &self.inventory, &self.out).run())
        });
        try_join_all(follow).await.map(drop)
    }
}
