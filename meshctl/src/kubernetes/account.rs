//! The token that the admin API knows a caller by.
//!
//! A caller whose kubeconfig gives a bearer token is known by that one. One that has a client certificate, or acts as somebody
//! else, has nothing that the admin API could be shown, and is given a token of ten minutes for a ServiceAccount that may no
//! more than they: `update` peerings, or only `get` them. It is made, with its role, by the caller's own rights, so Kubernetes
//! itself refuses whoever may not give them; it belongs to the release, and goes with it. See docs/adr/2026-11-29-meshctl-on-kubernetes.md.

use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http_body_util::Empty;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, PostParams};
use kube::client::ConfigExt as _;
use serde_json::json;
use tokio::runtime::Handle;
use tonic::metadata::{Ascii, MetadataValue};
use tower::{Layer as _, ServiceExt as _};

use super::cluster::Cluster;
use super::failure::Error;
use super::release::{APISERVER, LOOK_AGAIN, Release};

const GROUP: &str = "mesh.isthmus.io";
const RESOURCE: &str = "clusterpeerings";
/// The admin API's own: the token is of no use to anybody else.
const AUDIENCE: &str = "isthmus";
/// The shortest that Kubernetes makes.
const LASTS: i64 = 600;
/// A new role is known to the whole of Kubernetes within this.
const SETTLED: Duration = Duration::from_secs(5);

/// What a call of the admin API carries.
pub(crate) type Authorization = MetadataValue<Ascii>;

/// What the caller may do with the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Change,
    Look,
}

impl Right {
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Change => &["get", "update"],
            Self::Look => &["get"],
        }
    }

    fn account(self) -> &'static str {
        match self {
            Self::Change => "isthmus-meshctl-admin",
            Self::Look => "isthmus-meshctl-viewer",
        }
    }
}

/// The caller's header for the admin API of this release.
pub(crate) async fn authorization(cluster: &Cluster, release: &Release) -> Result<Authorization, Error> {
    let acts_as_another = cluster.config.auth_info.impersonate.is_some();
    if !acts_as_another && let Some(header) = own_header(cluster).await? {
        return Ok(header);
    }
    let right = right(cluster).await?;
    let token = match token(cluster, release, right).await {
        Err(error) if error.is_absent() => {
            make(cluster, release, right).await?;
            token(cluster, release, right).await?
        }
        other => other?,
    };
    header(&format!("Bearer {token}"), &cluster.server)
}

/// What the kubeconfig's user sends to the API server itself: kube is asked to write it on a request that goes nowhere, so
/// that tokens, files and credential plugins are all read as they are for Kubernetes.
async fn own_header(cluster: &Cluster) -> Result<Option<Authorization>, Error> {
    let unusable = |error| Error::of(error, &cluster.server, "get", "credentials");
    let (config, runtime) = (cluster.config.clone(), Handle::current());
    // A credential plugin is waited for by the thread that asks for its word.
    let written = tokio::task::spawn_blocking(move || {
        let Some(layer) = config.auth_layer().map_err(tower::BoxError::from)? else { return Ok(None) };
        let look = tower::service_fn(|request: http::Request<Empty<bytes::Bytes>>| async move {
            let mut written = http::Response::new(Empty::<bytes::Bytes>::new());
            if let Some(value) = request.headers().get(AUTHORIZATION) {
                written.headers_mut().insert(AUTHORIZATION, value.clone());
            }
            Ok::<_, tower::BoxError>(written)
        });
        let written = runtime.block_on(layer.layer(look).oneshot(http::Request::new(Empty::new())))?;
        Ok::<_, tower::BoxError>(written.headers().get(AUTHORIZATION).cloned())
    });
    let Ok(written) = written.await else { return Ok(None) };
    let written = written.map_err(|source| match source.downcast::<kube::Error>() {
        Ok(error) => unusable(*error),
        Err(source) => match source.downcast::<kube::client::AuthError>() {
            Ok(error) => unusable(kube::Error::Auth(*error)),
            Err(source) => Error::Unreachable { server: cluster.server.clone(), source },
        },
    })?;
    let text = written.as_ref().and_then(|value| value.to_str().ok());
    match text.filter(|text| text.starts_with("Bearer ")) {
        Some(text) => header(text, &cluster.server).map(Some),
        // A user and password are for the API server alone.
        None => Ok(None),
    }
}

