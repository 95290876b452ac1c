//! Files in, facts out.

use mesh_proto::v1;

use crate::harness::{GLOBAL, Server, global_service, node, pod, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_document_is_named_and_the_good_ones_go_on() {
    let server = Server::start("east", 1).await;
    let bad = "kind: Service\nmetadata:\n  name: broken\n bad: [\n---\n";
    let wrong = "kind: Service\nmetadata: {name: odd, namespace: shop}\nspec: {ports: [{port: http}]}\n---\n";
    server.write("all.yaml", &(node("n1", "192.0.1.1", "10.1.0.0/24") + bad + &pod("cart", "10.1.0.2", "n1") + wrong));
    let affinity = format!("{GLOBAL}, service.cilium.io/affinity: nearest");
    server.write("service.yaml", &global_service("10.101.0.1", "10.1.0.2", &affinity));
    server.ready().await;
    let status = until("status with the Service's error", || async {
        let source = server.status().await.source.expect("a source");
        (source.errors.len() == 3 && source.objects == 4).then_some(source)
    })
    .await;
    let errors: Vec<String> = status.errors.iter().map(|e| format!("{}: {}", e.object, e.error)).collect();
    assert!(
        errors[0].starts_with("all.yaml, document 2: Service broken: not YAML (document starts at line"),
        "{errors:?}"
    );
    assert!(errors[1].starts_with("all.yaml, document 4: Service shop/odd: invalid type"), "{errors:?}");
    assert_eq!(
        errors[2],
        "Service shop/cart: annotation service.cilium.io/affinity: \"nearest\" is not an affinity: use local, remote or none; \
         until then the Service is not global"
    );
    let list = v1::ListRequest::default();
    let endpoints = server.admin().await.list_endpoints(list.clone()).await.unwrap().into_inner().endpoints;
    assert_eq!(endpoints.iter().map(|e| e.pod.as_str()).collect::<Vec<_>>(), ["cart"]);
    let services = server.admin().await.list_services(list).await.unwrap().into_inner().services;
    assert_eq!(services[0].selected, [0], "local backends go on");
    assert!(services[0].error.contains("is not an affinity"), "{}", services[0].error);

    std::fs::remove_file(server.manifests().join("service.yaml")).unwrap();
    until("the Service's end", || async { (server.status().await.services == 0).then_some(()) }).await;
    server.app.stop().await;
}
