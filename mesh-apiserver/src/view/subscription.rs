//! One agent's place in the view. It pulls: what the agent does not read stays in the ring, so a slow one costs nothing
//! and is sent a snapshot when the ring has moved past it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::feed::Handle;
use super::ring::Next;
use super::{View, encode};

/// Proves to the agent that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Objects in one message of a snapshot.
const CHUNK: usize = 500;

/// The whole view as messages.
pub(super) struct Snapshot {
    pub(super) revision: i64,
    messages: Vec<Bytes>,
}

impl Snapshot {
    pub(super) fn of(view: &View, revision: i64, cluster_id: u64) -> Self {
        let objects: Vec<Bytes> = view.objects().map(encode::object).collect();
        let mut messages = vec![encode::snapshot_begin(cluster_id)];
        let none = std::collections::BTreeMap::new();
        messages.extend(objects.chunks(CHUNK).map(|chunk| encode::delta(cluster_id, chunk, &[], revision, &none)));
        messages.push(encode::prune(cluster_id, revision));
        Self { revision, messages }
    }
}

pub struct Subscription {
    handle: Handle,
    wake: watch::Receiver<i64>,
    /// Messages to be sent before anything else.
    pending: VecDeque<Bytes>,
    /// Everything up to this revision has been sent once `pending` is empty.
    position: i64,
}

impl Subscription {
    pub(super) fn from_snapshot(handle: Handle, wake: watch::Receiver<i64>) -> Self {
        let mut subscription = Self { handle, wake, pending: VecDeque::new(), position: 0 };
        subscription.start_over();
        subscription
    }

    pub(super) fn from_revision(handle: Handle, wake: watch::Receiver<i64>, revision: i64) -> Self {
        Self { handle, wake, pending: VecDeque::new(), position: revision }
    }

    pub(super) fn from_frame(handle: Handle, wake: watch::Receiver<i64>, frame: Bytes, revision: i64) -> Self {
        Self { handle, wake, pending: VecDeque::from([frame]), position: revision }
    }

    /// The next message: an encoded `SubscribeResponse`. `None` when the view is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Some(message);
            }
            self.wake.borrow_and_update();
            let (next, newest) = {
                let state = self.handle.state().read();
                (state.ring.after(self.position), state.revision)
            };
            match next {
                Next::Frame(revision, frame) => {
                    self.position = revision;
                    return Some(frame);
                }
                Next::TooOld => self.start_over(),
                Next::UpToDate => {
                    self.position = self.position.max(newest);
                    match tokio::time::timeout(KEEP_ALIVE, self.wake.changed()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_gone)) => return None,
                        Err(_quiet) => return Some(encode::keep_alive(self.handle.cluster_id(), self.position)),
                    }
                }
            }
        }
    }

    fn start_over(&mut self) {
        let snapshot: Arc<Snapshot> = self.handle.snapshot();
        self.pending = snapshot.messages.iter().cloned().collect();
        self.position = snapshot.revision;
    }
}
