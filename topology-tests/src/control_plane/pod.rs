//! What a kubelet reports about a pod.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::manifest::PodTemplate;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The sandbox is not there yet, or the process is not.
    Pending,
    Running,
    /// Asked to go; still answering what it has begun.
    Terminating,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodRecord {
    pub cluster: String,
    pub node: String,
    pub host_ip: Ipv4Addr,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Kind and name of the owner.
    pub owner: (String, String),
    pub phase: Phase,
    pub is_ready: bool,
    pub ip: Option<Ipv4Addr>,
    pub pid: Option<u32>,
    pub restarts: u32,
    /// The name of its network namespace.
    pub netns: String,
    pub cgroup: PathBuf,
    #[serde(skip)]
    pub template: PodTemplate,
}

impl PodRecord {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
