//! A real etcd client against the gRPC services, over plain TCP on loopback.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

#[path = "etcd_api/plain.rs"]
mod plain;
#[path = "etcd_api/turns.rs"]
mod turns;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, Error, EventType, GetOptions, LeaseTimeToLiveOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use mesh_store::etcd::{Access, Authorizer, Denied, EtcdOptions, Gate, Grants, routes, server};
use mesh_store::mvcc::{KeyRange, PutRequest, Quota};
use mesh_store::{Embedded, Metrics, Options, Store};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;

const DEADLINE: Duration = Duration::from_secs(30);

struct Served {
    store: Arc<Embedded>,
    metrics: Metrics,
    stops: Vec<oneshot::Sender<()>>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        Self::start_with(Quota::DEFAULT).await
    }

    async fn start_with(quota: Quota) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::detached();
        let options = Options { segment_bytes: 1 << 20, quota, ..Options::new(dir.path()) };
        let store = Embedded::open(options, metrics.clone()).await.unwrap();
        Self { store, metrics, stops: Vec::new(), _dir: dir }
    }

    async fn listen(&mut self, gate: Gate) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store: Arc<dyn Store> = Arc::<Embedded>::clone(&self.store);
        let routes = routes(store, gate, self.metrics.clone(), EtcdOptions::default());
        let (stop, stopped) = oneshot::channel::<()>();
        self.stops.push(stop);
        tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let stopped = async { drop(stopped.await) };
            server().add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
        });
        address
    }

    async fn client(&mut self) -> Client {
        let address = self.listen(Gate::open("admin-a")).await;
        connect(address).await
    }
}

async fn connect(address: SocketAddr) -> Client {
    Client::connect([format!("http://{address}")], None).await.unwrap()
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    tokio::time::timeout(DEADLINE, stream.message()).await.expect("an answer in time").unwrap().expect("more")
}

