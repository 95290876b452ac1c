//! Parting: the configuration goes first, the facts after the grace, and who is joined again in between keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_store::mvcc::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::source::Source;
use super::{Condition, Mesh, State, beat, events, eventually, export, facts, name, range};
use crate::contract::{Layout, Resource, keys};
use crate::mirror::{self, MirrorRecord};
use crate::peer::PeerRecord;
use crate::peer::examples::declaration;

const CONFIG: &str = "cilium/cluster-config/cluster-b";
const LONG: Duration = Duration::from_hours(1);

impl Mesh {
    /// Two clusters that are joined, with 20 addresses mirrored.
    async fn joined(grace: Duration) -> Self {
        let mut mesh = Self::start().await;
        mesh.restart(grace).await;
        export(&*mesh.b.store, facts(20)).await;
        mesh.join().await;
        mesh.await_state(State::Live).await;
        mesh
    }

    /// The controller goes to another process, so to say.
    pub(super) async fn restart(&mut self, grace: Duration) {
        self.stop_federation().await;
        self.disconnect_grace = grace;
        self.start_federation();
    }

    async fn part(&self) {
        self.a.delete_range(DeleteRangeRequest::key(keys::peer(&name("cluster-b")))).await.unwrap();
    }

    async fn has(&self, key: &str) -> bool {
        range(&*self.a, key).await.contains_key(key)
    }

    async fn await_parted(&self) {
        eventually("its configuration to go", || async { !self.has(CONFIG).await }).await;
    }

    async fn await_nothing_left(&self) {
        eventually("everything to go", || async {
            self.mirrored().await.is_empty() && range(&*self.a, keys::MIRRORS).await.is_empty()
        })
        .await;
        for prefix in [keys::SYNCED, keys::CLUSTER_CONFIGS, keys::HEALTH] {
            assert!(range(&*self.a, prefix).await.is_empty(), "{prefix}");
        }
    }

    /// When each mirrored key was written.
    async fn written(&self) -> BTreeMap<Vec<u8>, i64> {
        let found = self.a.range(RangeRequest::prefix(keys::CACHE)).await.unwrap();
        found.kvs.into_iter().map(|kv| (kv.key.to_vec(), kv.mod_revision)).collect()
    }
}

#[tokio::test]
async fn the_configuration_goes_at_once_the_facts_after_the_grace_and_nobody_else_waits_for_it() {
    let mut mesh = Mesh::joined(LONG).await;
    mesh.part().await;
    mesh.await_parted().await;
    assert_eq!(mesh.mirrored().await.len(), 21, "nothing else has gone");
    assert!(range(&*mesh.a, keys::HEALTH).await.is_empty(), "nobody is judged who is no peer");
    assert!(mesh.has(&Layout::Cache.canary(Resource::Ip, &name("cluster-b"))).await);
    let marked = mesh.record().await;
    assert!(marked.parted_unix_nanos != 0 && marked.is_resumable());
    assert!(mesh.handle().peers().is_empty());
    // Another one is joined in the meantime.
    let c = PeerRecord::isthmus(declaration("cluster-c", 3), 1);
    mesh.a.put(c.to_put()).await.unwrap();
    eventually("a session to cluster-c", || async { mesh.handle().state(&name("cluster-c")).is_some() }).await;
    assert_eq!(mesh.mirrored().await.len(), 21);
    mesh.a.delete_range(DeleteRangeRequest::key(keys::peer(&name("cluster-c")))).await.unwrap();

    // Whoever goes on after a crash knows when it began, and does not begin again.
    mesh.restart(LONG).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh.part().await;
    mesh.await_parted().await;
    let from = mesh.a.revision() + 1;
    mesh.restart(Duration::from_millis(1)).await;
    mesh.await_nothing_left().await;
    let gone: Vec<String> =
        events(&*mesh.a, "", from).await.iter().map(|e| String::from_utf8(e.kv.key.to_vec()).unwrap()).collect();
    let first = |prefix: &str| gone.iter().position(|key| key.starts_with(prefix)).unwrap();
    let in_order = ["cilium/synced/", "cilium/cache/ip/", "cilium/cache/identities/"].map(first);
    assert!(in_order.is_sorted(), "{gone:?}");
    mesh.stop().await;
}

#[tokio::test]
async fn who_is_joined_again_within_the_grace_keeps_every_key_that_did_not_change() {
    let mut mesh = Mesh::joined(LONG).await;
    let before = mesh.written().await;
    for is_restarted in [false, true] {
        mesh.part().await;
        mesh.await_parted().await;
        if is_restarted {
            mesh.stop_federation().await;
        }
        mesh.join().await;
        if is_restarted {
            mesh.start_federation();
        }
        mesh.await_state(State::Live).await;
        eventually("its configuration", || async { mesh.has(CONFIG).await }).await;
        assert_eq!(mesh.written().await, before, "0 keys rewritten");
        assert_eq!(mesh.record().await.parted_unix_nanos, 0);
        assert_eq!(mesh.handle().status().await[0].relists, 0);
    }
    // And what changed meanwhile is followed.
    mesh.part().await;
    mesh.await_parted().await;
    export(&*mesh.b.store, vec![super::ip(21)]).await;
    mesh.join().await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.21", true).await;
    let after = mesh.written().await;
    assert!(before.iter().all(|(key, revision)| after[key] == *revision));
    // The deletion that was cancelled stays so, however short the pause of who comes next is.
    mesh.restart(Duration::from_millis(1)).await;
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    assert_eq!(mesh.written().await, after);
    mesh.stop().await;
}

