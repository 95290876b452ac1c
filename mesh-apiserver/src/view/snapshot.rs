//! The whole view as messages: made once for all agents that begin at about the same time, and in steps, so that no change
//! waits for it.
//!
//! ```text
//!  begin, objects 1..500, (a change comes in), objects 501..1000, ..., the changes since the begin, prune
//! ```
//! Objects are read while the view goes on, so what a step shows may be newer than the begin. The changes since then follow
//! in their order before the end is marked, and an agent realizes nothing before that: at the end it has the view as of one
//! revision.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::encode;
use super::feed::State;

/// Objects in one message.
const CHUNK: usize = 500;

pub(super) struct Snapshot {
    pub(super) revision: i64,
    messages: Vec<Bytes>,
    bytes: usize,
}

impl Snapshot {
    fn new(revision: i64, messages: Vec<Bytes>) -> Self {
        let bytes = messages.iter().map(Bytes::len).sum();
        Self { revision, messages, bytes }
    }

    pub(super) fn message(&self, place: usize) -> Option<Bytes> {
        self.messages.get(place).cloned()
    }
}

/// The snapshot that was made last. Kept by the agents that it is being sent to, and by nobody when they have it.
#[derive(Default)]
pub(super) struct Snapshots {
    made: Mutex<Weak<Snapshot>>,
}

impl Snapshots {
    /// One to begin with: the last one while the changes since then are known and few, else a new one. Whoever asks while one
    /// is made waits for that.
    pub(super) async fn get(&self, state: &RwLock<State>, cluster_id: u64) -> Arc<Snapshot> {
        let mut made = self.made.lock().await;
        if let Some(known) = made.upgrade()
            && state.read().ring.bytes_after(known.revision).is_some_and(|since| since <= known.bytes / 2)
        {
            return known;
        }
        let snapshot = Arc::new(make(state, cluster_id).await);
        *made = Arc::downgrade(&snapshot);
        snapshot
    }
}

