//! A cluster's status as data: what JSON shows, and what the tables are drawn from.

use jiff::Timestamp;
use mesh_proto::v1;
use serde::Serialize;

use super::problems::{self, Problem};
use crate::verb::certs::report::{Rotation, Row};
use crate::verb::peers::Peer;
use crate::{age, wire};

#[derive(Debug, Clone, Serialize)]
pub(super) struct ClusterReport {
    pub(super) context: String,
    pub(super) cluster: String,
    pub(super) cluster_id: u32,
    pub(super) uuid: String,
    pub(super) version: String,
    pub(super) encryption: String,
    pub(super) services: u32,
    pub(super) global_services: u32,
    pub(super) endpoints: u32,
    pub(super) identities: u32,
    pub(super) store: Store,
    pub(super) source: Source,
    /// Why nothing is concluded about other clusters now; empty where something is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) own_side: String,
    pub(super) peers: Vec<Peer>,
    pub(super) agents: Vec<Agent>,
    /// The one that expires first, of all that the cluster holds; `meshctl certs status` has the rest.
    pub(super) first_to_expire: Option<Row>,
    pub(super) rotation: Option<Rotation>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Store {
    pub(super) revision: i64,
    pub(super) keys: u64,
    pub(super) replicas: u32,
    pub(super) ready_replicas: u32,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Source {
    pub(super) kind: String,
    pub(super) location: String,
    pub(super) objects: u32,
    pub(super) errors: Vec<ObjectError>,
    /// Why it cannot be followed now; empty while it can.
    pub(super) trouble: String,
    pub(super) trouble_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ObjectError {
    pub(super) object: String,
    pub(super) error: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Agent {
    pub(super) node: String,
    pub(super) connected: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) version: String,
    pub(super) kernel: String,
    pub(super) wireguard_backend: String,
    /// Absent until the agent has reported.
    pub(super) realized: Option<Realized>,
}

/// What an agent last said about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Realized {
    pub(super) revision: i64,
    pub(super) tunnel_up: bool,
    pub(super) endpoints: u32,
    pub(super) services: u32,
    pub(super) drift_total: u64,
    pub(super) dropped_packets: u64,
    pub(super) paths: Vec<Path>,
    pub(super) errors: Vec<ObjectError>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Path {
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) up: bool,
    pub(super) rtt_micros: u32,
    pub(super) since: Option<Timestamp>,
}

impl ClusterReport {
    pub(super) fn new(context: &str, status: v1::GetStatusResponse, now: Timestamp) -> Self {
        let store = status.store.unwrap_or_default();
        let source = status.source.unwrap_or_default();
        let mut report = Self {
            context: context.to_owned(),
            cluster: status.cluster,
            cluster_id: status.cluster_id,
            uuid: status.uuid,
            version: status.version,
            encryption: wire::encryption(status.encryption),
            services: status.services,
            global_services: status.global_services,
            endpoints: status.endpoints,
            identities: status.identities,
            store: Store {
                revision: store.revision,
                keys: store.keys,
                replicas: store.replicas,
                ready_replicas: store.ready_replicas,
            },
            source: Source {
                kind: source.kind,
                location: source.location,
                objects: source.objects,
                errors: source.errors.into_iter().map(|e| ObjectError { object: e.object, error: e.error }).collect(),
                trouble: source.trouble,
                trouble_since: age::timestamp(source.trouble_since_unix_nanos),
            },
            own_side: status.own_side,
            peers: status.peers.into_iter().map(|p| Peer::new(context, p)).collect(),
            agents: status.agents.into_iter().map(Agent::from).collect(),
            first_to_expire: status.first_to_expire.map(|row| Row::new(row, now)),
            rotation: status.rotation.map(Rotation::from),
            problems: Vec::new(),
        };
        report.problems = problems::of(&report, now);
        report
    }
}

impl From<v1::AgentStatus> for Agent {
    fn from(agent: v1::AgentStatus) -> Self {
        Self {
            node: agent.node,
            connected: agent.connected,
            since: age::timestamp(agent.since_unix_nanos),
            version: agent.version,
            kernel: agent.kernel,
            wireguard_backend: agent.wireguard_backend,
            realized: agent.report.map(Realized::from),
        }
    }
}

impl From<v1::ReportStatusRequest> for Realized {
    fn from(report: v1::ReportStatusRequest) -> Self {
        let path = |p: v1::PathStatus| Path {
            address: wire::address("path.address", &p.address).unwrap_or_else(|e| format!("({e})")),
            since: age::timestamp(p.since_unix_nanos),
            cluster: p.cluster,
            node: p.node,
            up: p.up,
            rtt_micros: p.rtt_micros,
        };
        let error = |e: v1::ObjectStatus| ObjectError { object: format!("{} {}", e.kind, e.name), error: e.error };
        Self {
            revision: report.realized_revision,
            tunnel_up: report.tunnel_up,
            endpoints: report.endpoints,
            services: report.services,
            drift_total: report.drift_total,
            dropped_packets: report.dropped_packets,
            paths: report.paths.into_iter().map(path).collect(),
            errors: report.errors.into_iter().map(error).collect(),
        }
    }
}
