//! API servers on loopback for tests: each with its own folders and ports, in this process.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use certs::token::Token;
use certs::{ChannelOptions, ClientTls, Leaf, LiveLeaf, PendingLeaf, Trust, TrustBundle, channel};
use clap::Parser;
use mesh_apiserver::app::App;
use mesh_apiserver::args::{Args, Config};
use mesh_proto::v1;
use mesh_proto::v1::admin_client::AdminClient;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_proto::v1::join_client::JoinClient;
use mesh_proto::v1::store_admin_client::StoreAdminClient;
use mesh_runtime::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) app: App,
    pub(crate) more_flags: Vec<String>,
}

impl Server {
    /// Cluster `id` with pods in 10.<id>.0.0/16 and nodes in 192.0.<id>.0/24.
    pub(crate) async fn start(name: &str, id: u32) -> Self {
        Self::start_with(name, id, Vec::new()).await
    }

    /// The same with further flags, which go before the usual ones of their names.
    pub(crate) async fn start_with(name: &str, id: u32, more_flags: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(dir.path().join("manifests")).expect("a fresh folder");
        let app = start_app(name, id, dir.path(), &more_flags).await;
        Self { name: name.to_owned(), id, dir, app, more_flags }
    }

    /// Stops and starts again on the same folders.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|_manifests| ()).await
    }

    /// The same, with the manifests changed while it is down.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { name, id, dir, app, more_flags } = self;
        app.stop().await;
        change(&dir.path().join("manifests"));
        Self::start_at(name, id, dir, more_flags).await
    }

    /// Starts on the folders of one that has stopped.
    pub(crate) async fn start_at(name: String, id: u32, dir: tempfile::TempDir, more_flags: Vec<String>) -> Self {
        let app = start_app(&name, id, dir.path(), &more_flags).await;
        Self { name, id, dir, app, more_flags }
    }

    pub(crate) async fn ready(&self) {
        until("readiness", || async { self.app.readiness.is_ready().then_some(()) }).await;
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        // Written beside and renamed, as every careful writer does.
        let beside = self.dir.path().join(format!("{file}.tmp"));
        std::fs::write(&beside, text).expect("the folder is the test's own");
        std::fs::rename(&beside, self.manifests().join(file)).expect("the folder is the test's own");
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub(crate) fn state(&self, file: &str) -> PathBuf {
        self.dir.path().join("state").join(file)
    }

    /// Through the Unix socket, as root.
    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        admin_socket(self.dir.path().join("admin.sock")).await.expect("the admin socket is open")
    }

    /// What `meshctl store` asks, through the same socket.
    pub(crate) async fn store_admin(&self) -> StoreAdminClient<Channel> {
        let channel = admin_channel(self.dir.path().join("admin.sock")).await;
        StoreAdminClient::new(channel.expect("the admin socket is open"))
    }

    pub(crate) fn admin_leaf(&self) -> Leaf {
        Leaf::load(&self.state("admin.crt"), &self.state("admin.key")).expect("written at the start")
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&std::fs::read_to_string(self.state("ca.crt")).expect("written at the start"))
            .expect("a CA")
    }

    /// To the mesh port, with or without a client certificate.
    pub(crate) fn mesh_channel(&self, leaf: Option<Leaf>) -> Channel {
        let leaf = leaf.map(LiveLeaf::new);
        let tls = ClientTls::new(&Trust::Bundle(self.bundle()), leaf.as_ref(), "localhost").expect("a name");
        channel(&[self.app.mesh.to_string()], &tls, &ChannelOptions::default())
    }

    pub(crate) async fn etcd(&self, leaf: &Leaf) -> etcd_client::Client {
        let options =
            etcd_client::ConnectOptions::new().with_tls(certs::client::tonic_config(&self.bundle(), leaf, "localhost"));
        etcd_client::Client::connect([format!("https://{}", self.app.etcd)], Some(options))
            .await
            .expect("the etcd port")
    }

    /// A certificate for a node's agent, by token.
    pub(crate) async fn enroll(&self, node: &str) -> Leaf {
        let request = v1::CreateNodeTokenRequest { node: node.to_owned(), ttl_seconds: 60 };
        let token = self.admin().await.create_node_token(request).await.expect("a token").into_inner().token;
        let pending = PendingLeaf::generate(node).expect("a key");
        let request = v1::EnrollRequest {
            token,
            node: node.to_owned(),
            csr_pem: pending.csr_pem().to_owned(),
            ..v1::EnrollRequest::default()
        };
        let answer = JoinClient::new(self.mesh_channel(None)).enroll(request).await.expect("enrolled").into_inner();
        pending.complete(&answer.certificate_pem).expect("the certificate is for this key")
    }

    pub(crate) fn agent(&self, leaf: Leaf) -> AgentClient<Channel> {
        AgentClient::new(self.mesh_channel(Some(leaf)))
    }

    /// Lets `self` join `other`, as meshctl does.
    pub(crate) async fn connect(&self, other: &Self) -> Result<v1::ConnectPeerResponse, tonic::Status> {
        let token = other.join_token(self).await?;
        let request = v1::ConnectPeerRequest { token };
        Ok(self.admin().await.connect_peer(request).await?.into_inner())
    }

    pub(crate) async fn join_token(&self, peer: &Self) -> Result<String, tonic::Status> {
        let request = v1::CreateJoinTokenRequest { peer_name: peer.name.clone(), peer_id: peer.id, ttl_seconds: 60 };
        Ok(self.admin().await.create_join_token(request).await?.into_inner().token)
    }

    pub(crate) async fn status(&self) -> v1::GetStatusResponse {
        self.admin().await.get_status(v1::GetStatusRequest {}).await.expect("a status").into_inner()
    }
}

