//! What `meshctl store` asks of a whole server, and what monitoring finds.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, GetOptions};
use mesh_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Server, node, pod, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_shown_hashed_compacted_and_saved() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let mut store = server.store_admin().await;
    let shown = store.get_store(v1::GetStoreRequest {}).await.unwrap().into_inner();
    assert_eq!((&shown.cluster[..], &shown.backend[..], shown.members.len()), ("east", "embedded", 1));
    assert!(shown.leader == shown.member_id && shown.revision > 1 && shown.keys > 0, "{shown:?}");
    assert!(shown.alarms.is_empty());

    let revision = shown.revision;
    let hash = store.check_store(v1::CheckStoreRequest { revision }).await.unwrap().into_inner();
    assert_eq!(hash.hash_revision, revision);
    let compacted = store.compact_store(v1::CompactStoreRequest { revision }).await.unwrap().into_inner();
    assert!(compacted.revision >= revision);
    let refused = store.compact_store(v1::CompactStoreRequest { revision: 1 }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");

    let file = server.dir.path().join("snapshot");
    let mut chunks = store.save_snapshot(v1::SaveSnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        bytes.extend_from_slice(&chunk.data);
    }
    std::fs::write(&file, bytes).unwrap();
    let head = mesh_store::verify_backup(&file).unwrap();
    assert_eq!((head.cluster_id, head.compact_revision), (shown.cluster_id, revision));
    server.app.stop().await;
}

async fn metrics(server: &Server) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.app.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitoring_made_for_etcd_finds_its_names() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let text = until("a leader in the metrics", || async {
        let text = metrics(&server).await;
        text.contains("\netcd_server_has_leader 1\n").then_some(text)
    })
    .await;
    for line in [
        "etcd_server_is_leader 1",
        "etcd_server_is_learner 0",
        "etcd_server_leader_changes_seen_total 1",
        "etcd_server_proposals_applied_total ",
        "etcd_server_proposals_committed_total ",
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "etcd_debugging_mvcc_keys_total ",
        "etcd_disk_wal_fsync_duration_seconds_count ",
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line} is not in\n{text}");
    }
    server.app.stop().await;
}

async fn exported_ips(server: &Server) -> Vec<String> {
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    let prefix = "cilium/state/ip/v1/default/";
    let found = etcd.get(prefix, Some(GetOptions::new().with_prefix().with_keys_only())).await.unwrap();
    found.kvs().iter().map(|kv| kv.key_str().unwrap().trim_start_matches(prefix).to_owned()).collect()
}

async fn until_exported(server: &Server, ips: &[&str]) {
    until(&format!("export of {ips:?}"), || async { (exported_ips(server).await == ips).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_full_what_goes_is_exported_and_what_is_new_is_when_the_alarm_ends() {
    let server = Server::start("east", 7).await;
    server.write("node.yaml", &node("n1", "192.0.7.1", "10.7.0.0/24"));
    server.write("going.yaml", &pod("going", "10.7.0.2", "n1"));
    server.write("staying.yaml", &pod("staying", "10.7.0.3", "n1"));
    server.ready().await;
    until_exported(&server, &["10.7.0.2", "10.7.0.3"]).await;
    let member = server.store_admin().await.get_store(v1::GetStoreRequest {}).await.unwrap().into_inner().member_id;
    let mut alarm = AlarmOptions::new();
    alarm.with_member(member);
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    etcd.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(alarm.clone())).await.unwrap();

    server.write("coming.yaml", &pod("coming", "10.7.0.4", "n1"));
    std::fs::remove_file(server.manifests().join("going.yaml")).unwrap();
    until_exported(&server, &["10.7.0.3"]).await;
    let error = until("an error that names the alarm", || async {
        let errors = server.status().await.source.unwrap().errors;
        errors.into_iter().find(|error| error.object == "the store")
    })
    .await;
    assert_eq!(error.error, "etcdserver: mvcc: database space exceeded: what is new waits until the alarm is disarmed");

    // Other ports than before, too: its record cannot be written.
    let server = server.restart().await;
    server.ready().await;
    until_exported(&server, &["10.7.0.3"]).await;
    let mut etcd = server.etcd(&server.admin_leaf()).await;
    etcd.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(alarm.clone())).await.unwrap();
    until_exported(&server, &["10.7.0.3", "10.7.0.4"]).await;
    let record = etcd.get("isthmus/v1/cluster", None).await.unwrap();
    let record = record.kvs()[0].value_str().unwrap().to_owned();
    assert!(record.contains(&format!(":{}\"", server.app.mesh.port())), "{record}");
    server.app.stop().await;
}
