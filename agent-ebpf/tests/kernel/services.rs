//! Service addresses: translation per packet and the way back.

use std::net::{IpAddr, Ipv4Addr};

use agent_ebpf::common::verdict::{direction::FROM_POD, reason};
use agent_ebpf::common::{Backend, PROTO_TCP, PROTO_UDP, Service};
use agent_ebpf::pins::program::{FROM_POD as FROM, TO_POD as TO};
use agent_ebpf::testrun::{Context, NEXT, REDIRECT, SHOT};

use crate::harness::{
    Bench, LOCAL_POD, PEER, POD, POD_IDENTITY, REMOTE_POD, VIP, backend, remote_entry, service_key, with_node,
};
use crate::packet::{ACK, FIN, Frame, RST, SYN, assert_checksums, dst, src, tcp, udp};

const SECOND_POD: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const THIRD_POD: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 4);

fn to_vip(sport: u16, flags: u8) -> Frame {
    tcp((POD, sport), (VIP, 80), flags)
}

fn assert_drop(bench: &mut Bench, frame: &Frame, reason: u8) {
    bench.assert_dropped(FROM, &frame.bytes(), Context::default(), FROM_POD, reason);
}

/// A service with a table over these backends, numbered from 1, filled in turn.
fn table(bench: &Bench, pods: &[Ipv4Addr]) {
    for (number, pod) in (1..).zip(pods) {
        bench.maps().backends.set(number, &backend(*pod, 8080, false)).unwrap();
    }
    let backends = u32::try_from(pods.len()).unwrap();
    let entries: Vec<u32> = (0..127).map(|n| n % backends + 1).collect();
    // An offset that is not at the start of a line.
    bench.maps().maglev.write(1_005, &entries).unwrap();
    let service = Service { id: 1, backends, table_offset: 1_005, table_len: 127, ..Service::default() };
    bench.maps().services.insert(&service_key(80, PROTO_TCP), &service).unwrap();
}

#[test]
fn a_local_backend_is_reached_by_translation_and_answers_as_the_service() {
    with_node(|bench| {
        bench.one_backend(80, PROTO_TCP, &backend(LOCAL_POD, 8080, false));
        let outcome = bench.send(FROM, &to_vip(40_000, SYN).bytes());
        assert_eq!(outcome.answer, NEXT);
        assert_eq!((src(&outcome.packet), dst(&outcome.packet)), ((POD, 40_000), (LOCAL_POD, 8080)));
        assert_checksums(&outcome.packet);

        let reply = tcp((LOCAL_POD, 8080), (POD, 40_000), SYN | ACK).bytes();
        let outcome = bench.send(TO, &reply);
        assert_eq!(outcome.answer, NEXT);
        assert_eq!((src(&outcome.packet), dst(&outcome.packet)), ((VIP, 80), (POD, 40_000)));
        assert_checksums(&outcome.packet);

        let key = bench.counter(FROM_POD, reason::TRANSLATED);
        assert_eq!(key.identity, POD_IDENTITY);
    });
}

#[test]
fn a_remote_backend_is_reached_through_the_tunnel() {
    with_node(|bench| {
        bench.one_backend(80, PROTO_TCP, &backend(REMOTE_POD, 8080, true));
        let outcome = bench.send(FROM, &to_vip(40_000, SYN).bytes());
        assert_eq!(outcome.answer, REDIRECT);
        assert_eq!(dst(&outcome.packet), (REMOTE_POD, 8080));
        assert_checksums(&outcome.packet);
        assert_eq!(bench.counter(FROM_POD, reason::TRANSLATED).cluster, PEER);
        assert_eq!(bench.counter(FROM_POD, reason::ENCAPSULATED).identity, POD_IDENTITY);
    });
}

#[test]
fn the_same_port_needs_no_port_checksum_and_udp_without_checksum_keeps_none() {
    with_node(|bench| {
        bench.one_backend(53, PROTO_UDP, &backend(LOCAL_POD, 53, false));
        let with = udp((POD, 1234), (VIP, 53));
        let outcome = bench.send(FROM, &with.bytes());
        assert_eq!(dst(&outcome.packet), (LOCAL_POD, 53));
        assert_checksums(&outcome.packet);
        let without = Frame { udp_checksum: false, ..with };
        let outcome = bench.send(FROM, &without.bytes());
        assert_eq!(dst(&outcome.packet), (LOCAL_POD, 53));
        assert_eq!(outcome.packet[40..42], [0, 0]);
    });
}

#[test]
fn an_established_flow_keeps_its_backend_when_the_table_changes_and_a_new_one_follows_it() {
    with_node(|bench| {
        table(bench, &[LOCAL_POD]);
        assert_eq!(dst(&bench.send(FROM, &to_vip(40_000, SYN).bytes()).packet).0, LOCAL_POD);
        bench.maps().backends.set(2, &backend(SECOND_POD, 8080, false)).unwrap();
        bench.maps().maglev.write(1_005, &[2; 127]).unwrap();
        assert_eq!(dst(&bench.send(FROM, &to_vip(40_000, ACK).bytes()).packet).0, LOCAL_POD);
        assert_eq!(dst(&bench.send(FROM, &to_vip(40_001, SYN).bytes()).packet).0, SECOND_POD);
        // The same ports again: a new connection, so a new choice.
        assert_eq!(dst(&bench.send(FROM, &to_vip(40_000, SYN).bytes()).packet).0, SECOND_POD);
    });
}

