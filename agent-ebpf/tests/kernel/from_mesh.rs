//! What comes out of the tunnel, and the mark that vouches for it.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::common::verdict::{direction::FROM_MESH, reason};
use agent_ebpf::common::{Config, Endpoint, IpEntry, MARK_DECRYPTED};
use agent_ebpf::pins::program;
use agent_ebpf::testrun::{Context, NEXT, REDIRECT};

use crate::harness::{
    Bench, DMAC, MTU, OTHER_REMOTE_NODE, OWN, PEER, POD, REMOTE_IDENTITY, REMOTE_NODE, REMOTE_POD, SMAC, VXLAN_PORT,
    config, endpoint, identity, prefix, with_node,
};
use crate::packet::{ACK, Frame, L4, SYN, arp, assert_checksums, tcp, udp, v6, word};

const OTHER_BITS: u32 = 0x0002_0000;

fn context() -> Context {
    let tunnel = Some((REMOTE_IDENTITY, u32::from(REMOTE_NODE)));
    Context { mark: MARK_DECRYPTED | OTHER_BITS, tunnel, ..Context::default() }
}

fn to_pod() -> Frame {
    tcp((REMOTE_POD, 40_000), (POD, 80), ACK)
}

fn assert_drop(bench: &mut Bench, frame: &[u8], context: Context, reason: u8) {
    bench.assert_dropped(program::FROM_MESH, frame, context, FROM_MESH, reason);
}

#[test]
fn a_packet_of_a_peers_pod_is_delivered_with_the_pods_macs_and_without_the_mark() {
    with_node(|bench| {
        let frame = to_pod().bytes();
        let outcome = bench.send_with(program::FROM_MESH, &frame, context());
        assert_eq!(outcome.answer, REDIRECT);
        assert_eq!(outcome.packet[..6], DMAC);
        assert_eq!(outcome.packet[6..12], SMAC);
        assert_eq!(outcome.packet[12..], frame[12..]);
        assert_eq!(outcome.mark, OTHER_BITS);
        let key = bench.counter(FROM_MESH, reason::DELIVERED);
        assert_eq!((key.identity, key.cluster), (REMOTE_IDENTITY, PEER));
        assert_eq!(bench.counted(FROM_MESH, reason::IDENTITY_LAG), 0);
    });
}

#[test]
fn a_pod_whose_mac_is_unknown_is_reached_by_the_kernels_neighbours() {
    with_node(|bench| {
        let unknown = Endpoint { how: Endpoint::DELIVER_NEIGH, dmac: [0; 6], ..endpoint() };
        bench.maps().endpoints.insert(POD.into(), &unknown).unwrap();
        let outcome = bench.send_with(program::FROM_MESH, &to_pod().bytes(), context());
        assert_eq!((outcome.answer, outcome.packet), (REDIRECT, to_pod().bytes()));
    });
}

#[test]
fn without_the_mark_nothing_is_accepted_unless_clear_traffic_was_asked_for() {
    with_node(|bench| {
        let clear = Context { mark: OTHER_BITS, ..context() };
        assert_drop(bench, &to_pod().bytes(), clear, reason::NOT_ENCRYPTED);
        bench.maps().config.set(&Config { flags: 0, ..config() }).unwrap();
        assert_eq!(bench.send_with(program::FROM_MESH, &to_pod().bytes(), clear).answer, REDIRECT);
    });
}

#[test]
fn an_outer_source_that_is_no_node_of_the_identitys_cluster_is_dropped() {
    with_node(|bench| {
        let frame = to_pod().bytes();
        let stranger = Context { tunnel: Some((REMOTE_IDENTITY, 0x0102_0304)), ..context() };
        assert_drop(bench, &frame, stranger, reason::OUTER_SOURCE);
        let third_cluster = Context { tunnel: Some((identity(3, 400), u32::from(REMOTE_NODE))), ..context() };
        assert_drop(bench, &frame, third_cluster, reason::OUTER_SOURCE);
        let own_identity = Context { tunnel: Some((identity(OWN, 300), u32::from(REMOTE_NODE))), ..context() };
        assert_drop(bench, &frame, own_identity, reason::OUTER_SOURCE);
        assert_eq!(bench.counter(FROM_MESH, reason::OUTER_SOURCE).identity, 0);
    });
}

#[test]
fn a_packet_without_a_tunnel_key_is_dropped() {
    with_node(|bench| {
        let none = Context { tunnel: None, ..context() };
        assert_drop(bench, &to_pod().bytes(), none, reason::TUNNEL_KEY);
    });
}

#[test]
fn an_inner_source_outside_the_senders_cluster_is_dropped() {
    with_node(|bench| {
        let third: ipnet::IpNet = "10.3.0.0/16".parse().unwrap();
        bench.maps().ipcache.insert(&third, &prefix(3, IpEntry::FLAG_REMOTE)).unwrap();
        let own_pod: IpAddr = [10, 1, 2, 2].into();
        bench.maps().ipcache.insert(&own_pod.into(), &prefix(OWN, IpEntry::FLAG_OWN)).unwrap();
        for source in [[10, 3, 1, 1], [10, 1, 9, 9], [10, 1, 2, 2], [192, 0, 2, 1]] {
            let frame = Frame { src: Ipv4Addr::from(source), ..to_pod() };
            assert_drop(bench, &frame.bytes(), context(), reason::INNER_SOURCE);
        }
    });
}

