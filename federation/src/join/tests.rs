use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::token::{Bearer, Token};
use certs::{
    Authorities, ClientAuth, Connections, LiveLeaf, RootCa, ServerNames, ServerTls, TlsIncoming, TlsMetrics, Validity,
};
use mesh_proto::v1;
use mesh_proto::v1::join_server::{Join, JoinServer};
use mesh_runtime::{Cause, ErrorChain, OnExit, Shutdown, TaskSet, clock};
use mesh_store::{Embedded, Store};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout, NodeName};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::peer::examples::declaration;
use crate::peer::{self, PeerRecord};

const NOW: u64 = 1_800_000_000;
const NANOS: u64 = 1_000_000_000;

#[test]
fn clusters_that_cannot_be_in_one_mesh_are_told_why() {
    let (a, b, c) = (declaration("cluster-a", 1), declaration("cluster-b", 2), declaration("cluster-c", 3));
    let claims = |said: &Declaration| Claims::from(said);
    let with = |change: fn(&mut Declaration)| {
        let mut other = b.clone();
        change(&mut other);
        claims(&other)
    };
    assert_eq!(check_claims(&claims(&a), &claims(&b), &[claims(&c)]), Ok(()));
    assert_eq!(check_claims(&claims(&a), &claims(&b), &[claims(&b), claims(&c)]), Ok(()), "joined already");
    let rebuilt = with(|b| b.uuid = Uuid::from_u128(22));
    let table = [
        (with(|b| b.uuid = Uuid::from_u128(1)), "cluster-a and cluster-b are the same cluster"),
        (with(|b| b.name = ClusterName::new("cluster-a").unwrap()), "two clusters are named cluster-a"),
        (with(|b| b.id = ClusterId::new(1).unwrap()), "cluster-a and cluster-b both have cluster id 1"),
        (with(|b| b.id = ClusterId::new(3).unwrap()), "cluster-c and cluster-b both have cluster id 3"),
        (
            with(|b| b.pod_prefixes = vec!["10.1.2.0/24".parse().unwrap()]),
            "pod prefix 10.1.0.0/16 of cluster-a overlaps pod prefix 10.1.2.0/24 of cluster-b",
        ),
        (
            with(|b| b.service_prefixes = vec!["10.0.0.0/8".parse().unwrap()]),
            "pod prefix 10.1.0.0/16 of cluster-a overlaps service prefix 10.0.0.0/8 of cluster-b",
        ),
        (
            with(|b| b.node_prefixes = vec!["172.30.3.0/25".parse().unwrap()]),
            "node prefix 172.30.3.0/24 of cluster-c overlaps node prefix 172.30.3.0/25 of cluster-b",
        ),
        (with(|b| b.encryption = Encryption::None), "cluster-a encrypts with wireguard and cluster-b with none"),
        (
            with(|b| b.layout = IdentityLayout::Clusters511),
            "cluster-a is set for at most 255 clusters and cluster-b for 511",
        ),
        (
            with(|b| b.pod_prefixes.push("fd00::/64".parse().unwrap())),
            "pod prefix fd00::/64 of cluster-b is IPv6, which this version does not carry: cluster-a cannot join it",
        ),
        (with(|b| b.node_prefixes.clear()), "cluster-b declares no node prefix, so cluster-a could accept nothing"),
    ];
    for (other, want) in table {
        let text = check_claims(&claims(&a), &other, &[claims(&c)]).unwrap_err().to_string();
        assert!(text.starts_with(want), "{text}");
    }
    let text = check_claims(&claims(&a), &rebuilt, &[claims(&b)]).unwrap_err().to_string();
    assert!(text.starts_with("two clusters are named cluster-b") && text.contains("disconnect the old one"), "{text}");
}

fn altered(token: &Token, change: impl FnOnce(&mut Token)) -> Token {
    let mut token = token.clone();
    change(&mut token);
    token
}

struct Cluster {
    own: Declaration,
    ca: RootCa,
    store: Arc<dyn Store>,
    _dir: TempDir,
}

impl Cluster {
    async fn start(name: &str, n: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Embedded::open(mesh_store::Options::new(dir.path()), mesh_store::Metrics::detached()).await.unwrap();
        let ca = RootCa::generate(&ClusterName::new(name).unwrap()).unwrap();
        let own = Declaration { trust_bundle_pem: ca.bundle().pem(), ..declaration(name, n) };
        Self { own, ca, store, _dir: dir }
    }

    /// A token that the store knows.
    async fn token_for(&self, bearer: &Declaration, endpoints: Vec<String>, expires: u64) -> Token {
        let bearer = Bearer::Cluster { name: bearer.name.clone(), id: bearer.id };
        let ca = self.ca.bundle().hashes()[0];
        let token = Token::issue((&self.own).into(), ca, endpoints, bearer, expires).unwrap();
        Tokens::new(Arc::clone(&self.store)).create(&token, NOW).await.unwrap();
        token
    }

