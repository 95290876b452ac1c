//! `meshctl store`: against a real store in this process, served as mesh-apiserver serves it.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mesh_proto::v1;
use mesh_proto::v1::store_admin_server::StoreAdmin;
use mesh_store::backend::Member;
use mesh_store::mvcc::{KeyRange, PutRequest, RangeRequest};
use mesh_store::{Embedded, Metrics, Options, Store};
use serde_json::Value;
use tokio::sync::OnceCell;
use tonic::{Request, Response, Status};

use super::Mesh;
use super::cluster::Cluster;

/// Opened with the first call.
pub(crate) struct Server {
    cluster: String,
    dir: tempfile::TempDir,
    store: OnceCell<Arc<Embedded>>,
}

impl Server {
    pub(crate) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), dir: tempfile::tempdir().unwrap(), store: OnceCell::new() }
    }

    async fn store(&self) -> &Arc<Embedded> {
        self.store
            .get_or_init(async || {
                let options = Options::new(self.dir.path().join("store"));
                let store = Embedded::open(options, Metrics::detached()).await.unwrap();
                for n in 0..20 {
                    store.put(PutRequest::new(format!("k/{}", n % 10), "v")).await.unwrap();
                }
                store
            })
            .await
    }
}

fn refused(error: &mesh_store::backend::Error) -> Status {
    Status::failed_precondition(error.to_string())
}

#[tonic::async_trait]
impl StoreAdmin for Server {
    type SaveSnapshotStream = BoxStream<'static, Result<v1::SnapshotChunk, Status>>;

    async fn get_store(&self, _: Request<v1::GetStoreRequest>) -> Result<Response<v1::GetStoreResponse>, Status> {
        let store = self.store().await;
        let (status, identity) = (store.status().await.unwrap(), store.identity());
        Ok(Response::new(v1::GetStoreResponse {
            cluster: self.cluster.clone(),
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            leader: status.leader,
            revision: status.revision,
            compact_revision: status.compact_revision,
            keys: status.keys,
            members: vec![v1::StoreMember { id: identity.member_id, name: "m1".to_owned(), ..Default::default() }],
            backend: "embedded".to_owned(),
            ..Default::default()
        }))
    }

    async fn check_store(
        &self,
        request: Request<v1::CheckStoreRequest>,
    ) -> Result<Response<v1::CheckStoreResponse>, Status> {
        let hash = self.store().await.hash_kv(request.get_ref().revision).await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::CheckStoreResponse {
            hash: hash.hash,
            hash_revision: hash.hash_revision,
            compact_revision: hash.compact_revision,
        }))
    }

    async fn compact_store(
        &self,
        request: Request<v1::CompactStoreRequest>,
    ) -> Result<Response<v1::CompactStoreResponse>, Status> {
        let compact_revision = request.get_ref().revision;
        let revision = self.store().await.compact(compact_revision).await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::CompactStoreResponse { revision, compact_revision }))
    }

    async fn add_store_member(
        &self,
        request: Request<v1::AddStoreMemberRequest>,
    ) -> Result<Response<v1::StoreMembersResponse>, Status> {
        let v1::AddStoreMemberRequest { id, host } = request.into_inner();
        let member = Member { id, name: host, ..Member::default() };
        self.store().await.member_add(member).await.map_err(|error| refused(&error))?;
        Err(Status::internal("a store of its own has no way to others"))
    }

    async fn remove_store_member(
        &self,
        request: Request<v1::RemoveStoreMemberRequest>,
    ) -> Result<Response<v1::StoreMembersResponse>, Status> {
        self.store().await.member_remove(request.get_ref().id).await.map_err(|error| refused(&error))?;
        Err(Status::internal("the last member cannot go"))
    }

    async fn save_snapshot(
        &self,
        _: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        let backup = self.store().await.backup().await.map_err(|error| refused(&error))?;
        let chunks = backup.chunks.map(|chunk| {
            let chunk = chunk.map_err(|error| refused(&error))?;
            Ok(v1::SnapshotChunk { data: chunk.data, remaining_bytes: chunk.remaining })
        });
        Ok(Response::new(chunks.boxed()))
    }
}