#[test]
fn a_source_that_is_known_to_be_on_another_node_is_dropped() {
    with_node(|bench| {
        let other = Context { tunnel: Some((REMOTE_IDENTITY, u32::from(OTHER_REMOTE_NODE))), ..context() };
        assert_drop(bench, &to_pod().bytes(), other, reason::OTHER_NODE);
    });
}

#[test]
fn where_the_ipcache_lags_the_vni_counts_and_the_lag_is_counted() {
    with_node(|bench| {
        let new_label = REMOTE_IDENTITY + 1;
        let changed = Context { tunnel: Some((new_label, u32::from(REMOTE_NODE))), ..context() };
        assert_eq!(bench.send_with(program::FROM_MESH, &to_pod().bytes(), changed).answer, REDIRECT);
        assert_eq!(bench.counter(FROM_MESH, reason::IDENTITY_LAG).identity, new_label);
        assert_eq!(bench.counter(FROM_MESH, reason::DELIVERED).identity, new_label);
        let new_pod = Frame { src: Ipv4Addr::new(10, 2, 7, 7), ..to_pod() };
        assert_eq!(bench.send_with(program::FROM_MESH, &new_pod.bytes(), context()).answer, REDIRECT);
        assert_eq!(bench.counted(FROM_MESH, reason::IDENTITY_LAG), 2);
    });
}

#[test]
fn a_reserved_identity_takes_the_sending_nodes_cluster() {
    with_node(|bench| {
        let init = Context { tunnel: Some((5, u32::from(REMOTE_NODE))), ..context() };
        assert_eq!(bench.send_with(program::FROM_MESH, &to_pod().bytes(), init).answer, REDIRECT);
        assert_eq!(bench.counter(FROM_MESH, reason::DELIVERED).cluster, PEER);
    });
}

#[test]
fn a_destination_that_is_no_pod_here_is_dropped() {
    with_node(|bench| {
        let elsewhere = Frame { dst: Ipv4Addr::new(10, 1, 1, 99), ..to_pod() };
        assert_drop(bench, &elsewhere.bytes(), context(), reason::NO_ENDPOINT);
    });
}

#[test]
fn what_is_not_ipv4_is_dropped() {
    with_node(|bench| {
        let six = v6("fd00:2::2".parse().unwrap(), "fd00:1::2".parse().unwrap());
        assert_drop(bench, &six, context(), reason::FAMILY);
        assert_drop(bench, &arp(), context(), reason::MALFORMED);
    });
}

#[test]
fn the_segment_size_is_clamped_on_the_way_in_as_well() {
    with_node(|bench| {
        let syn = Frame { options: vec![2, 4, 0x05, 0xb4], tcp_flags: SYN, payload: 0, ..to_pod() };
        let outcome = bench.send_with(program::FROM_MESH, &syn.bytes(), context());
        assert_eq!(u32::from(word(&outcome.packet, L4 + 22)), MTU - 40);
        assert_checksums(&outcome.packet);
    });
}

#[test]
fn an_unconfigured_node_accepts_nothing() {
    crate::harness::with_place(|place| {
        let run = agent_ebpf::testrun::TestRun::new(place.load(), 1).unwrap();
        let mut bench = Bench { run };
        assert_drop(&mut bench, &to_pod().bytes(), context(), reason::NOT_CONFIGURED);
    });
}

#[test]
fn only_the_meshs_own_vxlan_is_marked_on_the_secure_device() {
    with_node(|bench| {
        let node = Ipv4Addr::new(172, 30, 1, 11);
        let mark_of = |bench: &mut Bench, frame: Vec<u8>| {
            let outcome =
                bench.send_with(program::FROM_TUNNEL, &frame, Context { mark: OTHER_BITS, ..Context::default() });
            assert_eq!(outcome.answer, NEXT);
            outcome.mark
        };
        let vxlan = udp((REMOTE_NODE, 50_000), (node, VXLAN_PORT));
        assert_eq!(mark_of(bench, vxlan.without_link()), OTHER_BITS | MARK_DECRYPTED);
        let other_port = Frame { dport: 4250, ..vxlan.clone() };
        assert_eq!(mark_of(bench, other_port.without_link()), OTHER_BITS);
        let not_udp = tcp((REMOTE_NODE, 50_000), (node, VXLAN_PORT), ACK);
        assert_eq!(mark_of(bench, not_udp.without_link()), OTHER_BITS);
        let mut later_fragment = vxlan.without_link();
        (later_fragment[6], later_fragment[7]) = (0, 100);
        assert_eq!(mark_of(bench, later_fragment), OTHER_BITS | MARK_DECRYPTED);
    });
}
