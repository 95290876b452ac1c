//! The maps of a node with many services, and lists of headers over them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent_ebpf::common::{Backend, Config, Endpoint, IpEntry, Node, PROTO_TCP, Service, ServiceKey, service};
use agent_ebpf::testrun::{Context, Header, TestRun};
use agent_ebpf::{Datapath, Sizes};
use anyhow::{Context as _, ensure};
use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

pub(crate) const EMPTY: &str = "empty";
/// Established flows, and different packets of other lists, at every number of services.
pub(crate) const FLOWS: u32 = 4_096;
/// Ports that Linux gives out for connections (`ip_local_port_range`).
pub(crate) const EPHEMERAL_PORTS: u32 = 28_232;
/// Services in use at a time, drawn from all.
const BUSY: u32 = 1_000;

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
const FIRST_VIP: u32 = u32::from_be_bytes([10, 96, 0, 1]);
const FIRST_REMOTE: u32 = u32::from_be_bytes([10, 2, 0, 1]);
const FIRST_WORLD: u32 = u32::from_be_bytes([192, 0, 2, 0]);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 11);
const POD_IDENTITY: u32 = (1 << 16) + 300;
const IDENTITY: u32 = (2 << 16) + 400;
/// Pods of other clusters: the address map is never small in a real mesh.
const REMOTE_PODS: u32 = 10_000;
/// Many times what the flow table holds: a new flow always displaces an old one.
const NEW_FLOWS: u32 = 262_144;
/// Ports of a pod that the lists use.
const PORTS: u32 = 64_000;
const BACKENDS: u32 = 3;
const HTTP: u16 = 80;
const SYN: u8 = 2;
const ACK: u8 = 16;

pub(crate) struct Fixture {
    run: TestRun,
    services: u32,
    random: std::cell::RefCell<StdRng>,
    // Last: the file system goes after what is pinned in it.
    _bpffs: tempfile::TempDir,
}

impl Fixture {
    /// In namespaces of this process's own, so that nothing is left behind.
    pub(crate) fn new(services: u32) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("new namespaces (root is needed)")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
        let bpffs = tempfile::tempdir()?;
        mount(Some("bpf"), bpffs.path(), Some("bpf"), MsFlags::empty(), none).context("mount a bpf file system")?;
        let len = service::table_len(BACKENDS);
        let sizes = Sizes {
            services: services.max(1_024),
            backends: services * BACKENDS + 1,
            table_entries: services * len,
            ..Sizes::default()
        };
        let datapath = Datapath::load_or_adopt(bpffs.path(), sizes)?;
        fill_node(&datapath)?;
        fill_services(&datapath, services, len)?;
        let run = TestRun::new(datapath, NEW_FLOWS)?;
        // The same packets in every run of the benchmark.
        let random = StdRng::seed_from_u64(u64::from(services)).into();
        Ok(Self { run, services, random, _bpffs: bpffs })
    }

    /// So that the next list finds its ports free.
    pub(crate) fn forget_flows(&self) -> anyhow::Result<()> {
        let flows = &self.run.datapath.maps.flows;
        for (key, _) in flows.entries()? {
            flows.remove(&key)?;
        }
        Ok(())
    }

    pub(crate) fn use_headers(&mut self, headers: &[Header]) -> anyhow::Result<()> {
        self.run.set_headers(headers).map_err(Into::into)
    }

    pub(crate) fn empty(&mut self, repeat: u32) -> anyhow::Result<Duration> {
        Ok(self.run.time(EMPTY, &frame(POD, ACK), Context::default(), repeat)?)
    }

    pub(crate) fn replay(
        &mut self,
        program: &'static str,
        syn: bool,
        repeat: u32,
        answer: i32,
    ) -> anyhow::Result<Duration> {
        let frame = frame(POD, if syn { SYN } else { ACK });
        let outcome = self.run.replay(program, &frame, Context::default(), repeat)?;
        ensure!(outcome.answer == answer, "{program} answered {}, not {answer}", outcome.answer);
        Ok(outcome.time)
    }

    /// A packet from a remote pod, out of the tunnel.
    pub(crate) fn keyed(&mut self, program: &'static str, repeat: u32) -> anyhow::Result<Duration> {
        let frame = inbound();
        let context = Context { tunnel: Some((IDENTITY, u32::from(NODE))), ..Context::default() };
        Ok(self.run.time(program, &frame, context, repeat)?)
    }

    pub(crate) fn counted(&self, reason: u8) -> anyhow::Result<u64> {
        let all = self.run.datapath.maps.counters.read()?;
        Ok(all.iter().filter(|(key, _)| key.reason == reason).map(|(_, value)| value.packets).sum())
    }

    /// Flows to the busy services.
    pub(crate) fn flows(&self) -> Vec<Header> {
        self.list(FLOWS, BUSY)
    }

    /// Flows to the busy services from each of a pod's ports in turn, over and over.
    pub(crate) fn new_flows(&self) -> Vec<Header> {
        self.list(EPHEMERAL_PORTS, BUSY)
    }

    /// Flows to the busy services, each from a port that the flow table does not know, or no longer.
    pub(crate) fn flows_from_unseen_ports(&self) -> Vec<Header> {
        self.list(NEW_FLOWS, BUSY)
    }

    /// The same with each packet for the next of a shuffled list of all services: no entry of theirs is in the CPU's caches.
    pub(crate) fn flows_to_all(&self) -> Vec<Header> {
        self.list(NEW_FLOWS, u32::MAX)
    }

    fn list(&self, flows: u32, busy: u32) -> Vec<Header> {
        let mut services: Vec<_> = (0..self.services).collect();
        services.shuffle(&mut *self.random.borrow_mut());
        services.truncate(busy as usize);
        (0..flows).map(|n| header(vip(services[n as usize % services.len()]), n)).collect()
    }

    /// Addresses of the world.
    pub(crate) fn misses(&self) -> Vec<Header> {
        let mut random = self.random.borrow_mut();
        (0..FLOWS).map(|n| header(Ipv4Addr::from(FIRST_WORLD + random.random_range(0..256)), n)).collect()
    }

    pub(crate) fn remote_pods(&self) -> Vec<Header> {
        let mut random = self.random.borrow_mut();
        let pod = |random: &mut StdRng| Ipv4Addr::from(FIRST_REMOTE + random.random_range(0..REMOTE_PODS));
        (0..FLOWS).map(|n| header(pod(&mut random), n)).collect()
    }
}

