//! The shipped binary, killed without warning.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use mesh_proto::v1;

use crate::harness::{admin_socket, flags, pod, until};

/// Killed when dropped, so that a failing test leaves no process.
struct Process(Child);

impl Process {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-apiserver"));
        command.args(flags("east", 1, dir)).args(["--log", "warn"]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed or said goodbye to.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn status(dir: &Path, endpoints: u32) -> v1::GetStatusResponse {
    let socket = dir.join("admin.sock");
    until("a status with the pods", || {
        let socket = socket.clone();
        async move {
            let status = admin_socket(socket).await?.get_status(v1::GetStatusRequest {}).await.ok()?.into_inner();
            (status.endpoints == endpoints).then_some(status)
        }
    })
    .await
}

#[tokio::test]
async fn a_killed_server_continues_at_its_revision_with_its_cluster_id() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    std::fs::write(manifests.join("pods.yaml"), pod("a", "10.1.0.2", "n1") + &pod("b", "10.1.0.3", "n1")).unwrap();
    let mut last = None;
    for kill in 0..3 {
        let server = Process::start(dir.path());
        let now = status(dir.path(), 2).await;
        let store = now.store.unwrap();
        if let Some((uuid, cluster_id, revision)) = last {
            assert_eq!((&now.uuid, store.cluster_id), (&uuid, cluster_id), "kill {kill}");
            assert!(store.revision >= revision, "acknowledged writes are there: {revision} then {}", store.revision);
        }
        last = Some((now.uuid, store.cluster_id, store.revision));
        drop(server);
    }
}