async fn make(state: &RwLock<State>, cluster_id: u64) -> Snapshot {
    let none = BTreeMap::new();
    loop {
        let begun = state.read().revision;
        let mut messages = vec![encode::snapshot_begin(cluster_id)];
        let mut last = None;
        loop {
            let objects: Vec<Bytes> = {
                let state = state.read();
                let chunk = state.view.objects_after(last.as_ref()).take(CHUNK);
                let (keys, objects): (Vec<_>, Vec<_>) =
                    chunk.map(|(key, object)| (key, encode::object(object))).unzip();
                last = keys.last().map(|key| (*key).clone());
                objects
            };
            if objects.is_empty() {
                break;
            }
            messages.push(encode::delta(cluster_id, &objects, &[], begun, &none));
            tokio::task::yield_now().await;
        }
        let state = state.read();
        // More has changed meanwhile than is remembered: there is nothing to do but to begin again.
        let Some(since) = state.ring.all_after(begun) else { continue };
        messages.extend(since);
        messages.push(encode::prune(cluster_id, state.revision));
        return Snapshot::new(state.revision, messages);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use mesh_proto::v1;
    use mesh_proto::v1::subscribe_response::Message;
    use mesh_types::view::{Delta, Identity, Key, Object};
    use mesh_types::{ClusterName, Label, SecurityIdentity};
    use prost::Message as _;

    use super::super::ring::{Capacity, Ring};
    use super::super::{Change, View};
    use super::*;

    const FIRST: u32 = 65_536;

    fn identity(n: u32, app: &str) -> (Bytes, Bytes) {
        let labels = [Label::k8s("app", app)].into_iter().collect();
        let key = format!("cilium/state/identities/v1/id/{}", FIRST + n);
        (key.into(), federation::contract::identity::encode(&labels).into())
    }

    fn state(objects: u32) -> RwLock<State> {
        let mut view = View::new(ClusterName::new("own").unwrap());
        let facts: Vec<_> = (0..objects).map(|n| identity(n, "first")).collect();
        let (_, errors) = view.apply_values(facts.iter().map(|(key, value)| (key, Some(value))));
        assert!(errors.is_empty(), "{errors:?}");
        RwLock::new(State { view, ring: Ring::new(10, Capacity { frames: 100, bytes: 1 << 20 }), revision: 10 })
    }

    /// One key changes, or goes.
    fn change(state: &RwLock<State>, n: u32, app: Option<&str>) {
        let mut state = state.write();
        let (key, value) = identity(n, app.unwrap_or_default());
        let (change, _) = state.view.apply_values([(&key, app.map(|_| &value))]);
        let Change { upserts, deletes, origin_times } = change;
        let upserts: Vec<Bytes> = upserts.iter().map(encode::object).collect();
        state.revision += 1;
        let revision = state.revision;
        state.ring.push(revision, encode::delta(7, &upserts, &deletes, revision, &origin_times));
    }

    /// What an agent has at the end, and the revision that it goes on from.
    fn received(snapshot: &Snapshot) -> (BTreeMap<Key, Object>, i64) {
        let mut objects = BTreeMap::new();
        let mut end = 0;
        for message in &snapshot.messages {
            match v1::SubscribeResponse::decode(message.clone()).unwrap().message.unwrap() {
                Message::SnapshotBegin(_) => assert!(objects.is_empty(), "once, at the begin"),
                Message::Delta(delta) => {
                    let delta = Delta::try_from(delta).unwrap();
                    objects.extend(delta.upserts.into_iter().map(|object| (object.key(), object)));
                    for key in delta.deletes {
                        objects.remove(&key);
                    }
                }
                Message::Prune(prune) => end = prune.revision,
                Message::KeepAlive(_) => panic!("nothing is idle here"),
            }
        }
        (objects, end)
    }

    #[test]
    fn what_changes_while_a_snapshot_is_made_is_in_it_once_and_for_all() {
        let state = state(1_200);
        let mut context = Context::from_waker(Waker::noop());
        let mut making = pin!(make(&state, 7));
        assert!(making.as_mut().poll(&mut context).is_pending(), "after the first step");
        change(&state, 3, Some("second"));
        change(&state, 4, None);
        change(&state, 1_100, Some("second"));
        assert!(making.as_mut().poll(&mut context).is_pending());
        change(&state, 1_100, Some("third"));
        change(&state, 1_150, None);
        let snapshot = loop {
            if let std::task::Poll::Ready(snapshot) = making.as_mut().poll(&mut context) {
                break snapshot;
            }
        };
        let (objects, end) = received(&snapshot);
        assert_eq!((end, snapshot.revision), (15, 15));
        let state = state.read();
        assert_eq!(&objects, state.view.facts());
        let third = SecurityIdentity(FIRST + 1_100);
        let is_third =
            |o: &Object| matches!(o, Object::Identity(Identity { labels, .. }) if labels.get("app") == Some("third"));
        assert!(is_third(&objects[&Key::Identity(third)]));
    }

    #[tokio::test]
    async fn agents_that_begin_together_are_served_from_one_snapshot_and_later_ones_from_a_newer() {
        let state = state(100);
        let snapshots = Snapshots::default();
        let (first, second) = tokio::join!(snapshots.get(&state, 7), snapshots.get(&state, 7));
        assert!(Arc::ptr_eq(&first, &second));
        change(&state, 1, Some("second"));
        assert!(Arc::ptr_eq(&first, &snapshots.get(&state, 7).await), "the change is in the ring");
        for n in 0..100 {
            change(&state, n, Some(&format!("renamed-{n}")));
        }
        let newer = snapshots.get(&state, 7).await;
        assert_eq!((first.revision, newer.revision), (10, 111), "too much has changed since");
        let weak = Arc::downgrade(&newer);
        drop(newer);
        assert!(weak.upgrade().is_none(), "nobody keeps it when all have it");
    }
}