#[test]
fn store_status_members_and_check_show_every_replica() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    let mesh = Mesh::new(&[&a, &b]);
    let status = mesh.run(&["store", "status", "-o", "json"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert_eq!(status.json()[1]["context"], "cluster-b");
    assert_eq!((&status.json()[0]["revision"], &status.json()[0]["keys"]), (&Value::from(21), &Value::from(10)));
    assert_eq!(status.json()[0]["role"], "leader");
    let table = mesh.run(&["store", "status"]).stdout;
    assert!(table.starts_with("CLUSTER    MEMBER  ROLE    REVISION"), "{table}");
    let members = mesh.run(&["store", "members", "-c", "cluster-a", "-o", "json"]).json();
    assert_eq!((&members[0]["name"], &members[0]["role"]), (&Value::from("m1"), &Value::from("leader")));
    let check = mesh.run(&["store", "check", "-o", "json"]);
    assert_eq!((check.code, &check.json()[0]["same"]), (0, &Value::Bool(true)), "{}", check.stderr);

    // One replica of two cannot be reached.
    mesh.write(&[("cluster-a".into(), a.socket()), ("cluster-z".into(), "no-such.sock".into())]);
    let degraded = mesh.run(&["store", "status"]);
    assert_eq!(degraded.code, 2);
    assert!(degraded.stdout.contains("cluster-a") && degraded.stderr.contains("meshctl: cluster-z: cannot reach it"));
}

#[test]
fn store_members_refuses_what_cannot_be_and_says_why() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    let mesh = Mesh::new(&[&a, &b]);
    for (change, code, part) in [
        (&["add", "4=10.0.0.4"][..], 64, "it is for one cluster"),
        (&["add", "10.0.0.4", "-c", "cluster-a"], 64, "it is not ID=HOST, such as 4=10.0.0.4"),
        (&["add", "0=10.0.0.4", "-c", "cluster-a"], 64, "\"0\" is not a number from 1"),
        (&["add", "4=10.0.0.4", "-c", "cluster-a"], 65, "was started alone and has no way to others"),
        (&["remove", "xyz", "-c", "cluster-a"], 64, "\"xyz\" is not a member's id (invalid digit"),
        (&["remove", "99", "-c", "cluster-a"], 65, "etcdserver: member not found"),
    ] {
        let refused = mesh.run(&[&["store", "members"], change].concat());
        assert_eq!(refused.code, code, "{change:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{change:?}: {part}\nis not in\n{}", refused.stderr);
    }
}

#[test]
fn store_compact_is_for_one_cluster_and_says_what_is_wrong() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    let mesh = Mesh::new(&[&a, &b]);
    let which = mesh.run(&["store", "compact", "5"]);
    assert_eq!(which.code, 64);
    assert!(which.stderr.contains("cluster-a, cluster-b") && which.stderr.contains("--context"), "{}", which.stderr);
    let done = mesh.run(&["store", "compact", "5", "-c", "cluster-a", "-o", "json"]);
    assert_eq!((done.code, &done.json()["compact_revision"]), (0, &Value::from(5)), "{}", done.stderr);
    let again = mesh.run(&["store", "compact", "5", "-c", "cluster-a"]);
    assert_eq!(again.code, 65, "{}", again.stderr);
    assert!(again.stderr.contains("required revision has been compacted"), "{}", again.stderr);
    assert!(again.stderr.contains("hint: the revision lies between"), "{}", again.stderr);
    assert_eq!(mesh.run(&["store", "compact", "0", "-c", "cluster-a"]).code, 64);
}

#[test]
fn a_saved_snapshot_is_checked_and_restored_without_a_server() {
    let a = Cluster::start("cluster-a", 1);
    let mesh = Mesh::new(&[&a]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, state) = (path("snapshot"), path("state"));
    let saved = mesh.run(&["store", "snapshot", "save", &file, "-o", "json"]);
    assert_eq!((saved.code, &saved.json()["revision"]), (0, &Value::from(21)), "{}", saved.stderr);
    assert!(!folder.path().join("snapshot.part").exists());
    let twice = mesh.run(&["store", "snapshot", "save", &file]);
    assert_eq!(twice.code, 64);
    assert!(twice.stderr.contains("never written over"), "{}", twice.stderr);
    drop(a);

    let checked = mesh.run(&["store", "check", &file, "-o", "json"]);
    assert_eq!((checked.code, &checked.json()["keys"]), (0, &Value::from(10)), "{}", checked.stderr);
    let restored = mesh.run(&["store", "snapshot", "restore", &file, "--state-dir", &state, "-o", "json"]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_ne!(restored.json()["cluster_id"], restored.json()["from_cluster_id"]);
    let again = mesh.run(&["store", "snapshot", "restore", &file, "--state-dir", &state]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("is not empty") && again.stderr.contains("hint: stop its"), "{}", again.stderr);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options::new(folder.path().join("state/store"));
        let store = Embedded::open(options, Metrics::detached()).await.unwrap();
        let all = RangeRequest { range: KeyRange::all(), ..RangeRequest::default() };
        let found = store.range(all).await.unwrap();
        assert_eq!((found.revision, found.count), (21, 10));
        store.shutdown().await;
    });

    let mut bytes = std::fs::read(&file).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = mesh.run(&["store", "check", &file]);
    assert_eq!(damaged.code, 1);
    assert!(damaged.stderr.contains("damaged"), "{}", damaged.stderr);
}
