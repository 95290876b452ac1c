//! Two clusters in one process: a session of cluster-a follows cluster-b over TLS on loopback.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use certs::{LiveLeaf, RootCa, Validity};
use mesh_runtime::{Cause, OnExit, Shutdown, TaskSet, clock};
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::{DeleteRangeRequest, Event, EventKind, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_store::{Embedded, Store};
use mesh_types::{ClusterName, Label, LabelSet, SecurityIdentity};
use source::Source;
use tempfile::TempDir;
use tokio::sync::watch;
use wan::{Condition, Wan};

use crate::contract::{ClusterConfig, ExportClock, IpValue, Layout, Resource, identity, keys};
use crate::health::{Health, Loss};
use crate::liveness::Settings;
use crate::mirror::MirrorRecord;
use crate::outlook::{Outlook, Paths, Sight};
use crate::peer::examples::declaration;
use crate::peer::{self, Declaration, PeerRecord};
use crate::service::{Handle, Options, Service, Tuning};
use crate::state::{Phase, State};

mod config;
mod imports;
mod parting;
mod source;
mod trust;
mod wan;

/// What an Isthmus cluster exports.
const EXPORTED: [Resource; 6] = Resource::ALL;

const DEADLINE: Duration = Duration::from_secs(20);

fn hour() -> Validity {
    Validity::lasting(Duration::from_hours(1))
}

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

/// Polls until `condition` holds; panics with `what` when it does not in time.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn range(store: &dyn Store, prefix: &str) -> BTreeMap<String, Bytes> {
    let found = store.range(RangeRequest::prefix(prefix.to_owned())).await.unwrap();
    found.kvs.into_iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.value)).collect()
}

