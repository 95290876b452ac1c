//! The two servers under measurement, as processes on loopback with their data side by side on the same disk.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use certs::root_ca::{RootCa, ServerNames};
use certs::validity::Validity;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use mesh_types::ClusterName;

use super::Plan;
use crate::bench::etcd_peer::EtcdPeer;

const START_WITHIN: Duration = Duration::from_secs(20);

/// A running server and how to reach it.
pub struct Server {
    pub name: &'static str,
    endpoint: String,
    metrics: String,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    /// Counters of `/metrics` whose sum is the number of fdatasync calls of the log and of the data file.
    sync_counters: &'static [&'static str],
    child: Child,
}

/// Both servers; they end with this value.
pub struct Servers {
    pub isthmus: Server,
    pub etcd: Server,
}

impl Servers {
    pub async fn start(plan: &Plan, peer: &EtcdPeer) -> Result<Self> {
        let folder = &plan.folder;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        let isthmus = start_isthmus(&folder.join("isthmus"), &plan.apiserver)?;
        let etcd = start_etcd(&folder.join("etcd"), peer)?;
        isthmus.wait_until_serving().await?;
        etcd.wait_until_serving().await?;
        Ok(Self { isthmus, etcd })
    }

    pub fn stop(mut self) -> Result<()> {
        self.isthmus.end()?;
        self.etcd.end()
    }
}

impl Server {
    pub async fn connect(&self) -> Result<Client> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(Identity::from_pem(read(&self.certificate)?, read(&self.key)?))
            .domain_name("localhost");
        let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(Duration::from_secs(2));
        Client::connect([&self.endpoint], Some(options)).await.with_context(|| format!("connect to {}", self.name))
    }

    /// The server's own count since its start.
    pub async fn fdatasync_calls(&self) -> Result<u64> {
        let text = http_get(&self.metrics).await.with_context(|| format!("metrics of {}", self.name))?;
        let mut sum = 0.0;
        for counter in self.sync_counters {
            let line = text.lines().find(|l| l.strip_prefix(counter).is_some_and(|rest| rest.starts_with([' ', '{'])));
            let value = line.and_then(|l| l.rsplit(' ').next()).and_then(|v| v.parse::<f64>().ok());
            sum += value.with_context(|| format!("{} has no counter {counter}", self.metrics))?;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
        Ok(sum as u64)
    }

    async fn wait_until_serving(&self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let outcome = match self.connect().await {
                Ok(mut client) => client.get("ready?", None).await.map(|_| ()).map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{} does not serve after {START_WITHIN:?}", self.name)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("end {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `end` the process is gone and this does nothing.
        if let Err(error) = self.child.kill() {
            tracing::debug!(%error, server = self.name, "already ended");
        }
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, server = self.name, "already waited for");
        }
    }
}

fn start_isthmus(folder: &Path, program: &Path) -> Result<Server> {
    let (state, manifests) = (folder.join("state"), folder.join("manifests"));
    fs::create_dir_all(&manifests).with_context(|| format!("create {}", manifests.display()))?;
    let [etcd, mesh, metrics] = free_ports()?;
    let child = Command::new(program)
        .args(["--cluster-name", "bench", "--cluster-id", "1", "--advertise-address", "127.0.0.1"])
        .args(["--pod-cidr", "10.1.0.0/16", "--service-cidr", "10.101.0.0/16", "--node-cidr", "127.0.0.0/8"])
        .arg("--state-dir")
        .arg(&state)
        .arg("--manifests-dir")
        .arg(&manifests)
        .args(["--listen-etcd", &format!("127.0.0.1:{etcd}"), "--listen-mesh", &format!("127.0.0.1:{mesh}")])
        .args(["--listen-metrics", &format!("127.0.0.1:{metrics}")])
        .arg("--admin-socket")
        .arg(folder.join("admin.sock"))
        .stdin(Stdio::null())
        .stderr(log(folder)?)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    Ok(Server {
        name: "isthmus",
        endpoint: format!("https://127.0.0.1:{etcd}"),
        metrics: format!("127.0.0.1:{metrics}"),
        ca: state.join("ca.crt"),
        certificate: state.join("admin.crt"),
        key: state.join("admin.key"),
        sync_counters: &["isthmus_store_fdatasync_total"],
        child,
    })
}

fn start_etcd(folder: &Path, peer: &EtcdPeer) -> Result<Server> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let at = |name: &str| folder.join(name);
    let authority = RootCa::generate(&ClusterName::new("etcd").context("a fixed name")?)?;
    fs::write(at("ca.crt"), authority.certificate_pem()).context("write the CA of the peer")?;
    let day = Validity::lasting(Duration::from_hours(24));
    authority.issue_server(&ServerNames::default(), day)?.save(&at("server.crt"), &at("server.key"))?;
    authority.issue_admin(day)?.save(&at("admin.crt"), &at("admin.key"))?;
    let [client, replica, metrics] = free_ports()?;
    let (client_url, replica_url) = (format!("https://127.0.0.1:{client}"), format!("http://127.0.0.1:{replica}"));
    let child = Command::new(&peer.etcd)
        .args(["--name", "bench", "--logger", "zap", "--log-level", "warn", "--data-dir"])
        .arg(at("data"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &replica_url, "--initial-advertise-peer-urls", &replica_url])
        .args(["--initial-cluster", &format!("bench={replica_url}")])
        .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{metrics}"), "--client-cert-auth"])
        .arg("--trusted-ca-file")
        .arg(at("ca.crt"))
        .arg("--cert-file")
        .arg(at("server.crt"))
        .arg("--key-file")
        .arg(at("server.key"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log(folder)?)
        .spawn()
        .with_context(|| format!("start {}", peer.etcd.display()))?;
    Ok(Server {
        name: "etcd",
        endpoint: client_url,
        metrics: format!("127.0.0.1:{metrics}"),
        ca: at("ca.crt"),
        certificate: at("admin.crt"),
        key: at("admin.key"),
        sync_counters: &[
            "etcd_disk_wal_fsync_duration_seconds_count",
            "etcd_disk_backend_commit_duration_seconds_count",
        ],
        child,
    })
}

fn log(folder: &Path) -> Result<fs::File> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    fs::File::create(folder.join("log")).context("create the server's log")
}

/// Ports that were free a moment ago: all are held until all are known.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        *port = listener.local_addr().context("read the port")?.port();
        held.push(listener);
    }
    Ok(ports)
}

async fn http_get(address: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if !text.starts_with("HTTP/1.1 200") {
        bail!("answered {:?}", text.lines().next().unwrap_or_default());
    }
    Ok(text)
}
