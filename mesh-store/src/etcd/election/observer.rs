//! What the leaders of one election proclaim, in order: not every value that ever was, but always the newest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mesh_store_mvcc::{Event, EventKind, KeyRange, KeyValue};
use tonic::Status;

use super::super::queue::Queue;
use super::super::{Shared, convert, status};
use super::{LeaderResponse, plain};
use crate::backend::{WatchRequest, WatchUpdate, Watcher};

pub(super) struct Observer {
    shared: Arc<Shared>,
    name: Vec<u8>,
    ready: VecDeque<LeaderResponse>,
    following: Following,
}

/// What is being watched.
enum Following {
    /// Nothing: who leads has to be asked.
    Nobody,
    /// There is no leader; the first key that is put will be one.
    Queue(Watcher),
    /// The leader's key, until it is deleted.
    Leader(Watcher),
}

impl Observer {
    pub(super) fn new(shared: Arc<Shared>, name: Vec<u8>) -> Self {
        Self { shared, name, ready: VecDeque::new(), following: Following::Nobody }
    }

    pub(super) async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            if let Some(leader) = self.ready.pop_front() {
                return Ok(leader);
            }
            match &mut self.following {
                Following::Nobody => self.look().await?,
                Following::Queue(watcher) => {
                    let Some((events, _)) = updates(watcher).await? else {
                        self.following = Following::Nobody;
                        continue;
                    };
                    if let Some(event) = events.into_iter().find(|event| event.kind == EventKind::Put) {
                        let revision = event.kv.mod_revision;
                        self.follow(event.kv, revision).await?;
                    }
                }
                Following::Leader(watcher) => {
                    let Some((events, revision)) = updates(watcher).await? else {
                        self.following = Following::Nobody;
                        continue;
                    };
                    for event in events {
                        if event.kind == EventKind::Delete {
                            self.following = Following::Nobody;
                            break;
                        }
                        self.push(event.kv, revision);
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), Status> {
        let queue = Queue::new(&self.shared.store, &self.name);
        let range = queue.range();
        let (first, revision) = queue.first().await?;
        match first {
            Some(kv) => self.follow(kv, revision).await?,
            None => self.following = Following::Queue(watch(&self.shared, range, revision + 1).await?),
        }
        Ok(())
    }

    /// Reports a leader as it was at `revision` and watches it from there.
    async fn follow(&mut self, kv: KeyValue, revision: i64) -> Result<(), Status> {
        let key: Bytes = kv.key.clone();
        self.push(kv, revision);
        self.following = Following::Leader(watch(&self.shared, KeyRange::single(key), revision + 1).await?);
        Ok(())
    }

    fn push(&mut self, kv: KeyValue, revision: i64) {
        let header = Some(self.shared.header(revision));
        self.ready.push_back(LeaderResponse { header, kv: Some(convert::key_value(kv)) });
    }
}

async fn watch(shared: &Shared, range: KeyRange, start_revision: i64) -> Result<Watcher, Status> {
    let request = WatchRequest { range, start_revision, ..WatchRequest::default() };
    shared.store.watch(request).await.map_err(|error| status::of(&error))
}

/// The next events with the revision they reach to; `None` when the watch fell behind the compaction.
async fn updates(watcher: &mut Watcher) -> Result<Option<(Vec<Event>, i64)>, Status> {
    match watcher.next().await {
        Some(WatchUpdate::Events(batch)) => Ok(Some((batch.events, batch.revision))),
        Some(WatchUpdate::Progress { revision }) => Ok(Some((Vec::new(), revision))),
        Some(WatchUpdate::Compacted { .. }) => Ok(None),
        None => Err(plain("election: observe closed early")),
    }
}