    async fn accept(&self, text: &str, caller: &Declaration, now: u64) -> Result<Declaration, AcceptError> {
        let request = v1::JoinRequest { token: text.to_owned(), cluster: Some(caller.into()) };
        let answer = accept_join(&self.store, &self.own, request, now * NANOS).await?;
        Ok(answer.cluster.unwrap().try_into().unwrap())
    }
}

#[tokio::test]
async fn a_token_is_good_for_one_cluster_once_and_until_it_expires() {
    let (a, b) = (Cluster::start("cluster-a", 1).await, Cluster::start("cluster-b", 2).await);
    let token = b.token_for(&a.own, vec![], NOW + 60).await;
    let text = token.text();

    let refused = |error: AcceptError| match error {
        AcceptError::Token(error) => error,
        other => panic!("{}", ErrorChain(&other)),
    };
    let late = refused(b.accept(&text, &a.own, NOW + 61).await.unwrap_err());
    assert!(matches!(late, tokens::Error::Expired { ago: 1, .. }), "{late}");
    let longer = altered(&token, |t| t.expires_unix_seconds = NOW + 6000).text();
    let tampered = refused(b.accept(&longer, &a.own, NOW).await.unwrap_err());
    assert!(matches!(tampered, tokens::Error::Tampered { .. }), "{tampered}");
    let other = declaration("cluster-c", 3);
    let other = Declaration { trust_bundle_pem: RootCa::generate(&other.name).unwrap().bundle().pem(), ..other };
    let wrong = refused(b.accept(&text, &other, NOW).await.unwrap_err());
    assert_eq!(
        wrong.to_string(),
        format!(
            "token {} is for cluster cluster-a (id 1), not for cluster cluster-c (id 3): make one for cluster cluster-c (id 3)",
            token.id
        )
    );
    let elsewhere = refused(a.accept(&text, &b.own, NOW).await.unwrap_err());
    assert!(matches!(elsewhere, tokens::Error::WrongIssuer { .. }), "{elsewhere}");
    assert!(peer::list(&*b.store).await.unwrap().is_empty(), "nothing changed");

    assert_eq!(b.accept(&text, &a.own, NOW).await.unwrap(), b.own);
    let joined = peer::list(&*b.store).await.unwrap();
    assert_eq!(joined, [PeerRecord::isthmus(a.own.clone(), NOW * NANOS)]);
    let revision = b.store.revision();
    assert_eq!(b.accept(&text, &a.own, NOW + 59).await.unwrap(), b.own, "the same again");
    assert_eq!(peer::list(&*b.store).await.unwrap(), joined);
    assert_eq!(b.store.revision(), revision, "repeating changes nothing");

    let again = RootCa::generate(&a.own.name).unwrap();
    let thief = Declaration { trust_bundle_pem: again.bundle().pem(), ..a.own.clone() };
    let used = refused(b.accept(&text, &thief, NOW).await.unwrap_err());
    assert!(matches!(used, tokens::Error::Used { .. }), "{used}");
    assert_eq!(peer::list(&*b.store).await.unwrap(), joined);

    let unknown = a.token_for(&b.own, vec![], NOW + 60).await;
    let unknown = altered(&unknown, |t| t.issuer = (&b.own).into());
    let unknown = refused(b.accept(&unknown.text(), &a.own, NOW).await.unwrap_err());
    assert!(matches!(unknown, tokens::Error::Unknown { .. }), "{unknown}");
    let known = Tokens::new(Arc::clone(&b.store)).list().await.unwrap();
    assert_eq!(known.len(), 1);
    assert!(known[0].redeemed_by.is_some() && !format!("{known:?}").contains(&*text));
}

#[tokio::test]
async fn a_node_token_does_not_join_clusters_and_the_other_way_round() {
    let b = Cluster::start("cluster-b", 2).await;
    let tokens = Tokens::new(Arc::clone(&b.store));
    let node = Bearer::Node(NodeName("b1".into()));
    let token = Token::issue((&b.own).into(), b.ca.bundle().hashes()[0], vec![], node.clone(), NOW + 60).unwrap();
    tokens.create(&token, NOW).await.unwrap();
    let text = token.text();
    let redeem = |caller: Bearer, redeemer: &'static str| Redemption {
        text: &text,
        issuer: b.own.uuid,
        caller,
        redeemer,
        now_unix_seconds: NOW,
        also: vec![],
    };
    let cluster = Bearer::Cluster { name: b.own.name.clone(), id: b.own.id };
    assert!(matches!(tokens.redeem(redeem(cluster, "k")).await, Err(tokens::Error::WrongKind { .. })));
    let b2 = Bearer::Node(NodeName("b2".into()));
    assert!(matches!(tokens.redeem(redeem(b2, "k")).await, Err(tokens::Error::WrongBearer { .. })));
    assert_eq!(tokens.redeem(redeem(node.clone(), "k")).await.unwrap(), Redeemed::First);
    assert_eq!(tokens.redeem(redeem(node.clone(), "k")).await.unwrap(), Redeemed::Again);
    assert!(matches!(tokens.redeem(redeem(node, "other")).await, Err(tokens::Error::Used { .. })));
}

