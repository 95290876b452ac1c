//! The one task that writes the datapath's maps: takes in what changed, compiles what it touches, realizes it at once.
//!
//! ```text
//!   events (view) ─┐
//!   pods ──────────┤                  ┌─▶ maps: prefixes, nodes, endpoints, services, then removals
//!   underlay ──────┼─▶ changes ─▶ realize
//!   paths ─────────┘                  └─▶ plan (underlay), targets (probe), status
//! ```
//! # Invariants
//! - An address is opened only while the underlay guards its node *and* the plan names it; it is closed before a plan that
//!   no longer names the node is handed on.
//! - No pod program is attached before the declared prefixes are in the kernel.
//! - Between the begin and the end of a snapshot nothing is realized from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_ebpf::{Datapath, maps};
use agent_ebpf_common::{Config, Endpoint, IpEntry, Node, ServiceKey};
use ipnet::IpNet;
use mesh_runtime::{ErrorChain, ReadyGuard, Shutdown};
use mesh_types::view::Delta;
use mesh_types::{ClusterName, ServiceName};
use tokio::sync::{Notify, mpsc, watch};

use crate::attach::Devices;
use crate::bpf::{EndpointsMap, IpCacheMap, NodesMap, ServicesMaps};
use crate::compile::claims::Claims;
use crate::compile::plan::Plan;
use crate::compile::{Facts, Refusal};
use crate::desired::{Changes, View};
use crate::metrics::Metrics;
use crate::netlink::pods::PodDevice;
use crate::probe::{Reports, Targets};
use crate::realize::key_value::Table;
use crate::realize::services::Services;
use crate::status::Status;
use crate::underlay;

mod config;
mod pods;
mod realizing;
mod reporting;
mod topology;

/// Whole maps are compared with what they should hold this often.
const COMPARE: Duration = Duration::from_mins(1);
/// A former peer's prefixes stay closed for so long: connections that were open end meanwhile, and what they still send
/// (the kernel repeats the end of an orphaned one for 102 s, `tcp_orphan_retries`) must not leave in clear.
const PARTING: Duration = Duration::from_mins(2);
/// Housekeeping: retries, garbage, status.
const TICK: Duration = Duration::from_millis(100);

/// What the stream brings.
#[derive(Debug)]
pub enum Event {
    /// A new stream: what came of an unfinished snapshot is void.
    Connected,
    SnapshotBegin,
    Delta(Delta),
    /// End of a snapshot.
    Prune {
        revision: i64,
    },
}

/// What the task listens to and speaks through.
pub struct Wiring {
    pub events: mpsc::Receiver<Event>,
    pub pods: watch::Receiver<Option<Arc<Vec<PodDevice>>>>,
    /// Devices that are to have the pod programs.
    pub devices: watch::Sender<Devices>,
    pub attach_failures: watch::Receiver<BTreeMap<u32, String>>,
    pub underlay: watch::Receiver<underlay::State>,
    pub paths: watch::Receiver<Reports>,
    pub plan: watch::Sender<Option<Arc<Plan>>>,
    pub targets: watch::Sender<Targets>,
    pub status: watch::Sender<Status>,
    /// Asks for another scan for pods.
    pub missed: Arc<Notify>,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub cgroup_root: PathBuf,
    /// Somebody else translates Services of the own cluster that are not global.
    pub leaves_own_services: bool,
    pub vxlan_port: u16,
}

/// What the next housekeeping works out anew.
struct Stale {
    /// Topology or use of nodes changed.
    targets: bool,
    status: bool,
}

/// Clusters that have left, and until when their prefixes stay closed.
#[derive(Debug, Default)]
struct Parting {
    prefixes: usize,
    until: Option<Instant>,
}

pub struct Control {
    options: Options,
    wiring: Wiring,
    metrics: Metrics,
    datapath: Arc<Datapath>,

    view: View,
    /// A snapshot that is not complete yet.
    staging: Option<View>,
    /// The first snapshot has been realized.
    is_synced: bool,
    /// The maps held a configuration at the start: an earlier agent's, so prefixes are closed already.
    has_adopted: bool,
    ready: Option<ReadyGuard>,

    ipcache: Table<IpNet, IpEntry, IpCacheMap>,
    nodes: Table<IpAddr, Node, NodesMap>,
    endpoints: Table<IpAddr, Endpoint, EndpointsMap>,
    services: Services<ServicesMaps>,
    claims: Claims,
    /// Frontends by the service that owns them.
    frontends: HashMap<ServiceName, BTreeSet<ServiceKey>>,
    refusals: BTreeMap<ServiceName, Vec<Refusal>>,
    ip_refusals: BTreeMap<IpNet, Vec<Refusal>>,

    /// Nodes that may be sent to.
    open: BTreeSet<IpAddr>,
    /// Nodes that an earlier agent sent to: its rules and guards are in the kernel still, so they stay open until the
    /// underlay has looked.
    presumed_open: BTreeSet<IpAddr>,
    paths: BTreeMap<IpAddr, bool>,
    pods: Vec<PodDevice>,
    pod_addresses: HashMap<IpAddr, usize>,
    config: Config,
    drift_total: u64,
    parting: Parting,
    stale: Stale,
    next_compare: Instant,
}

