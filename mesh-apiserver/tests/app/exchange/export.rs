//! What east exports, as west and south read it.

use etcd_client::{GetOptions, SortOrder, SortTarget, WatchOptions};

use super::reader::Reader;
use super::{ADDRESS, Mesh, SERVICE, SLICE};
use crate::harness::{PATIENCE, Server, until};

/// Waits until the admin of `server` finds `key`, or finds it no more; the revision then.
async fn until_key(server: &Server, key: &str, is_there: bool) -> i64 {
    let admin = server.etcd(&server.admin_leaf()).await;
    until(key, || {
        let mut admin = admin.clone();
        async move {
            let answer = admin.get(key, None).await.unwrap();
            (answer.kvs().is_empty() != is_there).then(|| answer.header().unwrap().revision())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_may_not_see_never_leaves_the_store() {
    let mesh = Mesh::start("west").await;
    let mut west = Reader::of(&mesh.west, &mesh.east).await;
    let mut south = Reader::of(&mesh.south, &mesh.east).await;

    let (wests, souths) = (west.list().await, south.list().await);
    for key in [ADDRESS, SERVICE, SLICE] {
        assert!(wests.contains(&key.to_owned()) && !souths.contains(&key.to_owned()), "{wests:?}, {souths:?}");
    }
    assert_eq!(wests.len(), souths.len() + 4, "an address, an identity, a Service and its slice: {wests:?}");
    for (reader, count) in [(&mut west, 1), (&mut south, 0)] {
        assert_eq!(reader.get(ADDRESS, GetOptions::new()).await.count(), count);
        let below = GetOptions::new().with_prefix().with_count_only();
        assert_eq!(reader.get("cilium/state/services/", below).await.count(), count);
        let newest = GetOptions::new().with_prefix().with_keys_only().with_min_mod_revision(1).with_limit(100);
        let keys = reader.get("cilium/state/ip/", newest).await;
        assert_eq!(keys.kvs().iter().filter(|kv| kv.key() == ADDRESS.as_bytes()).count(), usize::from(count > 0));
    }

    // All history, then live; then again after a break of the connection.
    let mut of_west = west.watch(1).await;
    let mut of_south = south.watch(1).await;
    mesh.east.write("b-pod.yaml", &crate::harness::pod("cart-new", "10.1.0.9", "e1"));
    until_key(&mesh.east, &format!("isthmus/v1/audience/west/{ADDRESS}"), true).await;
    mesh.mark("10.1.0.3");
    let marked = |seen: &str| seen == "+cilium/state/ip/v1/default/10.1.0.3";
    let seen = west.follow(&mut of_west, marked).await;
    assert!(seen.iter().filter(|seen| **seen == format!("+{ADDRESS}")).count() >= 2, "{seen:?}");
    south.follow(&mut of_south, marked).await;
    let resumed_at = of_south.reached;
    drop(of_south);
    south.client = mesh.east.etcd(&super::reader::leaf(&mesh.south, false)).await;
    std::fs::remove_file(mesh.east.manifests().join("c-service.yaml")).unwrap();
    until_key(&mesh.east, &format!("isthmus/v1/audience/west/{SERVICE}"), false).await;
    mesh.mark("10.1.0.4");
    let marked = |seen: &str| seen == "+cilium/state/ip/v1/default/10.1.0.4";
    let mut of_south = south.watch(resumed_at + 1).await;
    south.follow(&mut of_south, marked).await;
    let seen = west.follow(&mut of_west, marked).await;
    assert!(seen.contains(&format!("-{SERVICE}")), "{seen:?}");

    // A compaction ends who is behind it, and what it leaves shows no more than before.
    let mut admin = mesh.east.etcd(&mesh.east.admin_leaf()).await;
    let revision = admin.get("x", None).await.unwrap().header().unwrap().revision();
    admin.compact(revision, None).await.unwrap();
    for reader in [&mut west, &mut south] {
        let options = WatchOptions::new().with_prefix().with_start_revision(resumed_at);
        let mut behind = reader.client.watch("cilium/state/", Some(options)).await.unwrap();
        let canceled = loop {
            let answer = tokio::time::timeout(PATIENCE, behind.message()).await.expect("in time").unwrap().unwrap();
            assert!(answer.events().is_empty());
            if answer.canceled() {
                break answer;
            }
        };
        assert_eq!(canceled.compact_revision(), revision);
        let old = GetOptions::new().with_prefix().with_revision(resumed_at);
        let refused = reader.client.get("cilium/state/", Some(old)).await.unwrap_err();
        assert!(refused.to_string().contains("required revision has been compacted"), "{refused}");
    }
    let mut of_south = south.watch(revision).await;
    mesh.mark("10.1.0.5");
    south.follow(&mut of_south, |seen| seen == "+cilium/state/ip/v1/default/10.1.0.5").await;
    assert!(west.list().await.contains(&ADDRESS.to_owned()));
    south.list().await;
    south.assert_saw_nothing_hidden();
    assert!(west.has_received("10.1.0.9") && west.has_received("cart-new"));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_rule_moves_keys_in_and_out_under_an_open_watch_and_after_a_resume() {
    let mesh = Mesh::start("none").await;
    let mut west = Reader::of(&mesh.west, &mesh.east).await;
    let mut south = Reader::of(&mesh.south, &mesh.east).await;
    assert!(!west.list().await.contains(&ADDRESS.to_owned()));
    let mut of_west = west.watch(0).await;
    let mut of_south = south.watch(0).await;
    let service = |sign: char| move |seen: &str| seen.strip_prefix(sign) == Some(SERVICE);

    // In for west; south meets nothing of it.
    mesh.export_to(Some("west"));
    let seen = west.follow(&mut of_west, service('+')).await;
    assert!(seen.contains(&format!("+{ADDRESS}")) && seen.iter().all(|seen| seen.starts_with('+')), "{seen:?}");
    // For everybody: moved for west, new for south.
    mesh.export_to(None);
    let seen = south.follow(&mut of_south, service('+')).await;
    assert_eq!(seen.len(), 4, "nothing came before: {seen:?}");
    let before = of_west.seen.len();
    west.follow(&mut of_west, service('+')).await;
    assert!(of_west.seen[before..].iter().all(|(_, seen)| seen.starts_with('+')), "{:?}", of_west.seen);
    let everybodys = of_west.reached;

    // Kept from south: gone there, a put here. What refers to others goes first.
    mesh.export_to(Some("west"));
    let gone = south.follow(&mut of_south, |seen| seen.starts_with("-cilium/state/identities/")).await;
    assert_eq!(gone[..3], [SLICE, SERVICE, ADDRESS].map(|key| format!("-{key}")));
    let before = of_west.seen.len();
    west.follow(&mut of_west, |seen| seen.starts_with("+cilium/state/identities/")).await;
    assert!(of_west.seen[before..].iter().all(|(_, seen)| seen.starts_with('+')), "{:?}", of_west.seen);
    let (wests, souths) = (west.list().await, south.list().await);
    assert!(wests.contains(&SERVICE.to_owned()) && !souths.contains(&SERVICE.to_owned()));

    // While both are away: to west no more, to south; each learns the difference from where it was.
    drop((of_west, of_south));
    let revision = until_key(&mesh.east, &format!("isthmus/v1/audience/west/{SERVICE}"), true).await;
    mesh.export_to(Some("south"));
    until_key(&mesh.east, &format!("isthmus/v1/audience/south/{SERVICE}"), true).await;
    until_key(&mesh.east, &format!("isthmus/v1/audience/west/{SERVICE}"), false).await;
    let mut of_west = west.watch(revision + 1).await;
    let mut of_south = south.watch(revision + 1).await;
    west.follow(&mut of_west, service('-')).await;
    south.follow(&mut of_south, service('+')).await;
    let (wests, souths) = (west.list().await, south.list().await);
    assert!(!wests.contains(&ADDRESS.to_owned()) && souths.contains(&ADDRESS.to_owned()));
    // Replayed from when it was everybody's, each sees the whole way: for west one put for each move, then the end.
    let mut replayed = west.watch(everybodys + 1).await;
    let seen = west.follow(&mut replayed, service('-')).await;
    let of_service: Vec<&str> = seen.iter().filter(|seen| seen.ends_with(SERVICE)).map(|seen| &seen[..1]).collect();
    assert_eq!(of_service, ["+", "-"]);
    mesh.stop().await;
}

/// The newest change of the export that a reader sees.
async fn newest(reader: &mut Reader) -> i64 {
    let by_age = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1);
    reader.get("cilium/state/", by_age).await.kvs()[0].mod_revision()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_alone_can_be_kept_and_a_restart_keeps_it_so() {
    let mut mesh = Mesh::start("west,south").await;
    let annotations = format!("{}, mesh.isthmus.io/export-to: west", crate::harness::GLOBAL);
    let kept = crate::harness::global_service("10.101.0.77", "10.1.0.9", &annotations);
    mesh.east.write("c-service.yaml", &kept);
    until_key(&mesh.east, &format!("isthmus/v1/audience/south/{SERVICE}"), false).await;
    for _ in 0..2 {
        let mut west = Reader::of(&mesh.west, &mesh.east).await;
        let mut south = Reader::of(&mesh.south, &mesh.east).await;
        let (wests, souths) = (west.list().await, south.list().await);
        let has = |keys: &[String]| [ADDRESS, SERVICE].map(|key| keys.contains(&key.to_owned()));
        assert_eq!((has(&wests), has(&souths)), ([true, true], [true, false]));
        let before = newest(&mut west).await;
        mesh.east = mesh.east.restart().await;
        mesh.east.ready().await;
        let mut west = Reader::of(&mesh.west, &mesh.east).await;
        assert_eq!(newest(&mut west).await, before, "a restart that changes nothing writes nothing");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_for_nobody_and_the_status_says_what_to_do() {
    let mesh = Mesh::start("west,South").await;
    let mut west = Reader::of(&mesh.west, &mesh.east).await;
    assert!(!west.list().await.contains(&ADDRESS.to_owned()));
    let error = |object: &'static str| {
        let east = &mesh.east;
        move || async move {
            let errors = east.status().await.source.unwrap().errors;
            errors.into_iter().find(|error| error.object.ends_with(object)).map(|error| error.error)
        }
    };
    let said = until("error", error("Namespace shop")).await;
    assert!(said.contains("mesh.isthmus.io/export-to: cluster name \"South\" is not valid"), "{said}");
    assert!(said.contains("until then nothing of it is exported"), "{said}");
    // A name that nobody has is said too, and harms no other.
    mesh.export_to(Some("west,sooth"));
    let said = until("error", || async { error("Namespace shop")().await.filter(|said| said.contains("sooth")) }).await;
    assert!(said.contains("which is not a cluster of this mesh"), "{said}");
    assert!(west.list().await.contains(&ADDRESS.to_owned()));
    // A manifest of which only the name can be read keeps its namespace, too.
    mesh.east.write("e-namespace.yaml", "kind: Namespace\nmetadata: {name: shop, annotations: [mesh]}\n");
    until_key(&mesh.east, &format!("isthmus/v1/audience/west/{ADDRESS}"), false).await;
    until_key(&mesh.east, ADDRESS, false).await;
    assert!(!west.list().await.contains(&ADDRESS.to_owned()));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_agents_miss_nothing_of_what_is_kept_from_others() {
    use mesh_types::view::Object;
    let mesh = Mesh::start("none").await;
    let mut agent = mesh.east.agent(mesh.east.enroll("e1").await);
    let mut stream = agent.subscribe(crate::harness::subscribe(0, 0)).await.unwrap().into_inner();
    let mut replica = crate::harness::Replica::default();
    let kept = |replica: &crate::harness::Replica| {
        let address = replica.objects.values().find_map(|object| match object {
            Object::Ip(ip) if ip.prefix.addr().to_string() == "10.1.0.9" => Some(ip.identity),
            _ => None,
        });
        let identities = replica.objects.values().filter_map(|object| match object {
            Object::Identity(identity) => Some(identity.number),
            _ => None,
        });
        address.is_some_and(|number| identities.into_iter().any(|known| known == number))
    };
    replica.follow(&mut stream, |replica| kept(replica) && replica.backends() == ["10.1.0.9"]).await;
    // However the rule changes, nothing goes and comes: the agent is told of no deletion.
    for rule in [Some("west"), None, Some("south"), None, Some("none")] {
        mesh.export_to(rule);
        let kind = if rule.is_none() { "" } else { "isthmus/v1/audience/east/" };
        until_key(&mesh.east, &format!("{kind}{ADDRESS}"), true).await;
        let mark = if rule.is_none() { "10.1.0.30" } else { "10.1.0.31" };
        mesh.mark(mark);
        let marked = |replica: &crate::harness::Replica| {
            let ip = |object: &Object| matches!(object, Object::Ip(ip) if ip.prefix.addr().to_string() == mark);
            assert!(kept(replica), "gone under the rule {rule:?}");
            replica.objects.values().any(ip)
        };
        replica.follow(&mut stream, marked).await;
    }
    let mut again = agent.subscribe(crate::harness::subscribe(0, 0)).await.unwrap().into_inner();
    let mut fresh = crate::harness::Replica::default();
    fresh.follow(&mut again, |replica| kept(replica)).await;
    assert_eq!(replica.snapshots, 1);
    mesh.stop().await;
}