struct Mesh {
    a: Arc<dyn Store>,
    b: Source,
    ca_a: RootCa,
    ca_b: RootCa,
    wan: Wan,
    federation: Option<(TaskSet, Handle)>,
    settings: Settings,
    disconnect_grace: Duration,
    tuning: watch::Sender<Tuning>,
    outlook: watch::Sender<Outlook>,
    _dir: TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let a: Arc<dyn Store> =
            Embedded::open(mesh_store::Options::new(dir.path()), mesh_store::Metrics::detached()).await.unwrap();
        let (ca_a, ca_b) =
            (RootCa::generate(&name("cluster-a")).unwrap(), RootCa::generate(&name("cluster-b")).unwrap());
        let b = Source::start(&ca_b, &ca_a).await;
        let wan = Wan::to(b.address).await;
        let mut mesh = Self {
            a,
            b,
            ca_a,
            ca_b,
            wan,
            federation: None,
            settings: Settings::default(),
            disconnect_grace: crate::DISCONNECT_GRACE,
            tuning: watch::Sender::new(Tuning {
                liveness: Settings::default(),
                disconnect_grace: crate::DISCONNECT_GRACE,
            }),
            outlook: watch::Sender::default(),
            _dir: dir,
        };
        mesh.start_federation();
        mesh
    }

    fn start_federation(&mut self) {
        let leaf = LiveLeaf::new(self.ca_a.issue_remote(hour()).unwrap());
        self.tuning.send_replace(Tuning { liveness: self.settings, disconnect_grace: self.disconnect_grace });
        let options = Options {
            cluster: name("cluster-a"),
            store: Arc::clone(&self.a),
            leaf,
            tuning: self.tuning.subscribe(),
            metrics: crate::Metrics::default(),
            outlook: self.outlook.subscribe(),
        };
        let (service, handle) = Service::new(options);
        let tasks = TaskSet::new(Shutdown::new());
        tasks.spawn("federation", OnExit::Shutdown, service.run(tasks.shutdown().clone()));
        self.federation = Some((tasks, handle));
    }

    async fn stop_federation(&mut self) {
        let (tasks, _) = self.federation.take().unwrap();
        tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        tasks.join(DEADLINE).await.unwrap();
    }

    async fn stop(mut self) {
        self.stop_federation().await;
        self.b.stop().await;
    }

    fn handle(&self) -> &Handle {
        &self.federation.as_ref().unwrap().1
    }

    fn b_declaration(&self) -> Declaration {
        Declaration {
            trust_bundle_pem: self.ca_b.bundle().pem(),
            etcd_endpoints: vec![self.wan.address.to_string()],
            ..declaration("cluster-b", 2)
        }
    }

    async fn join(&self) {
        let record = PeerRecord { heartbeat_seconds: 1, ..PeerRecord::isthmus(self.b_declaration(), 1) };
        self.a.put(record.to_put()).await.unwrap();
    }

    async fn await_state(&self, state: State) {
        let b = name("cluster-b");
        eventually(state.name(), || async { self.handle().state(&b) == Some(state) }).await;
    }

    /// Cuts the way and waits until the session has noticed.
    async fn cut(&self) {
        self.wan.set(Condition::Cut);
        eventually("connection lost", || async { self.handle().peers()[0].signs.phase == Phase::Connecting }).await;
    }

    async fn mirrored(&self) -> BTreeMap<String, Bytes> {
        range(&*self.a, keys::CACHE).await
    }

    async fn await_key(&self, key: &str, is_there: bool) {
        eventually(key, || async { self.mirrored().await.contains_key(key) == is_there }).await;
    }

    async fn health(&self) -> Option<Health> {
        let found = range(&*self.a, keys::HEALTH).await;
        found.get("isthmus/v1/health/cluster-b").map(|value| Health::decode(value).unwrap())
    }

    /// What the own agents see of cluster-b from now on.
    fn see(&self, paths: impl Fn(Instant) -> Paths) {
        let paths = paths(Instant::now());
        let unreached_by = if paths == Paths::Up { vec![] } else { vec!["a1".to_owned(), "a2".to_owned()] };
        let sight = Sight { paths, since_unix_nanos: clock::unix_nanos(), unreached_by };
        let clusters = [(name("cluster-b"), sight)].into();
        self.outlook.send_replace(Outlook { clusters, ..Outlook::default() });
    }

    async fn record(&self) -> MirrorRecord {
        let found = range(&*self.a, keys::MIRRORS).await;
        MirrorRecord::decode(&found["isthmus/v1/mirror/cluster-b"]).unwrap()
    }
}

fn put(key: String, value: impl Into<Bytes>) -> TxnOp {
    TxnOp::Put(PutRequest::new(key, value))
}

/// An exporting Txn: the facts and the clock. Returns the clock.
async fn export(store: &dyn Store, facts: Vec<TxnOp>) -> u64 {
    let unix_nanos = clock::unix_nanos();
    let mut success = facts;
    success.push(put(keys::EXPORT_CLOCK.to_owned(), ExportClock { unix_nanos }.encode()));
    store.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
    unix_nanos
}

async fn beat(store: &dyn Store) {
    store.put(PutRequest::new(keys::HEARTBEAT, "now")).await.unwrap();
}

fn ip(last: u8) -> TxnOp {
    let address = format!("10.2.1.{last}");
    let value = IpValue { ip: address.clone(), host_ip: "172.30.2.11".into(), id: 131_500, ..IpValue::default() };
    put(format!("cilium/state/ip/v1/default/{address}"), value.encode())
}

fn labels(cluster: &str) -> LabelSet {
    [Label::k8s("app", "cart"), Label::k8s("io.cilium.k8s.policy.cluster", cluster)].into_iter().collect()
}

/// What cluster-b says at first: configuration, one identity, `ips` addresses, canaries.
fn facts(ips: u8) -> Vec<TxnOp> {
    let b = declaration("cluster-b", 2);
    let mut facts = vec![
        put(keys::cluster_config(&b.name), ClusterConfig::own(b.id, b.layout).encode()),
        put(Layout::State.identity(&b.name, SecurityIdentity(131_500)), identity::encode(&labels("cluster-b"))),
    ];
    facts.extend((1..=ips).map(ip));
    facts.extend(EXPORTED.map(|r| put(Layout::State.canary(r, &b.name), "now")));
    facts
}

