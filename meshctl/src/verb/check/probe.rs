//! Looks into nodes: a pod of node-agent's image on each runs `node-agent check` with the agent's own rights and folders, says
//! what it found, and is removed, also after a failure and Ctrl-C.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, PodSpec};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use serde_json::json;

use crate::kubernetes::release::LOOK_AGAIN;
use crate::kubernetes::{Cluster, Error, undo};
use crate::output;
use crate::verb::check::Options;
use crate::verb::check::facts::{Node, Probe};
use crate::verb::check::gather::difference;

const COMPONENT: &str = "app.kubernetes.io/component";
const OURS: &str = "meshctl-check";
/// Pods at a time; more would be a load of its own on large clusters.
const AT_A_TIME: usize = 8;
const PROGRAM: [&str; 2] = ["/usr/bin/node-agent", "check"];

/// Fills in what each node's pod found. `agent` is the agents' own pod where the mesh is installed, and its namespace.
pub(super) async fn all(cluster: &Cluster, agent: Option<&(String, PodSpec)>, options: &Options, nodes: &mut [Node]) {
    let linux = nodes.iter().filter(|node| node.os == "linux").count();
    if linux == 0 {
        return;
    }
    output::note(format!("{}: looking into {linux} nodes, each by a pod that is removed at once", cluster.context));
    let place = match Place::prepare(cluster, agent, options).await {
        Ok(place) => place,
        Err(error) => {
            let why = error.to_string();
            nodes.iter_mut().filter(|node| node.os == "linux").for_each(|node| node.probe = Some(Err(why.clone())));
            return;
        }
    };
    let look = async {
        let names: Vec<String> = nodes.iter().filter(|node| node.os == "linux").map(|node| node.name.clone()).collect();
        let looks = stream::iter(names).map(|name| async {
            let looked = place.look(cluster, &name, options).await;
            (name, looked)
        });
        looks.buffer_unordered(AT_A_TIME).collect::<BTreeMap<_, _>>().await
    };
    let looked = undo::unless_interrupted(look).await;
    place.remove(cluster).await;
    for node in nodes {
        match looked.as_ref().map(|looked| looked.get(&node.name)) {
            Ok(Some(Ok((probe, at, took)))) => {
                let theirs = i64::try_from(probe.unix_millis).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
                node.skew = theirs.map(|theirs| difference(theirs, *at, *took));
                node.probe = Some(Ok(probe.clone()));
            }
            Ok(Some(Err(why))) => node.probe = Some(Err(why.clone())),
            Ok(None) => {}
            Err(interrupted) => node.probe = Some(Err(interrupted.to_string())),
        }
    }
}

/// Where the pods run, and what of them is the same on all nodes.
struct Place {
    namespace: String,
    /// It was made for this.
    is_own: bool,
    /// Of this run.
    run: String,
    spec: PodSpec,
}

type Looked = Result<(Probe, Timestamp, Duration), String>;

impl Place {
    async fn prepare(cluster: &Cluster, agent: Option<&(String, PodSpec)>, options: &Options) -> Result<Self, Error> {
        let run = undo::run_name();
        if let Some((namespace, spec)) = agent {
            let spec = of_agent(spec, options.image.as_deref());
            return Ok(Self { namespace: namespace.clone(), is_own: false, run, spec });
        }
        let namespace = format!("isthmus-check-{run}");
        let object = json!({ "metadata": { "name": namespace, "labels": {
            COMPONENT: OURS, "app.kubernetes.io/managed-by": "meshctl",
            "pod-security.kubernetes.io/enforce": "privileged",
        } } });
        let object: Namespace = read(object)?;
        let api = Api::<Namespace>::all(cluster.client.clone());
        cluster.ask("create", "namespaces", api.create(&PostParams::default(), &object)).await?;
        let spec = before_install(&options.cgroup, options.image.as_deref().unwrap_or(&options.planned_image))?;
        Ok(Self { namespace, is_own: true, run, spec })
    }

    fn pod(&self, node: &str) -> Result<Pod, Error> {
        let mut spec = self.spec.clone();
        spec.node_name = Some(node.to_owned());
        let labels = json!({
            COMPONENT: OURS, "app.kubernetes.io/managed-by": "meshctl", "mesh.isthmus.io/run": self.run,
        });
        let name = format!("meshctl-check-{}-", self.run);
        let mut pod: Pod = read(json!({ "metadata": { "generateName": name, "labels": labels } }))?;
        pod.spec = Some(spec);
        Ok(pod)
    }

