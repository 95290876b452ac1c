//! A kube-apiserver as a process on loopback: its files, its command line, and that it is ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use certs::{RootCa, ServerNames, Validity};
use etcd_peer::{KubeApiserver, free_ports};
use mesh_types::ClusterName;
use topology_tests::proc::Proc;

use crate::api::Api;
use crate::process::tied;

/// Two cores that do other things, too.
const READY: Duration = Duration::from_mins(2);
/// Who may do everything; known to this test only.
const TOKEN: &str = "of-the-administrator";
/// Short, so that it happens while the test looks.
pub(crate) const COMPACTION_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct Apiserver {
    pub(crate) api: Api,
    proc: Proc,
}

impl Apiserver {
    /// Starts it on a store and waits until it is ready.
    pub(crate) async fn start(
        kube: &KubeApiserver,
        folder: &Path,
        log: &Path,
        store: &[String],
        more: &[&str],
    ) -> Result<Self> {
        let at = |name: &str| folder.join(name);
        let authority = RootCa::generate(&ClusterName::new("kube").context("a fixed name")?)?;
        let names = ServerNames { dns: Vec::new(), ips: vec![Ipv4Addr::LOCALHOST.into()] };
        let leaf = authority.issue_server(&names, Validity::lasting(Duration::from_hours(24)))?;
        leaf.save(&at("server.crt"), &at("server.key"))?;
        std::fs::write(at("ca.crt"), authority.certificate_pem()).context("write the CA")?;
        std::fs::write(at("tokens.csv"), format!("{TOKEN},admin,1,system:masters\n")).context("write the tokens")?;
        let [port] = free_ports()?;
        let mut command = tied(&kube.program);
        command
            .args(store)
            .arg(format!("--etcd-compaction-interval={}s", COMPACTION_INTERVAL.as_secs()))
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}")])
            // A loopback address may not be advertised; nobody calls this one.
            .args(["--advertise-address=10.255.0.1", "--service-cluster-ip-range=10.96.0.0/16"])
            .args(["--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc"])
            .args(more);
        for (flag, file) in [
            ("--tls-cert-file", "server.crt"),
            ("--tls-private-key-file", "server.key"),
            ("--token-auth-file", "tokens.csv"),
            // Public keys may come as certificates.
            ("--service-account-key-file", "server.crt"),
            ("--service-account-signing-key-file", "server.key"),
            ("--cert-dir", ""),
        ] {
            command.arg(format!("{flag}={}", at(file).display()));
        }
        let proc = Proc::start("kube-apiserver", command, log)?;
        let api = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &at("ca.crt"), TOKEN)?;
        let server = Self { api, proc };
        server.wait_until_ready().await?;
        Ok(server)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let answer = match self.api.connect().await {
                Ok(mut connection) => connection.get("/readyz").await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) if answer.is_success() => return Ok(()),
                _ if self.proc.is_alive() && Instant::now() < deadline => {}
                last => bail!("kube-apiserver is not ready: {last:?}; its log ends with:\n{}", self.proc.log_tail(8)),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