/// Events of a range from a revision on, up to the present.
async fn events(store: &dyn Store, prefix: &str, from: i64) -> Vec<Event> {
    let now = store.revision();
    let mut watcher = store.watch(WatchRequest::prefix(prefix.to_owned(), from)).await.unwrap();
    watcher.control().ask_progress();
    let mut events = Vec::new();
    while let Some(update) = watcher.next().await {
        match update {
            WatchUpdate::Events(batch) => {
                events.extend(batch.events);
                watcher.control().ask_progress();
                if batch.revision >= now {
                    break;
                }
            }
            WatchUpdate::Progress { revision } if revision >= now => break,
            WatchUpdate::Progress { .. } => watcher.control().ask_progress(),
            WatchUpdate::Compacted { .. } => panic!("compacted"),
        }
    }
    events
}

#[tokio::test]
async fn a_peers_facts_are_mirrored_dated_and_followed_and_hostile_keys_are_left_out() {
    let mesh = Mesh::start().await;
    mesh.join().await;
    // Nothing is read before the configuration and the canaries are there.
    eventually("configuring", || async { mesh.handle().state(&name("cluster-b")) == Some(State::Configuring) }).await;
    export(&*mesh.b.store, facts(3)).await;
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    let mirrored: Vec<String> = mesh.mirrored().await.into_keys().collect();
    assert_eq!(
        mirrored,
        [
            "cilium/cache/identities/v1/cluster-b/id/131500",
            "cilium/cache/ip/v1/cluster-b/10.2.1.1",
            "cilium/cache/ip/v1/cluster-b/10.2.1.2",
            "cilium/cache/ip/v1/cluster-b/10.2.1.3",
        ]
    );
    let config = range(&*mesh.a, keys::CLUSTER_CONFIGS).await;
    let config = ClusterConfig::decode(&config["cilium/cluster-config/cluster-b"]).unwrap();
    assert!(config.capabilities.cached && config.capabilities.synced_canaries && config.id == 2);
    let canaries: Vec<String> = range(&*mesh.a, keys::SYNCED).await.into_keys().collect();
    let mut want = EXPORTED.map(|r| Layout::Cache.canary(r, &name("cluster-b"))).to_vec();
    want.sort();
    assert_eq!(canaries, want);

    // A change and its clock arrive in one Txn, with the hostile keys beside it left out one by one.
    let from = mesh.a.revision() + 1;
    let stolen = IpValue { ip: "10.1.1.9".into(), id: 131_500, ..IpValue::default() };
    let foreign = IpValue { ip: "10.2.1.77".into(), id: 70_000, ..IpValue::default() };
    let facts = vec![
        ip(4),
        put("cilium/state/ip/v1/default/10.1.1.9".into(), stolen.encode()),
        put("cilium/state/ip/v1/default/10.2.1.77".into(), foreign.encode()),
        put("cilium/state/identities/v1/id/70000".into(), identity::encode(&labels("cluster-b"))),
        put("cilium/state/identities/v1/id/131501".into(), identity::encode(&labels("cluster-a"))),
        put("cilium/state/nodes/v1/cluster-b/b1".into(), "{\"Name\":\"b1\",\"Cluster\":\"cluster-a\"}"),
        put("cilium/state/nodes/v1/cluster-a/a1".into(), "{}"),
        TxnOp::DeleteRange(DeleteRangeRequest::key("cilium/state/ip/v1/default/10.2.1.1")),
    ];
    let exported = export(&*mesh.b.store, facts).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.4", true).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.1", false).await;
    eventually("all rejections", || async {
        mesh.handle().status().await[0].resources.iter().map(|r| r.rejected).sum::<u64>() == 5
    })
    .await;
    assert_eq!(mesh.mirrored().await.len(), 4);
    let mirror = mesh.record().await;
    assert_eq!(mirror.clock_unix_nanos, exported);
    assert_eq!(mirror.source_cluster_id, mesh.b.store.cluster_id());
    let changes = events(&*mesh.a, "cilium/cache/ip/", from).await;
    assert_eq!(changes.len(), 2);
    let dated = events(&*mesh.a, keys::MIRRORS, from).await;
    let with_fact = dated.iter().find(|e| e.kv.mod_revision == changes[0].kv.mod_revision).expect("in the same Txn");
    assert_eq!(MirrorRecord::decode(&with_fact.kv.value).unwrap().clock_unix_nanos, exported);

    let status = &mesh.handle().status().await[0];
    assert_eq!((status.state.as_str(), status.reconnects, status.relists), ("Live", 0, 0));
    let texts: Vec<&str> = status.resources.iter().map(|r| r.last_rejection.as_str()).collect();
    assert!(texts[0].contains("cluster cluster-b may not say"), "{texts:?}");
    assert!(texts[1].contains("cluster-a in nodes/b1: own-cluster: it may say cluster-b"), "{texts:?}");
    // A value that becomes hostile takes its former one with it.
    let turned = IpValue { ip: "10.2.1.4".into(), id: 70_000, ..IpValue::default() };
    export(&*mesh.b.store, vec![put("cilium/state/ip/v1/default/10.2.1.4".into(), turned.encode())]).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.4", false).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_cut_session_resumes_by_revision_and_never_lists_again() {
    let mut mesh = Mesh::start().await;
    export(&*mesh.b.store, facts(200)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let (ranges, from) = (mesh.b.ranges(), mesh.a.revision() + 1);
    assert!(ranges >= 8, "the first sync was counted: {ranges}");
    for round in 0..3 {
        mesh.cut().await;
        let gone = DeleteRangeRequest::key(format!("cilium/state/ip/v1/default/10.2.1.{}", 101 + round));
        export(&*mesh.b.store, vec![ip(201 + round), TxnOp::DeleteRange(gone)]).await;
        if round == 1 {
            // The resume point outlives the process.
            mesh.stop_federation().await;
            mesh.start_federation();
        }
        mesh.wan.set(Condition::Up);
        mesh.await_key(&format!("cilium/cache/ip/v1/cluster-b/10.2.1.{}", 201 + round), true).await;
        mesh.await_key(&format!("cilium/cache/ip/v1/cluster-b/10.2.1.{}", 101 + round), false).await;
    }
    assert_eq!(mesh.b.ranges(), ranges + 3, "each connection asks which CAs to trust, and for nothing else");
    assert_eq!(events(&*mesh.a, keys::CACHE, from).await.len(), 6, "three keys came, three went, nothing flapped");
    let status = &mesh.handle().status().await[0];
    assert_eq!(status.relists, 0);
    mesh.stop().await;
}

