//! Which agents are connected, and what they reported last. In memory: an agent tells again when it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_proto::v1::ReportStatusRequest;
use mesh_runtime::clock;
use mesh_types::NodeName;
use parking_lot::Mutex;

/// Written by the agent calls, read by the admin API and the metrics. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<Mutex<BTreeMap<NodeName, AgentState>>>);

#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentState {
    /// Open streams: two for a moment while an agent replaces a broken one.
    pub streams: usize,
    /// When it connected, or when its last stream ended.
    pub since_unix_nanos: u64,
    pub report: Option<ReportStatusRequest>,
}

/// Counts a stream until dropped.
#[derive(Debug)]
pub(super) struct Stream {
    node: NodeName,
    presence: Presence,
}

impl Presence {
    pub fn all(&self) -> BTreeMap<NodeName, AgentState> {
        self.0.lock().clone()
    }

    pub fn connected(&self) -> usize {
        self.0.lock().values().filter(|a| a.streams > 0).count()
    }

    pub(super) fn report(&self, node: NodeName, report: ReportStatusRequest) {
        self.0.lock().entry(node).or_default().report = Some(report);
    }

    pub(super) fn open(&self, node: NodeName) -> Stream {
        let mut agents = self.0.lock();
        let agent = agents.entry(node.clone()).or_default();
        if agent.streams == 0 {
            agent.since_unix_nanos = clock::unix_nanos();
        }
        agent.streams += 1;
        drop(agents);
        Stream { node, presence: self.clone() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(agent) = self.presence.0.lock().get_mut(&self.node) {
            agent.streams = agent.streams.saturating_sub(1);
            if agent.streams == 0 {
                agent.since_unix_nanos = clock::unix_nanos();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_connected_while_it_has_a_stream() {
        let presence = Presence::default();
        let first = presence.open(NodeName("n1".into()));
        let second = presence.open(NodeName("n1".into()));
        drop(first);
        assert_eq!(presence.connected(), 1);
        drop(second);
        assert_eq!(presence.connected(), 0);
        assert_eq!(presence.all().len(), 1, "what it reported stays");
    }
}
