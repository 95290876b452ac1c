//! What happens to a Cilium cluster while it is a peer.

use etcd_client::CompactionOptions;

use super::Cilium;
use super::exporter::ID;
use super::joining::{east, follow, live, state};
use crate::harness::{Replica, Server, subscribe, until};

async fn joined(cilium: &Cilium) -> (Server, Replica, tonic::Streaming<mesh_proto::v1::SubscribeResponse>) {
    cilium.export(ID).await;
    let east = east().await;
    east.admin().await.connect_cilium(cilium.request("remote")).await.unwrap();
    live(&east).await;
    let (replica, stream) = follow(&east, |r| r.backends() == ["10.3.0.10", "10.3.0.11"]).await;
    (east, replica, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_cilium_cluster_reaches_the_agents_once() {
    let cilium = Cilium::start().await;
    let (east, mut replica, mut stream) = joined(&cilium).await;
    let received = replica.received;
    cilium.identity(2, "pay", ID).await;
    cilium.pod("10.3.0.12", 2, ID).await;
    cilium.service(&["10.3.0.11", "10.3.0.12"], ID).await;
    replica.follow(&mut stream, |r| r.backends() == ["10.3.0.11", "10.3.0.12"]).await;
    cilium.delete("cilium/state/ip/v1/default/10.3.0.10").await;
    let gone: ipnet::IpNet = "10.3.0.10/32".parse().unwrap();
    let has = |r: &Replica| {
        r.objects.keys().any(|key| matches!(key, mesh_types::view::Key::Ip { prefix, .. } if *prefix == gone))
    };
    replica.follow(&mut stream, |r| !has(r)).await;
    assert_eq!(replica.received - received, 5, "a number, an address, a backend more and one less, an address less");
    // What it may not say costs that key alone.
    cilium.pod("10.7.0.66", 1, ID).await;
    cilium.put("cilium/state/nodes/v1/c/n2", "{").await;
    cilium.service(&["10.3.0.12"], ID).await;
    replica.follow(&mut stream, |r| r.backends() == ["10.3.0.12"]).await;
    let peer = state(&east).await.unwrap();
    let rejected: Vec<_> = peer.resources.iter().filter(|r| r.rejected > 0).map(|r| r.resource.as_str()).collect();
    assert_eq!((rejected, peer.state.as_str()), (vec!["nodes", "ip"], "Live"));
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_went_while_nobody_followed_costs_a_listing_and_no_entry() {
    let cilium = Cilium::start().await;
    let (east, mut replica, stream) = joined(&cilium).await;
    drop(stream);
    let server = east.app.etcd;
    let Server { name, id, dir, app, more_flags } = east;
    app.stop().await;
    for _ in 0..20 {
        cilium.service(&["10.3.0.10"], ID).await;
        cilium.service(&["10.3.0.10", "10.3.0.11"], ID).await;
    }
    cilium.pod("10.3.0.77", 1, ID).await;
    let revision = cilium.admin.kv_client().get("x", None).await.unwrap().header().unwrap().revision();
    cilium.admin.kv_client().compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    cilium.service(&["10.3.0.11", "10.3.0.77"], ID).await;

    let app = crate::harness::start_app(&name, id, dir.path(), &more_flags).await;
    assert_ne!(server, app.etcd, "it is another process's life");
    let east = Server { name, id, dir, app, more_flags };
    east.ready().await;
    live(&east).await;
    let (held, received) = (replica.objects.len(), replica.received);
    let mut agent = east.agent(east.enroll("e1").await);
    let mut stream = agent.subscribe(subscribe(replica.cluster_id, replica.revision)).await.unwrap().into_inner();
    // The pod and the backend that it is come by different watches, in any order.
    let is_all = |r: &Replica| r.backends() == ["10.3.0.11", "10.3.0.77"] && r.objects.len() > held;
    replica.follow(&mut stream, is_all).await;
    assert_eq!(replica.snapshots, 1, "the agent goes on where it was");
    assert_eq!(
        (replica.objects.len() - held, replica.received - received),
        (1, 3),
        "a pod, and one backend for another"
    );
    let relists = state(&east).await.unwrap().relists;
    assert!(relists > 0, "what was compacted has to be listed");
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_and_still_empty_etcd_of_a_cilium_cluster_costs_no_entry() {
    let mut cilium = Cilium::start().await;
    let (east, mut replica, mut stream) = joined(&cilium).await;
    let (received, before) = (replica.received, replica.objects.clone());
    cilium.replace_etcd().await;
    // Empty, then with facts but without canaries: there is nothing to conclude from it yet.
    until("the loss of the connection", || async { state(&east).await.filter(|p| p.reason != "all watches stand") })
        .await;
    cilium.heartbeat().await;
    cilium.node("n1", "192.0.3.1", ID).await;
    cilium.config(ID, "").await;
    until("the configuration", || async {
        state(&east).await.filter(|peer| peer.reason.starts_with("awaiting its canaries"))
    })
    .await;
    cilium.identity(1, "cart", ID).await;
    cilium.pod("10.3.0.10", 1, ID).await;
    cilium.pod("10.3.0.12", 1, ID).await;
    cilium.service(&["10.3.0.10", "10.3.0.12"], ID).await;
    assert_eq!(replica.received, received);
    cilium.canaries().await;
    replica.follow(&mut stream, |r| r.backends() == ["10.3.0.10", "10.3.0.12"]).await;
    live(&east).await;
    let gone: Vec<_> = before.keys().filter(|key| !replica.objects.contains_key(*key)).collect();
    assert_eq!(gone.len(), 2, "the pod that is not there any more, and the backend that it was: {gone:?}");
    assert_eq!(replica.received - received, 4, "one pod and backend less, and one more");
    assert_eq!(state(&east).await.unwrap().relists, 4, "once for each kind");
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_is_followed_while_connected() {
    let cilium = Cilium::start().await;
    let (east, mut replica, mut stream) = joined(&cilium).await;
    // A capability of a later version.
    cilium.config(ID, r#","serviceExportsEnabled":true,"later":{"x":1}"#).await;
    cilium.canary("serviceexports").await;
    cilium.service(&["10.3.0.11"], ID).await;
    replica.follow(&mut stream, |r| r.backends() == ["10.3.0.11"]).await;
    live(&east).await;
    assert_eq!(state(&east).await.unwrap().reconnects, 0);
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_cluster_id_is_refused_until_it_is_written_down_and_then_drains_what_had_the_former_one() {
    let cilium = Cilium::start().await;
    let (east, mut replica, mut stream) = joined(&cilium).await;
    cilium.config(9, "").await;
    until("the refusal", || async {
        state(&east).await.filter(|peer| peer.reason.contains("may not say 9 in cluster-config"))
    })
    .await;
    assert_eq!(replica.backends(), ["10.3.0.10", "10.3.0.11"], "what it said before still counts, for its grace");

    // Its people gave it another number, so its workloads were restarted.
    for key in ["cilium/state/identities/v1/id/196609", "cilium/state/ip/v1/default/10.3.0.10"] {
        cilium.delete(key).await;
    }
    cilium.node("n1", "192.0.3.1", 9).await;
    cilium.identity(1, "cart", 9).await;
    cilium.pod("10.3.0.11", 1, 9).await;
    cilium.service(&["10.3.0.11"], 9).await;
    let mut request = cilium.request("remote");
    request.id = 9;
    let answer = east.admin().await.connect_cilium(request).await.unwrap().into_inner();
    assert_eq!((answer.peer_id, answer.already_connected), (9, false));
    replica.follow(&mut stream, |r| r.backends() == ["10.3.0.11"]).await;
    live(&east).await;
    let numbers = |r: &Replica, id: u32| {
        r.objects.keys().filter(|k| matches!(k, mesh_types::view::Key::Identity(n) if n.0 >> 16 == id)).count()
    };
    assert_eq!((numbers(&replica, 3), numbers(&replica, 9)), (0, 1), "no number of the former id is left");
    drop(stream);
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cilium_cluster_that_begins_to_export_slices_is_followed_by_them_and_by_them_alone_when_it_ends_the_rest() {
    use mesh_types::BackendState::{Active, NotReady, Terminating};
    use mesh_types::view::Object;
    let cilium = Cilium::start().await;
    let (east, mut replica, mut stream) = joined(&cilium).await;
    let states = |r: &Replica| {
        let of = |o: &Object| if let Object::Backend(b) = o { Some((b.address.to_string(), b.state)) } else { None };
        r.objects.values().filter_map(of).collect::<Vec<_>>()
    };
    let want = |list: &[(&str, mesh_types::BackendState)]| {
        list.iter().map(|(ip, state)| ((*ip).to_owned(), *state)).collect::<Vec<_>>()
    };
    // Some slices are not all of them: nothing changes before the canary.
    let received = replica.received;
    cilium.slice("cart-x", &[("10.3.0.10", true, false)]).await;
    cilium.config(ID, r#","endpointSlicesExportMode":"services-and-endpointslices""#).await;
    cilium.slice("cart-y", &[("10.3.0.11", false, true), ("10.3.0.12", false, false)]).await;
    assert_eq!(replica.received, received);
    cilium.canary("endpointslices").await;
    let all = want(&[("10.3.0.10", Active), ("10.3.0.11", Terminating), ("10.3.0.12", NotReady)]);
    replica.follow(&mut stream, |r| states(r) == all).await;
    assert_eq!(replica.received - received, 2, "the one that was the same is not told again");

    // A later version ends the old form.
    cilium.config(ID, r#","endpointSlicesExportMode":"endpointslices-only""#).await;
    cilium.delete("cilium/state/services/v1/c/shop/cart").await;
    until("the kinds that are left", || async {
        let peer = state(&east).await.filter(|peer| peer.state == "Live")?;
        let kinds: Vec<_> = peer.resources.iter().map(|r| r.resource.clone()).collect();
        (kinds == ["identities", "nodes", "ip", "endpointslices"]).then_some(())
    })
    .await;
    cilium.slice("cart-y", &[("10.3.0.11", true, false)]).await;
    replica.follow(&mut stream, |r| states(r) == want(&[("10.3.0.10", Active), ("10.3.0.11", Active)])).await;

    // And one that goes back to it.
    cilium.service(&["10.3.0.12"], ID).await;
    cilium.config(ID, "").await;
    cilium.canaries().await;
    replica.follow(&mut stream, |r| states(r) == want(&[("10.3.0.12", Active)])).await;
    live(&east).await;
    drop(stream);
    east.app.stop().await;
}