    /// Runs the pod of one node and reads what it says.
    async fn look(&self, cluster: &Cluster, node: &str, options: &Options) -> Looked {
        let api = Api::<Pod>::namespaced(cluster.client.clone(), &self.namespace);
        let pod = self.pod(node).map_err(|error| error.to_string())?;
        let made = cluster.ask("create", "pods", api.create(&PostParams::default(), &pod)).await;
        let made = made.map_err(|error| error.to_string())?;
        let name = made.metadata.name.unwrap_or_default();
        let deadline = Instant::now() + options.probe_patience;
        loop {
            let asked = Instant::now();
            let pod = cluster.ask("get", "pods", api.get(&name)).await.map_err(|error| error.to_string())?;
            let (seen, took) = (Timestamp::now(), asked.elapsed());
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            let state = super::gather::state(&pod);
            match phase.as_str() {
                "Succeeded" | "Failed" => {
                    let log = cluster.ask("get", "pods/log", api.logs(&name, &LogParams::default())).await;
                    let log = log.map_err(|error| error.to_string())?;
                    let took = took + ended_before(&pod, seen);
                    return read_facts(&log, &state.image).map(|probe| (probe, seen, took));
                }
                _ => {}
            }
            let never = state.trouble.as_ref().filter(|(reason, _)| {
                ["ErrImageNeverPull", "InvalidImageName", "CreateContainerError"].contains(&reason.as_str())
            });
            if never.is_some() || Instant::now() > deadline {
                return Err(self.why(cluster, &name, state.trouble).await);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The reason in the pod, else in its last event.
    async fn why(&self, cluster: &Cluster, pod: &str, trouble: Option<(String, String)>) -> String {
        if let Some((reason, message)) = trouble {
            return format!("its pod does not run: {reason}: {message}");
        }
        let api = Api::<Event>::namespaced(cluster.client.clone(), &self.namespace);
        let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning"));
        let events = cluster.ask("list", "events", api.list(&of_pod)).await.map(|list| list.items).unwrap_or_default();
        match events.into_iter().rev().find_map(|event| Some((event.reason?, event.message?))) {
            Some((reason, message)) => format!("its pod does not run: {reason}: {message}"),
            None => "its pod does not start, and nothing says why: is its kubelet running?".to_owned(),
        }
    }

    /// Removes all that this run made.
    async fn remove(&self, cluster: &Cluster) {
        let removed = if self.is_own {
            let api = Api::<Namespace>::all(cluster.client.clone());
            cluster.ask("delete", "namespaces", api.delete(&self.namespace, &DeleteParams::default())).await.map(drop)
        } else {
            let api = Api::<Pod>::namespaced(cluster.client.clone(), &self.namespace);
            let ours = ListParams::default().labels(&format!("mesh.isthmus.io/run={}", self.run));
            let now = DeleteParams::default().grace_period(0);
            cluster.ask("delete", "pods", api.delete_collection(&now, &ours)).await.map(drop)
        };
        if let Err(error) = removed {
            let what = if self.is_own { "namespace" } else { "pods in" };
            output::note(format!("{}: {what} {} may be left: {error}", cluster.context, self.namespace));
        }
    }
}

/// How long ago the pod had ended when it was seen: what it said of its clock is as old as that, at most.
fn ended_before(pod: &Pod, seen: Timestamp) -> Duration {
    let states = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = states;
    let started = states.find_map(|status| status.state.as_ref()?.terminated.as_ref()?.started_at.clone());
    // By the node's own clock: where that is wrong, only the time that pods take is left as slack.
    let since = started.map(|started| seen.duration_since(started.0).unsigned_abs()).unwrap_or_default();
    since.min(Duration::from_secs(15))
}

fn read_facts(log: &str, image: &str) -> Result<Probe, String> {
    let line = log.lines().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| {
        let said: String = log.trim().chars().take(200).collect();
        format!("{image} has no `node-agent check` ({said}): use the image of this release")
    })?;
    serde_json::from_str(line).map_err(|error| format!("what {image} says is not understood: {error}"))
}

/// The agents' own pod, with another program and without what belongs to the agent alone.
fn of_agent(agent: &PodSpec, image: Option<&str>) -> PodSpec {
    let mut spec = agent.clone();
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| volume.host_path.is_some());
    let kept: Vec<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
    spec.containers.truncate(1);
    for container in &mut spec.containers {
        container.command = Some(PROGRAM.map(str::to_owned).to_vec());
        container.args = None;
        container.ports = None;
        (container.liveness_probe, container.readiness_probe, container.startup_probe) = (None, None, None);
        container.resources = None;
        container.volume_mounts.get_or_insert_default().retain(|mount| kept.contains(&mount.name));
        if let Some(image) = image {
            container.image = Some(image.to_owned());
        }
    }
    spec.restart_policy = Some("Never".to_owned());
    spec.priority_class_name = None;
    spec.priority = None;
    spec.node_selector = None;
    spec
}

/// What the chart's agent would be, as far as looking needs it.
fn before_install(cgroup: &str, image: &str) -> Result<PodSpec, Error> {
    let pods = ["kubepods.slice", "kubepods", "kubelet.slice/kubelet-kubepods.slice", "kubelet/kubepods", "."];
    let pods = pods.map(|folder| format!("/host/cgroup/{folder}")).join(",");
    read(json!({
        "restartPolicy": "Never", "hostNetwork": true, "automountServiceAccountToken": false,
        "enableServiceLinks": false, "tolerations": [{ "operator": "Exists" }],
        "containers": [{
            "name": "node-agent", "image": image, "imagePullPolicy": "IfNotPresent", "command": PROGRAM,
            "env": [
                { "name": "ISTHMUS_BPFFS", "value": "/sys/fs/bpf" },
                { "name": "ISTHMUS_CGROUP_ROOT", "value": pods },
                { "name": "ISTHMUS_NODE_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.hostIP" } } },
            ],
            "securityContext": {
                "runAsUser": 0, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                "seccompProfile": { "type": "Unconfined" },
                "capabilities": { "drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"] },
            },
            "volumeMounts": [
                { "name": "bpffs", "mountPath": "/sys/fs/bpf", "mountPropagation": "HostToContainer" },
                { "name": "cgroup", "mountPath": "/host/cgroup", "readOnly": true },
            ],
        }],
        "volumes": [
            { "name": "bpffs", "hostPath": { "path": "/sys/fs/bpf", "type": "Directory" } },
            { "name": "cgroup", "hostPath": { "path": cgroup, "type": "Directory" } },
        ],
    }))
}