#[tokio::test]
async fn history_that_is_gone_is_listed_again_without_a_flap() {
    let mesh = Mesh::start().await;
    export(&*mesh.b.store, facts(200)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let from = mesh.a.revision() + 1;
    mesh.cut().await;
    let gone = DeleteRangeRequest::key("cilium/state/ip/v1/default/10.2.1.7");
    export(&*mesh.b.store, vec![ip(210), TxnOp::DeleteRange(gone)]).await;
    // The revision compacted to can still be read, so it must lie beyond the first one missed.
    export(&*mesh.b.store, vec![ip(211)]).await;
    mesh.b.store.compact(mesh.b.store.revision()).await.unwrap();
    mesh.wan.set(Condition::Up);
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.211", true).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.7", false).await;
    mesh.await_state(State::Live).await;
    let changes: Vec<(EventKind, String)> = events(&*mesh.a, keys::CACHE, from)
        .await
        .into_iter()
        .map(|e| (e.kind, String::from_utf8(e.kv.key.to_vec()).unwrap()))
        .collect();
    assert_eq!(
        changes,
        [
            (EventKind::Put, "cilium/cache/ip/v1/cluster-b/10.2.1.210".to_owned()),
            (EventKind::Put, "cilium/cache/ip/v1/cluster-b/10.2.1.211".to_owned()),
            (EventKind::Delete, "cilium/cache/ip/v1/cluster-b/10.2.1.7".to_owned()),
        ]
    );
    assert!(mesh.handle().peers()[0].relists > 0);
    mesh.stop().await;
}

