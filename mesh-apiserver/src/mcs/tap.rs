//! Sees the source's objects on their way to the exporter, and notes what concerns the cluster set.
//!
//! ```text
//!  source --Batch--> Tap --Batch--> exporter
//!                     +--> Local, names to look at again
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use mesh_types::ServiceName;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::local::Local;
use crate::source::Batch;

/// What the tap and the controller share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Written by the tap, read by the controller.
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    local: Local,
    touched: BTreeSet<ServiceName>,
}

/// The task between the source and the exporter.
pub struct Tap {
    from: mpsc::Receiver<Batch>,
    to: mpsc::Sender<Batch>,
    seen: Seen,
}

impl Seen {
    /// Resolves when something was noted since the last call.
    pub async fn changed(&self) {
        self.0.news.notified().await;
    }

    /// What was touched since the last call.
    pub fn take_touched(&self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.0.state.lock().touched)
    }

    pub(super) fn read<T>(&self, ask: impl FnOnce(&Local) -> T) -> T {
        ask(&self.0.state.lock().local)
    }

    fn note(&self, batch: &Batch) {
        let mut state = self.0.state.lock();
        let touched = state.local.note(batch);
        state.touched.extend(touched);
        drop(state);
        self.0.news.notify_one();
    }
}

impl Tap {
    pub fn new(from: mpsc::Receiver<Batch>, to: mpsc::Sender<Batch>, seen: Seen) -> Self {
        Self { from, to, seen }
    }

    /// Passes everything on until one of both ends is gone.
    pub async fn run(mut self) -> Result<(), Infallible> {
        while let Some(batch) = self.from.recv().await {
            self.seen.note(&batch);
            if self.to.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