fn read<T: serde::de::DeserializeOwned>(object: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(object).map_err(|error| Error::Mesh(format!("a pod cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_pod_is_taken_without_its_secrets_ports_and_place() {
        let agent: PodSpec = read(json!({
            "nodeSelector": { "x": "y" }, "priorityClassName": "system-node-critical",
            "containers": [{
                "name": "node-agent", "image": "r/node-agent:1", "ports": [{ "containerPort": 9974, "hostPort": 9974 }],
                "volumeMounts": [{ "name": "bpffs", "mountPath": "/b" }, { "name": "enrol", "mountPath": "/e" }],
            }],
            "volumes": [{ "name": "bpffs", "hostPath": { "path": "/b" } }, { "name": "enrol", "secret": {} }],
        }))
        .unwrap();
        let spec = of_agent(&agent, None);
        let container = &spec.containers[0];
        assert_eq!(container.command.as_deref(), Some(PROGRAM.map(str::to_owned).as_slice()));
        assert_eq!((container.ports.as_ref(), container.volume_mounts.as_ref().unwrap().len()), (None, 1));
        assert_eq!((spec.volumes.unwrap().len(), spec.node_selector), (1, None));
        assert_eq!(of_agent(&agent, Some("x")).containers[0].image.as_deref(), Some("x"));
        before_install("/sys/fs/cgroup", "x").unwrap();
    }

    #[test]
    fn an_image_without_the_check_is_named() {
        let text = read_facts("error: unrecognized subcommand", "r/node-agent:0").unwrap_err();
        assert!(text.contains("r/node-agent:0 has no `node-agent check`"), "{text}");
        let log = "some words\n{\"kernel\":\"6.6\",\"unix_millis\":1,\"bpf_missing\":[],\"tun\":true,\"ports_in_use\":[],\
                   \"forwarding\":true}\n";
        assert!(read_facts(log, "x").unwrap().forwarding);
    }
}
