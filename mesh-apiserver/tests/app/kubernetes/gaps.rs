//! An API server that is away, and comes back with another past.

use serde_json::json;

use super::apiserver::Kube;
use super::objects::{PODS, namespace, node, pod};
use super::{ONE_AT_A_TIME, exported, flags, ip, shop, source, until_exported};
use crate::harness::{Server, metric, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_api_server_is_down_exports_stay_and_then_only_what_changed_is_written() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut apiserver = kube.start().await;
    shop(&apiserver).await;
    pod(&apiserver, "going", "n1", "10.1.0.20").await;
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;
    until_exported(&server, &ip("10.1.0.20"), true).await;
    let before = exported(&server).await;

    apiserver.kill();
    let status = until("a status that says so", || async {
        let source = source(&server).await;
        (!source.trouble.is_empty()).then_some(source)
    })
    .await;
    let told = format!("the API server https://127.0.0.1:{} cannot be reached", apiserver.port);
    assert!(status.trouble.starts_with(&told) && status.trouble.ends_with("refused (os error 111)"), "{status:?}");
    assert!(status.trouble_since_unix_nanos > 0 && status.objects > 0, "{status:?}");
    assert_eq!(exported(&server).await, before);

    // Started anew it knows nothing of the cluster, and is of use all the same.
    let server = server.restart().await;
    server.ready().await;
    assert_eq!(exported(&server).await, before);
    let status = source(&server).await;
    assert!(status.trouble.starts_with(&told) && status.objects == 0, "{status:?}");

    // Another API server on the same store does what this one learns of only from a list: the past is gone.
    let other = kube.start().await;
    pod(&other, "coming", "n1", "10.1.0.21").await;
    other.api.delete(&format!("{PODS}/going")).await;
    drop(other);
    apiserver.restart().await;
    until_exported(&server, &ip("10.1.0.21"), true).await;
    until_exported(&server, &ip("10.1.0.20"), false).await;
    let status = until("a source without trouble", || async {
        let source = source(&server).await;
        source.trouble.is_empty().then_some(source)
    })
    .await;
    assert_eq!(status.trouble_since_unix_nanos, 0);
    let after = exported(&server).await;
    let stayed = before.iter().filter(|(key, _)| after.contains_key(*key)).count();
    assert_eq!(stayed, before.len() - 1, "the address of the pod that went");
    for (key, value) in before.iter().filter(|(key, _)| after.contains_key(*key)) {
        assert_eq!(after.get(key), Some(value), "{key} was written again");
    }
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_history_makes_one_list_and_no_flash_of_deletions() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut apiserver = kube.start().await;
    shop(&apiserver).await;
    for number in 0..20 {
        pod(&apiserver, &format!("p{number}"), "n1", &format!("10.1.0.{}", 100 + number)).await;
    }
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;
    until_exported(&server, &ip("10.1.0.119"), true).await;
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    let revision = exported(&server).await.values().map(|(_, revision)| *revision).max().expect("keys");
    let written = metric(&server, "isthmus_export_keys_total").await;

    apiserver.kill();
    let other = kube.start().await;
    other.api.delete(&format!("{PODS}/p3")).await;
    // Enough for the etcd of the API servers to have a past that nobody can watch.
    for number in 0..10 {
        namespace(&other, &format!("filler-{number}")).await;
    }
    let mut of_kube = etcd_client::Client::connect(kube.etcd.endpoints(), None).await.unwrap();
    let now = of_kube.get("any", None).await.unwrap().header().expect("a header").revision();
    of_kube.compact(now, None).await.unwrap();
    drop(other);
    apiserver.restart().await;
    until_exported(&server, &ip("10.1.0.103"), false).await;

    // Of the pods' addresses nothing but the one that went was touched, not even for a moment.
    let options = etcd_client::WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let mut events = etcd.watch("cilium/state/ip/v1/", Some(options)).await.unwrap();
    let mut touched = Vec::new();
    while touched.is_empty() {
        let batch = events.message().await.unwrap().expect("the watch goes on");
        touched.extend(
            batch
                .events()
                .iter()
                .map(|event| (event.event_type(), event.kv().expect("a key").key_str().expect("text").to_owned())),
        );
    }
    assert_eq!(touched, [(etcd_client::EventType::Delete, ip("10.1.0.103"))]);
    let addresses = exported(&server).await.keys().filter(|key| key.starts_with("cilium/state/ip/")).count();
    assert_eq!(addresses, 20, "cart's and nineteen");
    let more =
        metric(&server, "isthmus_export_keys_total").await.parse::<u64>().unwrap() - written.parse::<u64>().unwrap();
    // The address, and what says who has which namespace: one record for all fillers, however often it grows.
    assert!(more <= 1 + 2 * 11, "{more} keys were written");

    node(&apiserver, "n2", "192.0.1.2", Some("10.1.1.0/24")).await;
    until_exported(&server, "cilium/state/nodes/v1/east/n2", true).await;
    apiserver.api.patch("/api/v1/nodes/n2", &json!({"metadata": {"labels": {"zone": "z2"}}})).await;
    until("the label", || async {
        let keys = exported(&server).await;
        String::from_utf8_lossy(&keys["cilium/state/nodes/v1/east/n2"].0).contains("z2").then_some(())
    })
    .await;
    server.app.stop().await;
}