#[tokio::test]
async fn another_cluster_under_the_name_of_a_parted_one_begins_with_nothing() {
    let mut mesh = Mesh::joined(LONG).await;
    mesh.part().await;
    mesh.await_parted().await;
    let from = mesh.a.revision() + 1;
    let rebuilt = Source::start(&mesh.ca_b, &mesh.ca_a).await;
    export(&*rebuilt.store, facts(3)).await;
    mesh.wan.retarget(rebuilt.address);
    mesh.join().await;
    mesh.await_state(State::Live).await;
    assert_eq!(mesh.mirrored().await.len(), 4);
    let seen = events(&*mesh.a, "cilium/", from).await;
    let config = seen.iter().find(|event| event.kv.key == CONFIG).expect("its configuration").kv.mod_revision;
    let of_former = |key: &[u8]| key.ends_with(b"/10.2.1.20");
    let former = seen.iter().find(|event| of_former(&event.kv.key)).expect("removed").kv.mod_revision;
    assert!(former < config, "nobody is shown another cluster's facts");
    std::mem::replace(&mut mesh.b, rebuilt).stop().await;

    // The same where it may say other things than before.
    mesh.part().await;
    mesh.await_parted().await;
    let from = mesh.a.revision() + 1;
    let mut narrower = PeerRecord { heartbeat_seconds: 1, ..PeerRecord::isthmus(mesh.b_declaration(), 1) };
    narrower.declaration.pod_prefixes = vec!["10.2.1.0/30".parse().unwrap()];
    mesh.a.put(narrower.to_put()).await.unwrap();
    mesh.await_state(State::Live).await;
    let seen = events(&*mesh.a, "cilium/", from).await;
    let config = seen.iter().find(|event| event.kv.key == CONFIG).expect("its configuration").kv.mod_revision;
    assert!(seen.iter().any(|event| event.kv.key.ends_with(b"/10.2.1.3") && event.kv.mod_revision < config));
    // And of one that is joined all the time: checked again, nothing flaps, what it may not say any more goes.
    let from = mesh.a.revision() + 1;
    narrower.declaration.pod_prefixes = vec!["10.2.1.0/31".parse().unwrap()];
    mesh.a.put(narrower.to_put()).await.unwrap();
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.3", false).await;
    eventually("all that it may not say", || async { mesh.mirrored().await.len() == 2 }).await;
    let gone = events(&*mesh.a, keys::CACHE, from).await;
    assert!(gone.iter().all(|event| event.kind == mesh_store::mvcc::EventKind::Delete), "{gone:?}");
    mesh.stop().await;
}

#[tokio::test]
async fn a_cluster_that_has_a_parted_ones_id_begins_after_all_of_that_one_is_gone() {
    let mut mesh = Mesh::start().await;
    mesh.stop_federation().await;
    let old = MirrorRecord { id: 2, source_cluster_id: 7, parted_unix_nanos: u64::MAX, ..MirrorRecord::default() };
    let (b, c) = (name("cluster-old"), name("cluster-other"));
    let other = MirrorRecord { id: 3, ..old.clone() };
    for (cluster, record) in [(&b, &old), (&c, &other)] {
        mesh.a.put(PutRequest::new(keys::mirror(cluster), record.encode())).await.unwrap();
        let fact = format!("{}131500", Layout::Cache.prefix(Resource::Identities, cluster));
        mesh.a.put(PutRequest::new(fact, "k8s:app=x;")).await.unwrap();
    }
    mesh.start_federation();
    export(&*mesh.b.store, facts(1)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let left: Vec<String> = range(&*mesh.a, "cilium/cache/identities/").await.into_keys().collect();
    let of = |cluster: &str| format!("cilium/cache/identities/v1/{cluster}/id/131500");
    assert_eq!(left, [of("cluster-b"), of("cluster-other")], "the other one's grace goes on");
    assert!(!range(&*mesh.a, keys::MIRRORS).await.contains_key("isthmus/v1/mirror/cluster-old"));
    mesh.stop().await;
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_finished_before_anything_is_mirrored_again() {
    let mut mesh = Mesh::joined(LONG).await;
    mesh.part().await;
    mesh.await_parted().await;
    mesh.stop_federation().await;
    // As a crash after some of its steps leaves it.
    let parted_unix_nanos = mesh.record().await.parted_unix_nanos;
    let void = MirrorRecord { id: 2, parted_unix_nanos, ..MirrorRecord::default() };
    mesh.a.put(PutRequest::new(keys::mirror(&name("cluster-b")), void.encode())).await.unwrap();
    for gone in ["cilium/cache/ip/v1/cluster-b/10.2.1.1", "cilium/cache/ip/v1/cluster-b/10.2.1.2"] {
        mesh.a.delete_range(DeleteRangeRequest::key(gone)).await.unwrap();
    }
    mesh.wan.set(Condition::Cut);
    mesh.join().await;
    mesh.start_federation();
    eventually("the rest of it to go", || async { mesh.mirrored().await.is_empty() }).await;
    mesh.wan.set(Condition::Up);
    mesh.await_state(State::Live).await;
    assert_eq!(mesh.mirrored().await.len(), 21);
    mesh.stop().await;
}

#[tokio::test]
async fn nothing_of_a_peer_is_marked_or_drained() {
    let mesh = Mesh::joined(LONG).await;
    let before = (mesh.written().await, mesh.record().await);
    let b = name("cluster-b");
    for refused in [mirror::mark(&*mesh.a, &b, 1).await.map(drop), mirror::drain(&*mesh.a, &b).await] {
        assert_eq!(refused.unwrap_err().to_string(), "cluster cluster-b is a peer again");
    }
    assert!(mesh.has(CONFIG).await);
    assert_eq!((mesh.written().await, mesh.record().await.parted_unix_nanos), (before.0, before.1.parted_unix_nanos));
    assert_eq!(mirror::mark(&*mesh.a, &name("nobody"), 1).await.unwrap(), None);
    mesh.stop().await;
}