#[tokio::test]
async fn a_peer_with_another_store_is_read_anew_without_a_flap() {
    let mut mesh = Mesh::start().await;
    export(&*mesh.b.store, facts(20)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let from = mesh.a.revision() + 1;
    mesh.cut().await;
    let rebuilt = Source::start(&mesh.ca_b, &mesh.ca_a).await;
    mesh.wan.retarget(rebuilt.address);
    mesh.wan.set(Condition::Up);
    eventually("the new store is seen", || async { mesh.handle().peers()[0].connections >= 2 }).await;
    assert_eq!(mesh.mirrored().await.len(), 21, "kept while the new store says nothing");
    export(&*rebuilt.store, facts(19)).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.20", false).await;
    assert_eq!(events(&*mesh.a, keys::CACHE, from).await.len(), 1);
    eventually("resume point of the new store", || async {
        mesh.record().await.source_cluster_id == rebuilt.store.cluster_id()
    })
    .await;
    std::mem::replace(&mut mesh.b, rebuilt).stop().await;
    mesh.stop().await;
}

#[tokio::test]
async fn other_periods_count_for_a_session_that_runs() {
    let mut mesh = Mesh::start().await;
    mesh.stop_federation().await;
    let hour = Duration::from_hours(1);
    mesh.settings = Settings { stale_after: hour, withdraw_after: hour };
    mesh.start_federation();
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let liveness = Settings { stale_after: Duration::from_millis(500), withdraw_after: Duration::from_millis(1500) };
    mesh.tuning.send_modify(|tuning| tuning.liveness = liveness);
    mesh.wan.set(Condition::Stalled);
    mesh.await_state(State::Withdrawn).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_silent_peer_goes_stale_then_withdrawn_and_comes_back() {
    let mut mesh = Mesh::start().await;
    mesh.stop_federation().await;
    mesh.settings = Settings { stale_after: Duration::from_millis(500), withdraw_after: Duration::from_millis(1500) };
    mesh.start_federation();
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh.wan.set(Condition::Stalled);
    mesh.await_state(State::Stale).await;
    mesh.await_state(State::Withdrawn).await;
    assert_eq!(mesh.mirrored().await.len(), 4, "its facts stay mirrored");
    eventually("remembered", || async { mesh.health().await.is_some_and(|h| h.loss == Some(Loss::Control)) }).await;
    mesh.stop_federation().await;
    mesh.start_federation();
    mesh.await_state(State::Withdrawn).await;
    mesh.wan.set(Condition::Up);
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    eventually("forgotten", || async { mesh.health().await.is_some_and(|h| h.state == State::Live) }).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_cluster_that_neither_answers_nor_is_reached_is_withdrawn_within_three_seconds() {
    let mesh = Mesh::start().await;
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh.see(|_| Paths::Up);
    // Silently, as when a whole site is gone: nobody closes the connection.
    mesh.wan.set(Condition::Stalled);
    let died = Instant::now();
    mesh.see(|since| Paths::Down { since });
    eventually("dead", || async { mesh.health().await.is_some_and(|h| h.loss == Some(Loss::Cluster)) }).await;
    let took = died.elapsed();
    assert!(took <= Duration::from_secs(3), "{took:?}");
    let health = mesh.health().await.unwrap();
    assert!(health.reason.contains("no path to any of its nodes, as a1, a2 see it; no control: "), "{}", health.reason);
    mesh.wan.set(Condition::Up);
    mesh.see(|_| Paths::Up);
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    let status = &mesh.handle().status().await[0];
    assert_eq!(status.paths.as_ref().unwrap().state, "up");
    mesh.stop().await;
}

#[tokio::test]
async fn facts_that_still_arrive_do_not_stand_in_for_the_sources_heartbeat() {
    let mut mesh = Mesh::start().await;
    mesh.stop_federation().await;
    mesh.settings = Settings { stale_after: Duration::from_millis(500), withdraw_after: Duration::from_millis(1500) };
    mesh.start_federation();
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    // The store behind it answers and even changes; nobody in the cluster beats.
    for state in [State::Stale, State::Withdrawn] {
        eventually(state.name(), || async {
            export(&*mesh.b.store, vec![ip(9)]).await;
            mesh.handle().state(&name("cluster-b")) == Some(state)
        })
        .await;
    }
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.9", true).await;
    mesh.stop().await;
}

#[tokio::test]
async fn leaving_removes_the_configuration_first_and_everything_after_it() {
    let mut mesh = Mesh::start().await;
    mesh.restart(Duration::from_millis(1)).await;
    export(&*mesh.b.store, facts(5)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let from = mesh.a.revision() + 1;
    assert!(peer::disconnect(&*mesh.a, &name("cluster-b")).await.unwrap());
    eventually("drained", || async { range(&*mesh.a, keys::MIRRORS).await.is_empty() }).await;
    let order: Vec<String> = events(&*mesh.a, "cilium/", from)
        .await
        .into_iter()
        .filter(|e| e.kind == EventKind::Delete)
        .map(|e| String::from_utf8(e.kv.key.to_vec()).unwrap())
        .collect();
    assert_eq!(order.len(), 13);
    assert_eq!(order[0], "cilium/cluster-config/cluster-b");
    assert!(order[1..7].iter().all(|key| key.starts_with(keys::SYNCED)), "{order:?}");
    assert!(order[7..12].iter().all(|key| key.starts_with("cilium/cache/ip/")), "{order:?}");
    assert!(order[12].starts_with("cilium/cache/identities/"), "{order:?}");
    assert!(mesh.handle().peers().is_empty() && mesh.handle().states().borrow().is_empty());
    // Coming back reads everything again.
    mesh.join().await;
    mesh.await_state(State::Live).await;
    assert_eq!(mesh.mirrored().await.len(), 6);
    mesh.stop().await;
}

#[tokio::test]
async fn a_peer_that_cannot_be_trusted_is_shown_with_the_reason() {
    let mesh = Mesh::start().await;
    let other = RootCa::generate(&name("cluster-b")).unwrap();
    let said = Declaration { trust_bundle_pem: other.bundle().pem(), ..mesh.b_declaration() };
    mesh.a.put(PeerRecord::isthmus(said, 1).to_put()).await.unwrap();
    eventually("the reason", || async {
        let peers = mesh.handle().peers();
        peers.first().is_some_and(|p| p.reason.contains("certificate") && p.standing.state == State::Connecting)
    })
    .await;
    let wrong_id = Declaration { id: mesh_types::ClusterId::new(9).unwrap(), ..mesh.b_declaration() };
    export(&*mesh.b.store, facts(1)).await;
    mesh.a.put(PeerRecord::isthmus(wrong_id, 1).to_put()).await.unwrap();
    eventually("the other reason", || async {
        mesh.handle().peers()[0]
            .reason
            .contains("cluster cluster-b may not say 2 in cluster-config: own-cluster-id: it may say 9")
    })
    .await;
    assert!(mesh.mirrored().await.is_empty());
    mesh.stop().await;
}
