//! One term of the role: all its parts made anew, over a store that refuses their writes once the role is another's.

use std::sync::Arc;
use std::time::Duration;

use certs::LiveLeaf;
use federation::Tuning;
use federation::contract::keys;
use mesh_runtime::{Backoff, OnExit, ReadyGuard, Shutdown, TaskSet};
use mesh_store::Store;
use mesh_store::mvcc::RangeRequest;
use mesh_types::{ClusterId, IdentityLayout};
use tokio::sync::{mpsc, watch};

use super::handle::{Handle, Serving};
use crate::export::{self, Exporter, Facts, Heartbeat};
use crate::identity::Allocator;
use crate::index::{Index, Settings};
use crate::kubernetes::{McsObjects, MeshObjects, TrustMap};
use crate::mcs;
use crate::rotation::{Conductor, Parties};
use crate::sights::Gather;
use crate::source;

/// Batches of objects that may wait for the exporter; it takes all that wait at once.
const SOURCE_QUEUE: usize = 64;
/// Nothing of a term has work to finish that takes longer.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Only while this replica is not ready.
const LOOK_FOR_ALARMS: Duration = Duration::from_secs(1);

/// A part of a term ended although the role was still held.
#[derive(Debug, thiserror::Error)]
#[error("exporting and mirroring cannot go on: {0}")]
pub struct TermError(pub(super) String);

/// What every term of this replica is made from.
pub struct Plan {
    pub source: source::Choice,
    pub settings: Settings,
    pub cluster_id: ClusterId,
    pub layout: IdentityLayout,
    /// What may change while a term runs.
    pub tuning: watch::Receiver<Tuning>,
    pub export: export::Options,
    /// The own cluster's leaf `remote-<own>`.
    pub leaf: Arc<LiveLeaf>,
    pub federation_metrics: federation::Metrics,
    /// Whom a rotation asks.
    pub parties: Parties,
    /// Where agents in Kubernetes learn the CAs.
    pub trust_map: Option<TrustMap>,
    /// The mesh's own objects in Kubernetes, where they count.
    pub objects: Option<MeshObjects>,
    /// Writes the objects of the MCS API.
    pub mcs: Option<McsObjects>,
}

/// Resolves when the exporter has stored who may have what, now or in a former term: a session that began before would
/// mirror what this cluster does not want.
async fn until_rules_are_known(store: &dyn Store) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
    while !store.range(RangeRequest::get(keys::EXCHANGE)).await.is_ok_and(|found| !found.kvs.is_empty()) {
        backoff.wait().await;
    }
}

/// The running parts.
pub(super) struct Term(TaskSet);

