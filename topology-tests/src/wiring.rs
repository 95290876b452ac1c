//! Builds the plan with veth pairs and routes: nodes - cluster router - WAN. No bridge lies on the path (a bridge segments
//! tunnelled GSO packets in software); no router and not the WAN knows a route to a foreign pod.

use anyhow::Result;

use crate::names::LabName;
use crate::netns::{self, ip};
use crate::topology::{ClusterPlan, MTU, NodePlan, Topology};

/// The part of the lab that routes between clusters.
pub const WAN: &str = "wan";

const FORWARDING: [(&str, &str); 3] =
    [("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/default/rp_filter", "1"), ("ipv4/ip_forward", "1")];

/// Makes all infrastructure namespaces and connects them.
pub fn build(lab: &LabName, topology: &Topology) -> Result<()> {
    let mut names = vec![lab.netns(WAN)];
    names.extend(topology.clusters.iter().map(|cluster| lab.netns(&cluster.name)));
    names.extend(topology.nodes().map(|(_, node)| lab.netns(&node.name)));
    netns::create(&names)?;
    for name in &names {
        // Before any device exists, so that every device, those of CNI plugins included, starts with rp_filter on.
        netns::sysctl(name, &FORWARDING)?;
    }
    let wan = lab.netns(WAN);
    ip(Some(&wan), &["link set lo up".into()])?;
    for cluster in &topology.clusters {
        let router = lab.netns(&cluster.name);
        ip(Some(&wan), &wan_link(cluster, &router))?;
        ip(Some(&router), &router_links(lab, cluster))?;
        ip(Some(&wan), &wan_routes(cluster))?;
        for node in &cluster.nodes {
            ip(Some(&lab.netns(&node.name)), &node_links(cluster, node))?;
        }
    }
    Ok(())
}

/// Takes a node's uplink down, or up again with the routes that went with it: the node sees its carrier go.
pub fn set_uplink(lab: &LabName, cluster: &ClusterPlan, node: &NodePlan, is_up: bool) -> Result<()> {
    let router = lab.netns(&cluster.name);
    if is_up {
        let mut lines = vec![format!("link set {} up", node.name)];
        lines
            .extend(routes_to_node(cluster, node).into_iter().map(|route| route.replace("route add", "route replace")));
        ip(Some(&router), &lines)
    } else {
        ip(Some(&router), &[format!("link set {} down", node.name)])
    }
}

fn wan_link(cluster: &ClusterPlan, router: &str) -> Vec<String> {
    let link = cluster.wan_link();
    vec![
        format!("link add {link} mtu {MTU} type veth peer name wan mtu {MTU} netns {router}"),
        format!("addr add {}/30 dev {link}", cluster.wan_side),
        format!("link set {link} up"),
    ]
}

fn wan_routes(cluster: &ClusterPlan) -> Vec<String> {
    vec![format!("route add {} via {}", cluster.node_subnet, cluster.router_side)]
}

fn router_links(lab: &LabName, cluster: &ClusterPlan) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".into(),
        format!("addr add {}/30 dev wan", cluster.router_side),
        "link set wan up".into(),
        format!("route add default via {}", cluster.wan_side),
    ];
    for node in &cluster.nodes {
        let (link, peer) = (&node.name, lab.netns(&node.name));
        lines.push(format!("link add {link} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {peer}"));
        lines.push(format!("addr add {}/32 dev {link}", cluster.gateway));
        lines.push(format!("link set {link} up"));
        lines.extend(routes_to_node(cluster, node));
    }
    lines
}

/// The router's routes to a node and its pods: the part of a CNI that joins the nodes of one cluster.
fn routes_to_node(cluster: &ClusterPlan, node: &NodePlan) -> Vec<String> {
    let mut lines = vec![
        format!("route add {}/32 dev {}", node.ip, node.name),
        format!("route add {} via {} dev {}", node.pod_cidr, node.ip, node.name),
    ];
    lines.extend(
        cluster.replicas_on(&node.name).map(|replica| format!("route add {}/32 dev {}", replica.ip, node.name)),
    );
    lines
}

fn node_links(cluster: &ClusterPlan, node: &NodePlan) -> Vec<String> {
    let mut lines = vec![
        "link set lo up".into(),
        format!("addr add {}/32 dev eth0", node.ip),
        "link set eth0 up".into(),
        format!("route add {}/32 dev eth0 scope link", cluster.gateway),
        format!("route add default via {} dev eth0", cluster.gateway),
    ];
    // After the node's own, which stays the source of what the node sends.
    lines.extend(cluster.replicas_on(&node.name).map(|replica| format!("addr add {}/32 dev eth0", replica.ip)));
    lines
}
