//! The release: its workloads and pods, its settings as the server has them, and what its admin API says.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec, Service as ServiceObject};
use kube::api::{Api, ListParams, ObjectMeta};
use mesh_proto::v1;

use crate::admin::Admin;
use crate::config::{Address, Context};
use crate::kubernetes::release::{APISERVER, is_ready};
use crate::kubernetes::{Access, Cluster};
use crate::verb::check::facts::{self, Mesh, PodState, Service, Workload};
use crate::verb::status;

const AGENT: &str = "app.kubernetes.io/name=isthmus,app.kubernetes.io/component=node-agent";
const SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// What is installed, and the agents' own pod, by which a node is looked into.
pub(super) struct Found {
    pub(super) mesh: Mesh,
    pub(super) agent: Option<(String, PodSpec)>,
}

/// `None` where there is none that the caller sees: pods may be missing, so the workloads are what counts.
pub(super) async fn find(cluster: &Cluster) -> Option<Found> {
    let of = |labels: &str| ListParams::default().labels(labels);
    let sets = match &cluster.namespace {
        Some(namespace) => Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let set =
        cluster.ask("list", "statefulsets.apps", sets.list(&of(APISERVER))).await.ok()?.items.into_iter().next()?;
    let namespace = set.metadata.namespace.clone()?;
    let client = || cluster.client.clone();
    let agents = Api::<DaemonSet>::namespaced(client(), &namespace);
    let agents = cluster.ask("list", "daemonsets.apps", agents.list(&of(AGENT))).await;
    let agents = agents.ok().and_then(|list| list.items.into_iter().next());
    let pods = Api::<Pod>::namespaced(client(), &namespace);
    let ours = of("app.kubernetes.io/name=isthmus");
    let pods = cluster.ask("list", "pods", pods.list(&ours)).await.map(|list| list.items).unwrap_or_default();
    let services = Api::<ServiceObject>::namespaced(client(), &namespace);
    let services = cluster.ask("list", "services", services.list(&of(APISERVER))).await;
    let space = Api::<Namespace>::all(client());
    let space = cluster.ask("get", "namespaces", space.get(&namespace)).await;

    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap_or_default();
    let container = template.containers.first().cloned().unwrap_or_default();
    let agent_template = agents.as_ref().and_then(|set| set.spec.as_ref()?.template.spec.clone()).unwrap_or_default();
    let agent_container = agent_template.containers.first().cloned().unwrap_or_default();
    let prefixes = |name: &str| {
        let text = setting(&container, name).unwrap_or_default();
        text.split(',').filter_map(|prefix| prefix.trim().parse().ok()).collect()
    };
    let server_status = set.status.clone().unwrap_or_default();
    let agent_status = agents.as_ref().and_then(|set| set.status.clone()).unwrap_or_default();
    let mesh = Mesh {
        cluster: setting(&container, "ISTHMUS_CLUSTER_NAME").unwrap_or_default(),
        id: setting(&container, "ISTHMUS_CLUSTER_ID").and_then(|text| text.parse().ok()),
        service_cidrs: prefixes("ISTHMUS_SERVICE_CIDR"),
        pod_cidrs: prefixes("ISTHMUS_POD_CIDR"),
        has_userspace_tunnel: pods.iter().any(|pod| component(&pod.metadata) == "mesh-tunnel"),
        pod_security: space.ok().and_then(|space| space.metadata.labels?.get(SECURITY).cloned()),
        servers: Workload {
            name: set.metadata.name.clone().unwrap_or_default(),
            exists: true,
            wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            ready: server_status.ready_replicas.unwrap_or(0),
            version: tag(&container),
            pods: states(&pods, "mesh-apiserver"),
        },
        agents: Workload {
            name: agents.as_ref().and_then(|set| set.metadata.name.clone()).unwrap_or_default(),
            exists: agents.is_some(),
            wanted: agent_status.desired_number_scheduled,
            ready: agent_status.number_ready,
            version: tag(&agent_container),
            pods: states(&pods, "node-agent"),
        },
        service: services.ok().and_then(|list| list.items.iter().find_map(service)),
        admin: None,
        namespace: namespace.clone(),
    };
    let agent = agents.is_some().then_some((namespace, agent_template));
    Some(Found { mesh, agent })
}

/// What the mesh says of itself, by the way that every other command takes.
pub(super) async fn admin(access: &Access, timeout: Duration) -> Result<facts::Admin, (String, String)> {
    let context = Context { name: access.context.clone(), addresses: vec![Address::Kubernetes(access.clone())] };
    let told = |failure: crate::failure::Failure| {
        let text = failure.one_line();
        (text, failure.hint.unwrap_or_else(|| "see what it says".to_owned()))
    };
    let mut admin = Box::pin(Admin::connect(&context, timeout)).await.map_err(told)?;
    let result = admin.api.get_status(v1::GetStatusRequest {}).await;
    let status = admin.answer("GetStatus", result).map_err(told)?;
    let agents = status.agents.iter().map(|agent| (agent.node.clone(), agent.version.clone())).collect();
    let (version, peers) = (status.version.clone(), status.peers.len());
    let problems = status::problems(&context.name, status);
    Ok(facts::Admin { version, problems, agents, peers })
}

fn component(metadata: &ObjectMeta) -> &str {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/component"));
    label.map_or("", String::as_str)
}

fn setting(container: &Container, name: &str) -> Option<String> {
    container.env.iter().flatten().find(|env| env.name == name)?.value.clone()
}

/// What follows the last colon of an image's name; a digest has none to show.
fn tag(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once('@') {
        Some((_, digest)) => digest.chars().take(19).collect(),
        None => name.rsplit_once(':').map_or(String::new(), |(_, tag)| tag.to_owned()),
    }
}

/// The Service that others use: the headless one is the replicas'.
fn service(object: &ServiceObject) -> Option<Service> {
    let spec = object.spec.as_ref().filter(|spec| spec.cluster_ip.as_deref() != Some("None"))?;
    let ingress = object.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    Some(Service {
        name: object.metadata.name.clone().unwrap_or_default(),
        is_load_balancer: spec.type_.as_deref() == Some("LoadBalancer"),
        has_address: ingress.is_some_and(|ingress| !ingress.is_empty()),
    })
}

fn states(pods: &[Pod], of: &str) -> Vec<PodState> {
    let ours = pods.iter().filter(|pod| component(&pod.metadata) == of && pod.metadata.deletion_timestamp.is_none());
    ours.map(state).collect()
}

/// A pod, and why it does not run: what its containers wait for, else what they ended with, else what the scheduler says.
pub(crate) fn state(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let states: Vec<_> = containers.filter_map(|container| container.state.clone()).collect();
    let waiting = states.iter().find_map(|state| {
        let waiting = state.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        (reason != "ContainerCreating" && reason != "PodInitializing")
            .then(|| (reason, waiting.message.clone().unwrap_or_default()))
    });
    let ended = states.iter().find_map(|state| {
        let ended = state.terminated.as_ref()?;
        let text = ended.message.clone().unwrap_or_else(|| format!("it ended with {}", ended.exit_code));
        Some((ended.reason.clone().unwrap_or_default(), text))
    });
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let scheduled = scheduled.map(|c| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()));
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    PodState {
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        is_ready: is_ready(pod),
        trouble: waiting.or(ended).or(scheduled),
        image: first.and_then(|container| container.image.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_a_pod_does_not_run_is_what_its_container_waits_for_before_what_the_scheduler_says() {
        let pod = |status: serde_json::Value| {
            let spec = json!({ "nodeName": "a1", "containers": [{ "name": "c", "image": "r/i:1" }] });
            state(
                &serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec, "status": status }))
                    .unwrap(),
            )
        };
        let waiting = json!({ "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "no r/i:1" } },
        }] });
        assert_eq!(pod(waiting).trouble, Some(("ErrImageNeverPull".to_owned(), "no r/i:1".to_owned())));
        let pending = json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes" },
        ] });
        assert_eq!(pod(pending).trouble.unwrap().0, "Unschedulable");
        assert_eq!(pod(json!({})).trouble, None);
    }

    #[test]
    fn a_version_is_an_images_tag() {
        let of = |image: &str| tag(&Container { image: Some(image.to_owned()), ..Container::default() });
        assert_eq!(of("registry:5000/x/node-agent:0.1.0"), "0.1.0");
        assert_eq!(of("registry:5000/x/node-agent"), "");
        assert_eq!(of("r/node-agent@sha256:0123456789abcdef0123"), "sha256:0123456789ab");
    }
}
