//! The matrix: which client asks which target over which protocol, and what is to be expected of the answer. Pure.

use std::time::Duration;

use serde::Serialize;

use super::Answer;
use crate::args::kubernetes::Protocol;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    Pod,
    /// A process in a node's own network.
    Host,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum To {
    Pod,
    Service,
}

/// One question. Clusters are numbered as they were named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) from: usize,
    pub(super) client: From,
    /// The client's pod and node.
    pub(super) pod: String,
    pub(super) node: String,
    /// The client's own address.
    pub(super) address: String,
    pub(super) to: usize,
    pub(super) target: To,
    pub(super) protocol: Protocol,
}

/// A client of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) kind: From,
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) address: String,
}

/// How a cell ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Reached { answer: Answer, after: Duration },
    NotReached { why: String },
}

/// All cells: those within a cluster first, which tell a fault of the cluster from one of the mesh.
pub(super) fn matrix(clients: &[Vec<Client>]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (from, all) in clients.iter().enumerate() {
        for to in 0..clients.len() {
            for client in all {
                for (kind, target) in [(From::Pod, To::Pod), (From::Pod, To::Service), (From::Host, To::Service)] {
                    if kind != client.kind {
                        continue;
                    }
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        cells.push(Cell {
                            from,
                            client: kind,
                            pod: client.pod.clone(),
                            node: client.node.clone(),
                            address: client.address.clone(),
                            to,
                            target,
                            protocol,
                        });
                    }
                }
            }
        }
    }
    cells.sort_by_key(|cell| (cell.from != cell.to, cell.from, cell.to));
    cells
}

impl Cell {
    pub(super) fn is_local(&self) -> bool {
        self.from == self.to
    }

    /// What is wrong with an answer: another's, or of a client that was not seen by its own address.
    pub(super) fn wrong(&self, answer: &Answer, clusters: &[String]) -> Option<String> {
        let wanted = clusters.get(self.to).map_or("", String::as_str);
        if answer.cluster != wanted {
            return Some(format!("{} of cluster {} answered, and not {wanted}", answer.pod, answer.cluster));
        }
        // A node has several addresses, and any of them is its own.
        if self.client == From::Pod && !self.is_local() && answer.peer != self.address {
            return Some(format!("the client's address is lost: {} was seen as {}", self.address, answer.peer));
        }
        None
    }

    /// `pod -> service, tcp`.
    pub(super) fn way(&self) -> String {
        let client = if self.client == From::Pod { "pod" } else { "host" };
        let target = if self.target == To::Pod { "pod" } else { "service" };
        format!("{client} -> {target}, {}", self.protocol.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(kind: From, pod: &str) -> Client {
        Client { kind, pod: pod.to_owned(), node: "n".to_owned(), address: "10.0.0.1".to_owned() }
    }

    #[test]
    fn every_way_is_asked_over_both_protocols_in_both_directions_and_within() {
        let clients = vec![vec![client(From::Pod, "a"), client(From::Host, "ah")], vec![client(From::Pod, "b")]];
        let cells = matrix(&clients);
        // A pod has 2 targets and a host 1, over 2 protocols, to 2 clusters.
        assert_eq!(cells.len(), 2 * 2 * (2 + 1) + 2 * 2 * 2);
        let ways: std::collections::BTreeSet<String> =
            cells.iter().filter(|cell| !cell.is_local()).map(Cell::way).collect();
        let want = [
            "host -> service, tcp",
            "host -> service, udp",
            "pod -> pod, tcp",
            "pod -> pod, udp",
            "pod -> service, tcp",
            "pod -> service, udp",
        ];
        assert_eq!(ways.into_iter().collect::<Vec<_>>(), want);
        assert!(cells[0].is_local() && !cells.last().unwrap().is_local());
    }

    #[test]
    fn an_answer_counts_when_it_is_the_right_servers_and_the_client_was_seen_as_itself() {
        let clusters = ["a".to_owned(), "b".to_owned()];
        let clients = vec![vec![client(From::Pod, "p")], vec![]];
        let cell = matrix(&clients).into_iter().find(|cell| !cell.is_local()).unwrap();
        let answer = |cluster: &str, peer: &str| Answer { cluster: cluster.into(), pod: "s".into(), peer: peer.into() };
        assert_eq!(cell.wrong(&answer("b", "10.0.0.1"), &clusters), None);
        let lost = cell.wrong(&answer("b", "172.30.1.11"), &clusters).unwrap();
        assert!(lost.contains("10.0.0.1 was seen as 172.30.1.11"), "{lost}");
        assert!(cell.wrong(&answer("a", "10.0.0.1"), &clusters).unwrap().contains("of cluster a answered"));
        let host = Cell { client: From::Host, ..cell };
        assert_eq!(host.wrong(&answer("b", "172.30.1.11"), &clusters), None);
    }
}
