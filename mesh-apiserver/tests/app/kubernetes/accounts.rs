//! Namespace `isthmus-system` with its accounts, rights and tokens, as a chart would make them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{SignatureAlgorithm, SignatureScheme};

use super::apiserver::{ACCOUNT, Apiserver, Kube};
use super::objects::{namespace, node};

pub(super) const SYSTEM: &str = "isthmus-system";
pub(super) const CA_SECRET: &str = "/api/v1/namespaces/isthmus-system/secrets/isthmus-ca";
pub(super) const TRUST: &str = "/api/v1/namespaces/isthmus-system/configmaps/isthmus-trust";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The flags of all that this server trusts to Kubernetes.
pub(super) fn trust_flags() -> Vec<String> {
    vec![
        "--agent-service-account=isthmus-system/agent".to_owned(),
        "--kubernetes-ca-secret=isthmus-system/isthmus-ca".to_owned(),
        "--kubernetes-trust-configmap=isthmus-system/isthmus-trust".to_owned(),
    ]
}

/// The namespace, and what the documented roles let mesh-apiserver's account do there.
pub(super) async fn system(server: &Apiserver) {
    namespace(server, SYSTEM).await;
    bind(server, include_str!("../../../../docs/kubernetes/trust-rbac.yaml"), "isthmus-trust").await;
}

/// Makes roles, all of one name, and binds mesh-apiserver's account to each where it is.
pub(super) async fn bind(server: &Apiserver, roles: &str, name: &str) {
    for document in roles.split("\n---\n") {
        let role: Value = serde_saphyr::from_str(document).expect("YAML");
        let kind = role["kind"].as_str().expect("a kind").to_owned();
        let place = match role["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{RBAC}/namespaces/{namespace}"),
            None => RBAC.to_owned(),
        };
        server.api.create(&format!("{place}/{}s", kind.to_lowercase()), &role).await;
        let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": ACCOUNT});
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [user],
        });
        server.api.create(&format!("{place}/{}bindings", kind.to_lowercase()), &binding).await;
    }
}

pub(super) async fn account(server: &Apiserver, name: &str) {
    let accounts = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts");
    server.api.create(&accounts, &json!({"metadata": {"name": name}})).await;
}

/// Lets an account do `verb` to this cluster's peerings.
pub(super) async fn may(server: &Apiserver, account: &str, verb: &str) {
    let rule = json!({"apiGroups": ["mesh.isthmus.io"], "resources": ["clusterpeerings"], "verbs": [verb]});
    let role = json!({"metadata": {"name": account}, "rules": [rule]});
    server.api.create(&format!("{RBAC}/clusterroles"), &role).await;
    let binding = json!({
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
        "subjects": [{"kind": "ServiceAccount", "namespace": SYSTEM, "name": account}],
    });
    server.api.create(&format!("{RBAC}/clusterrolebindings"), &binding).await;
}

/// A pod of an account on a node, which is made; returns the pod's uid.
pub(super) async fn agent_pod(server: &Apiserver, pod: &str, account: &str, on: &str, ip: &str) -> String {
    node(server, on, ip, None).await;
    let container = json!({"name": "main", "image": "none"});
    let spec = json!({"nodeName": on, "serviceAccountName": account, "containers": [container]});
    let object = json!({"metadata": {"name": pod}, "spec": spec});
    let made = server.api.create(&format!("/api/v1/namespaces/{SYSTEM}/pods"), &object).await;
    made["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// What the kubelet projects, where `pod` is a pod's name and uid; what `kubectl create token` gives, where there is none.
pub(super) async fn token(
    server: &Apiserver,
    account: &str,
    audience: Option<&str>,
    pod: Option<(&str, &str)>,
) -> String {
    let bound = pod.map(|(name, uid)| json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}));
    let audiences: Vec<&str> = audience.into_iter().collect();
    let spec = json!({"audiences": audiences, "expirationSeconds": 600, "boundObjectRef": bound});
    let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token");
    let made = server.api.create(&path, &json!({ "spec": spec })).await;
    made["status"]["token"].as_str().expect("a token").to_owned()
}

/// The same token as it was an hour ago, when it lived ten minutes: signed by the API server's key, which lies in its folder.
pub(super) fn expired(kube: &Kube, token: &str) -> String {
    let [header, payload, _signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("not a JWT") };
    let mut claims: Value = serde_json::from_slice(&BASE64URL.decode(payload).expect("base64")).expect("JSON");
    for name in ["exp", "iat", "nbf"] {
        claims[name] = (claims[name].as_u64().expect("seconds") - 3600).into();
    }
    let signed = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
    let key = PrivateKeyDer::from_pem_file(kube.folder.path().join("server.key")).expect("the API server's key");
    let key = default_provider().key_provider.load_private_key(key).expect("a key");
    assert_eq!(key.algorithm(), SignatureAlgorithm::ECDSA);
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).expect("ES256");
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", BASE64URL.encode(fixed(&signature)))
}

/// A DER signature of P-256 as JWT has it: both numbers, 32 bytes each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        numbers.extend(std::iter::repeat_n(0, 32 - digits.len()).chain(digits.iter().copied()));
        rest = after;
    }
    numbers
}
