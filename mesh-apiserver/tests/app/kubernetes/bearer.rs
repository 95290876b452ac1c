//! Callers of the admin API who show a token of their cluster's Kubernetes.

use mesh_proto::v1;
use mesh_proto::v1::admin_client::AdminClient;
use mesh_proto::v1::store_admin_client::StoreAdminClient;
use tonic::{Code, Request, Status};

use super::accounts::{account, expired, may, system, token};
use super::apiserver::Kube;
use super::objects::grant;
use super::{ONE_AT_A_TIME, flags};
use crate::harness::{Server, metric, until};

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

pub(super) async fn status(server: &Server, token: &str) -> Result<v1::GetStatusResponse, Status> {
    let mut admin = AdminClient::new(server.mesh_channel(None));
    admin.get_status(with(token, v1::GetStatusRequest {})).await.map(tonic::Response::into_inner)
}

async fn node_token(server: &Server, token: &str) -> Result<v1::CreateTokenResponse, Status> {
    let request = v1::CreateNodeTokenRequest { node: "n1".to_owned(), ttl_seconds: 60 };
    let mut admin = AdminClient::new(server.mesh_channel(None));
    admin.create_node_token(with(token, request)).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_update_peerings_may_change_and_who_may_get_them_may_look() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut apiserver = kube.start().await;
    grant(&apiserver).await;
    system(&apiserver).await;
    for name in ["editor", "viewer", "nobody"] {
        account(&apiserver, name).await;
    }
    may(&apiserver, "editor", "*").await;
    may(&apiserver, "viewer", "get").await;
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;
    let editor = token(&apiserver, "editor", None, None).await;
    let viewer = token(&apiserver, "viewer", Some("isthmus"), None).await;
    let nobody = token(&apiserver, "nobody", None, None).await;

    status(&server, &editor).await.expect("an editor looks");
    node_token(&server, &editor).await.expect("an editor changes");
    status(&server, &viewer).await.expect("a viewer looks");
    let denied = node_token(&server, &viewer).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let told = "Kubernetes does not let \"system:serviceaccount:isthmus-system:viewer\" update clusterpeerings.mesh.isthmus.io";
    assert!(denied.message().contains(told), "{denied:?}");
    // What is stored is for those alone who might have stored it.
    let mut store = StoreAdminClient::new(server.mesh_channel(None));
    store.get_store(with(&viewer, v1::GetStoreRequest {})).await.expect("a viewer looks at the store");
    let denied = store.save_snapshot(with(&viewer, v1::SaveSnapshotRequest {})).await.map(drop).unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    for denied in [status(&server, &nobody).await.unwrap_err(), node_token(&server, &nobody).await.unwrap_err()] {
        assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    }

    let elsewhere = token(&apiserver, "editor", Some("elsewhere"), None).await;
    for shown in [elsewhere.as_str(), &expired(&kube, &editor), "of-nobody"] {
        let refused = status(&server, shown).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(!format!("{refused:?}").contains(shown), "the token is quoted");
    }
    // A token counts, not the certificate of the connection that it comes by.
    let mut admin = AdminClient::new(server.mesh_channel(Some(server.admin_leaf())));
    admin.get_status(v1::GetStatusRequest {}).await.expect("an administrator");
    let denied = admin.get_status(with(&nobody, v1::GetStatusRequest {})).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);

    // What was answered is remembered for a short time: nobody is asked about each call.
    let asked = metric(&server, "isthmus_kubernetes_reviews_total").await;
    assert_ne!(asked, "0");
    apiserver.api.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/editor").await;
    until("the end of a right that was taken away", || async {
        let denied = status(&server, &editor).await.err()?;
        assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
        Some(())
    })
    .await;

    // Without an answer nobody may anything.
    apiserver.kill();
    let refused = until("a call of which nothing is remembered", || async {
        status(&server, &viewer).await.err().filter(|refused| refused.code() != Code::PermissionDenied)
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("gives no answer"), "{refused:?}");
    server.app.stop().await;
}
