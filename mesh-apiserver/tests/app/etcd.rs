//! The etcd port with etcd's own client: what is exported, and who may read it.

use certs::{Leaf, RootCa, Validity};
use etcd_client::GetOptions;

use crate::harness::{GLOBAL, SERVICE_EXPORT, Server, global_service, node, pod, until};

async fn keys(client: &mut etcd_client::Client, prefix: &str) -> Vec<String> {
    let found = client.get(prefix, Some(GetOptions::new().with_prefix())).await.unwrap();
    found.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_export_is_ciliums_layout() {
    let server = Server::start("east", 7).await;
    server.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    server.write("pod.yaml", &pod("cart", "10.7.0.2", "n1"));
    server.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    server.write("export.yaml", SERVICE_EXPORT);
    server.ready().await;
    let mut admin = server.etcd(&server.admin_leaf()).await;
    let number = (7 << 16) + 256;
    let mut want = vec![
        "cilium/state/endpointslices/v1/east/shop/cart-x".to_owned(),
        format!("cilium/state/identities/v1/id/{number}"),
        "cilium/state/ip/v1/default/10.7.0.2".to_owned(),
        "cilium/state/nodes/v1/east/n1".to_owned(),
        "cilium/state/serviceexports/v1/east/shop/cart".to_owned(),
        "cilium/state/services/v1/east/shop/cart".to_owned(),
    ];
    want.sort();
    assert_eq!(keys(&mut admin, "cilium/state/").await, want);
    until("a heartbeat", || {
        let mut admin = admin.clone();
        async move { (keys(&mut admin, "cilium/.heartbeat").await.len() == 1).then_some(()) }
    })
    .await;
    assert_eq!(
        keys(&mut admin, "cilium/synced/").await,
        ["endpointslices", "identities", "ip", "nodes", "serviceexports", "services"]
            .map(|r| format!("cilium/synced/east/cilium/state/{r}/v1"))
    );
    let config = admin.get("cilium/cluster-config/east", None).await.unwrap();
    let text = r#"{"id":7,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255,"serviceExportsEnabled":true,"endpointSlicesExportMode":"services-and-endpointslices"}}"#;
    assert_eq!(config.kvs()[0].value_str().unwrap(), text);
    let ip = admin.get("cilium/state/ip/v1/default/10.7.0.2", None).await.unwrap();
    let value: serde_json::Value = serde_json::from_slice(ip.kvs()[0].value()).unwrap();
    assert_eq!((value["HostIP"].as_str(), value["ID"].as_u64()), (Some("192.0.7.1"), Some(number)));
    assert_eq!(ip.kvs()[0].lease(), 0, "data keys carry no lease");
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_and_strangers_get_nothing_from_the_etcd_port() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let mut agent = server.etcd(&server.enroll("n1").await).await;
    let refused = agent.get("cilium/.heartbeat", None).await.unwrap_err().to_string();
    assert!(refused.contains("etcdserver: permission denied"), "{refused}");

    let stranger: Leaf = RootCa::generate(&mesh_types::ClusterName::new("east").unwrap())
        .unwrap()
        .issue_admin(Validity::lasting(Validity::LEAF))
        .unwrap();
    let options = etcd_client::ConnectOptions::new().with_tls(certs::client::tonic_config(
        &server.bundle(),
        &stranger,
        "localhost",
    ));
    let connected = etcd_client::Client::connect([format!("https://{}", server.app.etcd)], Some(options)).await;
    let answer = match connected {
        Ok(mut client) => client.get("cilium/.heartbeat", None).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(answer.is_err(), "a CA of the same name is not the same CA");
    server.app.stop().await;
}
