//! Where the mesh is in a cluster: its mesh-apiserver pods, found by their labels, and what their own settings say of the
//! cluster's name and of whom to trust. Nothing is taken from a name that somebody else may choose.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams};

use super::cluster::Cluster;
use super::failure::Error;

/// What the chart's mesh-apiserver pods are labelled with.
pub(crate) const APISERVER: &str = "app.kubernetes.io/name=isthmus,app.kubernetes.io/component=mesh-apiserver";
const CONTAINER: &str = "mesh-apiserver";
const MESH_PORT: u16 = 2382;
/// Lists are small: replicas of one server.
const MOST: u32 = 50;
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The mesh's control plane in one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) namespace: String,
    /// Of the cluster, in the mesh.
    pub(crate) cluster: String,
    /// Its pods: those that are ready first.
    pub(crate) pods: Vec<String>,
    /// Of the admin API, in the pod.
    pub(crate) port: u16,
    /// Of the chart, `app.kubernetes.io/instance`.
    pub(crate) instance: String,
    /// `namespace/name` of the ConfigMap with the CAs; empty where the server was given none.
    trust: String,
}

impl Release {
    /// Finds it, where the caller may see pods.
    pub(crate) async fn find(cluster: &Cluster) -> Result<Self, Error> {
        let pods = Self::list(cluster).await?;
        Self::of(&pods, &cluster.context)
    }

    async fn list(cluster: &Cluster) -> Result<Vec<Pod>, Error> {
        let wanted = ListParams::default().labels(APISERVER).limit(MOST);
        let in_one = |namespace: &str| Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let (api, what) = match &cluster.namespace {
            Some(namespace) => (in_one(namespace), format!("pods in {namespace}")),
            None => (Api::all(cluster.client.clone()), "pods".to_owned()),
        };
        match cluster.ask("list", &what, api.list(&wanted)).await {
            Ok(pods) => Ok(pods.items),
            // Whoever may see one namespace only has it in the kubeconfig's context.
            Err(error) if error.is_forbidden() && cluster.namespace.is_none() => {
                let namespace = &cluster.config.default_namespace;
                let api = in_one(namespace);
                let found = cluster.ask("list", &format!("pods in {namespace}"), api.list(&wanted)).await;
                found.map(|pods| pods.items).map_err(|_same| error)
            }
            Err(error) => Err(error),
        }
    }