impl Plan {
    /// Starts all parts; each ends when `stop` is triggered, and `stop` is triggered when one ends by itself.
    pub(super) fn start(
        &self,
        store: Arc<dyn Store>,
        handle: &Handle,
        ready: Option<ReadyGuard>,
        stop: &Shutdown,
    ) -> Term {
        let tasks = TaskSet::new(stop.clone());
        let (objects_in, objects_out) = mpsc::channel(SOURCE_QUEUE);
        let (objects_in, mcs) = self.cluster_set(&store, objects_in, &tasks, stop);
        let (objects, source) = self.source.begin(objects_in);
        let quarantine = self.tuning.borrow().liveness.withdraw_after;
        let allocator = Allocator::new(self.layout, self.cluster_id, quarantine);
        let facts = Facts::new(self.settings.cluster.clone(), allocator);
        let index = Index::new(self.settings.clone());
        let (exporter, export) =
            Exporter::new(Arc::clone(&store), index, facts, objects_out, self.export.clone(), ready);
        let (outlook, seen) = watch::channel(federation::Outlook::default());
        let Parties { presence, others, view, .. } = &self.parties;
        let gather = Gather { presence: presence.clone(), others: others.clone(), view: view.clone(), outlook };
        let (federation, federation_handle) = federation::Service::new(federation::Options {
            cluster: self.settings.cluster.clone(),
            store: Arc::clone(&store),
            leaf: Arc::clone(&self.leaf),
            tuning: self.tuning.clone(),
            metrics: self.federation_metrics.clone(),
            outlook: seen,
        });
        let conductor = Conductor {
            store: Arc::clone(&store),
            parties: self.parties.clone(),
            federation: federation_handle.clone(),
        };
        let peers = federation_handle.clone();
        handle.set(Serving { source, export, federation: federation_handle, mcs });

        tasks.spawn("exporter", OnExit::Shutdown, exporter.run(stop.clone()));
        let follow = stop.clone();
        tasks.spawn("source of objects", OnExit::Shutdown, async move {
            follow.unless_requested(objects.run()).await.unwrap_or(Ok(()))
        });
        let known = Arc::clone(&store);
        tasks.spawn("heartbeat", OnExit::Shutdown, Heartbeat::new(store).run(stop.clone()));
        tasks.spawn("agents' sights", OnExit::Shutdown, gather.run(stop.clone()));
        tasks.spawn("rotation", OnExit::Shutdown, conductor.run(stop.clone()));
        if let Some(map) = self.trust_map.clone() {
            tasks.spawn("trust of agents", OnExit::Shutdown, map.run(stop.clone()));
        }
        if let Some(objects) = &self.objects {
            let keeper = objects.of_a_term(Arc::clone(&known), peers);
            tasks.spawn("the mesh's objects", OnExit::Shutdown, keeper.run(stop.clone()));
        }
        let (follow, rules) = (stop.clone(), Arc::clone(&known));
        tasks.spawn("federation", OnExit::Shutdown, async move {
            match follow.unless_requested(until_rules_are_known(&*rules)).await {
                Some(()) => federation.run(follow).await,
                None => Ok(()),
            }
        });
        Term(tasks)
    }

    /// Begins to make the objects of the MCS API, where that is asked for: objects pass by its tap on their way.
    fn cluster_set(
        &self,
        store: &Arc<dyn Store>,
        to: mpsc::Sender<source::Batch>,
        tasks: &TaskSet,
        stop: &Shutdown,
    ) -> (mpsc::Sender<source::Batch>, Option<mcs::StatusHandle>) {
        let Some(objects) = &self.mcs else { return (to, None) };
        let (tapped, from) = mpsc::channel(SOURCE_QUEUE);
        let seen = mcs::Seen::default();
        let tap = mcs::Tap::new(from, to, seen.clone());
        let cluster = self.settings.cluster.clone();
        let (controller, status) =
            mcs::Controller::new(Arc::clone(store), cluster, self.cluster_id, objects.clone(), seen);
        // It ends with the source or with the exporter, whose own end says more.
        tasks.spawn("tap of objects", OnExit::Log, tap.run());
        tasks.spawn("objects of the MCS API", OnExit::Shutdown, controller.run(stop.clone()));
        (tapped, Some(status))
    }

    /// Resolves when the store holds a complete export and an alarm keeps everybody from exporting more.
    pub(super) async fn until_a_full_store_gives_no_more(&self, store: &dyn Store) {
        let request = RangeRequest {
            keys_only: true,
            limit: 1,
            serializable: true,
            ..RangeRequest::prefix(keys::canaries(&self.settings.cluster))
        };
        loop {
            let is_full = store.alarms(false).await.is_ok_and(|alarms| alarms.iter().any(|alarm| alarm.kind.refuses()));
            if is_full && store.range(request.clone()).await.is_ok_and(|found| !found.kvs.is_empty()) {
                return;
            }
            tokio::time::sleep(LOOK_FOR_ALARMS).await;
        }
    }
}

impl Term {
    /// Returns when nothing of the term runs any more; `stop` was triggered before.
    pub(super) async fn end(self) {
        if let Err(late) = self.0.join(STOP_WITHIN).await {
            tracing::warn!(%late, "parts of the term were aborted");
        }
    }
}