fn status(error: Error) -> (tonic::Code, String) {
    let Error::GRpcStatus(status) = error else { panic!("{error}") };
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_in_byte_order_and_add_up() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    for n in (0..600).rev() {
        client.put(format!("cilium/state/ip/{n:04}"), "x", None).await.unwrap();
    }
    let mut keys = Vec::new();
    let mut from = b"cilium/state/ip/".to_vec();
    let mut revision = 0;
    let mut sizes = Vec::new();
    loop {
        let options = GetOptions::new().with_range("cilium/state/ip0").with_limit(256).with_revision(revision);
        let page = client.get(from.clone(), Some(options)).await.unwrap();
        let header = page.header().unwrap();
        assert_eq!(header.cluster_id(), served.store.cluster_id());
        assert_eq!(usize::try_from(page.count()).unwrap(), 600 - keys.len());
        revision = header.revision();
        sizes.push(page.kvs().len());
        keys.extend(page.kvs().iter().map(|kv| kv.key().to_vec()));
        if !page.more() {
            break;
        }
        from = [keys.last().unwrap(), &b"\0"[..]].concat();
    }
    assert_eq!(sizes, [256, 256, 88]);
    assert!(keys.is_sorted() && keys.len() == 600);
    let by_age = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1);
    let newest = client.get("cilium/", Some(by_age)).await.unwrap();
    assert_eq!(newest.kvs()[0].key(), b"cilium/state/ip/0000");
    assert_eq!(served.metrics.range_total("admin-a"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_compares_and_takes_one_branch() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let create_only = |value: &str| {
        Txn::new()
            .when([Compare::version("k", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("k", value, Some(PutOptions::new().with_prev_key()))])
            .or_else([TxnOp::get("k", None)])
    };
    assert!(client.txn(create_only("1")).await.unwrap().succeeded());
    let second = client.txn(create_only("2")).await.unwrap();
    assert!(!second.succeeded());
    let responses = second.op_responses();
    let TxnOpResponse::Get(get) = &responses[0] else { panic!() };
    assert_eq!(get.kvs()[0].value(), b"1");
    let twice = Txn::new().and_then([TxnOp::put("a", "", None), TxnOp::put("a", "", None)]);
    let (code, text) = status(client.txn(twice).await.unwrap_err());
    assert_eq!(code, tonic::Code::InvalidArgument);
    assert_eq!(text, "etcdserver: duplicate key given in txn request");
    let many = Txn::new().and_then((0..129).map(|n| TxnOp::put(n.to_string(), "", None)).collect::<Vec<_>>());
    let (_, text) = status(client.txn(many).await.unwrap_err());
    assert_eq!(text, "etcdserver: too many operations in txn request");
    let (code, text) = status(client.put("large", vec![0; 1_600_000], None).await.unwrap_err());
    assert_eq!((code, &text[..]), (tonic::Code::InvalidArgument, "etcdserver: request is too large"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_from_a_past_revision_without_a_gap() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    for value in ["1", "2", "3"] {
        client.put("w/a", value, None).await.unwrap();
    }
    client.put("elsewhere", "", None).await.unwrap();
    let options = WatchOptions::new().with_prefix().with_start_revision(3).with_prev_key();
    let mut stream = client.watch("w/", Some(options)).await.unwrap();
    let mut seen = Vec::new();
    client.delete("w/a", None).await.unwrap();
    while seen.len() < 3 {
        let response = next(&mut stream).await;
        let shown = response.header().unwrap().revision();
        assert!(response.events().iter().all(|event| event.kv().unwrap().mod_revision() <= shown));
        for event in response.events() {
            let value = event.kv().unwrap().value_str().unwrap().to_owned();
            let previous = event.prev_kv().map(|kv| kv.value_str().unwrap().to_owned());
            seen.push((event.event_type(), value, previous));
        }
    }
    let text = |text: &str| text.to_owned();
    assert_eq!(
        seen,
        [
            (EventType::Put, text("2"), Some(text("1"))),
            (EventType::Put, text("3"), Some(text("2"))),
            (EventType::Delete, text(""), Some(text("3"))),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_below_the_compaction_is_cancelled_with_the_revision_to_start_from() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    for value in ["1", "2", "3", "4"] {
        client.put("w", value, None).await.unwrap();
    }
    client.compact(4, None).await.unwrap();
    let mut stream = client.watch("w", Some(WatchOptions::new().with_start_revision(2))).await.unwrap();
    let mut response = next(&mut stream).await;
    if response.created() && !response.canceled() {
        response = next(&mut stream).await;
    }
    assert!(response.canceled());
    assert_eq!(response.compact_revision(), 4);
    assert_eq!(response.header().unwrap().cluster_id(), served.store.cluster_id());
    assert_eq!(response.cancel_reason(), "", "the revision is the reason, as in etcd");
    let old = client.get("w", Some(GetOptions::new().with_revision(2))).await;
    assert_eq!(status(old.unwrap_err()).0, tonic::Code::OutOfRange);
    assert!(client.get("w", Some(GetOptions::new().with_revision(4))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watches_share_a_stream_and_are_created_in_the_order_asked_for() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let mut stream = client.watch("w/0", Some(WatchOptions::new().with_watch_id(100))).await.unwrap();
    for n in 1..50 {
        stream.watch(format!("w/{n}"), Some(WatchOptions::new().with_watch_id(100 + n))).await.unwrap();
    }
    let mut created = Vec::new();
    while created.len() < 50 {
        let response = next(&mut stream).await;
        assert!(response.created());
        created.push(response.watch_id());
    }
    assert_eq!(created, (100..150).collect::<Vec<_>>());

    let revision = client.put("w/17", "x", None).await.unwrap().header().unwrap().revision();
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (117, 1));
    stream.cancel(117).await.unwrap();
    stream.cancel(117).await.unwrap();
    let response = next(&mut stream).await;
    assert!(response.canceled() && response.watch_id() == 117);
    client.put("w/17", "nobody looks", None).await.unwrap();
    stream.request_progress().await.unwrap();
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (-1, 0));
    assert_eq!(response.header().unwrap().revision(), revision + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_granted_kept_listed_and_revoked() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let lease = client.lease_grant(60, None).await.unwrap();
    client.put("leased", "x", Some(PutOptions::new().with_lease(lease.id()))).await.unwrap();
    let (mut keeper, mut beats) = client.lease_keep_alive(lease.id()).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(beats.message().await.unwrap().unwrap().ttl(), 60);
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease.id(), Some(options)).await.unwrap();
    assert_eq!(left.keys(), [b"leased"]);
    assert!(left.ttl() <= 60 && left.granted_ttl() == 60);
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease.id());
    client.lease_revoke(lease.id()).await.unwrap();
    assert_eq!(client.get("leased", None).await.unwrap().count(), 0);
    let dead = client.put("leased", "x", Some(PutOptions::new().with_lease(lease.id()))).await;
    assert_eq!(status(dead.unwrap_err()), (tonic::Code::NotFound, "etcdserver: requested lease not found".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_members_are_what_clients_look_for() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let status = client.status().await.unwrap();
    assert_eq!(status.version(), "3.6.0");
    assert_eq!(status.leader(), status.header().unwrap().member_id());
    assert!(status.db_size() > 0);
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members()[0].id(), status.leader());
    client.defragment().await.unwrap();
    let (code, text) = self::status(client.hash().await.unwrap_err());
    assert_eq!(code, tonic::Code::Unimplemented);
    assert!(text.contains("HashKV hashes what is in the store"), "{text}");
    let Err(refused) = client.kv_client().get_stream("a", None).await else { panic!("RangeStream is served") };
    let (code, text) = self::status(refused);
    assert_eq!(code, tonic::Code::Unimplemented);
    assert!(text.contains("a Range with a limit gives the same keys"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_puts_until_room_is_made_and_the_alarm_disarmed() {
    let mut served = Served::start_with(Quota { bytes: 64 << 10 }).await;
    let mut client = served.client().await;
    let full = (tonic::Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded".to_owned());
    let refused = loop {
        if let Err(error) = client.put("filler", vec![7; 4096], None).await {
            break error;
        }
    };
    assert_eq!(status(refused), full);
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    let [raised] = alarms.alarms() else { panic!("{alarms:?}") };
    assert_eq!((raised.alarm(), raised.member_id()), (AlarmType::Nospace, served.store.identity().member_id));
    let told = client.status().await.unwrap();
    assert_eq!(told.db_size_quota(), 64 << 10);
    assert_eq!(told.errors(), [format!("memberID:{} alarm:NOSPACE ", raised.member_id())]);
    assert_eq!(status(client.put("small", "", None).await.unwrap_err()), full, "also what would fit");
    assert_eq!(status(client.lease_grant(60, None).await.unwrap_err()), full);
    assert_eq!(client.get("filler", None).await.unwrap().count(), 1);

    // The way back: delete, compact, disarm.
    let revision = client.delete("filler", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
    let mut options = etcd_client::AlarmOptions::new();
    options.with_member(raised.member_id());
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await.unwrap();
    client.put("small", "", None).await.unwrap();
    assert!(client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap().alarms().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hash_of_the_history_is_etcds() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), 1_084_519_789, "an empty etcd 3.6.16");
    client.put("a", "1", None).await.unwrap();
    let before = client.hash_kv(0).await.unwrap();
    client.put("a", "2", None).await.unwrap();
    let again = client.hash_kv(2).await.unwrap();
    assert_eq!((again.hash(), again.compact_version()), (before.hash(), -1));
    assert_eq!(status(client.hash_kv(4).await.unwrap_err()).0, tonic::Code::OutOfRange);
}

#[derive(Clone)]
struct Remote;

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remote-b")
    }
}

struct RemoteRole(Grants);

impl Authorizer<Remote> for RemoteRole {
    fn check(&self, _: &Remote, access: Access<'_>) -> Result<(), Denied> {
        self.0.check(access)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_gets_what_it_was_granted_and_nothing_else() {
    let mut served = Served::start().await;
    served.store.put(PutRequest::new("cilium/state/ip/1", "x")).await.unwrap();
    let grants = Grants { read: vec![KeyRange::prefix("cilium/state/")], write: vec![] };
    let address = served.listen(Gate::new(RemoteRole(grants), |_| Some(Remote))).await;
    let mut client = connect(address).await;
    let denied = (tonic::Code::PermissionDenied, "etcdserver: permission denied".to_owned());
    let prefix = || Some(GetOptions::new().with_prefix());
    assert_eq!(client.get("cilium/state/", prefix()).await.unwrap().count(), 1);
    assert_eq!(status(client.get("cilium/", prefix()).await.unwrap_err()), denied);
    assert_eq!(status(client.get("isthmus/v1/tokens/x", None).await.unwrap_err()), denied);
    assert_eq!(status(client.put("cilium/state/ip/1", "y", None).await.unwrap_err()), denied);
    assert_eq!(status(client.delete("cilium/state/ip/1", None).await.unwrap_err()), denied);
    assert_eq!(status(client.compact(1, None).await.unwrap_err()), denied);
    assert_eq!(status(client.lease_grant(10, None).await.unwrap_err()), denied);
    assert_eq!(status(client.leases().await.unwrap_err()), denied);
    let hidden_in_txn = Txn::new().and_then([TxnOp::get("cilium/state/ip/1", None), TxnOp::get("isthmus/", None)]);
    assert_eq!(status(client.txn(hidden_in_txn).await.unwrap_err()), denied);
    let compare = Txn::new().when([Compare::value("isthmus/secret", CompareOp::Greater, "a")]);
    assert_eq!(status(client.txn(compare).await.unwrap_err()), denied);
    let mut stream = client.watch("cilium/state/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    assert!(!next(&mut stream).await.canceled());
    stream.watch("cilium/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.canceled());
    assert_eq!(refused.cancel_reason(), "etcdserver: permission denied");
    assert_eq!(served.metrics.range_total("remote-b"), 3);

    let address = served.listen(Gate::new(RemoteRole(Grants::all()), |_| None::<Remote>)).await;
    let nobody = connect(address).await.get("a", None).await;
    assert_eq!(status(nobody.unwrap_err()).1, "etcdserver: user name is empty");
}
