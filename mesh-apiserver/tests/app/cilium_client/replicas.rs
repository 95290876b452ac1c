//! The loss of the replica that a Cilium is connected to.

use super::relay::Relay;
use super::{Name, West, program};
use crate::harness::{GLOBAL, Server, global_service, node, pod, until};
use crate::members::{Plan, members};

const SERVICE: &str = "cilium/state/services/v1/east/shop/cart";
/// While the replica is being lost.
const CHANGES: u8 = 12;

/// How the replica is lost.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// The one that leads, so that another exports: stopped in order.
    LeaderStops,
    /// One that follows: its connections break before it stops, without a goodbye.
    FollowerBreaksOff,
}

/// Into the folders of all replicas: whichever leads reads its own.
fn write(replicas: &[Server], file: &str, text: &str) {
    for replica in replicas {
        replica.write(file, text);
    }
}

/// Parts the replicas into the one to be lost and the others.
async fn chosen(mut replicas: Vec<Server>, loss: Loss) -> (Server, Vec<Server>) {
    let first = &replicas[0];
    let leader = until("a leader", || async { Some(members(first).await.leader).filter(|id| *id != 0) }).await;
    let leads = |server: &Server| server.more_flags.contains(&format!("--replica-id={leader}"));
    let place = replicas.iter().position(|server| leads(server) == (loss == Loss::LeaderStops));
    (replicas.remove(place.expect("one leads and two follow")), replicas)
}

async fn costs_nothing(loss: Loss) {
    let Some(program) = program() else { return };
    let replicas = Vec::from(Plan::new(3).start_three().await);
    write(&replicas, "node.yaml", &node("n1", "192.0.1.1", "10.1.0.0/24"));
    write(&replicas, "service.yaml", &global_service("10.101.0.1", "10.1.0.2", GLOBAL));
    for replica in &replicas {
        replica.ready().await;
    }
    let west = West::joined(&replicas[0], program).await;
    let (lost, others) = chosen(replicas, loss).await;
    let relay = match loss {
        Loss::LeaderStops => None,
        Loss::FollowerBreaksOff => Some(Relay::to(lost.app.etcd).await),
    };
    let first = relay.as_ref().map_or(lost.app.etcd, |relay| relay.address);
    let addresses = [first, others[0].app.etcd, others[1].app.etcd];
    let mut cilium = west.cilium(&lost, &addresses, Name::RemoteWest, &[]);
    cilium.synced().await;

    let from = cilium.told.len();
    // Nobody listens there any more.
    drop(relay);
    let changes_go_on = async {
        for i in 3..=CHANGES {
            let backend = format!("10.1.0.{i}");
            write(&others, "service.yaml", &global_service("10.101.0.1", &backend, GLOBAL));
            cilium.until("change", |step| step.is_event("modify", SERVICE) && step.value.contains(&backend)).await;
        }
    };
    tokio::join!(lost.app.stop(), changes_go_on);
    write(&others, "pod.yaml", &pod("cart", "10.1.0.2", "n1"));
    cilium.until_each("next event", &["identities", "ip"], |step| step.is_event("create", &step.key)).await;
    let cilium = cilium.end().await;

    let dialed: Vec<_> =
        cilium.told.iter().filter(|told| told.is("dialed")).map(|told| told.address.as_str()).collect();
    assert_eq!(dialed.first(), Some(&addresses[0].to_string().as_str()));
    assert_eq!(dialed.last(), Some(&addresses[1].to_string().as_str()), "it went on at the next one: {dialed:?}");
    let changes = cilium.changes(from);
    assert!(changes.iter().all(|told| !told.listed && !told.unchanged), "{changes:#?}");
    let (changed, created): (Vec<_>, Vec<_>) = changes.into_iter().partition(|told| told.kind == "modify");
    for resource in ["services", "endpointslices"] {
        let of_it = changed.iter().filter(|told| told.resource == resource);
        let versions: Vec<_> = of_it.map(|told| told.version).collect();
        assert!(versions[0] == 2 && versions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{changed:#?}");
    }
    assert!(created.len() == 2 && created.iter().all(|told| told.kind == "create"), "{created:#?}");
    // Another cluster id would have made it connect again and list everything.
    assert!(cilium.setbacks().is_empty(), "{:?}", cilium.setbacks());
    for replica in others {
        replica.app.stop().await;
    }
    west.server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_of_the_leading_replica_costs_a_client_neither_a_listing_nor_an_event() {
    costs_nothing(Loss::LeaderStops).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_breaks_off_costs_a_client_neither_a_listing_nor_an_event() {
    costs_nothing(Loss::FollowerBreaksOff).await;
}