fn header(text: &str, server: &str) -> Result<Authorization, Error> {
    let unusable = |_| Error::Credentials {
        server: server.to_owned(),
        reason: "the token holds characters that no token has".to_owned(),
    };
    let mut value: Authorization = text.parse().map_err(unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The most that the caller may.
async fn right(cluster: &Cluster) -> Result<Right, Error> {
    for (right, verb) in [(Right::Change, "update"), (Right::Look, "get")] {
        if may(cluster, verb, GROUP, RESOURCE, None).await? {
            return Ok(right);
        }
    }
    Err(Error::Forbidden {
        verb: "get",
        what: format!("{RESOURCE}.{GROUP}"),
        message: "whoever may get them may look at the mesh, whoever may update them may change it".to_owned(),
    })
}

/// Whether the caller may do this, as Kubernetes says.
pub(crate) async fn may(
    cluster: &Cluster,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
) -> Result<bool, Error> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let params = PostParams::default();
    let asked = api.create(&params, &review);
    let answer = cluster.ask("create", "selfsubjectaccessreviews.authorization.k8s.io", asked).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn token(cluster: &Cluster, release: &Release, right: Right) -> Result<String, Error> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(LASTS),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let api = Api::<ServiceAccount>::namespaced(cluster.client.clone(), &release.namespace);
    let what = format!("serviceaccounts/token {}/{}", release.namespace, right.account());
    let params = PostParams::default();
    let made = api.create_token_request(right.account(), &params, &request);
    let made = cluster.ask("create", &what, made).await?;
    let token = made.status.map(|status| status.token).filter(|token| !token.is_empty());
    token.ok_or_else(|| Error::Mesh(format!("the API server gives no token for {what}")))
}

/// The account last: where it is, its rights are.
async fn make(cluster: &Cluster, release: &Release, right: Right) -> Result<(), Error> {
    let (namespace, account) = (&release.namespace, right.account());
    let wide = format!("{namespace}-{account}");
    let labels = json!({
        "app.kubernetes.io/name": "isthmus", "app.kubernetes.io/instance": release.instance,
        "app.kubernetes.io/component": "meshctl", "app.kubernetes.io/managed-by": "meshctl",
    });
    let (of_cluster, of_namespace) = owners(cluster, release).await?;
    let role = json!({
        "metadata": { "name": wide, "labels": labels, "ownerReferences": of_cluster },
        "rules": [{ "apiGroups": [GROUP], "resources": [RESOURCE], "verbs": right.verbs() }],
    });
    create(cluster, Api::<ClusterRole>::all(cluster.client.clone()), "clusterroles.rbac.authorization.k8s.io", &role)
        .await?;
    let binding = json!({
        "metadata": { "name": wide, "labels": labels, "ownerReferences": of_cluster },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": wide },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
    });
    let bindings = Api::<ClusterRoleBinding>::all(cluster.client.clone());
    create(cluster, bindings, "clusterrolebindings.rbac.authorization.k8s.io", &binding).await?;
    let object = json!({
        "metadata": { "name": account, "namespace": namespace, "labels": labels, "ownerReferences": of_namespace },
        "automountServiceAccountToken": false,
    });
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), namespace);
    create(cluster, accounts, "serviceaccounts", &object).await?;
    crate::output::note(format!(
        "{}: made ServiceAccount {namespace}/{account}, by which meshctl asks the mesh where a kubeconfig has no bearer token",
        cluster.context
    ));
    settle(cluster, namespace, right).await
}

async fn create<K>(cluster: &Cluster, api: Api<K>, what: &str, object: &serde_json::Value) -> Result<(), Error>
where
    K: serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object.clone())
        .map_err(|error| Error::Mesh(format!("{what} cannot be written: {error}")))?;
    match cluster.ask("create", what, api.create(&PostParams::default(), &object)).await {
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// Objects that go when the release does: one of the cluster, and one of its namespace.
async fn owners(cluster: &Cluster, release: &Release) -> Result<(Vec<OwnerReference>, Vec<OwnerReference>), Error> {
    let wanted = ListParams::default().labels(&format!("{APISERVER},app.kubernetes.io/instance={}", release.instance));
    let roles = Api::<ClusterRole>::all(cluster.client.clone());
    let roles = cluster.ask("list", "clusterroles.rbac.authorization.k8s.io", roles.list(&wanted)).await?;
    let of_cluster = roles.items.into_iter().next().map(|role| owner("ClusterRole", role.metadata));
    Ok((of_cluster.into_iter().flatten().collect(), in_namespace(cluster, release, &wanted).await?))
}

async fn in_namespace(cluster: &Cluster, release: &Release, wanted: &ListParams) -> Result<Vec<OwnerReference>, Error> {
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), &release.namespace);
    let sets = cluster.ask("list", "statefulsets.apps", sets.list(wanted)).await?;
    Ok(sets.items.into_iter().next().and_then(|set| owner("StatefulSet", set.metadata)).into_iter().collect())
}

fn owner(kind: &str, metadata: kube::api::ObjectMeta) -> Option<OwnerReference> {
    let api_version = if kind == "StatefulSet" { "apps/v1" } else { "rbac.authorization.k8s.io/v1" };
    Some(OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: metadata.name?,
        uid: metadata.uid?,
        ..OwnerReference::default()
    })
}

/// Waits until Kubernetes knows of the new rights: mesh-apiserver remembers a refusal for a while. Whoever may not ask goes on.
async fn settle(cluster: &Cluster, namespace: &str, right: Right) -> Result<(), Error> {
    let verb = if right == Right::Change { "update" } else { "get" };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{}", right.account())),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(GROUP.to_owned()),
                resource: Some(RESOURCE.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let deadline = Instant::now() + SETTLED;
    let params = PostParams::default();
    while Instant::now() < deadline {
        let asked = api.create(&params, &review);
        match cluster.ask("create", "subjectaccessreviews.authorization.k8s.io", asked).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => return Ok(()),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) if error.is_forbidden() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