fn fill_node(datapath: &Datapath) -> anyhow::Result<()> {
    let maps = &datapath.maps;
    maps.config.set(&Config {
        cluster: 1,
        vxlan_ifindex: 77,
        mtu: 1_370,
        mss: 1_330,
        vxlan_port: 8_473,
        identity_shift: 16,
        // The mark would be there for the first repeat only.
        flags: 0,
        ..Config::default()
    })?;
    let pod = Endpoint { identity: POD_IDENTITY, ifindex: 1, how: Endpoint::DELIVER_MAC, ..Endpoint::default() };
    for n in 0..=NEW_FLOWS / PORTS {
        maps.endpoints.insert(Ipv4Addr::from(u32::from(POD) + n).into(), &pod)?;
    }
    maps.nodes.insert(NODE.into(), &Node { cluster: 2, flags: 0 })?;
    let prefix = |cluster, flags| IpEntry { cluster, flags, ..IpEntry::default() };
    let mut entries: Vec<(IpNet, IpEntry)> = vec![
        ("10.1.0.0/16".parse()?, prefix(1, IpEntry::FLAG_OWN)),
        ("10.2.0.0/16".parse()?, prefix(2, IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP)),
    ];
    let remote = IpEntry { identity: IDENTITY, cluster: 2, node: NODE.into(), flags: IpEntry::FLAG_REMOTE };
    entries.extend((0..REMOTE_PODS).map(|n| (IpAddr::from(Ipv4Addr::from(FIRST_REMOTE + n)).into(), remote)));
    maps.ipcache.insert_batch(&entries)?;
    Ok(())
}

/// Local backends, so that what is measured is the load balancing: the tunnel has its own figure.
fn fill_services(datapath: &Datapath, services: u32, len: u32) -> anyhow::Result<()> {
    let maps = &datapath.maps;
    let backend = |number: u32| Backend {
        addr: Ipv4Addr::from(u32::from_be_bytes([10, 1, 0, 0]) + number % 65_000).into(),
        port_be: 8_080_u16.to_be(),
        proto: PROTO_TCP,
        flags: 0,
        cluster: 1,
    };
    let backends: Vec<_> = (1..=services * BACKENDS).map(|number| (number, backend(number))).collect();
    maps.backends.set_batch(&backends)?;
    let mut entries = Vec::new();
    for id in 0..services {
        let table: Vec<u32> = (0..len).map(|slot| id * BACKENDS + slot % BACKENDS + 1).collect();
        maps.maglev.write(id * len, &table)?;
        let key = ServiceKey { addr: vip(id).into(), port_be: HTTP.to_be(), proto: PROTO_TCP, pad: 0 };
        entries.push((
            key,
            Service { id, backends: BACKENDS, table_offset: id * len, table_len: len, ..Service::default() },
        ));
    }
    maps.services.insert_batch(&entries)?;
    Ok(())
}

fn vip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_VIP + service)
}

/// IP checksum (not looked at), source, destination, ports: flow number `n` of this node's pods.
fn header(dst: Ipv4Addr, n: u32) -> Header {
    let mut out = [0; 16];
    let sport = u16::try_from(1_024 + n % PORTS).expect("below 65,536");
    let pod = Ipv4Addr::from(u32::from(POD) + n / PORTS);
    out[2..6].copy_from_slice(&pod.octets());
    out[6..10].copy_from_slice(&dst.octets());
    out[10..12].copy_from_slice(&sport.to_be_bytes());
    out[12..14].copy_from_slice(&HTTP.to_be_bytes());
    out
}

/// A TCP frame of 114 bytes whose addresses are `header`'s business.
fn frame(src: Ipv4Addr, tcp_flags: u8) -> Vec<u8> {
    let mut out = vec![0; 114];
    out[12..14].copy_from_slice(&[0x08, 0x00]);
    out[14] = 0x45;
    out[16..18].copy_from_slice(&100_u16.to_be_bytes());
    (out[22], out[23]) = (64, PROTO_TCP);
    out[26..30].copy_from_slice(&src.octets());
    out[36..38].copy_from_slice(&HTTP.to_be_bytes());
    (out[46], out[47]) = (0x50, tcp_flags);
    out
}

fn inbound() -> Vec<u8> {
    let mut out = frame(Ipv4Addr::from(FIRST_REMOTE), ACK);
    out[30..34].copy_from_slice(&POD.octets());
    out
}