/// b's `Join`, as the API server serves it.
struct Server(Arc<Cluster>);

#[tonic::async_trait]
impl Join for Server {
    async fn join(&self, request: tonic::Request<v1::JoinRequest>) -> tonic::Result<tonic::Response<v1::JoinResponse>> {
        let answer = accept_join(&self.0.store, &self.0.own, request.into_inner(), clock::unix_nanos()).await;
        answer.map(tonic::Response::new).map_err(|e| tonic::Status::failed_precondition(ErrorChain(&e).to_string()))
    }

    async fn enroll(&self, _: tonic::Request<v1::EnrollRequest>) -> tonic::Result<tonic::Response<v1::EnrollResponse>> {
        Err(tonic::Status::unimplemented("not of this test"))
    }
}

async fn serve(cluster: Arc<Cluster>) -> (SocketAddr, TaskSet) {
    let leaf = LiveLeaf::new(cluster.ca.issue_server(&ServerNames::default(), hour()).unwrap());
    let authorities = Authorities::new(cluster.own.name.clone(), cluster.ca.bundle()).unwrap();
    let tls = ServerTls::new(leaf, authorities, ClientAuth::Optional);
    let options = certs::incoming::Options::new("join", Connections::new(), TlsMetrics::default());
    let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await.unwrap();
    let address = incoming.local_addr().unwrap();
    let tasks = TaskSet::new(Shutdown::new());
    let stop = tasks.shutdown().requested_owned();
    tasks.spawn("join server", OnExit::Shutdown, async move {
        let service = JoinServer::new(Server(cluster));
        tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stop).await
    });
    (address, tasks)
}

fn hour() -> Validity {
    Validity::lasting(Duration::from_hours(1))
}

#[tokio::test]
async fn both_sides_are_joined_by_one_call_and_repeating_it_changes_nothing() {
    let (a, b) = (Cluster::start("cluster-a", 1).await, Arc::new(Cluster::start("cluster-b", 2).await));
    let (address, server) = serve(Arc::clone(&b)).await;
    let now = clock::unix_nanos();
    let token = b.token_for(&a.own, vec![address.to_string()], now / NANOS + 600).await;
    let text = token.text();

    let conflicting = Declaration { id: b.own.id, ..a.own.clone() };
    let conflicting_token = altered(&token, |t| t.bearer = Bearer::Cluster { name: a.own.name.clone(), id: b.own.id });
    let error = redeem_and_store(&a.store, &conflicting, &conflicting_token.text(), now).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cluster-a and cluster-b both have cluster id 2: give one of them another id (its workloads have to be restarted)"
    );
    let other_ca = altered(&token, |t| t.ca = a.ca.bundle().hashes()[0]);
    let error = redeem_and_store(&a.store, &a.own, &other_ca.text(), now).await.unwrap_err();
    let error = ErrorChain(&error).to_string();
    assert!(error.contains("the server does not have the CA that the token names"), "{error}");
    let renamed = altered(&token, |t| t.id = "0000000000000000".into());
    let error = redeem_and_store(&a.store, &a.own, &renamed.text(), now).await.unwrap_err();
    assert!(error.to_string().starts_with("cluster-b refused: token 0000000000000000 is unknown here"), "{error}");
    let error = redeem_and_store(&a.store, &a.own, &text, now + 601 * NANOS).await.unwrap_err();
    assert!(matches!(error, RedeemError::Expired { .. }), "{error}");
    assert!(peer::list(&*a.store).await.unwrap().is_empty() && peer::list(&*b.store).await.unwrap().is_empty());

    let joined = redeem_and_store(&a.store, &a.own, &text, now).await.unwrap();
    assert_eq!((joined.already, &joined.peer.declaration), (false, &b.own));
    assert_eq!(peer::list(&*a.store).await.unwrap(), std::slice::from_ref(&joined.peer));
    assert_eq!(peer::list(&*b.store).await.unwrap()[0].declaration, a.own);
    let revisions = (a.store.revision(), b.store.revision());
    let repeated = redeem_and_store(&a.store, &a.own, &text, now + 5).await.unwrap();
    assert_eq!(repeated, Joined { already: true, ..joined });
    assert_eq!((a.store.revision(), b.store.revision()), revisions);

    assert!(peer::disconnect(&*a.store, &b.own.name).await.unwrap());
    assert!(!peer::disconnect(&*a.store, &b.own.name).await.unwrap());
    server.shutdown().trigger(Cause::Requested("end of test".into()));
    server.join(Duration::from_secs(5)).await.unwrap();
    let token = b.token_for(&a.own, vec![address.to_string()], now / NANOS + 600).await;
    let error = redeem_and_store(&a.store, &a.own, &token.text(), now).await.unwrap_err();
    assert!(matches!(error, RedeemError::Unreachable { .. }), "{}", ErrorChain(&error));
    assert!(ErrorChain(&error).to_string().contains(&address.to_string()), "{}", ErrorChain(&error));
}
