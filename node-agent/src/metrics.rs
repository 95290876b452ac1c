//! Figures for `/metrics`. Handles are clones of one set; the datapath's counters are read from the kernel when asked for.

use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Datapath;
use certs::metrics::{Expiries, Expiring};
use mesh_proto::v1;
use mesh_runtime::clock;
use mesh_types::ClusterName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::probe::paths::Interest;
use crate::status::Status;
use crate::underlay;

mod datapath;
mod tunnel;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabels {
    cluster: String,
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    convergence: Family<Source, Histogram, fn() -> Histogram>,
    realize: Histogram,
    revision: Gauge,
    drift: Counter,
    malformed: Counter,
    is_connected: Gauge,
    streams: Counter,
    path_up: Family<PathLabels, Gauge>,
    path_rtt: Family<PathLabels, Gauge>,
    refusals: Family<Reason, Gauge>,
    failures: Gauge,
    endpoints: Gauge,
    services: Gauge,
    backends: Gauge,
    addresses: Gauge,
}

/// From 0.5 ms to 16 s.
fn seconds() -> Histogram {
    Histogram::new((0..16).map(|n| 0.0005 * f64::from(1_u32 << n)))
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            convergence: Family::new_with_constructor(seconds as fn() -> Histogram),
            realize: seconds(),
            revision: Gauge::default(),
            drift: Counter::default(),
            malformed: Counter::default(),
            is_connected: Gauge::default(),
            streams: Counter::default(),
            path_up: Family::default(),
            path_rtt: Family::default(),
            refusals: Family::default(),
            failures: Gauge::default(),
            endpoints: Gauge::default(),
            services: Gauge::default(),
            backends: Gauge::default(),
            addresses: Gauge::default(),
        };
        let m = metrics.clone();
        registry.register(
            "isthmus_convergence_seconds",
            "From the write at the source cluster to this node's kernel map",
            m.convergence,
        );
        registry.register("isthmus_realize_seconds", "From a delta's arrival to the kernel's maps", m.realize);
        registry.register("isthmus_realized_revision", "Revision of the view that the kernel holds", m.revision);
        registry.register("isthmus_drift", "Map entries that others had changed", m.drift);
        registry.register("isthmus_malformed_objects", "Objects of the view that could not be read", m.malformed);
        registry.register("isthmus_stream_connected", "1 while the view's stream is open", m.is_connected);
        registry.register("isthmus_streams", "Streams of the view that were opened", m.streams);
        registry.register("isthmus_path_up", "1 while a node of another cluster answers", m.path_up);
        registry.register("isthmus_path_rtt_microseconds", "Newest round trip through the tunnel", m.path_rtt);
        registry.register("isthmus_refused_objects", "Objects that are left out, by reason", m.refusals);
        registry.register("isthmus_failed_objects", "Objects that are not as they should be", m.failures);
        registry.register("isthmus_endpoints", "Pod addresses of this node", m.endpoints);
        registry.register("isthmus_frontends", "Service addresses in the kernel", m.services);
        registry.register("isthmus_backends", "Backends in the kernel", m.backends);
        registry.register("isthmus_addresses", "Addresses and prefixes in the kernel", m.addresses);
        metrics
    }

    /// What is read from kernel and tunnel when somebody asks.
    pub fn register_readers(
        registry: &mut Registry,
        datapath: Arc<Datapath>,
        underlay: watch::Receiver<underlay::State>,
    ) {
        registry.register_collector(Box::new(datapath::Counters(datapath)));
        registry.register_collector(Box::new(tunnel::Stats(underlay)));
    }

    /// When the leaf of this node's agent ends; nothing before it is enrolled.
    pub fn register_expiry(registry: &mut Registry, node: String, held: watch::Receiver<v1::Credentials>) {
        let read = move || {
            let nanos = held.borrow().not_after_unix_nanos;
            let not_after = jiff::Timestamp::from_nanosecond(nanos.into()).ok().filter(|_| nanos > 0);
            let leaf = not_after.map(|not_after| Expiring {
                kind: "leaf",
                of: "own".to_owned(),
                name: format!("agent-{node}"),
                ca: String::new(),
                not_after,
            });
            leaf.into_iter().collect()
        };
        Expiries::register(read, registry);
    }

    /// A change that `cluster`'s clock dated `origin` is in the kernel. A clock that is ahead shows as no time at all.
    pub fn converged(&self, cluster: &ClusterName, origin: u64) {
        let nanos = clock::unix_nanos().saturating_sub(origin);
        self.convergence
            .get_or_create(&Source { cluster: cluster.to_string() })
            .observe(Duration::from_nanos(nanos).as_secs_f64());
    }

    pub fn realized(&self, revision: i64, took: Duration) {
        self.revision.set(revision);
        self.realize.observe(took.as_secs_f64());
    }

    pub fn drift(&self, found: u64) {
        self.drift.inc_by(found);
    }

    pub fn malformed(&self) {
        self.malformed.inc();
    }

    pub fn connected(&self) {
        self.is_connected.set(1);
        self.streams.inc();
    }

    pub fn disconnected(&self) {
        self.is_connected.set(0);
    }

    pub fn status(&self, status: &Status) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.endpoints.set(count(status.endpoints));
        self.services.set(count(status.services));
        self.backends.set(count(status.backends));
        self.addresses.set(count(status.ip_entries));
        let refused: usize = status.refusals.values().sum();
        self.failures.set(count(status.errors.len().saturating_sub(refused)));
        self.refusals.clear();
        for (reason, found) in &status.refusals {
            self.refusals.get_or_create(&Reason { reason }).set(count(*found));
        }
        self.path_up.clear();
        self.path_rtt.clear();
        for path in status.paths.values().filter(|path| path.interest == Interest::Used) {
            let labels = PathLabels { cluster: path.cluster.clone(), node: path.node.clone() };
            self.path_up.get_or_create(&labels).set(path.is_up.into());
            self.path_rtt.get_or_create(&labels).set(path.rtt_micros.into());
        }
    }
}
