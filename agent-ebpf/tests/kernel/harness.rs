//! A node made of nothing but maps: addresses and numbers that all tests share.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use agent_ebpf::common::verdict::verdict;
use agent_ebpf::common::{Backend, Config, CounterKey, Endpoint, IpEntry, Node, PROTO_TCP, Service, ServiceKey};
use agent_ebpf::testrun::{Context, Outcome, TestRun};
use agent_ebpf::{Datapath, Sizes};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

pub(crate) const OWN: u32 = 1;
pub(crate) const PEER: u32 = 2;
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
pub(crate) const POD_IDENTITY: u32 = identity(OWN, 300);
pub(crate) const REMOTE_POD: Ipv4Addr = Ipv4Addr::new(10, 2, 1, 2);
pub(crate) const REMOTE_IDENTITY: u32 = identity(PEER, 400);
pub(crate) const REMOTE_NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 11);
pub(crate) const OTHER_REMOTE_NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 12);
pub(crate) const LOCAL_POD: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 2);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 101, 0, 10);
pub(crate) const MTU: u32 = 1370;
pub(crate) const VXLAN_PORT: u16 = 8473;
/// The device that the kernel gives a test run: the loopback device of the test's namespace.
pub(crate) const DEVICE: u32 = 1;
pub(crate) const DMAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SMAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub(crate) const fn identity(cluster: u32, local: u32) -> u32 {
    (cluster << 16) + local
}

/// A bpf file system in a mount and network namespace of this thread's own.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// `Err` says why this machine or user cannot run the test.
    pub(crate) fn new() -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(|e| format!("no namespaces: {e}"))?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| format!("no mounts: {e}"))?;
        let folder = tempfile::tempdir().map_err(|e| format!("no folder: {e}"))?;
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none)
            .map_err(|e| format!("no bpf file system: {e}"))?;
        Ok(Self { folder })
    }

    pub(crate) fn bpffs(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn load(&self) -> Datapath {
        Datapath::load_or_adopt(self.bpffs(), Sizes::SMALL).unwrap_or_else(|e| panic!("{}", chain(&e)))
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.bpffs().join("isthmus/v1")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = umount2(self.folder.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {e}", self.folder.path().display());
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Runs the test, or says why it is skipped.
pub(crate) fn with_place(test: impl FnOnce(&Place)) {
    match Place::new() {
        Ok(place) => test(&place),
        Err(why) => println!("skipped: {why}"),
    }
}

/// The same with a node that knows one own pod, one peer cluster with one pod, and is configured.
pub(crate) fn with_node(test: impl FnOnce(&mut Bench)) {
    with_place(|place| {
        let datapath = place.load();
        let maps = &datapath.maps;
        maps.config.set(&config()).unwrap();
        maps.nodes.insert(REMOTE_NODE.into(), &Node { cluster: PEER, flags: 0 }).unwrap();
        maps.nodes.insert(OTHER_REMOTE_NODE.into(), &Node { cluster: PEER, flags: 0 }).unwrap();
        maps.endpoints.insert(POD.into(), &endpoint()).unwrap();
        let entries = [
            ("10.1.0.0/16".parse().unwrap(), prefix(OWN, IpEntry::FLAG_OWN)),
            ("10.2.0.0/16".parse().unwrap(), prefix(PEER, IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP)),
            (IpAddr::from(REMOTE_POD).into(), remote_entry()),
        ];
        maps.ipcache.insert_batch(&entries).unwrap();
        let run = TestRun::new(datapath, 16).unwrap();
        test(&mut Bench { run });
    });
}

pub(crate) fn config() -> Config {
    Config {
        cluster: OWN,
        vxlan_ifindex: 77,
        flags: Config::FLAG_ENCRYPTION_REQUIRED,
        mtu: MTU,
        mss: MTU - 40,
        vxlan_port: VXLAN_PORT.into(),
        identity_shift: 16,
        ..Config::default()
    }
}

pub(crate) fn endpoint() -> Endpoint {
    let how = Endpoint::DELIVER_MAC;
    Endpoint { identity: POD_IDENTITY, ifindex: DEVICE, master: 0, how, dmac: DMAC, smac: SMAC }
}

pub(crate) fn prefix(cluster: u32, flags: u32) -> IpEntry {
    IpEntry { cluster, flags, ..IpEntry::default() }
}

pub(crate) fn remote_entry() -> IpEntry {
    IpEntry { identity: REMOTE_IDENTITY, cluster: PEER, node: REMOTE_NODE.into(), flags: IpEntry::FLAG_REMOTE }
}

pub(crate) fn service_key(port: u16, proto: u8) -> ServiceKey {
    ServiceKey { addr: VIP.into(), port_be: port.to_be(), proto, pad: 0 }
}

pub(crate) fn backend(ip: Ipv4Addr, port: u16, remote: bool) -> Backend {
    let (flags, cluster) = if remote { (Backend::FLAG_REMOTE, PEER) } else { (0, OWN) };
    Backend { addr: ip.into(), port_be: port.to_be(), proto: PROTO_TCP, flags, cluster }
}

/// What a test does with the node.
pub(crate) struct Bench {
    pub(crate) run: TestRun,
}

impl Bench {
    pub(crate) fn maps(&self) -> &agent_ebpf::Maps {
        &self.run.datapath.maps
    }

    pub(crate) fn send(&mut self, program: &'static str, packet: &[u8]) -> Outcome {
        self.run.run(program, packet, Context::default()).unwrap()
    }

    pub(crate) fn send_with(&mut self, program: &'static str, packet: &[u8], context: Context) -> Outcome {
        self.run.run(program, packet, context).unwrap()
    }

    /// One service with one backend.
    pub(crate) fn one_backend(&self, port: u16, proto: u8, backend: &Backend) {
        self.maps().backends.set(1, &Backend { proto, ..*backend }).unwrap();
        let service = Service { id: 1, backends: 1, backend: 1, ..Service::default() };
        self.maps().services.insert(&service_key(port, proto), &service).unwrap();
    }

    /// Packets counted for a reason by a program, whoever sent them.
    pub(crate) fn counted(&self, direction: u8, reason: u8) -> u64 {
        let of = |key: &CounterKey| key.direction == direction && key.reason == reason;
        self.maps().counters.read().unwrap().iter().filter(|(key, _)| of(key)).map(|(_, value)| value.packets).sum()
    }

    /// The key under which a reason was counted.
    pub(crate) fn counter(&self, direction: u8, reason: u8) -> CounterKey {
        let all = self.maps().counters.read().unwrap();
        let mut found = all.into_iter().filter(|(key, _)| key.direction == direction && key.reason == reason);
        found.next().map(|(key, _)| key).unwrap_or_default()
    }

    /// The packet is dropped, and counted once for this reason as a drop and for nothing else new.
    pub(crate) fn assert_dropped(
        &mut self,
        program: &'static str,
        packet: &[u8],
        context: Context,
        direction: u8,
        reason: u8,
    ) {
        let before = self.counted(direction, reason);
        let outcome = self.send_with(program, packet, context);
        assert_eq!(outcome.answer, agent_ebpf::testrun::SHOT, "{program} must drop");
        assert_eq!(self.counted(direction, reason), before + 1, "{program} must count {reason}");
        assert_eq!(self.counter(direction, reason).verdict, verdict::DROP);
    }
}
