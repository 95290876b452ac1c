//! The task: follows what the source and the store show, and looks at the names that it concerns, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, once};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::backend::{Class, Error, WatchRequest, WatchUpdate};
use mesh_store::mvcc::{EventKind, RangeRequest};
use mesh_types::{ClusterId, ClusterName, ServiceName};

use super::memory::SETTLED;
use super::reconcile::{Outcome, Reconciler};
use super::remote::{PREFIXES, Remote, Touched};
use super::status::StatusHandle;
use super::tap::Seen;
use crate::follow;
use crate::kubernetes::McsObjects;

/// Everything is looked at again this often: what no event told is found so. It asks nothing of the API server.
const RESYNC: Duration = Duration::from_mins(5);
/// How long a name whose objects cannot be written waits at most.
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("what the joined clusters export cannot be read")]
    Store(#[source] Error),
    #[error("the watch of what the joined clusters export ended")]
    Watch,
}

/// All watches as one; `None` where one has ended.
type Updates = SelectAll<BoxStream<'static, Option<WatchUpdate>>>;

pub struct Controller {
    store: Arc<dyn Store>,
    seen: Seen,
    status: StatusHandle,
    reconciler: Reconciler,
    remote: Remote,
    /// To be looked at now.
    queue: BTreeSet<ServiceName>,
    /// And later: names that failed, or whose objects are not seen yet.
    later: BTreeMap<ServiceName, Instant>,
    backoffs: BTreeMap<ServiceName, Backoff>,
}

impl Controller {
    pub fn new(
        store: Arc<dyn Store>,
        cluster: ClusterName,
        id: ClusterId,
        objects: McsObjects,
        seen: Seen,
    ) -> (Self, StatusHandle) {
        let status = StatusHandle::default();
        let reconciler = Reconciler::new(cluster, id, objects, seen.clone(), status.clone());
        let controller = Self {
            store,
            seen,
            status: status.clone(),
            reconciler,
            remote: Remote::default(),
            queue: BTreeSet::new(),
            later: BTreeMap::new(),
            backoffs: BTreeMap::new(),
        };
        (controller, status)
    }

    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Failure> {
        shutdown.unless_requested(Box::pin(self.follow())).await.unwrap_or(Ok(()))
    }

    async fn follow(&mut self) -> Result<(), Failure> {
        let mut watchers = self.load().await?;
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            let due = self.later.values().min().copied();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.seen.changed() => {}
                () = wait => {}
                _ = resync.tick() => self.queue_all(None),
                update = watchers.next() => match update.flatten() {
                    Some(WatchUpdate::Events(batch)) => {
                        for event in &batch.events {
                            let value = (event.kind == EventKind::Put).then_some(&event.kv.value[..]);
                            self.note(&event.kv.key, value);
                        }
                    }
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Compacted { .. }) => watchers = self.load().await?,
                    None => return Err(Failure::Watch),
                },
            }
            self.work().await;
        }
    }

    /// Reads all that is mirrored, and follows it from there.
    async fn load(&mut self) -> Result<Updates, Failure> {
        let mut backoff = follow::backoff();
        loop {
            match self.try_load().await {
                Err(error) if error.class() == Class::Retryable => backoff.wait().await,
                done => return done.map_err(Failure::Store),
            }
        }
    }

    async fn try_load(&mut self) -> Result<Updates, Error> {
        self.remote = Remote::default();
        let mut watchers = SelectAll::new();
        for prefix in PREFIXES {
            let found = self.store.range(RangeRequest::prefix(prefix)).await?;
            for kv in &found.kvs {
                self.note(&kv.key, Some(&kv.value));
            }
            let watcher = self.store.watch(WatchRequest::prefix(prefix, found.revision + 1)).await?;
            watchers.push(watcher.map(Some).chain(once(async { None })).boxed());
        }
        self.queue_all(None);
        Ok(watchers)
    }

    fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        let (touched, error) = self.remote.note(key, value);
        if let Some(error) = error {
            let key = String::from_utf8_lossy(key);
            tracing::warn!(%key, error = %ErrorChain(&error), "left out of the cluster set");
        }
        match touched {
            Touched::Nothing => {}
            Touched::One(name) => drop(self.queue.insert(name)),
            Touched::All => self.queue_all(None),
        }
    }

    fn queue_all(&mut self, namespace: Option<&str>) {
        self.seen.read(|local| self.queue.extend(local.names(namespace).cloned()));
        self.queue.extend(self.remote.names(namespace).cloned());
    }

    fn take_touched(&mut self) {
        for name in self.seen.take_touched() {
            // A namespace as a whole has no name.
            if name.name.is_empty() {
                self.queue_all(Some(&name.namespace));
            } else {
                self.queue.insert(name);
            }
        }
    }

    /// Looks at everything that is due. Of half a scan nothing can be said: what was not delivered yet would be removed.
    async fn work(&mut self) {
        if !self.seen.read(super::local::Local::is_complete) {
            return;
        }
        self.take_touched();
        let now = Instant::now();
        let due: Vec<ServiceName> = self.later.iter().filter(|(_, at)| **at <= now).map(|(n, _)| n.clone()).collect();
        self.queue.extend(due);
        while let Some(name) = self.queue.pop_first() {
            self.later.remove(&name);
            if !self.is_known(&name) {
                self.forget(&name);
                continue;
            }
            match Box::pin(self.reconciler.reconcile(&name, &mut self.remote)).await {
                Ok(outcome) => {
                    self.forget(&name);
                    if outcome == Outcome::LookAgain {
                        self.later.insert(name, Instant::now() + SETTLED);
                    }
                }
                Err(error) => {
                    let is_passing = error.is_passing();
                    self.failed(name, ErrorChain(&error).to_string());
                    if is_passing {
                        // Whatever is asked next would fail alike.
                        let retry = self.later.values().min().copied().unwrap_or(now);
                        self.later.extend(std::mem::take(&mut self.queue).into_iter().map(|name| (name, retry)));
                        break;
                    }
                }
            }
            self.take_touched();
        }
        let imports = self.seen.read(super::local::Local::imports);
        self.status.change(|status| status.imports = imports);
    }

    /// Of most Services nobody tells the cluster set anything.
    fn is_known(&self, name: &ServiceName) -> bool {
        let is_exported = self.remote.exports(name).next().is_some();
        is_exported || self.seen.read(|local| local.is_known(name))
    }

    fn forget(&mut self, name: &ServiceName) {
        self.backoffs.remove(name);
        self.status.change(|status| drop(status.errors.remove(name)));
    }

    fn failed(&mut self, name: ServiceName, error: String) {
        let is_news = self.status.get().errors.get(&name) != Some(&error);
        if is_news {
            tracing::warn!(%name, error, "objects of the cluster set are not as they should be: tried again");
        }
        let fresh = || Backoff::new(Duration::from_millis(500), MAX_PAUSE);
        let pause = self.backoffs.entry(name.clone()).or_insert_with(fresh).next_delay();
        self.status.change(|status| drop(status.errors.insert(name.clone(), error)));
        self.later.insert(name, Instant::now() + pause);
    }
}
