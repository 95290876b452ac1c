//! Pods' devices, as both kinds of CNI plugin make them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_runtime::{Shutdown, TaskSet};
use node_agent::netlink::Netlink;
use node_agent::netlink::pods::PodDevice;
use node_agent::netlink::uplink::Uplink;

use crate::harness::{Node, nodes};

fn look(node: &Node) -> (Uplink, Vec<PodDevice>) {
    node.run(async {
        let tasks = TaskSet::new(Shutdown::new());
        let netlink = Netlink::open(&tasks).unwrap();
        let uplink = netlink.uplink(None, None).await.unwrap();
        let pods = netlink.pod_devices(&uplink.not_pods).await.unwrap();
        (uplink, pods)
    })
}

fn mac(node: &Node, device: &str) -> String {
    let text = node.ip(&format!("-o link show {device}"));
    text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

#[test]
fn pods_are_found_behind_routed_and_bridged_devices_before_they_sent_anything() {
    let Some([node, router, routed, bridged]) = nodes() else { return };
    node.connect(&router, "172.30.1.11".parse().unwrap(), "172.30.1.1".parse().unwrap());

    node.ip(&format!("link add veth-r type veth peer name eth0 netns {}", routed.netns.display()));
    node.ip("link set veth-r up");
    routed.ip("addr add 10.1.1.2/24 dev eth0");
    routed.ip("link set eth0 up");

    node.ip("link add name cni0 type bridge");
    node.ip(&format!("link add veth-b type veth peer name eth0 netns {}", bridged.netns.display()));
    node.ip("link set veth-b master cni0 up");
    node.ip("link set cni0 up");
    bridged.ip("addr add 10.1.1.3/24 dev eth0");
    bridged.ip("link set eth0 up");

    let (uplink, pods) = look(&node);
    assert_eq!((uplink.name.as_str(), uplink.node_ip), ("eth0", "172.30.1.11".parse().unwrap()));
    let found: BTreeSet<&str> = pods.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(found, BTreeSet::from(["veth-b", "veth-r"]), "the uplink is a veth too, and no pod's");

    let by_name = |name: &str| pods.iter().find(|p| p.name == name).unwrap();
    let pod = by_name("veth-r");
    assert_eq!(pod.addresses, ["10.1.1.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(pod.pod_mac.map(text), Some(mac(&routed, "eth0")));
    assert_eq!((text(pod.mac), pod.master), (mac(&node, "veth-r"), None));

    let pod = by_name("veth-b");
    assert_eq!(pod.addresses, ["10.1.1.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(pod.pod_mac.map(text), Some(mac(&bridged, "eth0")));
    assert_eq!(pod.master.map(|m| text(m.mac)), Some(mac(&node, "cni0")));
}

#[test]
fn a_pod_without_an_address_is_listed_so_that_it_is_watched() {
    let Some([node, router, pod]) = nodes() else { return };
    node.connect(&router, "172.30.1.11".parse().unwrap(), "172.30.1.1".parse().unwrap());
    node.ip(&format!("link add veth0 type veth peer name eth0 netns {}", pod.netns.display()));
    let (_, pods) = look(&node);
    assert_eq!((pods.len(), pods[0].addresses.len()), (1, 0));
}
