//! One agent's place in the view. It pulls: what the agent does not read stays in the ring, so a slow one costs nothing
//! and is sent a snapshot when the ring has moved past it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::encode;
use super::feed::Handle;
use super::ring::Next;
use super::snapshot::Snapshot;

/// Proves to the agent that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Before everything that can be remembered.
const NOWHERE: i64 = i64::MIN;

pub struct Subscription {
    handle: Handle,
    wake: watch::Receiver<i64>,
    /// A message to be sent before anything else.
    first: Option<Bytes>,
    /// The whole view on its way, and how many of its messages were sent.
    snapshot: Option<(Arc<Snapshot>, usize)>,
    /// Everything up to this revision has been sent once the two above are.
    position: i64,
}

impl Subscription {
    pub(super) fn from_snapshot(handle: Handle, wake: watch::Receiver<i64>) -> Self {
        Self::from_revision(handle, wake, NOWHERE)
    }

    pub(super) fn from_revision(handle: Handle, wake: watch::Receiver<i64>, revision: i64) -> Self {
        Self { handle, wake, first: None, snapshot: None, position: revision }
    }

    pub(super) fn from_frame(handle: Handle, wake: watch::Receiver<i64>, frame: Bytes, revision: i64) -> Self {
        Self { first: Some(frame), ..Self::from_revision(handle, wake, revision) }
    }

    /// The next message: an encoded `SubscribeResponse`. `None` when the view is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        // Since the last message, and not since the last revision: those go on under a view in which nothing changes.
        let silent_until = Instant::now() + KEEP_ALIVE;
        loop {
            if let Some(message) = self.first.take() {
                return Some(message);
            }
            if let Some((snapshot, sent)) = &mut self.snapshot {
                if let Some(message) = snapshot.message(*sent) {
                    *sent += 1;
                    return Some(message);
                }
                self.snapshot = None;
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
                Next::TooOld => self.start_over().await,
                Next::UpToDate => {
                    self.position = self.position.max(newest);
                    match tokio::time::timeout_at(silent_until, self.wake.changed()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_gone)) => return None,
                        Err(_quiet) => return Some(encode::keep_alive(self.handle.cluster_id(), self.position)),
                    }
                }
            }
        }
    }

    async fn start_over(&mut self) {
        let snapshot = self.handle.snapshot().await;
        self.position = snapshot.revision;
        self.snapshot = Some((snapshot, 0));
    }
}
