//! What a kube-apiserver keeps its objects in: three replicas of this store, or, to see what that would do, three members
//! of a real etcd.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use etcd_peer::{Cluster, EtcdPeer, Options, free_ports};
use topology_tests::binaries::Binaries;
use topology_tests::proc::Proc;

use crate::process::tied;

pub(crate) const REPLICAS: usize = 3;
const SERVES_WITHIN: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) enum Stores {
    Isthmus(Replicas),
    Etcd { version: String, cluster: Cluster },
}

/// mesh-apiservers of one cluster, each at a loopback address of its own.
pub(crate) struct Replicas {
    program: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    /// For etcd clients, replicas, the mesh and metrics; the same on all.
    ports: [u16; 4],
    procs: Vec<Option<Proc>>,
}

impl Stores {
    /// Starts all three and waits until each of them serves.
    pub(crate) async fn start_isthmus(folder: &Path, logs: &Path) -> Result<Self> {
        let program = Binaries::beside_this_one()?.find("mesh-apiserver")?;
        let (folder, logs) = (folder.join("isthmus"), logs.to_owned());
        std::fs::create_dir_all(folder.join("manifests")).context("make the store's folder")?;
        let mut replicas = Replicas { program, folder, logs, ports: free_ports()?, procs: Vec::new() };
        for index in 0..REPLICAS {
            let proc = replicas.spawn(index)?;
            replicas.procs.push(Some(proc));
        }
        let stores = Self::Isthmus(replicas);
        for index in 0..REPLICAS {
            stores.wait_until_serving(index).await?;
        }
        Ok(stores)
    }

    pub(crate) fn start_etcd(workspace: &Path) -> Result<Self> {
        let peer = EtcdPeer::obtain(workspace)?;
        let cluster = Cluster::start(&peer, &Options { members: REPLICAS, ..Options::default() })?;
        Ok(Self::Etcd { version: peer.version, cluster })
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Isthmus(_) => "isthmus".to_owned(),
            Self::Etcd { version, .. } => format!("etcd {version}"),
        }
    }

    fn endpoints(&self) -> Vec<String> {
        match self {
            Self::Isthmus(replicas) => {
                (0..REPLICAS).map(|index| format!("https://{}:{}", host(index), replicas.ports[0])).collect()
            }
            Self::Etcd { cluster, .. } => cluster.endpoints(),
        }
    }

    /// What kube-apiserver must be told to use it.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--etcd-servers={}", self.endpoints().join(","))];
        if let Self::Isthmus(replicas) = self {
            let state = replicas.state(0);
            for (flag, file) in [("cafile", "ca.crt"), ("certfile", "admin.crt"), ("keyfile", "admin.key")] {
                flags.push(format!("--etcd-{flag}={}", state.join(file).display()));
            }
        }
        flags
    }

    /// A client of one replica.
    pub(crate) async fn client(&self, index: usize) -> Result<Client> {
        let mut options = ConnectOptions::new().with_connect_timeout(PATIENCE).with_timeout(PATIENCE * 5);
        if let Self::Isthmus(replicas) = self {
            let state = replicas.state(index);
            let read = |file: &str| std::fs::read(state.join(file)).with_context(|| format!("read {file}"));
            let tls = TlsOptions::new()
                .ca_certificate(Certificate::from_pem(read("ca.crt")?))
                .identity(Identity::from_pem(read("admin.crt")?, read("admin.key")?))
                .domain_name("localhost");
            options = options.with_tls(tls);
        }
        let endpoint = &self.endpoints()[index];
        Client::connect([endpoint], Some(options)).await.with_context(|| format!("connect to {endpoint}"))
    }

    /// The replica that leads, as it says itself; waits until one does.
    pub(crate) async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + SERVES_WITHIN;
        while Instant::now() < deadline {
            for index in 0..REPLICAS {
                let Ok(mut client) = self.client(index).await else { continue };
                let Ok(status) = client.status().await else { continue };
                if status.header().is_some_and(|header| header.member_id() == status.leader()) {
                    return Ok(index);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no replica of {} leads within {SERVES_WITHIN:?}", self.name())
    }

    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        match self {
            Self::Isthmus(replicas) => {
                let proc = replicas.procs[index].take();
                proc.with_context(|| format!("replica {index} does not run"))?.kill9()
            }
            Self::Etcd { cluster, .. } => cluster.kill(index),
        }
    }

    /// Starts a killed replica on the data it had and waits until it serves.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<()> {
        match self {
            Self::Isthmus(replicas) => replicas.procs[index] = Some(replicas.spawn(index)?),
            Self::Etcd { cluster, .. } => cluster.restart(index)?,
        }
        self.wait_until_serving(index).await
    }

    /// A linearizable read is answered by it.
    async fn wait_until_serving(&self, index: usize) -> Result<()> {
        let deadline = Instant::now() + SERVES_WITHIN;
        loop {
            let outcome = match self.client(index).await {
                Ok(mut client) => client.get("serving?", None).await.map(drop).map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return Ok(()) };
            if let Self::Isthmus(Replicas { procs, .. }) = self
                && let Some(Some(proc)) = procs.get(index)
                && !proc.is_alive()
            {
                bail!("{} ended; its log ends with:\n{}", proc.name(), proc.log_tail(8));
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("replica {index} does not serve after {SERVES_WITHIN:?}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Replicas {
    fn state(&self, index: usize) -> PathBuf {
        self.folder.join(format!("replica-{}", index + 1))
    }

    fn spawn(&self, index: usize) -> Result<Proc> {
        let [etcd, raft, mesh, metrics] = self.ports;
        let (number, host_here) = (index + 1, host(index));
        let mut command = tied(&self.program);
        command
            .args(["--cluster-name", "kube", "--cluster-id", "1", "--replica-id", &number.to_string()])
            .args(["--pod-cidr", "10.1.0.0/16", "--service-cidr", "10.96.0.0/16", "--node-cidr", "127.0.0.0/8"])
            .arg("--state-dir")
            .arg(self.state(index))
            .arg("--ca-dir")
            .arg(self.folder.join("ca"))
            .arg("--manifests-dir")
            .arg(self.folder.join("manifests"))
            .arg("--admin-socket")
            .arg(self.folder.join(format!("admin-{number}.sock")))
            .args(["--listen-etcd", &format!("{host_here}:{etcd}"), "--listen-raft", &format!("{host_here}:{raft}")])
            .args(["--listen-mesh", &format!("{host_here}:{mesh}")])
            .args(["--listen-metrics", &format!("{host_here}:{metrics}")]);
        for other in 0..REPLICAS {
            command.args(["--replica", &format!("{}={}", other + 1, host(other)), "--advertise-address", &host(other)]);
        }
        let name = format!("mesh-apiserver-{number}");
        Proc::start(&name, command, &self.logs.join(format!("{name}.log")))
    }
}

/// Replicas have hosts of their own, and one port for all.
fn host(index: usize) -> String {
    format!("127.0.0.{}", index + 1)
}
