//! All watches of a session on one stream, each message given the name of its watch.
//!
//! The server numbers watches; `created` answers come in the order of the requests, which is how a number finds its name.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use etcd_client::{WatchRequestSender, WatchResponse, WatchResponseStream, WatchStream};
use futures::FutureExt as _;
use mesh_store::mvcc::KeyRange;

use super::error::{Error, reason};
use super::link::watch_options;
use crate::mirror::Watched;

pub(super) struct Watches {
    sender: WatchRequestSender,
    stream: WatchResponseStream,
    /// Requests that were not answered yet, in order.
    pending: VecDeque<Watched>,
    by_id: BTreeMap<i64, Watched>,
}

/// One change of one key.
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    /// `None`: deleted.
    pub(super) value: Option<Bytes>,
    pub(super) revision: i64,
}

/// What the stream said.
pub(super) enum Update {
    /// The watch stands.
    Created(Watched),
    /// The watch was refused when it was asked for.
    Refused {
        watched: Watched,
        reason: String,
    },
    Changes(Watched, Vec<Change>),
    /// Nothing changed up to this revision, in one watch or in all.
    Progress(Option<Watched>, i64),
    /// History does not reach back to where the watch should begin.
    Compacted(Watched),
    /// Ended by the server for another reason; nothing is lost when it is asked for again.
    Canceled {
        watched: Watched,
        reason: String,
    },
}

/// An update and the number of the store that it came from.
pub(super) struct Message {
    pub(super) cluster_id: u64,
    pub(super) update: Update,
}

impl Watches {
    pub(super) fn new(stream: WatchStream, first: Watched) -> Self {
        let (sender, stream) = stream.split();
        Self { sender, stream, pending: VecDeque::from([first]), by_id: BTreeMap::new() }
    }

    /// Asks for one more watch.
    pub(super) async fn add(&mut self, watched: Watched, range: &KeyRange, from: i64) -> Result<(), Error> {
        let options = watch_options(range, from);
        self.pending.push_back(watched);
        let sent = self.sender.watch(range.key.to_vec(), Some(options)).await;
        sent.map_err(|e| Error::Ended { reason: reason(&e) })
    }

    /// Asks how far the stream has come: moves the resume points of idle watches.
    pub(super) async fn request_progress(&mut self) -> Result<(), Error> {
        self.sender.request_progress().await.map_err(|e| Error::Ended { reason: reason(&e) })
    }

    /// The next message. Safe to drop and call again in `select!`.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        loop {
            let received = self.stream.message().await;
            if let Some(message) = self.sort(received)? {
                return Ok(message);
            }
        }
    }

    /// The next message if it is here already.
    pub(super) fn try_next(&mut self) -> Result<Option<Message>, Error> {
        while let Some(received) = self.stream.message().now_or_never() {
            if let Some(message) = self.sort(received)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Names a message; `None` for one that concerns no watch of ours any more.
    fn sort(&mut self, received: Result<Option<WatchResponse>, etcd_client::Error>) -> Result<Option<Message>, Error> {
        let response = match received {
            Ok(Some(response)) => response,
            Ok(None) => return Err(Error::Ended { reason: "the peer closed the watch stream".to_owned() }),
            Err(error) => return Err(Error::Ended { reason: reason(&error) }),
        };
        let header = response.header().ok_or(Error::NoHeader)?;
        let (cluster_id, revision) = (header.cluster_id(), header.revision());
        Ok(self.update(response, revision).map(|update| Message { cluster_id, update }))
    }

    fn update(&mut self, response: WatchResponse, revision: i64) -> Option<Update> {
        let id = response.watch_id();
        if response.created() {
            let watched = self.pending.pop_front()?;
            if response.canceled() {
                let reason = response.cancel_reason().to_owned();
                return Some(refused(watched, response.compact_revision(), reason));
            }
            self.by_id.insert(id, watched);
            return Some(Update::Created(watched));
        }
        if response.canceled() {
            let watched = self.by_id.remove(&id)?;
            let reason = response.cancel_reason().to_owned();
            return Some(match response.compact_revision() {
                0 => Update::Canceled { watched, reason },
                _ => Update::Compacted(watched),
            });
        }
        let events = response.0.events;
        if events.is_empty() {
            // Watch id -1 speaks for the whole stream.
            return match id {
                -1 => Some(Update::Progress(None, revision)),
                id => self.by_id.get(&id).map(|watched| Update::Progress(Some(*watched), revision)),
            };
        }
        let watched = *self.by_id.get(&id)?;
        let changes = events.into_iter().filter_map(|event| {
            let is_put = event.r#type == etcd_client::EventType::Put as i32;
            let kv = event.kv?;
            Some(Change { key: kv.key, value: is_put.then(|| Bytes::from(kv.value)), revision: kv.mod_revision })
        });
        Some(Update::Changes(watched, changes.collect()))
    }
}

/// Some servers say so in words only.
fn refused(watched: Watched, compact_revision: i64, reason: String) -> Update {
    if compact_revision > 0 || reason.contains("required revision has been compacted") {
        return Update::Compacted(watched);
    }
    Update::Refused { watched, reason }
}
