//! One process at a time changes a node: an agent, or the cleanup that takes it off. A file lock in the state folder, which
//! ends with its process, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_runtime::Shutdown;

const FILE: &str = "lock";
const LOOK_EVERY: Duration = Duration::from_millis(100);
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// Held as long as it lives.
#[derive(Debug)]
pub struct NodeLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("another agent or cleanup of this node holds {} after {waited:?}: end it first", path.display())]
    Held { path: PathBuf, waited: Duration },
    #[error("stopped while another agent or cleanup of this node held {}", .0.display())]
    Stopped(PathBuf),
}

impl NodeLock {
    /// Waits until whoever holds it has ended: for `patience`, or where there is none until `shutdown`.
    pub async fn take(state_dir: &Path, patience: Option<Duration>, shutdown: &Shutdown) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        let failed = |source| Error::Lock { path: path.clone(), source };
        let file = File::create(&path).map_err(failed)?;
        let started = Instant::now();
        let mut reminded: Option<Instant> = None;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            if let Some(waited) = patience.filter(|patience| started.elapsed() >= *patience) {
                return Err(Error::Held { path, waited });
            }
            if reminded.is_none_or(|last| last.elapsed() >= REMIND_EVERY) {
                tracing::warn!(file = %path.display(), "waiting for another agent or cleanup of this node to end");
                reminded = Some(Instant::now());
            }
            if shutdown.unless_requested(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return Err(Error::Stopped(path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_process_waits_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let first = NodeLock::take(folder.path(), None, &shutdown).await.unwrap();
        let refused = NodeLock::take(folder.path(), Some(Duration::ZERO), &shutdown).await.unwrap_err();
        assert!(matches!(refused, Error::Held { .. }), "{refused}");
        let waiting = NodeLock::take(folder.path(), Some(Duration::from_secs(20)), &shutdown);
        let (second, ()) = tokio::join!(waiting, async move { drop(first) });
        second.unwrap();
    }

    #[tokio::test]
    async fn waiting_ends_when_the_process_is_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        let _first = NodeLock::take(folder.path(), None, &shutdown).await.unwrap();
        shutdown.trigger(mesh_runtime::Cause::Requested("the test".to_owned()));
        let stopped = NodeLock::take(folder.path(), None, &shutdown).await.unwrap_err();
        assert!(matches!(stopped, Error::Stopped(_)), "{stopped}");
    }
}
