//! What is known of one cluster before it is judged: plain data, so that every fault can be written down in a test.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;

/// A difference of clocks, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew {
    pub(crate) by: Duration,
    /// The other clock is ahead of this machine's.
    pub(crate) is_ahead: bool,
}

/// All of one cluster. A part that could not be asked says why; `None` is what does not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) context: String,
    /// Why the API server does not answer, and what to do. Nothing else is known then.
    pub(crate) unreachable: Option<(String, String)>,
    /// Major and minor.
    pub(crate) kubernetes: Option<(u32, u32)>,
    pub(crate) skew: Option<Skew>,
    /// When the kubeconfig's certificate or token ends, and which of them.
    pub(crate) credentials_end: Option<(&'static str, Timestamp)>,
    pub(crate) rights: Vec<Right>,
    pub(crate) nodes: Asked<Vec<Node>>,
    pub(crate) service_cidrs: Asked<Vec<IpNet>>,
    /// Names of the definitions that are there, of those that matter.
    pub(crate) crds: Asked<Vec<String>>,
    pub(crate) corefile: Asked<String>,
    pub(crate) has_default_storage: Asked<bool>,
    pub(crate) mesh: Option<Mesh>,
    /// The install that is to come, as its values say, has WireGuard in a process.
    pub(crate) plans_userspace_tunnel: bool,
}

/// The answer to a question that may be refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Asked<T> {
    Known(T),
    /// It is not there.
    #[default]
    Absent,
    Refused(String),
}

impl<T> Asked<T> {
    pub(crate) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Absent | Self::Refused(_) => None,
        }
    }
}

/// Something that the caller may or may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) namespace: Option<String>,
    pub(crate) is_given: bool,
    /// What is not possible without it.
    pub(crate) wanted_for: &'static str,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) kernel: String,
    pub(crate) is_ready: bool,
    /// What the kubelet says of it.
    pub(crate) ready_message: String,
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// What a pod on it found, or why none did; `None` where none was to be run.
    pub(crate) probe: Option<Result<Probe, String>>,
    /// Measured when the probe answered.
    pub(crate) skew: Option<Skew>,
}

/// What `node-agent check` prints.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Probe {
    pub(crate) unix_millis: u64,
    pub(crate) bpffs: Option<String>,
    pub(crate) bpf_missing: Vec<String>,
    pub(crate) cgroup: Option<String>,
    pub(crate) uplink: Option<Uplink>,
    pub(crate) uplink_error: Option<String>,
    pub(crate) wireguard: Option<String>,
    pub(crate) tun: bool,
    pub(crate) ports_in_use: Vec<u16>,
    pub(crate) forwarding: bool,
    pub(crate) kube_proxy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Uplink {
    pub(crate) name: String,
    pub(crate) mtu: u32,
}

/// The mesh's release.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh {
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) id: Option<u32>,
    /// As the server was told.
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// Nodes have, or may use, WireGuard in a process.
    pub(crate) has_userspace_tunnel: bool,
    /// Of the namespace: what pods are held to.
    pub(crate) pod_security: Option<String>,
    pub(crate) servers: Workload,
    pub(crate) agents: Workload,
    pub(crate) service: Option<Service>,
    /// What the admin API says, or why it says nothing and what to do.
    pub(crate) admin: Option<Result<Admin, (String, String)>>,
}

/// A StatefulSet or DaemonSet and its pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) exists: bool,
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
    /// Tag of its image.
    pub(crate) version: String,
    pub(crate) pods: Vec<PodState>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodState {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) is_ready: bool,
    /// Kubernetes' word and text for why it does not run.
    pub(crate) trouble: Option<(String, String)>,
    pub(crate) image: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) is_load_balancer: bool,
    pub(crate) has_address: bool,
}

/// What a mesh-apiserver says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admin {
    pub(crate) version: String,
    /// Object and text.
    pub(crate) problems: Vec<(String, String)>,
    /// Version of each node's agent that has registered.
    pub(crate) agents: Vec<(String, String)>,
    pub(crate) peers: usize,
}
