//! ServiceExports from a manifest of one cluster to the mirrors of the others.

use etcd_client::GetOptions;
use federation::contract::{ClusterConfig, ServiceExportValue};

use crate::harness::{SERVICE_EXPORT as EXPORT, Server, global_service, node, until};

const STATE: &str = "cilium/state/serviceexports/v1/east/shop/cart";
const CACHE: &str = "cilium/cache/serviceexports/v1/east/shop/cart";

async fn value(server: &Server, key: &str) -> Option<Vec<u8>> {
    let mut admin = server.etcd(&server.admin_leaf()).await;
    admin.get(key, None).await.unwrap().kvs().first().map(|kv| kv.value().to_vec())
}

async fn until_value(server: &Server, key: &str) -> Vec<u8> {
    until(key, || value(server, key)).await
}

async fn until_gone(server: &Server, key: &str) {
    until(key, || async { value(server, key).await.is_none().then_some(()) }).await;
}

/// What the source says of the export.
async fn error(server: &Server) -> Option<String> {
    let errors = server.status().await.source.expect("a source").errors;
    errors.into_iter().find(|row| row.object == "ServiceExport shop/cart").map(|row| row.error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_export_reaches_the_mirrors_of_those_who_may_have_it_and_of_nobody_else() {
    let (east, west, south) =
        (Server::start("east", 1).await, Server::start("west", 2).await, Server::start("south", 3).await);
    east.write("node.yaml", &node("e1", "192.0.1.1", "10.1.0.0/24"));
    east.write("export.yaml", EXPORT);
    for server in [&east, &west, &south] {
        server.ready().await;
    }
    for other in [&west, &south] {
        east.connect(other).await.expect("the clusters fit");
    }
    let config = ClusterConfig::decode(&until_value(&west, "cilium/cluster-config/east").await).unwrap();
    assert_eq!(config.capabilities.service_exports_enabled, Some(true));
    for canary in
        ["cilium/synced/east/cilium/state/serviceexports/v1", "cilium/synced/east/cilium/cache/serviceexports/v1"]
    {
        until_value(if canary.contains("state") { &east } else { &west }, canary).await;
    }
    let reason = until("what is wrong", || error(&east)).await;
    assert!(reason.starts_with("there is no Service of this name in its namespace"), "{reason}");

    // No annotation is asked for: that it is exported is what the object says.
    east.write("service.yaml", &global_service("10.101.0.77", "10.1.0.9", ""));
    let own = until_value(&east, STATE).await;
    let told = ServiceExportValue::decode(&own).unwrap();
    assert_eq!((told.kind.as_str(), told.labels["tier"].as_str(), told.ports[0].port), ("ClusterSetIP", "back", 7070));
    for other in [&west, &south] {
        assert_eq!(until_value(other, CACHE).await, own);
    }
    assert_eq!(error(&east).await, None);

    east.write("service.yaml", &global_service("10.101.0.77", "10.1.0.9", "mesh.isthmus.io/export-to: west"));
    until_gone(&south, CACHE).await;
    assert_eq!(until_value(&west, CACHE).await, own);

    let external =
        "kind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {type: ExternalName, externalName: x.example}\n";
    east.write("service.yaml", external);
    until_gone(&west, CACHE).await;
    let reason = until("what is wrong", || error(&east)).await;
    assert!(reason.starts_with("its Service is of type ExternalName"), "{reason}");

    let mut admin = east.etcd(&east.admin_leaf()).await;
    let below = GetOptions::new().with_prefix().with_count_only();
    assert_eq!(admin.get("isthmus/v1/audience/", Some(below)).await.unwrap().count(), 0);
    for server in [east, west, south] {
        server.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_without_a_creation_time_keeps_its_age_over_a_restart() {
    let east = Server::start("east", 1).await;
    let undated = EXPORT.replace(", creationTimestamp: \"2026-03-04T05:06:07Z\"", "");
    assert_ne!(undated, EXPORT);
    east.write("export.yaml", &undated);
    east.write("service.yaml", &global_service("10.101.0.77", "10.1.0.9", ""));
    let first = until_value(&east, STATE).await;
    let east = east
        .restart_after(|manifests| {
            std::fs::write(
                manifests.join("service.yaml"),
                global_service("10.101.0.78", "10.1.0.9", "").replace("7070", "7071"),
            )
            .unwrap();
        })
        .await;
    let second = until("the other port", || async { value(&east, STATE).await.filter(|value| *value != first) }).await;
    let [first, second] = [first, second].map(|value| ServiceExportValue::decode(&value).unwrap());
    assert_eq!(second.ports[0].port, 7071);
    assert_eq!(first.export_creation_timestamp, second.export_creation_timestamp);
    east.app.stop().await;
}