    /// Of all mesh-apiserver pods that are seen.
    fn of(pods: &[Pod], context: &str) -> Result<Self, Error> {
        let mut namespaces: Vec<&str> = pods.iter().filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let namespace = match namespaces[..] {
            [one] => one,
            [] => {
                return Err(Error::Mesh(format!(
                    "there is no mesh-apiserver in it (no pod has the labels {APISERVER}): install it with `meshctl \
                     install --context {context}`"
                )));
            }
            _ => {
                let all = namespaces.join(", ");
                return Err(Error::Mesh(format!("several have a mesh-apiserver: {all}: name one, --mesh-namespace")));
            }
        };
        let mut found: Vec<&Pod> = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        found.sort_by_key(|pod| (!is_ready(pod), pod.metadata.name.clone()));
        let named = |pod: &&Pod| pod.metadata.name.clone();
        let Some(first) = found.first() else {
            return Err(Error::Mesh(format!("all mesh-apiserver pods in {namespace} are being deleted")));
        };
        let label = |key: &str| first.metadata.labels.as_ref().and_then(|all| all.get(key)).cloned();
        let cluster = setting(first, "ISTHMUS_CLUSTER_NAME", "--cluster-name");
        let Some(cluster) = cluster.filter(|name| !name.is_empty()) else {
            let pod = named(first).unwrap_or_default();
            return Err(Error::Mesh(format!(
                "pod {namespace}/{pod} does not say which cluster it is of (ISTHMUS_CLUSTER_NAME, --cluster-name)"
            )));
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            cluster,
            pods: found.iter().filter_map(named).collect(),
            port: port(first).unwrap_or(MESH_PORT),
            instance: label("app.kubernetes.io/instance").unwrap_or_else(|| "isthmus".to_owned()),
            trust: setting(first, "ISTHMUS_KUBERNETES_TRUST_CONFIGMAP", "--kubernetes-trust-configmap")
                .unwrap_or_default(),
        })
    }

    /// The CAs that vouch for its servers, as PEM, by the caller's own right to read them.
    pub(crate) async fn trusted(&self, cluster: &Cluster) -> Result<String, Error> {
        let Some((namespace, name)) = self.trust.split_once('/') else {
            return Err(Error::Mesh(format!(
                "its mesh-apiserver does not publish its CA (ISTHMUS_KUBERNETES_TRUST_CONFIGMAP), so it cannot be told from \
                 another server: upgrade it with `meshctl upgrade`, or ask it in its pod: kubectl --context {} exec -n {} \
                 {} -- meshctl ...",
                cluster.context,
                self.namespace,
                self.pods.first().map_or("POD", String::as_str)
            )));
        };
        let what = format!("configmaps {}", self.trust);
        let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
        let map = cluster.ask("get", &what, api.get(name)).await.map_err(|error| match error {
            Error::Absent { .. } => Error::Mesh(format!(
                "ConfigMap {}, by which its server is known, is not there yet: is a mesh-apiserver ready? kubectl --context {} \
                 get pods -n {}",
                self.trust, cluster.context, self.namespace
            )),
            other => other,
        })?;
        let bundle = map.data.and_then(|mut data| data.remove("ca.crt")).filter(|text| text.contains("BEGIN CERT"));
        bundle.ok_or_else(|| Error::Mesh(format!("ConfigMap {} has no certificate at ca.crt", self.trust)))
    }

    /// The name in its server's certificate.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.mesh.isthmus.io", self.cluster)
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A setting of the server: its flag, else its variable.
fn setting(pod: &Pod, variable: &str, flag: &str) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let container = containers.iter().find(|container| container.name == CONTAINER).or(containers.first())?;
    let mut words = container.command.iter().chain(&container.args).flatten();
    while let Some(word) = words.next() {
        match word.strip_prefix(flag) {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    container.env.iter().flatten().find(|env| env.name == variable)?.value.clone()
}

fn port(pod: &Pod) -> Option<u16> {
    let ports = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.into_iter().find(|port| port.name.as_deref() == Some("mesh"))?;
    u16::try_from(port.container_port).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, ready: bool, env: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": namespace, "labels": { "app.kubernetes.io/instance": "mesh" } },
            "spec": { "containers": [{
                "name": "mesh-apiserver", "env": env, "ports": [{ "name": "mesh", "containerPort": 12382 }],
            }] },
            "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_release_is_what_its_own_pods_say_and_ready_ones_are_asked_first() {
        let env = json!([
            { "name": "ISTHMUS_CLUSTER_NAME", "value": "east" },
            { "name": "ISTHMUS_KUBERNETES_TRUST_CONFIGMAP", "value": "m/trust" },
        ]);
        let found = Release::of(&[pod("m", "s-1", false, &env), pod("m", "s-2", true, &env)], "kind-a").unwrap();
        assert_eq!((found.cluster.as_str(), found.namespace.as_str(), found.port), ("east", "m", 12382));
        assert_eq!((found.pods.join(","), found.trust.as_str()), ("s-2,s-1".to_owned(), "m/trust"));
        assert_eq!((found.instance.as_str(), found.server_name().as_str()), ("mesh", "east.mesh.isthmus.io"));
    }

    #[test]
    fn none_several_and_nameless_ones_are_told_with_what_to_do() {
        let none = Release::of(&[], "kind-a").unwrap_err().to_string();
        assert!(none.contains("meshctl install --context kind-a"), "{none}");
        let two = [pod("m", "s-1", true, &json!([])), pod("n", "s-1", true, &json!([]))];
        let text = Release::of(&two, "kind-a").unwrap_err().to_string();
        assert!(text.contains("m, n") && text.contains("--mesh-namespace"), "{text}");
        let text = Release::of(&two[..1], "kind-a").unwrap_err().to_string();
        assert!(text.contains("pod m/s-1 does not say which cluster it is of"), "{text}");
    }

    #[test]
    fn a_flag_counts_before_a_variable() {
        let mut pod = pod("m", "s-1", true, &json!([{ "name": "V", "value": "env" }]));
        assert_eq!(setting(&pod, "V", "--v").as_deref(), Some("env"));
        pod.spec.as_mut().unwrap().containers[0].args = Some(vec!["--vv=no".into(), "--v".into(), "flag".into()]);
        assert_eq!(setting(&pod, "V", "--v").as_deref(), Some("flag"));
        pod.spec.as_mut().unwrap().containers[0].args = Some(vec!["--v=flag".into()]);
        assert_eq!(setting(&pod, "V", "--v").as_deref(), Some("flag"));
    }
}
