//! The two servers of a pair, both on loopback and both gone with this value.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etcd_peer::free_ports;
use mesh_store::etcd::{EtcdOptions, Gate, routes, server};
use mesh_store::{Embedded, Metrics, Options, Store};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use topology_tests::bench::etcd_peer::EtcdPeer;

use crate::rpc::Rpc;

const START_WITHIN: Duration = Duration::from_secs(30);
/// Progress that nobody asked for would come at other times than etcd's.
const NEVER: Duration = Duration::from_hours(24);

pub(crate) struct Etcd {
    child: Child,
    pub(crate) rpc: Rpc,
    dir: tempfile::TempDir,
}

impl Etcd {
    pub(crate) async fn start(peer: &EtcdPeer) -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for etcd")?;
        let [client, replica] = free_ports()?;
        let (address, replica) = (format!("127.0.0.1:{client}"), format!("http://127.0.0.1:{replica}"));
        let log = File::create(dir.path().join("log")).context("etcd's log")?;
        let mut child = Command::new(&peer.etcd)
            .args(["--name", "oracle", "--log-level", "error", "--unsafe-no-fsync", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &format!("http://{address}")])
            .args(["--advertise-client-urls", &format!("http://{address}")])
            .args(["--listen-peer-urls", &replica, "--initial-advertise-peer-urls", &replica])
            .args(["--initial-cluster", &format!("oracle={replica}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", peer.etcd.display()))?;
        match serving(&address, &mut child).await {
            Ok(rpc) => Ok(Self { child, rpc, dir }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// What etcd said about itself, for the report when it has died.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        Some(format!("etcd ended ({status}): {}", tail.join(" | ")))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only when the process has ended by itself.
    drop(child.kill());
    drop(child.wait());
}

async fn serving(address: &str, child: &mut Child) -> Result<Rpc> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Ok(rpc) = Rpc::connect(address).await
            && rpc.leases().await.is_ok()
            && rpc
                .range(etcd_client::proto::PbRangeRequest { key: b"ready".to_vec(), ..Default::default() })
                .await
                .is_ok()
        {
            return Ok(rpc);
        }
        if let Some(status) = child.try_wait().context("wait for etcd")? {
            bail!("etcd ended while it started: {status}");
        }
        if Instant::now() > deadline {
            bail!("etcd does not serve after {START_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) struct Isthmus {
    store: Arc<Embedded>,
    pub(crate) rpc: Rpc,
    /// The server ends when this is dropped.
    _stop: oneshot::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Isthmus {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for the store")?;
        let metrics = Metrics::detached();
        let options = Options { progress_interval: NEVER, ..Options::new(dir.path()) };
        let store = Embedded::open(options, metrics.clone()).await.context("open the store")?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("the address")?;
        let served: Arc<dyn Store> = Arc::<Embedded>::clone(&store);
        let routes = routes(served, Gate::open("test"), metrics, EtcdOptions::default());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let stopped = async { drop(stopped.await) };
            server().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
        });
        Ok(Self { store, rpc: Rpc::connect(&address.to_string()).await?, _stop: stop, _dir: dir })
    }

    pub(crate) async fn stop(self) {
        self.store.shutdown().await;
    }
}
