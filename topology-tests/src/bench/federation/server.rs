//! The measured mesh-apiserver: one process, or three replicas, on loopback; how to join it, ask it and kill it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use certs::{ChannelOptions, ClientTls, Leaf, LiveLeaf, PendingLeaf, RootCa, Trust, Validity, channel};
use etcd_client::{Client, ConnectOptions, GetOptions, Txn, TxnOp};
use etcd_peer::free_ports;
use federation::PeerRecord;
use federation::peer::server_name;
use mesh_proto::v1::CreateNodeTokenRequest;
use mesh_proto::v1::admin_client::AdminClient;
use mesh_types::{ClusterName, NodeName};
use tonic::transport::Channel;

use super::figures;
use crate::deadline::wait_for;
use crate::proc::Proc;

/// Its name, and the number that no mock cluster has.
pub(super) const NAME: &str = "own";
const NUMBER: u8 = 251;
/// A start with everything to be read from disk.
const READY: Duration = Duration::from_mins(2);
/// Records in one transaction; etcd's limit is 128.
const RECORDS_PER_TXN: usize = 50;
const A_DAY: Duration = Duration::from_hours(24);

/// Where replicas keep their files, and under which ports they listen.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    program: PathBuf,
    replicas: usize,
    etcd: u16,
    raft: u16,
    mesh: u16,
    metrics: u16,
    more_flags: Vec<String>,
}

/// What a key holds, and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub revision: i64,
    pub value: Vec<u8>,
}

/// Ends with this value.
pub struct Server {
    layout: Layout,
    ca: RootCa,
    /// By replica; `None`: not running.
    processes: Vec<Option<Proc>>,
}

impl Layout {
    /// For a folder that is not there yet, or is empty.
    pub fn new(folder: &Path, program: &Path, replicas: usize) -> Result<Self> {
        std::fs::create_dir_all(folder.join("manifests")).with_context(|| format!("create {}", folder.display()))?;
        let [etcd, raft, mesh, metrics] = free_ports()?;
        let (folder, program) = (folder.to_owned(), program.to_owned());
        Ok(Self { folder, program, replicas, etcd, raft, mesh, metrics, more_flags: Vec::new() })
    }

    /// Further flags for every replica.
    #[must_use]
    pub fn with_flags(mut self, flags: impl IntoIterator<Item = String>) -> Self {
        self.more_flags.extend(flags);
        self
    }

    fn address(replica: usize, port: u16) -> SocketAddr {
        let last = u8::try_from(replica + 1).expect("few replicas");
        ([127, 0, 0, last], port).into()
    }

    fn command(&self, replica: usize) -> Command {
        let at = |port| Self::address(replica, port).to_string();
        let own = |name: &str| self.folder.join(format!("{name}-{replica}"));
        let mut command = Command::new(&self.program);
        command
            .args(["--cluster-name", NAME, "--cluster-id", &NUMBER.to_string()])
            .args(["--advertise-address", &Self::address(replica, 0).ip().to_string()])
            .args(["--pod-cidr", &format!("10.{NUMBER}.0.0/16"), "--node-cidr", &format!("192.168.{NUMBER}.0/24")])
            .args(["--service-cidr", "10.252.0.0/16"])
            .arg("--ca-dir")
            .arg(self.folder.join("ca"))
            .arg("--state-dir")
            .arg(own("state"))
            .arg("--manifests-dir")
            .arg(self.folder.join("manifests"))
            .args(["--listen-etcd", &at(self.etcd), "--listen-mesh", &at(self.mesh)])
            .args(["--listen-metrics", &at(self.metrics)])
            .arg("--admin-socket")
            .arg(own("admin.sock"))
            .args(&self.more_flags);
        if self.replicas > 1 {
            command.args(["--replica-id", &(replica + 1).to_string(), "--listen-raft", &at(self.raft)]);
            for other in 0..self.replicas {
                let host = Self::address(other, 0).ip();
                command.args(["--replica", &format!("{}={host}", other + 1)]);
            }
        }
        command
    }
}

