//! What a peer's configuration says, takes back, or says wrongly.

use std::sync::Arc;

use super::{Mesh, State, beat, eventually, export, facts, ip, put, range};
use crate::contract::{ClusterConfig, Layout, Resource, keys};
use crate::peer::examples::declaration;
use crate::state::Phase;

#[tokio::test]
async fn what_a_peer_exports_no_more_is_removed_and_what_it_begins_to_export_is_read() {
    let mesh = Mesh::start().await;
    mesh.join().await;
    let b = declaration("cluster-b", 2);
    let mut said = facts(1);
    let service = mesh_types::ServiceName::new("shop", "cart");
    let named = crate::contract::endpoint_slice::SliceName {
        cluster: &b.name,
        cluster_id: b.id,
        service: &service,
        slice: "cart-x",
    };
    let slice = crate::contract::EndpointSliceValue::from_backends(named, &[]).unwrap().encode();
    said.push(put(Layout::State.endpoint_slice(&b.name, "shop", "cart-x"), slice));
    export(&*mesh.b.store, said).await;
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    let has = |key: String| {
        let store = Arc::clone(&mesh.a);
        async move { range(&*store, &key).await.contains_key(&key) }
    };
    let mirrored = Layout::Cache.endpoint_slice(&b.name, "shop", "cart-x");
    let canary = Layout::Cache.canary(Resource::EndpointSlices, &b.name);
    assert!(has(mirrored.clone()).await && has(canary.clone()).await);

    let mut config = ClusterConfig::own(b.id, b.layout);
    let both = std::mem::take(&mut config.capabilities.endpoint_slices_export_mode);
    export(&*mesh.b.store, vec![put(keys::cluster_config(&b.name), config.encode())]).await;
    eventually("no slice", || async { !has(mirrored.clone()).await && !has(canary.clone()).await }).await;
    eventually("five kinds", || async { mesh.handle().peers()[0].resources.len() == 5 }).await;
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;

    config.capabilities.endpoint_slices_export_mode = both;
    export(&*mesh.b.store, vec![put(keys::cluster_config(&b.name), config.encode())]).await;
    eventually("the slice again", || async { has(mirrored.clone()).await && has(canary.clone()).await }).await;
    beat(&*mesh.b.store).await;
    mesh.await_state(State::Live).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_configuration_that_is_right_again_counts_whatever_history_tells_of_it() {
    let mesh = Mesh::start().await;
    let b = declaration("cluster-b", 2);
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let before = mesh.mirrored().await;
    let own = ClusterConfig::own(b.id, b.layout);
    let other_id = ClusterConfig { id: 9, ..own.clone() };
    for (config, refused) in [(&other_id, "may not say 9"), (&own, "")] {
        export(&*mesh.b.store, vec![put(keys::cluster_config(&b.name), config.encode()), ip(4)]).await;
        eventually(refused, || async {
            let peer = &mesh.handle().peers()[0];
            let is_refused =
                peer.config_rejection.as_ref().is_some_and(|rejection| rejection.to_string().contains('9'));
            is_refused != refused.is_empty() && (is_refused || peer.signs.phase == Phase::Following)
        })
        .await;
    }
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.4", true).await;
    let after = mesh.mirrored().await;
    assert!(before.iter().all(|(key, value)| after.get(key) == Some(value)));
    assert_eq!(mesh.handle().status().await[0].relists, 0, "only the configuration was read again");
    mesh.stop().await;
}

#[tokio::test]
async fn a_configuration_that_was_bad_again_and_again_counts_once_it_is_right() {
    let mesh = Mesh::start().await;
    let b = declaration("cluster-b", 2);
    export(&*mesh.b.store, facts(3)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    let key = keys::cluster_config(&b.name);
    let own = ClusterConfig::own(b.id, b.layout).encode();
    for n in 0..20 {
        export(&*mesh.b.store, vec![put(key.clone(), b"{\"id\":".to_vec()), ip(4 + n)]).await;
        export(&*mesh.b.store, vec![put(key.clone(), own.clone())]).await;
    }
    eventually("it is followed again", || async {
        let peer = &mesh.handle().peers()[0];
        peer.config_rejection.is_none() && peer.signs.phase == Phase::Following
    })
    .await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.23", true).await;
    mesh.stop().await;
}
