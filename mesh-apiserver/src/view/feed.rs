//! The task that keeps the view up to date, and the handle that others read it through.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Backoff, ErrorChain, ReadyGuard, Shutdown};
use mesh_store::Store;
use mesh_store::backend::{Class, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::KeyRange;
use mesh_types::ClusterName;
use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};

use super::load::load;
use super::ring::{Capacity, Next, Ring};
use super::snapshot::{Snapshot, Snapshots};
use super::{Change, Subscription, View, encode};
use crate::export::keys::shown_to;

/// What the ring holds for agents that lag or come back. An agent that lags further gets a snapshot.
const CAPACITY: Capacity = Capacity { frames: 16_384, bytes: 64 << 20 };

/// How long a replica may lag behind another one before its agents get the whole view.
const CATCH_UP: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the view cannot read the store")]
    Store(#[source] mesh_store::backend::Error),
    #[error("the view's watch of the store ended")]
    Watch,
}

pub struct Feed {
    own: ClusterName,
    ready: ReadyGuard,
    handle: Handle,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    store: Arc<dyn Store>,
    /// Written by the feed, read by subscriptions and the admin API.
    state: Arc<RwLock<State>>,
    /// The newest revision that the view has taken in: wakes subscriptions.
    revision: watch::Sender<i64>,
    snapshots: Arc<Snapshots>,
    /// What was made last for agents that come from before this process. They come together, from much the same revision.
    caught_up: Arc<Mutex<Option<CaughtUp>>>,
}

/// One message that leads from a revision to a later one.
#[derive(Clone)]
struct CaughtUp {
    from: i64,
    to: i64,
    frame: bytes::Bytes,
}

pub(super) struct State {
    pub(super) view: View,
    pub(super) ring: Ring,
    /// The newest revision taken in; at least that of the newest frame.
    pub(super) revision: i64,
}

impl Feed {
    pub fn new(store: Arc<dyn Store>, own: ClusterName, ready: ReadyGuard) -> (Self, Handle) {
        let state = State { view: View::new(own.clone()), ring: Ring::new(i64::MAX, CAPACITY), revision: 0 };
        let handle = Handle {
            store,
            state: Arc::new(RwLock::new(state)),
            revision: watch::Sender::new(0),
            snapshots: Arc::default(),
            caught_up: Arc::default(),
        };
        (Self { own, ready, handle: handle.clone() }, handle)
    }

    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), Failure> {
        let Self { own, ready, handle } = self;
        let mut watcher = handle.reload_patiently(&own).await?;
        drop(ready);
        loop {
            match watcher.next().await {
                Some(WatchUpdate::Events(batch)) => handle.take_in(&batch.events, batch.revision),
                Some(WatchUpdate::Progress { revision }) => handle.take_in(&[], revision),
                Some(WatchUpdate::Compacted { .. }) => watcher = handle.reload_patiently(&own).await?,
                None => return Err(Failure::Watch),
            }
        }
    }
}

impl Handle {
    /// Follows the view from `revision` of the store `cluster_id`; from the start where that is not possible.
    pub async fn subscribe(&self, cluster_id: u64, revision: i64) -> Subscription {
        let mut wake = self.revision.subscribe();
        // The sender lives in this handle, so waiting for the first view cannot fail.
        wake.wait_for(|r| *r > 0).await.ok();
        let same_store = cluster_id == self.store.cluster_id();
        if same_store {
            // The agent comes from a replica that was ahead of this one: what it lacks is on its way here.
            let caught_up = wake.wait_for(|newest| *newest >= revision);
            tokio::time::timeout(CATCH_UP, caught_up).await.ok();
        }
        let newest = self.state.read().revision;
        if !same_store || revision <= 0 || revision > newest {
            return Subscription::from_snapshot(self.clone(), wake);
        }
        let is_recent = self.state.read().ring.after(revision) != Next::TooOld;
        if is_recent {
            return Subscription::from_revision(self.clone(), wake, revision);
        }
        match self.catch_up(revision).await {
            Ok(CaughtUp { to, frame, .. }) => Subscription::from_frame(self.clone(), wake, frame, to),
            Err(error) => {
                tracing::debug!(revision, error = %ErrorChain(&error), "cannot resume: sending the whole view");
                Subscription::from_snapshot(self.clone(), wake)
            }
        }
    }