#[test]
fn flows_spread_over_all_backends_and_a_flow_stays() {
    with_node(|bench| {
        let pods = [LOCAL_POD, SECOND_POD, THIRD_POD];
        table(bench, &pods);
        let mut hits = [0_u32; 3];
        for port in 40_000..40_300 {
            let first = dst(&bench.send(FROM, &to_vip(port, SYN).bytes()).packet).0;
            let second = dst(&bench.send(FROM, &to_vip(port, ACK).bytes()).packet).0;
            assert_eq!(first, second);
            hits[pods.iter().position(|pod| *pod == first).unwrap()] += 1;
        }
        assert!(hits.iter().all(|n| (60..=140).contains(n)), "{hits:?}");
    });
}

#[test]
fn a_udp_flow_leaves_a_backend_that_is_gone() {
    with_node(|bench| {
        bench.one_backend(53, PROTO_UDP, &backend(LOCAL_POD, 53, false));
        let frame = udp((POD, 1234), (VIP, 53)).bytes();
        assert_eq!(dst(&bench.send(FROM, &frame).packet).0, LOCAL_POD);
        let maps = bench.maps();
        maps.backends.set(2, &backend(SECOND_POD, 53, false)).unwrap();
        let service = Service { id: 1, backends: 1, backend: 2, ..Service::default() };
        maps.services.insert(&service_key(53, PROTO_UDP), &service).unwrap();
        assert_eq!(dst(&bench.send(FROM, &frame).packet).0, LOCAL_POD, "it is still there");
        bench.maps().backends.clear(1).unwrap();
        assert_eq!(dst(&bench.send(FROM, &frame).packet).0, SECOND_POD);
    });
}

#[test]
fn a_service_address_is_not_for_strangers() {
    with_node(|bench| {
        bench.one_backend(80, PROTO_TCP, &backend(LOCAL_POD, 8080, false));
        let stranger = Frame { src: Ipv4Addr::new(10, 1, 1, 3), ..to_vip(1, SYN) };
        assert_drop(bench, &stranger, reason::SPOOFED_SOURCE);
        assert!(bench.maps().flows.entries().unwrap().is_empty());
    });
}

#[test]
fn a_service_without_backends_and_fragments_are_dropped() {
    with_node(|bench| {
        bench.maps().services.insert(&service_key(80, PROTO_TCP), &Service::default()).unwrap();
        assert_drop(bench, &to_vip(1, SYN), reason::NO_BACKEND);
        // A number that is not in use, as between two writes of a careless agent.
        let dangling = Service { id: 1, backends: 1, backend: 9, ..Service::default() };
        bench.maps().services.insert(&service_key(80, PROTO_TCP), &dangling).unwrap();
        assert_drop(bench, &to_vip(1, SYN), reason::NO_BACKEND);
        bench.one_backend(53, PROTO_UDP, &backend(LOCAL_POD, 53, false));
        let fragment = Frame { first_fragment: true, ..udp((POD, 1), (VIP, 53)) };
        assert_drop(bench, &fragment, reason::FRAGMENT);
    });
}

#[test]
fn a_remote_backend_whose_path_is_down_or_unknown_is_closed() {
    with_node(|bench| {
        let unknown = Ipv4Addr::new(198, 51, 100, 1);
        bench.one_backend(80, PROTO_TCP, &backend(unknown, 8080, true));
        assert_drop(bench, &to_vip(1, SYN), reason::NO_PATH);
        bench.one_backend(81, PROTO_TCP, &backend(REMOTE_POD, 8080, true));
        let down = agent_ebpf::common::IpEntry { flags: 3, ..remote_entry() };
        bench.maps().ipcache.insert(&IpAddr::from(REMOTE_POD).into(), &down).unwrap();
        let frame = tcp((POD, 1), (VIP, 81), SYN);
        assert_drop(bench, &frame, reason::NO_PATH);
    });
}

#[test]
fn another_port_of_a_service_address_is_not_the_meshs() {
    with_node(|bench| {
        bench.one_backend(80, PROTO_TCP, &backend(LOCAL_POD, 8080, false));
        for frame in [tcp((POD, 1), (VIP, 81), SYN), udp((POD, 1), (VIP, 80))] {
            let outcome = bench.send(FROM, &frame.bytes());
            assert_eq!((outcome.answer, outcome.packet), (NEXT, frame.bytes()));
        }
    });
}