/// A token with its text changed in one place, still well formed.
pub(crate) fn tampered(text: &str) -> String {
    let mut token = Token::parse(text).expect("a token");
    token.expires_unix_seconds += 3600;
    token.text().to_string()
}

/// The flags of cluster `id`, with all state below `dir`.
pub(crate) fn flags(name: &str, id: u32, dir: &Path) -> Vec<String> {
    let text = |p: PathBuf| p.display().to_string();
    vec![
        format!("--cluster-name={name}"),
        format!("--cluster-id={id}"),
        format!("--state-dir={}", text(dir.join("state"))),
        format!("--manifests-dir={}", text(dir.join("manifests"))),
        format!("--admin-socket={}", text(dir.join("admin.sock"))),
        "--listen-etcd=127.0.0.1:0".to_owned(),
        "--listen-mesh=127.0.0.1:0".to_owned(),
        "--listen-metrics=127.0.0.1:0".to_owned(),
        format!("--advertise-address={}", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        format!("--pod-cidr=10.{id}.0.0/16"),
        format!("--node-cidr=192.0.{id}.0/24"),
        format!("--service-cidr=10.10{id}.0.0/16"),
    ]
}

/// The admin API of the server that serves this socket; `None` while none does.
pub(crate) async fn admin_socket(path: PathBuf) -> Option<AdminClient<Channel>> {
    admin_channel(path).await.map(AdminClient::new)
}

async fn admin_channel(path: PathBuf) -> Option<Channel> {
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await;
    channel.ok()
}

pub(crate) async fn start_app(name: &str, id: u32, dir: &Path, more: &[String]) -> App {
    let started = Instant::now();
    let config = config(name, id, dir, more);
    loop {
        // The lock of a server that has just stopped goes with its last connection.
        match App::start(config.clone(), Shutdown::new()).await {
            Ok(app) => return app,
            Err(error) if is_locked(&error) && started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error:#}"),
        }
    }
}

/// Why a server does not start.
pub(crate) async fn refused_start(name: &str, id: u32, dir: &Path, more: &[String]) -> String {
    let config = config(name, id, dir, more);
    until("a refusal", || async {
        match App::start(config.clone(), Shutdown::new()).await {
            Ok(_) => panic!("it starts"),
            Err(error) => (!is_locked(&error)).then(|| format!("{error:#}")),
        }
    })
    .await
}

fn is_locked(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("in use by another")
}

fn config(name: &str, id: u32, dir: &Path, more: &[String]) -> Config {
    let program = std::iter::once("mesh-apiserver".to_owned());
    let name_of = |flag: &str| flag.split('=').next().map(str::to_owned);
    let mut usual = flags(name, id, dir);
    usual.retain(|flag| more.iter().all(|other| name_of(other) != name_of(flag)));
    let flags = program.chain(usual).chain(more.iter().cloned());
    Args::try_parse_from(flags).expect("known flags").check().expect("good settings")
}

/// The first figure whose name begins so.
pub(crate) async fn metric(server: &Server, name: &str) -> String {
    let text = metrics_at(server.app.metrics).await.unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

/// What monitoring is told at that address.
pub(crate) async fn metrics_at(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Asks until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn node(name: &str, ip: &str, pods: &str) -> String {
    format!(
        "kind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDR: {pods}, podCIDRs: [{pods}]}}\n\
         status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}\n---\n"
    )
}

pub(crate) fn pod(name: &str, ip: &str, node: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\nspec: {{nodeName: {node}}}\n\
         status: {{phase: Running, podIP: {ip}}}\n---\n"
    )
}

/// Service `shop/cart` with one ready backend.
pub(crate) fn global_service(cluster_ip: &str, backend: &str, annotations: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{name: cart, namespace: shop, annotations: {{{annotations}}}}}\n\
         spec: {{clusterIP: {cluster_ip}, clusterIPs: [{cluster_ip}], selector: {{app: cart}}, ports: [{{name: grpc, port: 7070}}]}}\n---\n\
         kind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: cart-x, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}\n\
         endpoints: [{{addresses: [{backend}], conditions: {{ready: true}}}}]\nports: [{{name: grpc, port: 8080, protocol: TCP}}]\n---\n"
    )
}