impl Server {
    /// Starts all replicas; returns when they say that they are ready.
    pub fn start(layout: Layout) -> Result<Self> {
        let name = ClusterName::new(NAME).context("a fixed name")?;
        // Made here and not by the first replica: its certificates are wanted here.
        let ca = RootCa::load_or_create(&layout.folder.join("ca"), &name)?;
        std::fs::write(layout.folder.join("ca.crt"), ca.certificate_pem()).context("write the CA's certificate")?;
        let processes = (0..layout.replicas).map(|_| None).collect();
        let mut server = Self { layout, ca, processes };
        for replica in 0..server.layout.replicas {
            server.spawn(replica)?;
        }
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Starts a replica that does not run, on the files that it had.
    pub fn spawn(&mut self, replica: usize) -> Result<()> {
        let name = format!("mesh-apiserver-{replica}");
        let log = self.layout.folder.join(format!("log-{replica}"));
        self.processes[replica] = Some(Proc::start(&name, self.layout.command(replica), &log)?);
        Ok(())
    }

    pub fn wait_until_ready(&self) -> Result<()> {
        for (replica, process) in self.processes.iter().enumerate() {
            let Some(process) = process else { continue };
            let address = Layout::address(replica, self.layout.metrics);
            process.wait_ready("it says that it is ready", READY, || figures::is_ready(address))?;
        }
        Ok(())
    }

    /// As `kill -9` does.
    pub fn kill(&mut self, replica: usize) -> Result<()> {
        self.process(replica)?.kill9()?;
        self.processes[replica] = None;
        Ok(())
    }

    fn process(&self, replica: usize) -> Result<&Proc> {
        let process = self.processes.get(replica).and_then(Option::as_ref);
        process.with_context(|| format!("replica {replica} does not run"))
    }

    pub fn pid(&self, replica: usize) -> Result<u32> {
        Ok(self.process(replica)?.pid())
    }

    pub fn replicas(&self) -> usize {
        self.layout.replicas
    }

    /// The file of its CA, for those who are to let it in.
    pub fn ca_file(&self) -> PathBuf {
        self.layout.folder.join("ca.crt")
    }

    /// `/metrics` of one replica.
    pub async fn metrics(&self, replica: usize) -> Result<String> {
        figures::get(Layout::address(replica, self.layout.metrics), "/metrics").await
    }

    /// Its etcd API, for its administrator.
    pub async fn admin(&self, replica: usize) -> Result<Client> {
        let leaf = self.ca.issue_admin(Validity::lasting(A_DAY))?;
        let tls = certs::client::tonic_config(&self.ca.bundle(), &leaf, &server_name(self.ca.cluster()));
        let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(Duration::from_secs(5));
        let endpoint = format!("https://{}", Layout::address(replica, self.layout.etcd));
        Client::connect([&endpoint], Some(options)).await.with_context(|| format!("connect to {endpoint}"))
    }

    /// Stores the records of clusters, as a join does, and so joins them.
    pub async fn join(&self, records: &[PeerRecord]) -> Result<()> {
        let mut admin = self.admin(0).await?;
        for records in records.chunks(RECORDS_PER_TXN) {
            let puts = records.iter().map(|record| {
                let put = record.to_put();
                TxnOp::put(put.key.to_vec(), put.value.to_vec(), None)
            });
            admin.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.context("store the peers' records")?;
        }
        Ok(())
    }

    /// All keys under a prefix.
    pub async fn written(&self, prefix: &str) -> Result<BTreeMap<Vec<u8>, Written>> {
        let mut client = self.admin(0).await?.kv_client().max_decoding_message_size(usize::MAX);
        let found = client.get(prefix, Some(GetOptions::new().with_prefix())).await;
        let mut found = found.with_context(|| format!("read {prefix}"))?;
        let each = found.take_kvs().into_iter().map(|kv| {
            let revision = kv.mod_revision();
            let (key, value) = kv.into_key_value();
            (key, Written { revision, value })
        });
        Ok(each.collect())
    }

    /// A certificate for the agent of a node.
    pub fn agent_leaf(&self, node: &str) -> Result<Leaf> {
        let pending = PendingLeaf::generate(node)?;
        let name = NodeName(node.to_owned());
        let certificate = self.ca.sign_agent(pending.csr_pem(), &name, Validity::lasting(A_DAY))?;
        Ok(pending.complete(&certificate)?)
    }

    /// How an agent reaches these replicas, the first one first.
    pub fn agent_channel(&self, leaf: Leaf, replicas: &[usize]) -> Result<Channel> {
        let addresses: Vec<String> =
            replicas.iter().map(|replica| Layout::address(*replica, self.layout.mesh).to_string()).collect();
        let trust = Trust::Bundle(self.ca.bundle());
        let tls = ClientTls::new(&trust, Some(&LiveLeaf::new(leaf)), &server_name(self.ca.cluster()))?;
        Ok(channel(&addresses, &tls, &ChannelOptions::default()))
    }

    /// `host:port` of one replica's mesh API.
    pub fn mesh_address(&self, replica: usize) -> SocketAddr {
        Layout::address(replica, self.layout.mesh)
    }

    /// What a node enrols with, as `meshctl token node` makes it.
    pub async fn node_token(&self, node: &str) -> Result<String> {
        let leaf = self.ca.issue_admin(Validity::lasting(A_DAY))?;
        let mut admin = AdminClient::new(self.agent_channel(leaf, &[0])?);
        let request = CreateNodeTokenRequest { node: node.to_owned(), ttl_seconds: 600 };
        Ok(admin.create_node_token(request).await.context("make a token for a node")?.into_inner().token)
    }

    /// Waits until this many peers are live.
    pub async fn wait_until_live(&self, replica: usize, peers: usize, within: Duration) -> Result<()> {
        let began = std::time::Instant::now();
        loop {
            let text = self.metrics(replica).await.unwrap_or_default();
            let live = figures::count_of(&text, "isthmus_peer_state", "state=\"Live\"");
            if live >= peers {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < within, "{live} of {peers} peers are live after {within:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The replica that mirrors for the cluster; waits until there is one.
    pub async fn controller(&self) -> Result<usize> {
        for _ in 0..200 {
            for replica in 0..self.layout.replicas {
                let text = self.metrics(replica).await.unwrap_or_default();
                if figures::sum_of(&text, "isthmus_controller", "") > 0.5 {
                    return Ok(replica);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("no replica mirrors")
    }

    /// Stops it and removes its files.
    pub fn end(mut self) -> Result<()> {
        for replica in 0..self.layout.replicas {
            if self.processes[replica].is_some() {
                self.kill(replica)?;
            }
        }
        let folder = self.layout.folder.clone();
        wait_for("its files to go", Duration::from_secs(5), || Ok(std::fs::remove_dir_all(&folder).ok()))
    }
}
