//! Which agents are connected, and what they reported last. In memory: an agent tells again when it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mesh_proto::v1::ReportStatusRequest;
use mesh_runtime::clock;
use mesh_types::NodeName;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Written by the agent calls, read by the admin API and the metrics. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Presence {
    agents: Arc<Mutex<BTreeMap<NodeName, AgentState>>>,
    /// Counts changes of who is connected and of which paths work: wakes who concludes from them.
    version: watch::Sender<u64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentState {
    /// Open streams: two for a moment while an agent replaces a broken one.
    pub streams: usize,
    /// When it connected, or when its last stream ended.
    pub since_unix_nanos: u64,
    pub report: Option<ReportStatusRequest>,
    /// When that came.
    pub reported_at: Option<Instant>,
}

/// Counts a stream until dropped.
#[derive(Debug)]
pub(super) struct Stream {
    node: NodeName,
    presence: Presence,
}

impl Presence {
    pub fn all(&self) -> BTreeMap<NodeName, AgentState> {
        self.agents.lock().clone()
    }

    pub fn connected(&self) -> usize {
        self.agents.lock().values().filter(|a| a.streams > 0).count()
    }

    /// Grows with every change of who is connected and of which paths work.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn report(&self, node: NodeName, report: ReportStatusRequest) {
        let is_news = {
            let mut agents = self.agents.lock();
            let agent = agents.entry(node).or_default();
            let is_news = agent.report.as_ref().is_none_or(|known| sees_otherwise(known, &report));
            agent.report = Some(report);
            agent.reported_at = Some(Instant::now());
            is_news
        };
        if is_news {
            self.changed();
        }
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(super) fn open(&self, node: NodeName) -> Stream {
        let mut agents = self.agents.lock();
        let agent = agents.entry(node.clone()).or_default();
        if agent.streams == 0 {
            agent.since_unix_nanos = clock::unix_nanos();
        }
        agent.streams += 1;
        drop(agents);
        self.changed();
        Stream { node, presence: self.clone() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(agent) = self.presence.agents.lock().get_mut(&self.node) {
            agent.streams = agent.streams.saturating_sub(1);
            if agent.streams == 0 {
                agent.since_unix_nanos = clock::unix_nanos();
            }
        }
        self.presence.changed();
    }
}

/// Whether a tunnel or a path came or went; round trip times come and go all the time.
fn sees_otherwise(known: &ReportStatusRequest, now: &ReportStatusRequest) -> bool {
    let paths = |report: &ReportStatusRequest| -> Vec<(String, bytes::Bytes, bool)> {
        let all = report.paths.iter().chain(&report.sampled_paths);
        all.map(|path| (path.cluster.clone(), path.address.clone(), path.up)).collect()
    };
    known.tunnel_up != now.tunnel_up || paths(known) != paths(now)
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
