//! The last look on an uplink.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::common::verdict::{direction::TO_WAN, reason};
use agent_ebpf::common::{Config, IpEntry};
use agent_ebpf::pins::program;
use agent_ebpf::testrun::{Context, NEXT};

use crate::harness::{
    LOCAL_POD, OWN, PEER, POD, REMOTE_NODE, REMOTE_POD, VXLAN_PORT, config, prefix, remote_entry, with_node,
};
use crate::packet::{ACK, Frame, arp, tcp, udp, v6};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 11);

#[test]
fn nothing_for_a_peers_prefix_leaves_in_clear() {
    with_node(|bench| {
        let v6_peer: ipnet::IpNet = "fd00:2::/48".parse().unwrap();
        bench.maps().ipcache.insert(&v6_peer, &prefix(PEER, IpEntry::FLAG_REMOTE)).unwrap();
        let unknown_pod = Ipv4Addr::new(10, 2, 9, 9);
        let frames = [
            tcp((POD, 1), (REMOTE_POD, 80), ACK).bytes(),
            tcp((NODE, 1), (REMOTE_POD, 80), ACK).bytes(),
            udp((NODE, 1), (unknown_pod, 53)).bytes(),
            v6("fd00:1::1".parse().unwrap(), "fd00:2::1".parse().unwrap()),
        ];
        for frame in frames {
            bench.assert_dropped(program::TO_WAN, &frame, Context::default(), TO_WAN, reason::LEAK);
        }
        assert_eq!(bench.counter(TO_WAN, reason::LEAK).cluster, PEER);
        let down = IpEntry { flags: IpEntry::FLAG_DROP, ..remote_entry() };
        bench.maps().ipcache.insert(&IpAddr::from(REMOTE_POD).into(), &down).unwrap();
        let frame = tcp((POD, 1), (REMOTE_POD, 80), ACK).bytes();
        bench.assert_dropped(program::TO_WAN, &frame, Context::default(), TO_WAN, reason::LEAK);
    });
}

#[test]
fn the_tunnel_in_clear_is_dropped_only_where_encryption_is_required() {
    with_node(|bench| {
        let vxlan = udp((NODE, 50_000), (REMOTE_NODE, VXLAN_PORT)).bytes();
        bench.assert_dropped(program::TO_WAN, &vxlan, Context::default(), TO_WAN, reason::CLEAR_TUNNEL);
        bench.maps().config.set(&Config { flags: 0, ..config() }).unwrap();
        assert_eq!(bench.send(program::TO_WAN, &vxlan).answer, NEXT);
    });
}

#[test]
fn everything_else_leaves() {
    with_node(|bench| {
        let world = Ipv4Addr::new(192, 0, 2, 1);
        let wireguard = udp((NODE, 51_881), (REMOTE_NODE, 51_881));
        let frames = [
            wireguard.bytes(),
            Frame { dport: 8472, ..wireguard }.bytes(),
            tcp((NODE, 1), (world, 443), ACK).bytes(),
            tcp((POD, 1), (LOCAL_POD, 443), ACK).bytes(),
            v6("fd00:1::1".parse().unwrap(), "2001:db8::1".parse().unwrap()),
            arp(),
        ];
        bench.maps().ipcache.insert(&IpAddr::from(LOCAL_POD).into(), &prefix(OWN, IpEntry::FLAG_OWN)).unwrap();
        for frame in frames {
            let outcome = bench.send(program::TO_WAN, &frame);
            assert_eq!((outcome.answer, outcome.packet), (NEXT, frame));
        }
        assert!(bench.maps().counters.read().unwrap().is_empty());
    });
}
