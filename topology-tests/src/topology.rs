//! The plan of a lab: clusters, nodes, addresses, CNI kinds. Pure numbers; building it is `wiring`'s work.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// MTU of every link of the lab, pods included.
pub const MTU: u32 = 1500;

/// Which main CNI plugin attaches the pods of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// A veth pair routed by the host.
    Ptp,
    /// A port of the node's bridge `cni0`.
    Bridge,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodePlan {
    pub name: String,
    pub ip: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
}

/// A replica of a cluster's mesh-apiserver: it lives on a node, at an address of its own, so that all use the same ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplicaPlan {
    pub id: u64,
    pub node: String,
    pub ip: Ipv4Addr,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterPlan {
    pub name: String,
    pub id: u32,
    pub cni: Cni,
    pub node_subnet: Ipv4Net,
    /// The router's address towards the nodes.
    pub gateway: Ipv4Addr,
    /// The WAN's and the router's ends of the uplink.
    pub wan_side: Ipv4Addr,
    pub router_side: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub nodes: Vec<NodePlan>,
    /// In order of their ids, from 1.
    pub replicas: Vec<ReplicaPlan>,
}

impl ClusterPlan {
    /// Cluster number `id`, named by its letter; the replicas are spread over its nodes.
    fn lettered(id: u8, letter: char, cni: Cni, nodes: u8, replicas: u8) -> Self {
        let node = |n: u8| NodePlan {
            name: format!("{letter}{n}"),
            ip: Ipv4Addr::new(172, 30, id, 10 + n),
            pod_cidr: net(Ipv4Addr::new(10, id, n, 0), 24),
        };
        let replica = |n: u8| ReplicaPlan {
            id: n.into(),
            node: format!("{letter}{}", (n - 1) % nodes + 1),
            ip: Ipv4Addr::new(172, 30, id, 100 + n),
        };
        Self {
            name: format!("cluster-{letter}"),
            id: u32::from(id),
            cni,
            node_subnet: net(Ipv4Addr::new(172, 30, id, 0), 24),
            gateway: Ipv4Addr::new(172, 30, id, 1),
            wan_side: Ipv4Addr::new(172, 31, id, 1),
            router_side: Ipv4Addr::new(172, 31, id, 2),
            pod_cidr: net(Ipv4Addr::new(10, id, 0, 0), 16),
            service_cidr: net(Ipv4Addr::new(10, 100 + id, 0, 0), 16),
            nodes: (1..=nodes).map(node).collect(),
            replicas: (1..=replicas).map(replica).collect(),
        }
    }

    /// A node for what is done on one node only.
    pub fn first_node(&self) -> &NodePlan {
        &self.nodes[0]
    }

    /// The replicas that a node runs.
    pub fn replicas_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a ReplicaPlan> {
        self.replicas.iter().filter(move |replica| replica.node == node)
    }

    /// The name of the WAN's link to this cluster (at most 15 characters).
    pub fn wan_link(&self) -> String {
        format!("to-{}", self.name)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Topology {
    pub clusters: Vec<ClusterPlan>,
}

impl Topology {
    /// cluster-a with `ptp` pods and cluster-b with `bridge` pods, two nodes and three replicas each.
    pub fn pair() -> Self {
        Self::pair_with_replicas(3)
    }

    /// The same with another number of replicas, at most 5.
    pub fn pair_with_replicas(replicas: u8) -> Self {
        let cluster = |id, letter, cni| ClusterPlan::lettered(id, letter, cni, 2, replicas);
        Self { clusters: vec![cluster(1, 'a', Cni::Ptp), cluster(2, 'b', Cni::Bridge)] }
    }

    /// The pair and cluster-c, whose three replicas share one node: a third to choose from.
    pub fn trio() -> Self {
        let mut topology = Self::pair();
        topology.clusters.push(ClusterPlan::lettered(3, 'c', Cni::Ptp, 1, 3));
        topology
    }

    /// cluster-a alone, with three nodes and a replica on each: what happens to a node happens to one replica.
    pub fn lone() -> Self {
        Self { clusters: vec![ClusterPlan::lettered(1, 'a', Cni::Ptp, 3, 3)] }
    }

    /// At most 26 clusters of at most 200 nodes each, without replicas of the mesh: for clusters that bring their own
    /// control plane and CNI.
    pub fn plain(clusters: u8, nodes: u8) -> Self {
        let cluster = |n: u8| ClusterPlan::lettered(n + 1, char::from(b'a' + n), Cni::Ptp, nodes, 0);
        Self { clusters: (0..clusters).map(cluster).collect() }
    }

    pub fn nodes(&self) -> impl Iterator<Item = (&ClusterPlan, &NodePlan)> {
        self.clusters.iter().flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)))
    }
}

fn net(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new(address, length).expect("the lengths written here are at most 32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_parts_of_the_plan_overlap() {
        let topology = Topology::trio();
        let ranges: Vec<Ipv4Net> =
            topology.clusters.iter().flat_map(|c| [c.node_subnet, c.pod_cidr, c.service_cidr]).collect();
        for (i, one) in ranges.iter().enumerate() {
            for other in &ranges[i + 1..] {
                assert!(!one.contains(other) && !other.contains(one), "{one} overlaps {other}");
            }
        }
        for (cluster, node) in topology.nodes() {
            assert!(cluster.pod_cidr.contains(&node.pod_cidr) && cluster.node_subnet.contains(&node.ip));
        }
        for cluster in &topology.clusters {
            let placed: usize = cluster.nodes.iter().map(|node| cluster.replicas_on(&node.name).count()).sum();
            assert_eq!(placed, cluster.replicas.len(), "every replica lives on a node of its cluster");
            for replica in &cluster.replicas {
                assert!(cluster.node_subnet.contains(&replica.ip));
                assert!(cluster.nodes.iter().all(|node| node.ip != replica.ip));
            }
        }
    }
}
