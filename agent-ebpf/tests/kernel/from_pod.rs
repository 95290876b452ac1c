//! What a pod sends, service addresses aside.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::common::verdict::{direction::FROM_POD, reason};
use agent_ebpf::common::{Config, Endpoint, IpEntry};
use agent_ebpf::pins::program;
use agent_ebpf::testrun::{Context, NEXT, REDIRECT};

use crate::harness::{
    Bench, LOCAL_POD, MTU, OWN, PEER, POD, POD_IDENTITY, REMOTE_POD, config, endpoint, prefix, remote_entry, with_node,
};
use crate::packet::{ACK, Frame, L4, SYN, arp, assert_checksums, tcp, udp, v6, word};

const MSS_AT: usize = L4 + 20;

fn to_remote() -> Frame {
    tcp((POD, 40_000), (REMOTE_POD, 80), ACK)
}

fn assert_drop(bench: &mut Bench, frame: &Frame, reason: u8) {
    bench.assert_dropped(program::FROM_POD, &frame.bytes(), Context::default(), FROM_POD, reason);
}

#[test]
fn a_packet_to_a_remote_pod_goes_into_the_tunnel_unchanged_and_is_counted_for_its_pod() {
    with_node(|bench| {
        let frame = to_remote().bytes();
        let outcome = bench.send(program::FROM_POD, &frame);
        assert_eq!(outcome.answer, REDIRECT);
        assert_eq!(outcome.packet, frame);
        let key = bench.counter(FROM_POD, reason::ENCAPSULATED);
        assert_eq!((key.identity, key.cluster), (POD_IDENTITY, PEER));
        let counted = bench.maps().counters.get(&key).unwrap();
        assert_eq!((counted.packets, counted.bytes), (1, frame.len() as u64));
    });
}

#[test]
fn what_is_not_the_meshs_passes_unchanged_and_uncounted() {
    with_node(|bench| {
        bench.maps().ipcache.insert(&IpAddr::from(LOCAL_POD).into(), &prefix(OWN, IpEntry::FLAG_OWN)).unwrap();
        let world = Ipv4Addr::new(192, 0, 2, 1);
        let same_cluster = Ipv4Addr::new(10, 1, 9, 9);
        let fd: std::net::Ipv6Addr = "fd00::1".parse().unwrap();
        let foreign_source = Ipv4Addr::new(192, 0, 2, 7);
        let frames = [
            tcp((POD, 1), (world, 443), ACK).bytes(),
            tcp((POD, 1), (LOCAL_POD, 80), SYN).bytes(),
            udp((POD, 1), (same_cluster, 53)).bytes(),
            tcp((foreign_source, 1), (world, 443), ACK).bytes(),
            v6(fd, fd),
            arp(),
            vec![0; 14],
        ];
        for frame in frames {
            let outcome = bench.send(program::FROM_POD, &frame);
            assert_eq!(outcome.answer, NEXT);
            assert_eq!(outcome.packet, frame);
        }
        assert!(bench.maps().counters.read().unwrap().is_empty());
    });
}

#[test]
fn a_source_address_that_is_not_the_devices_is_dropped() {
    with_node(|bench| {
        let stranger = Frame { src: Ipv4Addr::new(10, 1, 1, 3), ..to_remote() };
        assert_drop(bench, &stranger, reason::SPOOFED_SOURCE);
        let elsewhere = Endpoint { ifindex: 5, ..endpoint() };
        bench.maps().endpoints.insert(POD.into(), &elsewhere).unwrap();
        assert_drop(bench, &to_remote(), reason::SPOOFED_SOURCE);
        assert_eq!(bench.counter(FROM_POD, reason::SPOOFED_SOURCE).identity, 0);
    });
}

#[test]
fn a_peers_prefix_without_a_path_is_closed() {
    with_node(|bench| {
        let unknown_pod = Frame { dst: Ipv4Addr::new(10, 2, 9, 9), ..to_remote() };
        assert_drop(bench, &unknown_pod, reason::NO_PATH);
        let down = IpEntry { flags: IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP, ..remote_entry() };
        bench.maps().ipcache.insert(&IpAddr::from(REMOTE_POD).into(), &down).unwrap();
        assert_drop(bench, &to_remote(), reason::NO_PATH);
        bench.maps().ipcache.insert(&"10.2.0.0/16".parse().unwrap(), &prefix(PEER, IpEntry::FLAG_REMOTE)).unwrap();
        assert_drop(bench, &unknown_pod, reason::NO_PATH);
    });
}

