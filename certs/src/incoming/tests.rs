use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;

use mesh_runtime::{Cause, OnExit, Shutdown, TaskSet};
use rustls::NamedGroup;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::{Channel, Server};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::client::failure::refusal_hint;
use crate::testing::{ca, chain, cluster, forged, soon};
use crate::{
    Authorities, ChannelOptions, ClientAuth, ClientTls, Leaf, LiveBundle, LiveLeaf, RootCa, ServerNames, Trust,
    TrustBundle, Validity, channel,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A server of cluster-a that answers each request with the caller's principal.
struct Harness {
    ca: RootCa,
    address: SocketAddr,
    leaf: Arc<LiveLeaf>,
    authorities: Arc<Authorities>,
    connections: Connections,
    metrics: TlsMetrics,
    tasks: TaskSet,
}

impl Harness {
    async fn start(client_auth: ClientAuth) -> Self {
        Self::start_with(client_auth, |options| options).await
    }

    async fn start_with(client_auth: ClientAuth, adjust: impl FnOnce(Options) -> Options) -> Self {
        let ca = ca("cluster-a");
        let leaf = LiveLeaf::new(ca.issue_server(&ServerNames::default(), soon()).unwrap());
        let authorities = Authorities::new(cluster("cluster-a"), ca.bundle()).unwrap();
        let (connections, metrics) = (Connections::new(), TlsMetrics::default());
        let options = adjust(Options::new("test", connections.clone(), metrics.clone()));
        let tls = ServerTls::new(Arc::clone(&leaf), Arc::clone(&authorities), client_auth);
        let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await.unwrap();
        let address = incoming.local_addr().unwrap();
        let tasks = TaskSet::new(Shutdown::new());
        let answer = service_fn(|request: Request<Body>| async move {
            let name = principal(request.extensions()).map_or("nobody".to_owned(), |principal| principal.to_string());
            Ok::<_, Infallible>(Response::builder().header("principal", name).body(Body::empty()).unwrap())
        });
        let stop = tasks.shutdown().requested_owned();
        tasks.spawn("server", OnExit::Shutdown, async move {
            Server::builder().serve_with_incoming_shutdown(answer, incoming, stop).await
        });
        Self { ca, address, leaf, authorities, connections, metrics, tasks }
    }

    fn tls(&self, leaf: Option<Leaf>) -> ClientTls {
        ClientTls::new(&Trust::Bundle(self.ca.bundle()), leaf.map(LiveLeaf::new).as_ref(), "localhost").unwrap()
    }

    fn channel(&self, leaf: Option<Leaf>) -> Channel {
        channel(&[self.address.to_string()], &self.tls(leaf), &ChannelOptions::default())
    }

    /// One call over a connection of its own.
    async fn call(&self, leaf: Option<Leaf>) -> Result<String, String> {
        call(&self.channel(leaf)).await
    }

    async fn stop(self) {
        self.tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        self.tasks.join(DEADLINE).await.unwrap();
    }
}

async fn call(channel: &Channel) -> Result<String, String> {
    let request = Request::builder().method("POST").uri("http://localhost/test").body(Body::empty()).unwrap();
    let calling = channel.clone().oneshot(request);
    let answer = tokio::time::timeout(DEADLINE, calling).await.expect("an answer in time");
    let answer = answer.map_err(|error| match refusal_hint(&error) {
        Some(hint) => format!("{}: {hint}", ErrorChain(&error)),
        None => ErrorChain(&error).to_string(),
    })?;
    Ok(answer.headers()["principal"].to_str().unwrap().to_owned())
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never so: {what}"));
}

#[tokio::test]
async fn a_required_certificate_must_be_there_and_verified_by_a_known_ca() {
    let server = Harness::start(ClientAuth::Required).await;
    let admin = server.call(Some(server.ca.issue_admin(soon()).unwrap())).await;
    assert_eq!(admin.as_deref(), Ok("\"admin-cluster-a\" (this cluster's CA)"));

    let error = server.call(None).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    let error = server.call(Some(ca("cluster-b").issue_remote(soon()).unwrap())).await.unwrap_err();
    assert!(error.contains("UnknownCA") && error.contains("connect the clusters first"), "{error}");
    assert_eq!(server.metrics.handshakes("test", "unknown_issuer"), 1);

    let past = |second| jiff::Timestamp::from_second(second).unwrap();
    let expired = Validity { not_before: past(1_000_000), not_after: past(2_000_000) };
    let error = server.call(Some(server.ca.issue_admin(expired).unwrap())).await.unwrap_err();
    assert!(error.contains("CertificateExpired"), "{error}");
    assert_eq!(server.metrics.handshakes("test", "expired"), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_optional_certificate_may_be_absent_but_not_wrong() {
    let server = Harness::start(ClientAuth::Optional).await;
    assert_eq!(server.call(None).await.as_deref(), Ok("nobody"));
    let agent = forged(&server.ca, &["agent-a1"]);
    assert_eq!(server.call(Some(agent)).await.as_deref(), Ok("\"agent-a1\" (this cluster's CA)"));
    server.call(Some(ca("cluster-b").issue_remote(soon()).unwrap())).await.unwrap_err();
    assert_eq!(server.metrics.handshakes("test", "anonymous"), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_peers_certificate_that_says_admin_of_this_cluster_or_remote_of_another_is_refused() {
    let server = Harness::start(ClientAuth::Optional).await;
    let b = ca("cluster-b");
    server.authorities.set_peer(&cluster("cluster-b"), b.bundle()).unwrap();
    server.authorities.set_peer(&cluster("cluster-c"), ca("cluster-c").bundle()).unwrap();
    for (refusals, claim) in ["admin-cluster-a", "remote-cluster-c"].into_iter().enumerate() {
        let error = server.call(Some(forged(&b, &[claim]))).await.unwrap_err();
        assert!(error.contains("AccessDenied") && error.contains("does not let it vouch for the name"), "{error}");
        assert_eq!(server.metrics.handshakes("test", "peer_overreach"), refusals as u64 + 1);
    }
    let remote = server.call(Some(b.issue_remote(soon()).unwrap())).await;
    assert_eq!(remote.as_deref(), Ok("\"remote-cluster-b\" (the CA of cluster-b)"));
    server.stop().await;
}

#[tokio::test]
async fn peers_are_added_and_cut_while_the_server_runs() {
    let server = Harness::start(ClientAuth::Required).await;
    let (b, name) = (ca("cluster-b"), cluster("cluster-b"));
    let leaf = b.issue_remote(soon()).unwrap();
    server.call(Some(leaf.clone())).await.unwrap_err();

    server.authorities.set_peer(&name, b.bundle()).unwrap();
    let (peer, admin) = (server.channel(Some(leaf)), server.channel(Some(server.ca.issue_admin(soon()).unwrap())));
    call(&peer).await.unwrap();
    call(&admin).await.unwrap();
    let listed: BTreeSet<_> =
        server.connections.list().into_iter().filter_map(|open| open.principal).map(|p| p.name).collect();
    assert_eq!(listed, ["admin-cluster-a".to_owned(), "remote-cluster-b".to_owned()].into());

    assert!(server.authorities.remove_peer(&name));
    assert_eq!(server.connections.disconnect(&name), 1);
    until("the peer's connection is gone, the admin's stays", || server.connections.len() == 1).await;
    call(&peer).await.unwrap_err();
    call(&admin).await.unwrap();
    assert_eq!(server.metrics.handshakes("test", "accepted"), 2);
    server.stop().await;
}

#[tokio::test]
async fn silent_clients_hold_nobody_up_and_are_closed() {
    let server = Harness::start_with(ClientAuth::Required, |options| Options {
        handshake_timeout: Duration::from_millis(300),
        ..options
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.call(Some(server.ca.issue_admin(soon()).unwrap())).await.unwrap();
    until("all silent ones are closed", || server.metrics.handshakes("test", "timeout") == 10).await;
    server.stop().await;
}

#[tokio::test]
async fn handshakes_beyond_the_limit_wait_and_connections_beyond_it_are_closed() {
    let server = Harness::start_with(ClientAuth::Required, |options| Options {
        handshake_timeout: Duration::from_millis(200),
        max_handshakes: 1,
        max_connections: 1,
        ..options
    })
    .await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let admin = server.channel(Some(server.ca.issue_admin(soon()).unwrap()));
    call(&admin).await.unwrap();
    server.call(Some(server.ca.issue_admin(soon()).unwrap())).await.unwrap_err();
    assert_eq!(server.metrics.handshakes("test", "overload"), 1);
    call(&admin).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_replaced_server_leaf_counts_from_the_next_connection_on() {
    let server = Harness::start(ClientAuth::Optional).await;
    let (old, names) = (server.channel(None), ServerNames { dns: vec!["new.example".into()], ips: Vec::new() });
    call(&old).await.unwrap();
    let expecting_new = ClientTls::new(&Trust::Bundle(server.ca.bundle()), None, "new.example").unwrap();
    let new = || channel(&[server.address.to_string()], &expecting_new, &ChannelOptions::default());
    let error = call(&new()).await.unwrap_err();
    assert!(error.contains("expected as new.example"), "{error}");
    server.leaf.replace(server.ca.issue_server(&names, soon()).unwrap());
    call(&new()).await.unwrap();
    call(&old).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_pinned_hash_is_enough_to_verify_a_server_and_another_hash_refuses_it() {
    let server = Harness::start(ClientAuth::Optional).await;
    let pinned = |bundle: &TrustBundle, name: &str| {
        let tls = ClientTls::new(&Trust::Pinned(bundle.hashes()[0]), None, name).unwrap();
        channel(&[server.address.to_string()], &tls, &ChannelOptions::default())
    };
    assert_eq!(call(&pinned(&server.ca.bundle(), "cluster-a.mesh.isthmus.io")).await.as_deref(), Ok("nobody"));
    let error = call(&pinned(&ca("cluster-a").bundle(), "localhost")).await.unwrap_err();
    assert!(error.contains("does not have the CA that the token names"), "{error}");
    let error = call(&pinned(&server.ca.bundle(), "cluster-b.mesh.isthmus.io")).await.unwrap_err();
    assert!(error.contains("is for other names"), "{error}");

    // A stranger who sends the pinned CA along with a leaf of another CA proves nothing.
    let stranger = ca("cluster-a").issue_server(&ServerNames::default(), soon()).unwrap();
    let mut mixed = chain(&stranger);
    mixed[1] = chain(&server.leaf.get())[1].clone();
    server.leaf.replace(Leaf::from_der(mixed, stranger.key().clone(), "a stranger").unwrap());
    let error = call(&pinned(&server.ca.bundle(), "localhost")).await.unwrap_err();
    assert!(error.contains("not signed by the CA"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_and_the_next_address_is_tried() {
    let (wrong, right) = (Harness::start(ClientAuth::Optional).await, Harness::start(ClientAuth::Optional).await);
    let error =
        call(&channel(&[wrong.address.to_string()], &right.tls(None), &ChannelOptions::default())).await.unwrap_err();
    assert!(
        error.contains(&format!("no TLS with {}", wrong.address)) && error.contains("not signed by the CA"),
        "{error}"
    );
    let both = [wrong.address.to_string(), right.address.to_string()];
    call(&channel(&both, &right.tls(None), &ChannelOptions::default())).await.unwrap();
    let error = call(&channel(&[], &right.tls(None), &ChannelOptions::default())).await.unwrap_err();
    assert!(error.contains("no address to connect to"), "{error}");
    wrong.stop().await;
    right.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_server_cut_goes_on_at_the_next_address() {
    let first = Harness::start(ClientAuth::Optional).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [first.address.to_string(), dead.to_string()];
    let options = ChannelOptions { connect_timeout: Duration::from_millis(500), ..ChannelOptions::default() };
    let channel = channel(&addresses, &first.tls(None), &options);
    call(&channel).await.unwrap();
    assert_eq!(first.connections.cut_where(|_| true), 1);
    // Nobody listens at the second address, so a call comes back to the first one by way of it; the one that meets the cut
    // connection fails.
    let back = async { while call(&channel).await.is_err() {} };
    tokio::time::timeout(DEADLINE, back).await.expect("the first address answers again");
    assert_eq!(first.connections.len(), 1);
    first.stop().await;
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_http2_is_agreed() {
    let server = Harness::start(ClientAuth::Optional).await;
    let tls = server.tls(None);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let stream = TlsConnector::from(tls.config()).connect(tls.server_name().clone(), stream).await.unwrap();
    let session = stream.get_ref().1;
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_new_ca_is_taken_by_open_clients_and_servers_and_the_old_ones_connections_are_cut_alone() {
    let harness = Harness::start(ClientAuth::Required).await;
    let next = harness.ca.successor().unwrap();
    let both = harness.ca.bundle().merge(&next.bundle()).unwrap();
    let trust = LiveBundle::new(harness.ca.bundle()).unwrap();
    let leaf = LiveLeaf::new(harness.ca.issue_admin(soon()).unwrap());
    let tls = ClientTls::new(&Trust::Live(Arc::clone(&trust)), Some(&leaf), "localhost").unwrap();
    let open = || channel(&[harness.address.to_string()], &tls, &ChannelOptions::default());
    let first = open();
    call(&first).await.unwrap();

    harness.authorities.set_own(both.clone()).unwrap();
    assert!(trust.replace(both.clone()).unwrap() && !trust.replace(both).unwrap());
    assert_eq!(harness.connections.cut_untrusted(&harness.authorities), 0, "an addition cuts nobody");
    harness.leaf.replace(next.issue_server(&ServerNames::default(), soon()).unwrap());
    leaf.replace(next.issue_admin(soon()).unwrap());
    let second = open();
    call(&second).await.unwrap();
    assert_eq!(harness.connections.len(), 2);

    harness.authorities.set_own(next.bundle()).unwrap();
    trust.replace(next.bundle()).unwrap();
    assert_eq!(harness.connections.cut_untrusted(&harness.authorities), 1, "the one of the old leaf");
    call(&second).await.unwrap();
    call(&open()).await.unwrap();
    assert!(harness.call(Some(harness.ca.issue_admin(soon()).unwrap())).await.is_err());
    harness.stop().await;
}
