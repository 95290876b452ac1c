//! Import rules: what no rule takes is not mirrored, and a changed rule chooses anew on the same connection.

use mesh_store::mvcc::{DeleteRangeRequest, EventKind, PutRequest, TxnOp};
use mesh_types::exchange::Scope;
use mesh_types::{Exchange, ServiceName};

use super::{Condition, Mesh, State, events, eventually, export, facts, put};
use crate::contract::{ServiceValue, keys};
use crate::peer::examples::declaration;

const CART: &str = "cilium/cache/services/v1/cluster-b/shop/cart";
const PAY: &str = "cilium/cache/services/v1/cluster-b/shop/pay";

fn service(name: &str, shared: bool) -> TxnOp {
    let value = ServiceValue {
        cluster: "cluster-b".into(),
        namespace: "shop".into(),
        name: name.into(),
        cluster_id: declaration("cluster-b", 2).id.get(),
        shared,
        include_external: shared,
        ..ServiceValue::default()
    };
    put(format!("cilium/state/services/v1/cluster-b/shop/{name}"), value.encode())
}

/// Stores the rules: from whom the namespace `shop` and the Service `shop/cart` are taken.
async fn rules(mesh: &Mesh, namespace: Option<&[&str]>, cart: Option<&[&str]>) {
    let clusters = |list: &[&str]| list.iter().map(|text| super::name(text)).collect();
    let mut exchange = Exchange::default();
    exchange.import.set(&Scope::Namespace("shop".into()), namespace.map(clusters));
    exchange.import.set(&Scope::Service(ServiceName::new("shop", "cart")), cart.map(clusters));
    let value = serde_json::to_vec(&exchange).unwrap();
    mesh.a.put(PutRequest::new(keys::EXCHANGE, value)).await.unwrap();
}

async fn of_services(mesh: &Mesh) -> (u64, u64) {
    let status = &mesh.handle().status().await[0];
    let services = status.resources.iter().find(|r| r.resource == "services").unwrap();
    (services.not_imported, services.rejected)
}

#[tokio::test]
async fn a_changed_rule_chooses_anew_on_the_same_connection_and_nothing_else_flaps() {
    let mesh = Mesh::start().await;
    rules(&mesh, None, Some(&["cluster-c"])).await;
    export(&*mesh.b.store, [facts(3), vec![service("cart", true), service("pay", true)]].concat()).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh.await_key(PAY, true).await;
    assert!(!mesh.mirrored().await.contains_key(CART));
    assert_eq!(of_services(&mesh).await, (1, 0), "left out, and no fault of the peer");
    export(&*mesh.b.store, vec![service("cart", false)]).await;
    eventually("a change left out", || async { of_services(&mesh).await == (2, 0) }).await;

    let from = mesh.a.revision() + 1;
    rules(&mesh, None, None).await;
    mesh.await_key(CART, true).await;
    rules(&mesh, Some(&[]), Some(&["cluster-b"])).await;
    mesh.await_key(PAY, false).await;
    // What the peer changes is judged by the new rules.
    export(&*mesh.b.store, vec![service("pay", false), service("cart", true)]).await;
    rules(&mesh, Some(&["cluster-b"]), Some(&[])).await;
    mesh.await_key(CART, false).await;
    mesh.await_key(PAY, true).await;
    let changes = events(&*mesh.a, keys::CACHE, from).await;
    assert!(changes.iter().all(|event| [CART, PAY].contains(&std::str::from_utf8(&event.kv.key).unwrap())));
    let deletes: Vec<_> = changes.iter().filter(|event| event.kind == EventKind::Delete).map(|e| &e.kv.key).collect();
    assert_eq!(deletes, [PAY, CART]);
    let status = &mesh.handle().status().await[0];
    assert_eq!((status.state.as_str(), status.reconnects, status.relists), ("Live", 0, 0), "{}", status.reason);
    mesh.stop().await;
}

#[tokio::test]
async fn a_rule_that_changed_while_nobody_looked_is_found_by_its_revision_and_costs_nothing_when_none_did() {
    let mut mesh = Mesh::start().await;
    rules(&mesh, None, None).await;
    export(&*mesh.b.store, [facts(3), vec![service("cart", true)]].concat()).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh.await_key(CART, true).await;
    mesh.stop_federation().await;
    let ranges = mesh.b.ranges();
    mesh.start_federation();
    mesh.await_state(State::Live).await;
    assert_eq!(mesh.b.ranges(), ranges + 1, "resumed: which CAs to trust is asked, and nothing else");
    mesh.stop_federation().await;
    rules(&mesh, Some(&["cluster-c"]), None).await;
    // The peer cannot be reached: what is not taken any more goes all the same.
    mesh.wan.set(Condition::Cut);
    mesh.start_federation();
    mesh.await_key(CART, false).await;
    assert_eq!(mesh.mirrored().await.len(), 4, "addresses and identities stay");
    rules(&mesh, None, None).await;
    mesh.wan.set(Condition::Up);
    mesh.await_key(CART, true).await;
    // Gone over there, whatever the rules say.
    let gone = DeleteRangeRequest::key("cilium/state/services/v1/cluster-b/shop/cart");
    export(&*mesh.b.store, vec![TxnOp::DeleteRange(gone)]).await;
    mesh.await_key(CART, false).await;
    mesh.stop().await;
}
