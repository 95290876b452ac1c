//! What federation counts, per peer.

use mesh_types::ClusterName;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::contract::Resource;
use crate::contract::validate::Rule;
use crate::outlook::Paths;
use crate::session::Snapshot;
use crate::state::State;

/// Clones share their figures.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    state: Family<StateLabels, Gauge>,
    heartbeat_unix_seconds: Family<PeerLabels, Gauge>,
    connections: Family<PeerLabels, Gauge>,
    clock_offset_micros: Family<PeerLabels, Gauge>,
    paths_up: Family<PeerLabels, Gauge>,
    relists: Family<ResourceLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    mirrored: Family<PeerLabels, Counter>,
    batches: Family<PeerLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    peer: String,
    state: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    peer: String,
    resource: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    peer: String,
    resource: Name,
    rule: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

fn peer(name: &ClusterName) -> PeerLabels {
    PeerLabels { peer: name.to_string() }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("isthmus_peer");
        r.register("state", "1 for the state the session to the peer is in", self.state.clone());
        r.register("heartbeat_unix_seconds", "When the newest heartbeat arrived", self.heartbeat_unix_seconds.clone());
        let help = "1 when packets reach it, 0 when enough agents say that none does, -1 when it is not known";
        r.register("paths_up", help, self.paths_up.clone());
        r.register("connections", "Connections made since the start", self.connections.clone());
        r.register("clock_offset_microseconds", "Peer's clock less ours, less delay", self.clock_offset_micros.clone());
        r.register("relists", "Resources read again after the first time", self.relists.clone());
        r.register("rejected", "Keys refused by a rule of the contract", self.rejected.clone());
        r.register("mirrored_events", "Changes of keys taken over", self.mirrored.clone());
        r.register("mirrored_batches", "Txns that took them over", self.batches.clone());
    }

    pub(crate) fn relisted(&self, name: &ClusterName, resource: Resource) {
        let labels = ResourceLabels { peer: name.to_string(), resource: Name(resource.name()) };
        self.relists.get_or_create(&labels).inc();
    }

    pub(crate) fn rejected(&self, name: &ClusterName, resource: Resource, rule: Rule) {
        let labels =
            RejectedLabels { peer: name.to_string(), resource: Name(resource.name()), rule: Name(rule.name()) };
        self.rejected.get_or_create(&labels).inc();
    }

    pub(crate) fn mirrored(&self, name: &ClusterName, events: usize) {
        self.mirrored.get_or_create(&peer(name)).inc_by(events as u64);
        self.batches.get_or_create(&peer(name)).inc();
    }

    pub(crate) fn show(&self, name: &ClusterName, known: &Snapshot) {
        for state in State::ALL {
            let labels = StateLabels { peer: name.to_string(), state: Name(state.name()) };
            self.state.get_or_create(&labels).set(i64::from(state == known.standing.state));
        }
        let seconds = i64::try_from(known.last_heartbeat_unix_nanos / 1_000_000_000).unwrap_or(i64::MAX);
        self.heartbeat_unix_seconds.get_or_create(&peer(name)).set(seconds);
        self.connections.get_or_create(&peer(name)).set(i64::try_from(known.connections).unwrap_or(i64::MAX));
        self.clock_offset_micros.get_or_create(&peer(name)).set(known.clock_offset_micros);
        let paths_up = match known.signs.paths {
            Paths::Up => 1,
            Paths::Down { .. } => 0,
            Paths::Unknown => -1,
        };
        self.paths_up.get_or_create(&peer(name)).set(paths_up);
    }

    /// The peer is gone: its gauges would stand still for ever.
    pub(crate) fn forget(&self, name: &ClusterName) {
        for state in State::ALL {
            self.state.remove(&StateLabels { peer: name.to_string(), state: Name(state.name()) });
        }
        for gauges in [&self.heartbeat_unix_seconds, &self.connections, &self.clock_offset_micros, &self.paths_up] {
            gauges.remove(&peer(name));
        }
    }
}
