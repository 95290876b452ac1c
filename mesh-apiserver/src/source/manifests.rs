//! A folder of Kubernetes manifests as a source of objects.
//!
//! ```text
//!  inotify --> paths --> read file --> documents --> inventory (who owns which object) --> Batch
//! ```
//! A malformed document is left out alone and shown in the status; everything else goes on. Objects belong to the file
//! that holds them: when the document goes, the object goes. Nothing is debounced beyond what is already queued.

mod documents;
mod inventory;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::inventory::Inventory;
use self::watch::Watch;
use super::{Batch, Change, Status};

/// Why the folder cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "manifests folder {path}: cannot be watched. Check that it exists and is readable (fs.inotify limits apply)"
    )]
    Watch { path: PathBuf, source: std::io::Error },
    #[error("the consumer of objects is gone")]
    Closed,
}

/// The task that follows a folder.
pub struct Manifests {
    folder: PathBuf,
    /// Written by the task; read when somebody asks for the status.
    inventory: Arc<Mutex<Inventory>>,
    out: mpsc::Sender<Batch>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct StatusHandle(Arc<Mutex<Inventory>>);

impl StatusHandle {
    pub fn get(&self) -> Status {
        self.0.lock().status()
    }
}

impl Manifests {
    pub fn new(folder: PathBuf, out: mpsc::Sender<Batch>) -> (Self, StatusHandle) {
        let inventory = Arc::new(Mutex::new(Inventory::new(folder.clone())));
        let status = StatusHandle(Arc::clone(&inventory));
        (Self { folder, inventory, out }, status)
    }

    /// Follows the folder until the consumer goes away. Cancel-safe: dropping the future stops it.
    pub async fn run(self) -> Result<(), Error> {
        let mut watch = Watch::start(&self.folder)?;
        // The watches are in place before the first read, so a file that changes in between is read again.
        let first = watch.scan()?;
        self.deliver(first, true).await?;
        loop {
            let paths = watch.changed().await?;
            self.deliver(paths, false).await?;
        }
    }

    async fn deliver(&self, paths: Vec<PathBuf>, is_complete: bool) -> Result<(), Error> {
        let changes = self.read(paths);
        if changes.is_empty() && !is_complete {
            return Ok(());
        }
        self.out.send(Batch { changes, is_complete, ..Batch::default() }).await.map_err(|_closed| Error::Closed)
    }

    fn read(&self, paths: Vec<PathBuf>) -> Vec<Change> {
        let mut inventory = self.inventory.lock();
        let mut changes = Vec::new();
        for path in paths {
            match std::fs::read_to_string(&path) {
                Ok(text) => changes.extend(inventory.replace(&path, &text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => changes.extend(inventory.remove(&path)),
                Err(e) => inventory.unreadable(&path, &e),
            }
        }
        for rejection in inventory.take_news() {
            tracing::warn!(object = %rejection.object, reason = %rejection.reason, "left out of the mesh");
        }
        changes
    }
}