    /// What leads here from a revision older than this process: the difference of two pure functions of the store, if
    /// history still has the older one. Worked out once for all who ask for it together.
    async fn catch_up(&self, from: i64) -> Result<CaughtUp, mesh_store::backend::Error> {
        let mut known = self.caught_up.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.from == from)
            && self.state.read().ring.after(known.to) != Next::TooOld
        {
            return Ok(known.clone());
        }
        let own = self.state.read().view.own().clone();
        let (earlier, _, _) = load(&*self.store, &own, from).await?;
        let made = {
            let state = self.state.read();
            CaughtUp { from, to: state.revision, frame: self.frame(&state.view.since(&earlier), state.revision) }
        };
        *known = Some(made.clone());
        Ok(made)
    }

    /// Reads the view as it is now.
    pub fn read<T>(&self, ask: impl FnOnce(&View) -> T) -> T {
        ask(&self.state.read().view)
    }

    pub fn revision(&self) -> i64 {
        self.state.read().revision
    }

    pub(super) fn state(&self) -> &RwLock<State> {
        &self.state
    }

    pub(super) fn cluster_id(&self) -> u64 {
        self.store.cluster_id()
    }

    pub(super) async fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.get(&self.state, self.cluster_id()).await
    }

    fn frame(&self, change: &Change, revision: i64) -> bytes::Bytes {
        let upserts: Vec<_> = change.upserts.iter().map(encode::object).collect();
        encode::delta(self.cluster_id(), &upserts, &change.deletes, revision, &change.origin_times)
    }

    fn take_in(&self, events: &[mesh_store::mvcc::Event], revision: i64) {
        let mut state = self.state.write();
        let (change, errors) = state.view.apply(events);
        if !change.is_empty() {
            let frame = self.frame(&change, revision);
            state.ring.push(revision, frame);
        }
        state.revision = revision;
        drop(state);
        for error in errors {
            tracing::warn!(error = %ErrorChain(&error), "value left out of the view");
        }
        self.revision.send_replace(revision);
    }

    /// While the store has no leader nothing can be read; it has one again within seconds.
    async fn reload_patiently(&self, own: &ClusterName) -> Result<Watcher, Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match self.reload(own).await {
                Err(Failure::Store(error)) if error.class() == Class::Retryable => {
                    tracing::warn!(error = %ErrorChain(&error), "the view waits for the store");
                    backoff.wait().await;
                }
                done => return done,
            }
        }
    }

    /// Reads everything and starts the watch behind it. Subscriptions that exist go on with the difference.
    async fn reload(&self, own: &ClusterName) -> Result<Watcher, Failure> {
        let (view, revision, errors) = load(&*self.store, own, 0).await.map_err(Failure::Store)?;
        for error in errors {
            tracing::warn!(error = %ErrorChain(&error), "value left out of the view");
        }
        // One range over all that the view reads, so that a batch is one revision as a whole.
        let range = KeyRange::new("cilium/", "isthmus/v2");
        let overlay = Some(shown_to(own));
        let request = WatchRequest { range, start_revision: revision + 1, overlay, ..WatchRequest::default() };
        let watcher = self.store.watch(request).await.map_err(Failure::Store)?;
        let mut state = self.state.write();
        if state.revision == 0 {
            state.ring = Ring::new(revision, CAPACITY);
        } else {
            let change = view.since(&state.view);
            if !change.is_empty() {
                let frame = self.frame(&change, revision);
                state.ring.push(revision, frame);
            }
        }
        state.view = view;
        state.revision = revision;
        drop(state);
        self.revision.send_replace(revision);
        Ok(watcher)
    }
}