impl Control {
    /// Adopts what the maps hold and attaches the socket programs.
    pub fn new(
        options: Options,
        datapath: Arc<Datapath>,
        wiring: Wiring,
        metrics: Metrics,
        ready: ReadyGuard,
    ) -> Result<Self, Error> {
        let config = datapath.maps.config.get()?;
        let ipcache = Table::adopt(IpCacheMap(Arc::clone(&datapath)))?;
        let sent_to = ipcache.values().filter(|entry| entry.is_remote() && !entry.is_dropped());
        let control = Self {
            presumed_open: sent_to.map(|entry: &IpEntry| IpAddr::from(entry.node)).collect(),
            ipcache,
            nodes: Table::adopt(NodesMap(Arc::clone(&datapath)))?,
            endpoints: Table::adopt(EndpointsMap(Arc::clone(&datapath)))?,
            services: Services::adopt(ServicesMaps(Arc::clone(&datapath)))?,
            view: View::default(),
            staging: None,
            is_synced: false,
            has_adopted: config.is_set(),
            ready: Some(ready),
            claims: Claims::default(),
            frontends: HashMap::new(),
            refusals: BTreeMap::new(),
            ip_refusals: BTreeMap::new(),
            open: BTreeSet::new(),
            paths: BTreeMap::new(),
            pods: Vec::new(),
            pod_addresses: HashMap::new(),
            config,
            drift_total: 0,
            parting: Parting::default(),
            stale: Stale { targets: false, status: true },
            next_compare: Instant::now() + COMPARE,
            options,
            wiring,
            metrics,
            datapath,
        };
        tracing::info!(
            addresses = control.ipcache.len(),
            services = control.services.len(),
            endpoints = control.endpoints.len(),
            "adopted from the kernel"
        );
        control.datapath.attach_cgroup(&control.options.cgroup_root)?;
        Ok(control)
    }

    /// Runs until `shutdown`; leaves the kernel as it is.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                event = self.wiring.events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                Ok(()) = self.wiring.paths.changed() => self.paths_changed(),
                Ok(()) = self.wiring.underlay.changed() => self.underlay_changed(),
                Ok(()) = self.wiring.pods.changed() => self.pods_changed(),
                Ok(()) = self.wiring.attach_failures.changed() => self.stale.status = true,
                _ = tick.tick() => self.housekeeping(),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected => self.staging = None,
            Event::SnapshotBegin => self.staging = Some(View::default()),
            Event::Delta(delta) => match &mut self.staging {
                Some(view) => drop(view.apply(delta)),
                None => self.delta(delta),
            },
            Event::Prune { revision } => {
                if let Some(view) = self.staging.take() {
                    self.snapshot(view, revision);
                }
            }
        }
    }

    fn delta(&mut self, delta: Delta) {
        let began = Instant::now();
        let origins: Vec<(ClusterName, u64)> = delta.origin_times.iter().map(|(c, t)| (c.clone(), *t)).collect();
        let changes = self.view.apply(delta);
        self.realize(changes);
        for (cluster, origin) in origins {
            self.metrics.converged(&cluster, origin);
        }
        self.metrics.realized(self.view.revision(), began.elapsed());
        self.stale.status = true;
    }

    /// The whole view at once; what is not in it goes.
    fn snapshot(&mut self, mut view: View, revision: i64) {
        let began = Instant::now();
        view.set_revision(revision);
        view.succeed(&self.view);
        view.compact();
        let changes = Changes::everything([&self.view, &view], self.ipcache.keys(), self.nodes.keys());
        self.view = view;
        if !self.is_synced {
            self.presume_paths();
        }
        self.realize(changes);
        self.ipcache.compact();
        self.remove_leftover_frontends();
        self.services.settle(Instant::now());
        self.is_synced = true;
        self.refresh_endpoints(self.endpoints.keys().copied().chain(self.pod_addresses.keys().copied()).collect());
        self.hand_devices_on();
        self.metrics.realized(revision, began.elapsed());
        self.stale.status = true;
        tracing::info!(
            revision,
            addresses = self.ipcache.len(),
            services = self.services.len(),
            took_ms = began.elapsed().as_millis(),
            "the whole view is realized"
        );
        drop(self.ready.take());
    }

    fn housekeeping(&mut self) {
        let now = Instant::now();
        self.services.collect(now);
        self.retry(now);
        self.forget_parted(now);
        if self.stale.targets {
            self.retarget();
        }
        if now >= self.next_compare {
            self.next_compare = now + COMPARE;
            self.compare();
        }
        if self.stale.status {
            self.publish_status(now);
        }
    }

    /// Every cluster that leaves starts the time anew, for all that have.
    fn forget_parted(&mut self, now: Instant) {
        let prefixes = self.view.parted_count();
        if prefixes > self.parting.prefixes {
            self.parting.until = Some(now + PARTING);
        }
        self.parting.prefixes = prefixes;
        if self.parting.until.is_some_and(|until| now >= until) {
            self.parting = Parting::default();
            let changes = self.view.forget_parted();
            tracing::info!(prefixes = changes.prefixes.len(), "prefixes of former peers are nobody's any more");
            self.realize(changes);
        }
    }

    fn compare(&mut self) {
        let drift = |what: &'static str, found: Result<usize, maps::Error>| match found {
            Ok(0) => 0,
            Ok(found) => {
                tracing::warn!(map = what, found, "the kernel held something else than was written; mended");
                found as u64
            }
            Err(error) => {
                tracing::warn!(map = what, error = %ErrorChain(&error), "cannot compare");
                0
            }
        };
        let found = drift("ipcache", self.ipcache.compare())
            + drift("nodes", self.nodes.compare())
            + drift("endpoints", self.endpoints.compare())
            + if self.is_synced { drift("services", self.services.compare()) } else { 0 };
        self.drift_total += found;
        self.metrics.drift(found);
    }

    fn facts(&self) -> Facts<'_> {
        let leaves_own_services = self.options.leaves_own_services;
        Facts { view: &self.view, guarded: &self.open, paths: &self.paths, leaves_own_services }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Maps(#[from] maps::Error),
    #[error(transparent)]
    Datapath(#[from] agent_ebpf::datapath::Error),
}
