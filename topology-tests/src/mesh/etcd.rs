//! An etcd that the user runs: three members of the released etcd beside a cluster's API servers, over mutual TLS, for a mesh
//! whose store is external.
//!
//! Its certificates come from a CA of its own, and its ports are not the API server's: it is nobody of the mesh.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use certs::root_ca::ServerNames;
use certs::{RootCa, Validity};
use etcd_peer::EtcdPeer;
use mesh_types::ClusterName;

use crate::lab::Lab;
use crate::proc::Proc;
use crate::topology::{ClusterPlan, ReplicaPlan};

const CLIENT_PORT: u16 = 12379;
const PEER_PORT: u16 = 12380;
/// Where a member says over plain HTTP how it is.
const HEALTH_PORT: u16 = 12381;
const HEALTHY: Duration = Duration::from_secs(30);
const VALID: Duration = Duration::from_hours(24);

/// The members of one cluster's etcd, by the replica that each lives beside. Killed when dropped.
#[derive(Debug)]
pub(super) struct Etcd {
    cluster: String,
    program: PathBuf,
    folder: PathBuf,
    members: BTreeMap<u64, Proc>,
}

impl Etcd {
    /// Makes the certificates of a cluster's etcd and starts its members.
    pub(super) fn start(lab: &Lab, peer: &EtcdPeer, cluster: &str) -> Result<Self> {
        let folder = lab.cluster_dir(cluster).join("etcd");
        issue(&folder, lab.cluster_plan(cluster)?)?;
        let mut etcd =
            Self { cluster: cluster.to_owned(), program: peer.etcd.clone(), folder, members: BTreeMap::new() };
        etcd.start_members(lab)?;
        Ok(etcd)
    }

    /// Starts the members that do not run, on the data they had.
    pub(super) fn start_members(&mut self, lab: &Lab) -> Result<()> {
        let replicas = &lab.cluster_plan(&self.cluster)?.replicas;
        for replica in replicas {
            if !self.members.contains_key(&replica.id) {
                let name = format!("etcd-{}-{}", self.cluster, replica.id);
                let command = self.command(lab, replica, replicas)?;
                let proc = Proc::start(&name, command, &lab.logs().join(format!("{name}.log")))?;
                self.members.insert(replica.id, proc);
            }
        }
        Ok(())
    }

    pub(super) fn wait_healthy(&self, lab: &Lab) -> Result<()> {
        for replica in &lab.cluster_plan(&self.cluster)?.replicas {
            let member = self.members.get(&replica.id).with_context(|| format!("member {} runs", replica.id))?;
            let address = SocketAddr::from((replica.ip, HEALTH_PORT));
            member.wait_ready(&format!("{} is healthy", member.name()), HEALTHY, || {
                lab.answers_ok(&replica.node, address, "/health")
            })?;
        }
        Ok(())
    }

    /// SIGKILL to every member.
    pub(super) fn kill(&mut self) -> Result<()> {
        std::mem::take(&mut self.members).into_values().try_for_each(|member| member.kill9())
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Proc> {
        self.members.values()
    }

    /// What an API server is told to keep its state here.
    pub(super) fn flags(&self, replicas: &[ReplicaPlan]) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let endpoints: Vec<String> = replicas.iter().map(client_url).collect();
        vec![
            format!("--store=external={}", endpoints.join(",")),
            format!("--store-ca={}", file("ca.crt")),
            format!("--store-cert={}", file("client.crt")),
            format!("--store-key={}", file("client.key")),
        ]
    }

    fn command(&self, lab: &Lab, replica: &ReplicaPlan, all: &[ReplicaPlan]) -> Result<Command> {
        let names: Vec<String> = all.iter().map(|other| format!("{}={}", name(other), peer_url(other))).collect();
        let file = |name: &str| self.folder.join(name);
        let mut command = lab.node(&replica.node)?.place.command(&self.program);
        command
            .args(["--name", &name(replica), "--logger", "zap", "--log-level", "warn", "--data-dir"])
            .arg(file(&name(replica)))
            .args(["--listen-client-urls", &client_url(replica), "--advertise-client-urls", &client_url(replica)])
            .args(["--listen-peer-urls", &peer_url(replica), "--initial-advertise-peer-urls", &peer_url(replica)])
            .args(["--initial-cluster", &names.join(","), "--initial-cluster-state", "new"])
            .args(["--listen-metrics-urls", &format!("http://{}:{HEALTH_PORT}", replica.ip)])
            // What the product's own transactions need: see docs/store-operations.md.
            .args(["--max-txn-ops", "1024", "--client-cert-auth", "--peer-client-cert-auth"]);
        for (flag, name) in [
            ("--trusted-ca-file", "ca.crt"),
            ("--cert-file", "server.crt"),
            ("--key-file", "server.key"),
            ("--peer-trusted-ca-file", "ca.crt"),
            ("--peer-cert-file", "server.crt"),
            ("--peer-key-file", "server.key"),
        ] {
            command.arg(flag).arg(file(name));
        }
        Ok(command)
    }
}

/// Writes a CA, the members' certificate and that of the API servers.
fn issue(folder: &Path, cluster: &ClusterPlan) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let file = |name: &str| folder.join(name);
    let ca =
        RootCa::generate(&ClusterName::new("etcd").context("a name of a cluster")?).context("make a CA for etcd")?;
    std::fs::write(file("ca.crt"), ca.certificate_pem()).context("write etcd's CA")?;
    // A member that connects to another one comes from its node's own address, and etcd looks for that in its certificate.
    let addresses = cluster.replicas.iter().map(|replica| replica.ip).chain(cluster.nodes.iter().map(|node| node.ip));
    let names = ServerNames { ips: addresses.map(IpAddr::from).collect(), ..ServerNames::default() };
    let server = ca.issue_server(&names, Validity::lasting(VALID)).context("issue etcd's certificate")?;
    server.save(&file("server.crt"), &file("server.key")).context("write etcd's certificate")?;
    let client = ca.issue_admin(Validity::lasting(VALID)).context("issue the API servers' certificate for etcd")?;
    client.save(&file("client.crt"), &file("client.key")).context("write the API servers' certificate for etcd")
}

fn name(replica: &ReplicaPlan) -> String {
    format!("m{}", replica.id)
}

fn client_url(replica: &ReplicaPlan) -> String {
    format!("https://{}:{CLIENT_PORT}", replica.ip)
}

fn peer_url(replica: &ReplicaPlan) -> String {
    format!("https://{}:{PEER_PORT}", replica.ip)
}
