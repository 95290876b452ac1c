//! Packets that claim what they may not: each is dropped, counted for its reason, and reaches nobody.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use agent_ebpf::common::verdict::{direction, reason};
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::inject::Packet;
use topology_tests::scenario::{Scenario, Setup};

const VXLAN: u16 = 8473;
const A1: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 11);
const B1: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 11);
const WAN: Ipv4Addr = Ipv4Addr::new(172, 31, 1, 1);
/// An identity of cluster-a, of cluster-b, and of a cluster that nobody joined.
const OF_A: u32 = 0x01_012c;
const OF_B: u32 = 0x02_012c;
const OF_NOBODY: u32 = 0x03_012c;

/// Packets of a node that the kernel dropped since their way back is another device's (`IPReversePathFilter`).
fn reverse_path_drops(s: &Scenario, node: &str) -> u64 {
    let text = s.lab.run_in(&s.lab.node(node).unwrap().place, "cat", &["/proc/net/netstat"]).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "IPReversePathFilter").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

fn joined(name: &'static str) -> Option<Scenario> {
    let scenario = Setup::shop(name).unwrap().start().unwrap()?;
    scenario.connect().unwrap();
    let client = scenario.lab.pod("frontend-0").unwrap();
    let ledger = format!("http://{}:8080", scenario.lab.pod("ledger-0").unwrap().ip.unwrap());
    scenario.ask_until_answered(&client, &ledger, Duration::from_secs(5)).unwrap();
    Some(scenario)
}

/// A pod of cluster-a on its first node, and one of cluster-b.
fn pods_on_first_nodes(s: &Scenario) -> (Ipv4Addr, Ipv4Addr) {
    let ip_on = |node: &str| s.lab.pods().into_iter().find(|pod| pod.node == node).and_then(|pod| pod.ip).unwrap();
    (ip_on("a1"), ip_on("b1"))
}

#[test]
fn vxlan_from_outside_the_secure_device_is_dropped_whatever_its_vni() {
    let Some(s) = joined("forgedvni") else { return };
    let (victim, claimed) = pods_on_first_nodes(&s);
    let inner = Packet::udp(SocketAddrV4::new(claimed, 4000), SocketAddrV4::new(victim, 8080), b"forged");
    let from = |source| -> Vec<Packet> {
        let outer = |vni| Packet::vxlan(SocketAddrV4::new(source, 50_000), SocketAddrV4::new(A1, VXLAN), vni, &inner);
        [0, 1, OF_B, OF_A, 0xff_ffff].into_iter().map(outer).collect()
    };
    // From an address that is no node's, the datagrams reach the VXLAN device and are dropped there.
    let before = s.counted("a1", direction::FROM_MESH, reason::NOT_ENCRYPTED).unwrap();
    s.lab.inject_from_wan(&from(WAN)).unwrap();
    s.wait_counted("a1", direction::FROM_MESH, reason::NOT_ENCRYPTED, before, 5).unwrap();
    // With a peer node's address, the way back leads through the secure device: the kernel's reverse-path check drops them.
    let before = reverse_path_drops(&s, "a1");
    s.lab.inject_from_wan(&from(B1)).unwrap();
    wait_until("the reverse-path check to count them", Duration::from_secs(5), || {
        reverse_path_drops(&s, "a1") >= before + 5
    })
    .unwrap();
    s.end().unwrap();
}

#[test]
fn a_node_of_a_peer_cannot_speak_for_another_cluster() {
    let Some(s) = joined("forgedinner") else { return };
    let (victim, claimed) = pods_on_first_nodes(&s);
    let through_tunnel = |vni, inner: &Packet| {
        // Sent from b1's own namespace to the VXLAN port of a1: the node's rules take it through WireGuard.
        let (source, target) = (SocketAddrV4::new(B1, 50_000), SocketAddrV4::new(A1, VXLAN));
        s.lab.send_from_node(("b1", source), target, &Packet::in_vxlan(vni, inner))
    };
    let target = SocketAddrV4::new(victim, 8080);

    let on_b2 = s.lab.pods().into_iter().find(|pod| pod.node == "b2").and_then(|pod| pod.ip).unwrap();
    let from = |source, what: &[u8]| Packet::udp(SocketAddrV4::new(source, 4000), target, what);
    let forged = [
        (OF_B, from(Ipv4Addr::new(10, 1, 2, 77), b"as a pod of cluster-a"), reason::INNER_SOURCE),
        (OF_B, from(Ipv4Addr::new(192, 0, 2, 7), b"from nowhere"), reason::INNER_SOURCE),
        (OF_NOBODY, from(claimed, b"identity of cluster 3"), reason::OUTER_SOURCE),
        (OF_A, from(claimed, b"identity of cluster-a"), reason::OUTER_SOURCE),
        (OF_B, from(on_b2, b"a pod of the other node"), reason::OTHER_NODE),
    ];
    for (vni, packet, why) in forged {
        let before = s.counted("a1", direction::FROM_MESH, why).unwrap();
        // Sent again until it is counted: nobody has used these two nodes' tunnel yet, and its handshake takes its time.
        let what = format!("a packet counted as {}", reason::name(why));
        wait_for(&what, Duration::from_secs(15), || {
            through_tunnel(vni, &packet)?;
            Ok((s.counted("a1", direction::FROM_MESH, why)? > before).then_some(()))
        })
        .unwrap();
    }
    s.end().unwrap();
}

#[test]
fn a_pod_cannot_send_from_an_address_that_is_not_its_own() {
    let Some(s) = joined("spoof") else { return };
    let pod = s.lab.pod("frontend-0").unwrap();
    let (_, remote) = pods_on_first_nodes(&s);
    let target = SocketAddrV4::new(remote, 8080);
    let before = s.counted(&pod.node, direction::FROM_POD, reason::SPOOFED_SOURCE).unwrap();
    let other = Ipv4Addr::new(10, 1, 1, 250);
    let packets = [other, remote, Ipv4Addr::new(8, 8, 8, 8)]
        .map(|source| Packet::udp(SocketAddrV4::new(source, 4000), target, b"not mine"));
    s.lab.inject_from_pod(&pod, &packets).unwrap();
    s.wait_counted(&pod.node, direction::FROM_POD, reason::SPOOFED_SOURCE, before, 3).unwrap();
    s.end().unwrap();
}

#[test]
fn a_host_process_cannot_reach_a_peers_pods_in_clear() {
    let Some(s) = joined("hostleak") else { return };
    let (_, remote) = pods_on_first_nodes(&s);
    s.lab.wan.reset_counters().unwrap();
    let packet = Packet::udp(SocketAddrV4::new(A1, 4000), SocketAddrV4::new(remote, 8080), b"from the host");
    let sent = s.lab.inject_from_node("a1", &[packet]);
    // The route to the peer's prefix takes it to a device that drops it, or the uplink's program does: never the WAN.
    drop(sent);
    let node = s.lab.node("a1").unwrap();
    let peer_api = "https://172.30.2.11:2379/version";
    drop(s.lab.run_in(&node.place, "curl", &["--insecure", "--max-time", "2", peer_api]));
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    s.end().unwrap();
}
