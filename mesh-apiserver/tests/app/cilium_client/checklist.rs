//! What a joining Cilium asks for, in its order (`cilium-wire-contract.md`, 3.5).

use std::collections::BTreeSet;

use etcd_client::GetOptions;

use super::peer::Peer;
use super::{Name, West, program, text};
use crate::harness::{GLOBAL, SERVICE_EXPORT, Server, global_service, node, pod, until};

/// Three pages: 256, 256 and 88.
const PODS: usize = 600;

/// Everything below `cilium/state/`, as the administrator sees it.
async fn exported(east: &Server) -> BTreeSet<(String, String)> {
    let mut admin = east.etcd(&east.admin_leaf()).await;
    let found = admin.get("cilium/state/", Some(GetOptions::new().with_prefix())).await.unwrap();
    found.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))).collect()
}

/// The place at which the first such step was told.
fn place(cilium: &Peer, step: &str, resource: &str) -> usize {
    let found = cilium.told.iter().position(|told| told.is_of(step, resource));
    found.unwrap_or_else(|| panic!("no {step} {resource}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_names_of_a_remote_cluster_get_all_of_the_checklist_and_nothing_else() {
    let Some(program) = program() else { return };
    let east = Server::start("east", 7).await;
    east.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/16"));
    east.write("service.yaml", &global_service("10.107.0.1", "10.7.0.2", GLOBAL));
    let pods = (0..PODS).map(|i| pod(&format!("p{i}"), &format!("10.7.{}.{}", i / 200, i % 200 + 2), "n1"));
    east.write("pods.yaml", &pods.collect::<String>());
    east.write("export.yaml", SERVICE_EXPORT);
    east.ready().await;
    let west = West::joined(&east, program).await;
    // A number and an address each, the node, the Service, its slice, its export: once the folder was read.
    let all = 2 * PODS + 4;
    let look = || async { Some(exported(&east).await).filter(|found| found.len() == all) };
    let want = until("export of all manifests", look);
    let (want, cluster_id) = (want.await, east.status().await.store.unwrap().cluster_id);

    for name in [Name::Remote, Name::RemoteWest] {
        let mut cilium = west.cilium(&east, &[east.app.etcd], name, &[]);
        cilium.synced().await;
        cilium
            .until("a heartbeat that is told by the watch", |step| step.is_of("event", "heartbeat") && !step.listed)
            .await;
        let cilium = cilium.end().await;

        let steps: Vec<_> = cilium.told.iter().filter(|told| told.is("connected")).collect();
        assert_eq!(steps.iter().map(|told| told.cluster_id).collect::<Vec<_>>(), [cluster_id], "{name:?}");
        let config = &cilium.told[place(&cilium, "config", "config")];
        let text = r#"{"id":7,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255,"serviceExportsEnabled":true,"endpointSlicesExportMode":"services-and-endpointslices"}}"#;
        assert_eq!((config.key.as_str(), config.value.as_str()), ("cilium/cluster-config/east", text));
        let canaries: BTreeSet<_> = cilium.told.iter().filter(|told| told.is("canary")).map(|told| &told.key).collect();
        let resources = ["endpointslices", "identities", "ip", "nodes", "serviceexports", "services"];
        assert!(canaries.into_iter().eq(&resources.map(|resource| format!("cilium/state/{resource}/v1"))));

        let lists = resources.map(|resource| &cilium.told[place(&cilium, "listed", resource)]);
        assert_eq!(
            lists.map(|told| (told.keys, told.pages)),
            [(1, 1), (PODS, 3), (PODS, 3), (1, 1), (1, 1), (1, 1)],
            "{name:?}"
        );
        let order = [("listed", "heartbeat"), ("connected", ""), ("config", "config"), ("listed", "synced")];
        let order: Vec<_> = order.iter().map(|(step, resource)| place(&cilium, step, resource)).collect();
        assert!(order.is_sorted(), "{order:?}");
        let of_state = cilium
            .told
            .iter()
            .filter(|told| told.is_event("create", &told.key) && told.key.starts_with("cilium/state/"));
        let got: BTreeSet<_> = of_state.map(|told| (told.key.clone(), told.value.clone())).collect();
        assert_eq!(got, want, "{name:?}");
        assert_eq!(cilium.count("stream"), 1, "all watches are on one stream");
        assert!(cilium.setbacks().is_empty(), "{name:?}: {:?}", cilium.setbacks());
        assert_eq!(cilium.count("rewatch"), 0, "{name:?}");
    }
    east.app.stop().await;
    west.server.app.stop().await;
}
