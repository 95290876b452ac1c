//! The command lines of the product's processes, and nothing else: the one file to change when a flag does.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;
use crate::topology::{ClusterPlan, NodePlan, ReplicaPlan};

pub const ETCD_PORT: u16 = 2379;
pub const RAFT_PORT: u16 = 2380;
pub const MESH_PORT: u16 = 2382;
pub const APISERVER_METRICS_PORT: u16 = 9972;
pub const AGENT_METRICS_PORT: u16 = 9974;

/// What protects packets between clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum Encryption {
    Wireguard,
    None,
}

/// Where the API servers keep their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::Display, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum Store {
    /// In themselves, replicated among them.
    #[default]
    Embedded,
    /// In an etcd of three members for each cluster.
    External,
}

/// Settings that scenarios shorten.
#[derive(Debug, Clone, Default)]
pub struct Periods {
    /// How long a peer may be silent before it is called stale, and withdrawn: `15s`, as the flags take it.
    pub stale_after: Option<String>,
    pub withdraw_after: Option<String>,
}

/// The files of a replica of a cluster's mesh-apiserver.
#[derive(Debug, Clone)]
pub struct ApiserverFiles {
    pub state: PathBuf,
    /// The same for all replicas of the cluster.
    pub ca: PathBuf,
    pub manifests: PathBuf,
    pub admin_socket: PathBuf,
}

pub fn mesh_apiserver(
    program: &Path,
    place: &Place,
    cluster: &ClusterPlan,
    replica: &ReplicaPlan,
    files: &ApiserverFiles,
    encryption: Encryption,
    periods: &Periods,
) -> Command {
    let mut command = place.command(program);
    command
        .args(["--cluster-name", &cluster.name, "--cluster-id", &cluster.id.to_string()])
        .arg("--state-dir")
        .arg(&files.state)
        .arg("--manifests-dir")
        .arg(&files.manifests)
        .arg("--admin-socket")
        .arg(&files.admin_socket)
        .arg("--ca-dir")
        .arg(&files.ca)
        .args(["--replica-id", &replica.id.to_string()])
        .args(["--listen-etcd", &format!("{}:{ETCD_PORT}", replica.ip)])
        .args(["--listen-raft", &format!("{}:{RAFT_PORT}", replica.ip)])
        .args(["--listen-mesh", &format!("{}:{MESH_PORT}", replica.ip)])
        .args(["--listen-metrics", &format!("{}:{APISERVER_METRICS_PORT}", replica.ip)])
        .args(["--pod-cidr", &cluster.pod_cidr.to_string()])
        .args(["--service-cidr", &cluster.service_cidr.to_string()])
        .args(["--node-cidr", &cluster.node_subnet.to_string()])
        .args(["--encryption", &encryption.to_string()]);
    for replica in &cluster.replicas {
        command.args(["--advertise-address", &replica.ip.to_string()]);
        command.args(["--replica", &format!("{}={}", replica.id, replica.ip)]);
    }
    if let Some(period) = &periods.stale_after {
        command.args(["--stale-after", period]);
    }
    if let Some(period) = &periods.withdraw_after {
        command.args(["--withdraw-after", period]);
    }
    command
}

/// The files and places of a node's agent.
#[derive(Debug, Clone)]
pub struct AgentFiles {
    pub state: PathBuf,
    pub enrol_token: PathBuf,
    pub cgroup_root: PathBuf,
}

pub fn node_agent(
    program: &Path,
    place: &Place,
    cluster: &ClusterPlan,
    node: &NodePlan,
    files: &AgentFiles,
) -> Command {
    let mut command = place.command(program);
    command
        .args(["--node-name", &node.name, "--cluster-name", &cluster.name])
        .arg("--enrol-token-file")
        .arg(&files.enrol_token)
        .arg("--state-dir")
        .arg(&files.state)
        .arg("--cgroup-root")
        .arg(&files.cgroup_root)
        .args(["--node-ip", &node.ip.to_string()])
        .args(["--uplink", "eth0", "--bpffs", "/sys/fs/bpf", "--wireguard", "auto"])
        .args(["--listen-metrics", &format!("0.0.0.0:{AGENT_METRICS_PORT}")]);
    for replica in &cluster.replicas {
        command.args(["--apiserver", &format!("{}:{MESH_PORT}", replica.ip)]);
    }
    command
}

pub fn mesh_tunnel(program: &Path, place: &Place) -> Command {
    place.command(program)
}

/// `meshctl` runs on the machine: it needs nothing but its configuration file.
pub fn meshctl(program: &Path, config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(args);
    command
}
