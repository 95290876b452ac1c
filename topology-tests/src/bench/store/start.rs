//! The command lines of both groups. Members have loopback addresses of their own, as Isthmus's replicas share their ports.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use certs::root_ca::{RootCa, ServerNames};
use certs::validity::Validity;
use etcd_peer::free_ports;
use mesh_types::ClusterName;

use super::group::{Files, Group, Member, REPLICAS};

fn host(member: usize) -> String {
    format!("127.0.0.{}", member + 1)
}

pub(super) fn isthmus(folder: &Path, program: &Path) -> Result<Group> {
    let manifests = folder.join("manifests");
    fs::create_dir_all(&manifests).with_context(|| format!("create {}", manifests.display()))?;
    let name = ClusterName::new("bench").context("a fixed name")?;
    // Before the members start, and not by whichever is first: its certificate is wanted here.
    let authority = RootCa::load_or_create(&folder.join("ca"), &name)?;
    let files = client_files(folder, &authority)?;
    let [etcd, raft, mesh, metrics] = free_ports()?;
    let members = (0..REPLICAS).map(|n| {
        let host = host(n);
        let mut command = Command::new(program);
        command
            .args(["--cluster-name", "bench", "--cluster-id", "1", "--advertise-address", &host])
            .args(["--pod-cidr", "10.1.0.0/16", "--service-cidr", "10.101.0.0/16", "--node-cidr", "127.0.0.0/8"])
            .args(["--replica-id", &(n + 1).to_string()])
            .arg("--ca-dir")
            .arg(folder.join("ca"))
            .arg("--state-dir")
            .arg(folder.join(format!("state-{n}")))
            .arg("--manifests-dir")
            .arg(&manifests)
            .args(["--listen-etcd", &format!("{host}:{etcd}"), "--listen-raft", &format!("{host}:{raft}")])
            .args(["--listen-mesh", &format!("{host}:{mesh}"), "--listen-metrics", &format!("{host}:{metrics}")])
            .arg("--admin-socket")
            .arg(folder.join(format!("admin-{n}.sock")));
        for n in 0..REPLICAS {
            command.args(["--replica", &format!("{}={}", n + 1, self::host(n))]);
        }
        Member {
            command,
            log: folder.join(format!("log-{n}")),
            endpoint: format!("https://{host}:{etcd}"),
            metrics: format!("{host}:{metrics}"),
            child: None,
        }
    });
    started(Group { name: "isthmus", members: members.collect(), files })
}

pub(super) fn etcd(folder: &Path, program: &Path) -> Result<Group> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let at = |name: &str| folder.join(name);
    let authority = RootCa::generate(&ClusterName::new("etcd").context("a fixed name")?)?;
    let files = client_files(folder, &authority)?;
    let mut ips = Vec::new();
    for n in 0..REPLICAS {
        ips.push(host(n).parse().context("a fixed address")?);
    }
    let names = ServerNames { ips, ..ServerNames::default() };
    authority.issue_server(&names, day())?.save(&at("server.crt"), &at("server.key"))?;
    let [client, replica, metrics] = free_ports()?;
    let peer_url = |n: usize| format!("https://{}:{replica}", host(n));
    let all: Vec<String> = (0..REPLICAS).map(|n| format!("m{n}={}", peer_url(n))).collect();
    let members = (0..REPLICAS).map(|n| {
        let host = host(n);
        let (endpoint, metrics) = (format!("https://{host}:{client}"), format!("{host}:{metrics}"));
        let mut command = Command::new(program);
        command
            .args(["--name", &format!("m{n}"), "--logger", "zap", "--log-level", "warn", "--data-dir"])
            .arg(at(&format!("data-{n}")))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer_url(n), "--initial-advertise-peer-urls", &peer_url(n)])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args(["--listen-metrics-urls", &format!("http://{metrics}")]);
        for port in ["", "peer-"] {
            command.arg(format!("--{port}client-cert-auth"));
            command.arg(format!("--{port}trusted-ca-file")).arg(&files.ca);
            command.arg(format!("--{port}cert-file")).arg(at("server.crt"));
            command.arg(format!("--{port}key-file")).arg(at("server.key"));
        }
        Member { command, log: at(&format!("log-{n}")), endpoint, metrics, child: None }
    });
    let members = members.collect();
    started(Group { name: "etcd", members, files })
}

fn day() -> Validity {
    Validity::lasting(Duration::from_hours(24))
}

fn started(mut group: Group) -> Result<Group> {
    for member in &mut group.members {
        member.spawn()?;
    }
    Ok(group)
}

/// Written by the CA that both sides trust.
fn client_files(folder: &Path, authority: &RootCa) -> Result<Files> {
    let at = |name: &str| folder.join(name);
    let files = Files { ca: at("client-ca.crt"), certificate: at("client.crt"), key: at("client.key") };
    fs::write(&files.ca, authority.certificate_pem()).context("write the CA's certificate")?;
    authority.issue_admin(day())?.save(&files.certificate, &files.key)?;
    Ok(files)
}
