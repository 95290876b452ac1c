//! Pins and attachments over restarts of the agent and changes of the devices.

use std::process::Command;
use std::time::{Duration, Instant};

use agent_ebpf::common::Service;
use agent_ebpf::common::verdict::{direction::FROM_POD, reason};
use agent_ebpf::links::{Attached, Place as At, count_at_device};
use agent_ebpf::maps::{Access, Error};
use agent_ebpf::pins::{Pins, map, program};
use agent_ebpf::testrun::{Context, TestRun};
use agent_ebpf::{Datapath, Maps, Sizes};

use crate::harness::{Bench, VIP, config, endpoint, remote_entry, service_key, with_place};
use crate::packet::{SYN, tcp};

const LET_GO: Duration = Duration::from_secs(5);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

fn index(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap()
}

#[test]
fn a_restarted_agent_finds_its_maps_with_their_content_and_its_links_with_its_programs() {
    with_place(|place| {
        ip("link add pod0 type veth peer name peer0");
        let device = index("pod0");
        let first = place.load();
        first.maps.config.set(&config()).unwrap();
        first.maps.endpoints.insert([10, 1, 1, 2].into(), &endpoint()).unwrap();
        first.maps.ipcache.insert(&"10.2.0.0/16".parse().unwrap(), &remote_entry()).unwrap();
        first.maps.maglev.write(5, &[1, 2, 3]).unwrap();
        first.maps.services.insert(&service_key(80, 6), &Service::default()).unwrap();
        assert_eq!(first.attach_pod(device).unwrap(), Attached::New);
        let before = first.links().unwrap();
        assert_eq!(before.len(), 2);
        assert_eq!(count_at_device(device).unwrap(), 2);
        drop(first);

        assert_eq!(agent_ebpf::links::list(&Pins::under(place.bpffs())).unwrap(), before, "links outlive the agent");
        let second = place.load();
        assert_eq!(second.maps.endpoints.entries().unwrap(), [([10, 1, 1, 2].into(), endpoint())]);
        assert_eq!(second.maps.ipcache.entries().unwrap().len(), 1);
        assert_eq!(second.maps.maglev.read(4, 5).unwrap(), [0, 1, 2, 3, 0]);
        let refused = TestRun::new(second, 1).unwrap();
        let mut bench = Bench { run: refused };
        let syn = tcp(([10, 1, 1, 2].into(), 1), (VIP, 80), SYN).bytes();
        bench.assert_dropped(program::FROM_POD, &syn, Context::default(), FROM_POD, reason::NO_BACKEND);
        let second = bench.run.datapath;
        let after = second.links().unwrap();
        for (old, new) in before.iter().zip(&after) {
            assert_eq!((&old.name, &old.place), (&new.name, &new.place));
            assert_ne!(old.program_id, new.program_id, "the program is the new agent's");
        }
        assert_eq!(second.attach_pod(device).unwrap(), Attached::Kept);
        assert_eq!(second.links().unwrap().len(), 2);
        assert_eq!(count_at_device(device).unwrap(), 2, "exchanged, not added");
        second.remove().unwrap();
        // The kernel gives up a link from a queue, a moment after its last pin is gone.
        let start = Instant::now();
        while count_at_device(device).unwrap() > 0 {
            assert!(start.elapsed() < LET_GO, "{} programs are still there", count_at_device(device).unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!place.pins().exists());
    });
}

#[test]
fn the_pins_of_a_vanished_device_are_replaced_or_pruned() {
    with_place(|place| {
        ip("link add pod0 index 50 type veth peer name peer0");
        let datapath = place.load();
        datapath.attach_pod(50).unwrap();
        datapath.attach_wan(50).unwrap();
        ip("link del pod0");
        let links = datapath.links().unwrap();
        assert!(links.iter().all(|link| link.place == At::Gone), "{links:?}");
        ip("link add pod0 index 50 type veth peer name peer0");
        assert_eq!(datapath.attach_pod(50).unwrap(), Attached::New);
        assert_eq!(datapath.prune_links().unwrap(), 1, "to_wan's pin is left");
        let links = datapath.links().unwrap();
        assert_eq!(links.len(), 2);
        assert!(links.iter().all(|link| link.place == At::Device { ifindex: 50 }));
        datapath.detach_device(50).unwrap();
        assert!(datapath.links().unwrap().is_empty());
        datapath.detach_device(50).unwrap();
    });
}

#[test]
fn every_kind_of_device_is_attached_by_its_program() {
    with_place(|place| {
        ip("link add up0 type veth peer name up1");
        ip("link add vx0 type vxlan external dstport 8473");
        ip("tuntap add dev tun0 mode tun");
        let datapath = place.load();
        datapath.attach_wan(index("up0")).unwrap();
        datapath.attach_vxlan(index("vx0")).unwrap();
        datapath.attach_tunnel(index("tun0")).unwrap();
        let links = datapath.links().unwrap();
        let programs: Vec<_> = links.iter().map(|link| link.program.as_str()).collect();
        assert_eq!(programs, [program::FROM_MESH, program::FROM_TUNNEL, program::TO_WAN]);
        let missing = datapath.attach_wan(9_999).unwrap_err();
        assert_eq!(missing.to_string(), "attach to_wan to device 9999");
    });
}

#[test]
fn a_tool_reads_all_maps_and_can_write_none() {
    with_place(|place| {
        let pins = Pins::under(place.bpffs());
        assert!(matches!(Maps::open(&pins, Access::ReadOnly), Err(Error::Open { .. })));
        let datapath = place.load();
        datapath.maps.config.set(&config()).unwrap();
        datapath.maps.maglev.write(14, &[7, 8, 9, 10]).unwrap();
        let tool = Maps::open(&pins, Access::ReadOnly).unwrap();
        assert_eq!(tool.config.get().unwrap().mtu, config().mtu);
        assert_eq!(tool.maglev.read(14, 4).unwrap(), [7, 8, 9, 10]);
        assert!(tool.counters.read().unwrap().is_empty());
        assert!(matches!(tool.config.set(&config()), Err(Error::ReadOnly { map: map::CONFIG })));
        assert!(matches!(tool.maglev.write(0, &[1]), Err(Error::ReadOnly { map: map::MAGLEV })));
    });
}

#[test]
fn a_folder_that_is_no_bpf_file_system_is_refused_with_the_cure() {
    with_place(|_| {
        let folder = tempfile::tempdir().unwrap();
        let error = Datapath::load_or_adopt(folder.path(), Sizes::SMALL).err().unwrap().to_string();
        assert!(error.contains("is not a bpf file system; mount one: `mount -t bpf bpf "), "{error}");
        assert!(!folder.path().join("isthmus").exists());
    });
}

#[test]
fn full_maps_and_numbers_out_of_range_are_named() {
    with_place(|place| {
        let datapath = place.load();
        let nodes = &datapath.maps.nodes;
        let full = (0..=Sizes::SMALL.nodes)
            .find_map(|n| nodes.insert(std::net::Ipv4Addr::from(n).into(), &agent_ebpf::common::Node::default()).err());
        assert_eq!(full.unwrap().to_string(), "the map NODES is full at 256 entries");
        let zero = datapath.maps.backends.set(0, &agent_ebpf::common::Backend::default()).unwrap_err();
        assert_eq!(zero.to_string(), "the map BACKENDS has 1024 entries; 0 is beyond");
        let beyond = datapath.maps.maglev.write(Sizes::SMALL.table_entries, &[1]).unwrap_err();
        assert_eq!(beyond.to_string(), "the map MAGLEV has 131072 entries; 131073 is beyond");
    });
}

#[test]
fn batches_longer_than_one_call_are_written_read_and_removed_whole() {
    with_place(|place| {
        let sizes = Sizes { services: 20_000, ..Sizes::SMALL };
        let datapath = Datapath::load_or_adopt(place.bpffs(), sizes).unwrap();
        let services = &datapath.maps.services;
        let key = |n: u32| agent_ebpf::common::ServiceKey {
            addr: std::net::Ipv4Addr::from(n).into(),
            port_be: 80_u16.to_be(),
            proto: 6,
            pad: 0,
        };
        let entry = |n: u32| Service { id: n, ..Default::default() };
        let all: Vec<_> = (0..10_000).map(|n| (key(n), entry(n))).collect();
        services.insert_batch(&all).unwrap();
        let mut read = services.entries().unwrap();
        read.sort_unstable_by_key(|(_, service)| service.id);
        assert_eq!(read, all);
        let mut gone: Vec<_> = (0..9_000).map(key).collect();
        gone.insert(3, key(50_000));
        services.remove_batch(&gone).unwrap();
        assert_eq!(services.entries().unwrap().len(), 1_000);
    });
}
