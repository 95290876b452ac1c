//! What the agent says about itself: one value, written by `control`, read by the reporter and the metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_proto::convert::address_bytes;
use mesh_proto::v1;
use mesh_runtime::clock;

use crate::probe::Reports;
use crate::probe::paths::Interest;

/// Most objects that a report names.
const MOST_ERRORS: usize = 100;

/// An object that is not as the view wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectError {
    pub kind: &'static str,
    pub name: String,
    pub error: String,
    pub since_unix_nanos: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub realized_revision: i64,
    pub paths: Reports,
    pub errors: Vec<ObjectError>,
    /// Refused objects by reason.
    pub refusals: BTreeMap<&'static str, usize>,
    pub drift_total: u64,
    pub tunnel_up: bool,
    /// Largest packet between clusters, bytes; 0 while the uplink is not known.
    pub inner_mtu: u32,
    pub endpoints: usize,
    pub services: usize,
    pub ip_entries: usize,
    pub backends: usize,
}

impl Status {
    pub fn report(&self, dropped_packets: u64) -> v1::ReportStatusRequest {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let paths = |interest: Interest| {
            let wanted = self.paths.iter().filter(move |(_, path)| path.interest == interest);
            let said = wanted.map(|(address, path)| v1::PathStatus {
                cluster: path.cluster.clone(),
                node: path.node.clone(),
                address: address_bytes(*address),
                up: path.is_up,
                rtt_micros: path.rtt_micros,
                since_unix_nanos: path.since_unix_nanos,
            });
            said.collect::<Vec<_>>()
        };
        let errors = self.errors.iter().take(MOST_ERRORS).map(|e| v1::ObjectStatus {
            kind: e.kind.to_owned(),
            name: e.name.clone(),
            error: e.error.clone(),
            since_unix_nanos: e.since_unix_nanos,
        });
        v1::ReportStatusRequest {
            realized_revision: self.realized_revision,
            paths: paths(Interest::Used),
            sampled_paths: paths(Interest::Sampled),
            errors: errors.collect(),
            drift_total: self.drift_total,
            dropped_packets,
            tunnel_up: self.tunnel_up,
            endpoints: count(self.endpoints),
            services: count(self.services),
            inner_mtu: self.inner_mtu,
            // The reporter's to say.
            credentials: None,
        }
    }
}

/// The wall clock's time of something that began `ago`.
pub fn since(ago: Duration) -> u64 {
    let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    clock::unix_nanos().saturating_sub(ago)
}