/// Offers Service `shop/cart` to the cluster set.
pub(crate) const SERVICE_EXPORT: &str = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
     metadata: {name: cart, namespace: shop, creationTimestamp: \"2026-03-04T05:06:07Z\"}\n\
     spec: {exportedLabels: {tier: back}}\n---\n";

pub(crate) const GLOBAL: &str = "service.cilium.io/global: \"true\"";

/// What an agent holds after it applied the messages of its stream.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    pub(crate) objects: std::collections::BTreeMap<mesh_types::view::Key, mesh_types::view::Object>,
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
    pub(crate) snapshots: usize,
    /// Objects and keys received since the start.
    pub(crate) received: usize,
}

impl Replica {
    /// Applies messages until `enough`.
    pub(crate) async fn follow(
        &mut self,
        stream: &mut tonic::Streaming<v1::SubscribeResponse>,
        enough: impl Fn(&Self) -> bool,
    ) {
        let work = async {
            while !enough(self) {
                let message = stream.message().await.expect("the stream goes on").expect("the stream goes on");
                self.apply(message);
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("the awaited objects");
    }

    fn apply(&mut self, response: v1::SubscribeResponse) {
        use v1::subscribe_response::Message;
        self.cluster_id = response.cluster_id;
        match response.message.expect("a message") {
            Message::SnapshotBegin(_) => {
                self.objects.clear();
                self.snapshots += 1;
            }
            Message::Delta(delta) => {
                let delta = mesh_types::view::Delta::try_from(delta).expect("a delta of this version");
                self.received += delta.upserts.len() + delta.deletes.len();
                self.revision = delta.revision;
                self.objects.extend(delta.upserts.into_iter().map(|o| (o.key(), o)));
                for key in delta.deletes {
                    self.objects.remove(&key);
                }
            }
            Message::Prune(v1::Prune { revision }) | Message::KeepAlive(v1::KeepAlive { revision }) => {
                self.revision = revision;
            }
        }
    }

    pub(crate) fn backends(&self) -> Vec<String> {
        use mesh_types::view::Object;
        let backends = self.objects.values().filter_map(|o| if let Object::Backend(b) = o { Some(b) } else { None });
        backends.map(|b| b.address.to_string()).collect()
    }
}

pub(crate) fn subscribe(cluster_id: u64, revision: i64) -> v1::SubscribeRequest {
    v1::SubscribeRequest { cluster_id, revision }
}
