//! When records of the store are to be read again.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::Backoff;
use mesh_store::Store;
use mesh_store::backend::{Class, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::KeyRange;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} cannot be followed")]
    Store { what: &'static str, source: mesh_store::backend::Error },
    #[error("the watch of {what} ended")]
    Watch { what: &'static str },
}

/// While the store has no leader nothing can be read; it has one again within seconds.
pub fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}

/// Tells when records of one kind have changed. A change is only a nudge: read them all again.
pub struct Changes {
    store: Arc<dyn Store>,
    range: KeyRange,
    /// For errors.
    what: &'static str,
    watch: Option<Watcher>,
}

impl Changes {
    pub fn new(store: &Arc<dyn Store>, range: KeyRange, what: &'static str) -> Self {
        Self { store: Arc::clone(store), range, what, watch: None }
    }

    /// Returns at once the first time, and then after every change.
    pub async fn next(&mut self) -> Result<(), Error> {
        loop {
            let Some(watch) = &mut self.watch else {
                self.watch = Some(self.begin().await?);
                return Ok(());
            };
            match watch.next().await {
                Some(WatchUpdate::Events(_)) => return Ok(()),
                Some(WatchUpdate::Progress { .. }) => {}
                // What happened in between is in what is read then.
                Some(WatchUpdate::Compacted { .. }) => self.watch = None,
                None => return Err(Error::Watch { what: self.what }),
            }
        }
    }

    async fn begin(&mut self) -> Result<Watcher, Error> {
        let mut backoff = backoff();
        loop {
            let start_revision = self.store.revision() + 1;
            let request = WatchRequest { range: self.range.clone(), start_revision, ..WatchRequest::default() };
            match self.store.watch(request).await {
                Err(error) if error.class() == Class::Retryable => backoff.wait().await,
                watch => return watch.map_err(|source| Error::Store { what: self.what, source }),
            }
        }
    }
}