#[test]
fn before_the_agent_has_configured_it_nothing_leaves() {
    with_node(|bench| {
        let no_device = Config { vxlan_ifindex: 0, ..config() };
        bench.maps().config.set(&no_device).unwrap();
        assert_drop(bench, &to_remote(), reason::NOT_CONFIGURED);
    });
}

#[test]
fn ipv6_to_a_peers_prefix_is_refused_rather_than_leaked() {
    with_node(|bench| {
        let peer: ipnet::IpNet = "fd00:2::/48".parse().unwrap();
        bench.maps().ipcache.insert(&peer, &prefix(PEER, IpEntry::FLAG_REMOTE)).unwrap();
        let frame = v6("fd00:1::2".parse().unwrap(), "fd00:2::2".parse().unwrap());
        bench.assert_dropped(program::FROM_POD, &frame, Context::default(), FROM_POD, reason::FAMILY);
    });
}

#[test]
fn only_a_packet_that_is_too_big_and_may_not_be_fragmented_is_left_to_the_kernel() {
    with_node(|bench| {
        let fits = Frame { payload: MTU as usize - 28, ..udp((POD, 1), (REMOTE_POD, 2)) };
        let over = Frame { payload: MTU as usize - 27, ..fits.clone() };
        let may_be_fragmented = Frame { dont_fragment: false, ..over.clone() };
        assert_eq!(bench.send(program::FROM_POD, &fits.bytes()).answer, REDIRECT);
        assert_eq!(bench.send(program::FROM_POD, &may_be_fragmented.bytes()).answer, REDIRECT);
        assert_eq!(bench.counted(FROM_POD, reason::TOO_BIG), 0);
        assert_eq!(bench.send(program::FROM_POD, &over.bytes()).answer, NEXT);
        assert_eq!(bench.counted(FROM_POD, reason::TOO_BIG), 1);
        let segments = Frame { payload: 1400, ..to_remote() };
        let context = Context { gso_size: 1330, ..Context::default() };
        assert_eq!(bench.send_with(program::FROM_POD, &segments.bytes(), context).answer, REDIRECT);
    });
}

#[test]
fn the_segment_size_of_both_syns_is_clamped_with_a_right_checksum() {
    with_node(|bench| {
        let mss = [2, 4, 0x05, 0xb4];
        for flags in [SYN, SYN | ACK] {
            for lead in [&[][..], &[1], &[1, 1, 1], &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]] {
                let options = [lead, &mss].concat();
                let frame = Frame { options, tcp_flags: flags, payload: 0, ..to_remote() };
                let outcome = bench.send(program::FROM_POD, &frame.bytes());
                assert_eq!(outcome.answer, REDIRECT);
                assert_eq!(u32::from(word(&outcome.packet, MSS_AT + lead.len() + 2)), MTU - 40);
                assert_checksums(&outcome.packet);
            }
        }
    });
}

#[test]
fn a_small_segment_size_and_other_packets_are_left_alone() {
    with_node(|bench| {
        let small = Frame { options: vec![2, 4, 0x02, 0x18], tcp_flags: SYN, payload: 0, ..to_remote() };
        let not_syn = Frame { options: vec![2, 4, 0x05, 0xb4], payload: 0, ..to_remote() };
        let broken = Frame { options: vec![8, 0, 2, 4, 0x05, 0xb4], tcp_flags: SYN, payload: 0, ..to_remote() };
        for frame in [small, not_syn, broken] {
            assert_eq!(bench.send(program::FROM_POD, &frame.bytes()).packet, frame.bytes());
        }
    });
}

#[test]
fn later_fragments_follow_by_address_alone() {
    with_node(|bench| {
        let mut frame = udp((POD, 1), (REMOTE_POD, 2)).bytes();
        frame[20] = 0;
        frame[21] = 100;
        assert_eq!(bench.send(program::FROM_POD, &frame).answer, REDIRECT);
    });
}
