//! The Raft port as a process serves it: gRPC over mutual TLS on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::incoming::Options as TlsOptions;
use certs::{
    Authorities, ChannelOptions, ClientAuth, ClientTls, Connections, Leaf, LiveLeaf, RootCa, ServerNames, ServerTls,
    TlsIncoming, TlsMetrics, Trust, Validity,
};
use mesh_store::backend::Member;
use mesh_store::raft_port::{GrpcTransport, RaftService};
use mesh_store::{Embedded, LogStoreError, Metrics, OpenError, Options, Start, Store, Transport};
use mesh_types::ClusterName;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::group::{DEADLINE, mod_revision, put};

struct Cluster {
    ca: RootCa,
    authorities: Arc<Authorities>,
    dir: tempfile::TempDir,
}

/// A replica and its port. Dropping the sender closes the port.
struct Replica {
    store: Arc<Embedded>,
    _port: oneshot::Sender<()>,
}

fn validity() -> Validity {
    Validity::lasting(Duration::from_hours(1))
}

fn is_replica(extensions: &tonic::Extensions, _: u64) -> bool {
    certs::principal(extensions).is_some_and(|principal| principal.role() == certs::Role::Replica)
}

impl Cluster {
    fn new() -> Self {
        let name = ClusterName::new("cluster-a").unwrap();
        let ca = RootCa::generate(&name).unwrap();
        let authorities = Authorities::new(name, ca.bundle()).unwrap();
        Self { ca, authorities, dir: tempfile::tempdir().unwrap() }
    }

    fn leaf(&self) -> Leaf {
        self.ca.issue_server(&ServerNames::default(), validity()).unwrap()
    }

    fn transport(&self, leaf: Leaf) -> GrpcTransport {
        let leaf = LiveLeaf::new(leaf);
        let tls = ClientTls::new(&Trust::Bundle(self.ca.bundle()), Some(&leaf), "localhost").unwrap();
        let options = ChannelOptions {
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
        };
        GrpcTransport::new(move |member: &Member| {
            let addresses = member.peer_urls.iter().map(|url| url.trim_start_matches("https://").to_owned());
            Ok(certs::channel(&addresses.collect::<Vec<_>>(), &tls, &options))
        })
    }

    async fn start(&self, member: &Member, start: Start, listener: TcpListener, shows: Leaf) -> Replica {
        let dir = self.dir.path().join(member.id.to_string());
        let options = Options { member: member.clone(), start, segment_bytes: 1 << 20, ..Options::new(dir) };
        let transport: Arc<dyn Transport> = Arc::new(self.transport(shows));
        let begun = Instant::now();
        let store = loop {
            match Embedded::start(options.clone(), Arc::clone(&transport), Metrics::detached()).await {
                Ok(store) => break store,
                // The last calls to the one that was here before are still being answered.
                Err(OpenError::Log(LogStoreError::InUse { .. })) if begun.elapsed() < DEADLINE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let tls = ServerTls::new(LiveLeaf::new(self.leaf()), Arc::clone(&self.authorities), ClientAuth::Required);
        let tls_options = TlsOptions::new("raft", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::from_listener(listener, tls, tls_options);
        let (port, closed) = oneshot::channel::<()>();
        let service = RaftService::new(store.receiver(), is_replica);
        tokio::spawn(async move {
            let closed = async { drop(closed.await) };
            Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, closed).await.unwrap();
        });
        Replica { store, _port: port }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn member(id: u64, address: SocketAddr) -> Member {
    Member { id, name: format!("replica-{id}"), peer_urls: vec![format!("https://{address}")], ..Member::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_talk_over_mutual_tls_and_only_replicas_are_heard() {
    let cluster = Cluster::new();
    let mut listeners = Vec::new();
    let mut members = Vec::new();
    for id in 1..=3 {
        let (listener, address) = listen().await;
        listeners.push(listener);
        members.push(member(id, address));
    }
    let mut replicas = Vec::new();
    for (member, listener) in members.iter().zip(listeners) {
        let together = Start::Together { members: members.clone() };
        replicas.push(cluster.start(member, together, listener, cluster.leaf()).await);
    }
    for replica in &replicas {
        replica.store.ready(DEADLINE).await.unwrap();
    }
    // Larger than what shares a connection with heartbeats.
    let revision = put(&replicas[0].store, "k", vec![7; 1 << 20]).await;
    for replica in &replicas {
        assert_eq!(mod_revision(&replica.store, "k").await, revision);
    }

    // A fourth that shows an administrator's certificate is expected as a member, but not heard.
    let (listener, address) = listen().await;
    let fourth = member(4, address);
    let added = Member { is_learner: true, ..fourth.clone() };
    replicas[1].store.member_add(added).await.unwrap();
    let join = Start::Join { members: members.clone() };
    let admin = cluster.ca.issue_admin(validity()).unwrap();
    let impostor = cluster.start(&fourth, join.clone(), listener, admin).await;
    let refused = impostor.store.ready(Duration::from_secs(2)).await;
    assert!(matches!(refused, Err(OpenError::NotReady { .. })), "{refused:?}");
    impostor.store.shutdown().await;
    drop(impostor);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let genuine = cluster.start(&fourth, join, listener, cluster.leaf()).await;
    genuine.store.ready(DEADLINE).await.unwrap();
    assert_eq!(mod_revision(&genuine.store, "k").await, revision);

    // A leader that goes away, port and all.
    let leader = replicas[0].store.status().await.unwrap().leader;
    let gone = replicas.remove(usize::try_from(leader).unwrap() - 1);
    drop(gone);
    let later = put(&replicas[0].store, "k", "later").await;
    assert_eq!(mod_revision(&replicas[1].store, "k").await, later);
    assert_eq!(mod_revision(&genuine.store, "k").await, later);
}
