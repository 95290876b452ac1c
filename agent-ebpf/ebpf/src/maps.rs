//! The maps. Capacities are set by the agent at load; those here only let the object stand alone.

use agent_ebpf_common::service::{SLAB_LINE, vips};
use agent_ebpf_common::{
    Addr, AddrKey, Backend, Config, CounterKey, CounterValue, Endpoint, FlowKey, FlowTarget, IpEntry, NatTarget, Node,
    PortFlow, PortKey, Service, ServiceKey, SockOrigin,
};
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuHashMap};

/// Tables that are mostly far from full take memory as they grow.
const GROWING: u32 = BPF_F_NO_PREALLOC;

#[map]
pub static IPCACHE: HashMap<AddrKey, IpEntry> = HashMap::with_max_entries(1024, GROWING);
#[map]
pub static PREFIXES: LpmTrie<AddrKey, IpEntry> = LpmTrie::with_max_entries(256, 0);
#[map]
pub static NODES: HashMap<Addr, Node> = HashMap::with_max_entries(256, GROWING);
#[map]
pub static ENDPOINTS: HashMap<AddrKey, Endpoint> = HashMap::with_max_entries(256, GROWING);
#[map]
pub static VIPS: Array<[u32; vips::LINE_WORDS]> = Array::with_max_entries(vips::LINES, BPF_F_MMAPABLE);
#[map]
pub static SERVICES: HashMap<ServiceKey, Service> = HashMap::with_max_entries(1024, GROWING);
#[map]
pub static BACKENDS: Array<Backend> = Array::with_max_entries(1024, 0);
#[map]
pub static MAGLEV: Array<[u32; SLAB_LINE as usize]> = Array::with_max_entries(1024, BPF_F_MMAPABLE);
#[map]
pub static FLOWS: LruHashMap<PortKey, PortFlow> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static CT: LruHashMap<FlowKey, FlowTarget> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static REVNAT: LruHashMap<FlowKey, NatTarget> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static SOCK_REV: LruHashMap<u64, SockOrigin> = LruHashMap::with_max_entries(1024, 0);
#[map]
pub static COUNTERS: PerCpuHashMap<CounterKey, CounterValue> = PerCpuHashMap::with_max_entries(1024, GROWING);
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