#[test]
fn what_was_never_translated_comes_back_untouched() {
    with_node(|bench| {
        let frame = tcp((REMOTE_POD, 8080), (POD, 40_000), ACK).bytes();
        let outcome = bench.send(TO, &frame);
        assert_eq!((outcome.answer, outcome.packet), (NEXT, frame));
        assert_ne!(outcome.answer, SHOT);
    });
}

/// Two services of one backend each, and the addresses they answer from.
fn two_services(bench: &Bench, proto: u8) -> [((Ipv4Addr, u16), (Ipv4Addr, u16)); 2] {
    let maps = bench.maps();
    let all = [((VIP, 80), (LOCAL_POD, 8080)), ((VIP, 81), (SECOND_POD, 8081))];
    for (number, ((_, port), (pod, pod_port))) in (1..).zip(all) {
        maps.backends.set(number, &Backend { proto, ..backend(pod, pod_port, false) }).unwrap();
        let service = Service { id: number, backends: 1, backend: number, ..Service::default() };
        maps.services.insert(&service_key(port, proto), &service).unwrap();
    }
    all
}

#[test]
fn one_port_of_a_pod_talks_to_two_services_at_once() {
    with_node(|bench| {
        let both = two_services(bench, PROTO_UDP);
        for _ in 0..2 {
            for (service, answerer) in both {
                let sent = bench.send(FROM, &udp((POD, 1234), service).bytes());
                assert_eq!(dst(&sent.packet), answerer);
                assert_checksums(&sent.packet);
                let answered = bench.send(TO, &udp(answerer, (POD, 1234)).bytes());
                assert_eq!(src(&answered.packet), service);
                assert_checksums(&answered.packet);
            }
        }
        let mut flows = bench.maps().flows.entries().unwrap();
        flows.sort_unstable_by_key(|(key, _)| key.dport_be.to_be());
        let seen: Vec<_> = flows.iter().map(|(key, _)| u16::from_be(key.dport_be)).collect();
        assert_eq!(seen, [80, 81]);
        assert_eq!(bench.maps().flows.overflowed().unwrap().len(), 1);
        for (key, target) in flows {
            assert_eq!(bench.maps().flows.get(&key).unwrap(), Some(target));
            assert!(bench.maps().flows.remove(&key).unwrap());
            assert!(!bench.maps().flows.remove(&key).unwrap());
        }
    });
}

#[test]
fn a_port_whose_connection_is_over_is_given_to_the_next_one() {
    with_node(|bench| {
        let [(first, first_pod), (second, second_pod)] = two_services(bench, PROTO_TCP);
        let fin = FIN | ACK;
        for ending in [vec![(FROM, fin), (TO, fin)], vec![(FROM, RST)], vec![(TO, RST)]] {
            assert_eq!(dst(&bench.send(FROM, &tcp((POD, 7), first, SYN).bytes()).packet), first_pod);
            for (program, flags) in ending {
                let frame = if program == FROM { tcp((POD, 7), first, flags) } else { tcp(first_pod, (POD, 7), flags) };
                assert_eq!(bench.send(program, &frame.bytes()).answer, NEXT);
            }
            assert_eq!(dst(&bench.send(FROM, &tcp((POD, 7), second, SYN).bytes()).packet), second_pod);
            assert!(bench.maps().flows.overflowed().unwrap().is_empty());
            let reset = tcp((POD, 7), second, RST);
            assert_eq!(dst(&bench.send(FROM, &reset.bytes()).packet), second_pod);
        }
        // One FIN is half a connection: answers still come.
        bench.send(FROM, &tcp((POD, 8), first, SYN).bytes());
        bench.send(FROM, &tcp((POD, 8), first, fin).bytes());
        bench.send(FROM, &tcp((POD, 8), second, SYN).bytes());
        assert_eq!(src(&bench.send(TO, &tcp(first_pod, (POD, 8), ACK).bytes()).packet), first);
        assert_eq!(src(&bench.send(TO, &tcp(second_pod, (POD, 8), ACK).bytes()).packet), second);
    });
}

#[test]
fn a_service_address_is_known_until_its_last_port_is_gone() {
    with_node(|bench| {
        two_services(bench, PROTO_TCP);
        let services = &bench.run.datapath.maps.services;
        assert!(services.remove(&service_key(80, PROTO_TCP)).unwrap());
        assert!(!services.remove(&service_key(80, PROTO_TCP)).unwrap());
        let other = Service { id: 9, backends: 1, backend: 2, ..Service::default() };
        services.insert(&service_key(81, PROTO_TCP), &other).unwrap();
        services.insert(&service_key(81, PROTO_TCP), &other).unwrap();
        let to_second = tcp((POD, 1), (VIP, 81), SYN).bytes();
        assert_eq!(dst(&bench.send(FROM, &to_second).packet).0, SECOND_POD);
        assert!(bench.maps().services.remove(&service_key(81, PROTO_TCP)).unwrap());
        assert_eq!(bench.send(FROM, &tcp((POD, 2), (VIP, 81), SYN).bytes()).packet[30..34], VIP.octets());
    });
}
