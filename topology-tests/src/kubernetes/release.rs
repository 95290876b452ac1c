//! The chart's release in one cluster, done as docs/guide and the chart's notes tell people to: install, connect,
//! uninstall, with helm, kubectl and meshctl in the server's pod.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Kubernetes;
use super::cluster::Cluster;
use super::kubectl::{Kubectl, has_condition};
use crate::deadline::wait_for;
use crate::names::cgroup_mount;
use crate::proc;
use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

mod images;
pub mod volumes;

pub use images::Images;

pub const NAMESPACE: &str = "isthmus";
const RELEASE: &str = "isthmus";
const SERVER: &str = "isthmus-mesh-apiserver-1";
const AGENTS: &str = "app.kubernetes.io/component=node-agent";
const READY: Duration = Duration::from_mins(2);

/// The images, or why nothing can be tested here, in one line.
pub fn missing() -> std::result::Result<Images, String> {
    if let Some(why) = super::requirements::missing() {
        return Err(why);
    }
    if cgroup_mount() == Path::new("/sys/fs/cgroup") {
        return Err(
            "nodes share the root of the one cgroup hierarchy here: an agent cannot tell their pods apart".into()
        );
    }
    Images::find()
}

/// A cluster that the chart is, or is to be, installed in.
pub struct Release<'a> {
    pub cluster: &'a Cluster,
    helm: PathBuf,
    kubectl: &'a Kubectl,
}

impl<'a> Release<'a> {
    pub fn new(run: &'a Kubernetes, cluster: &str) -> Result<Self> {
        let cluster = run.cluster(cluster)?;
        Ok(Self { cluster, helm: run.tools.program("helm")?, kubectl: &cluster.control_plane.kubectl })
    }

    pub fn name(&self) -> &str {
        &self.cluster.plan.name
    }

    /// Namespace and chart, as docs/guide/install.md says. The state of the server goes with its pod.
    pub fn install(&self, images: &Images, id: u32) -> Result<()> {
        self.install_with(images, id, &json!({}))
    }

    /// The same with more values.
    pub fn install_with(&self, images: &Images, id: u32, more: &Value) -> Result<()> {
        let mut values = self.values(images, id, false);
        for (name, value) in more.as_object().into_iter().flatten() {
            values[name] = value.clone();
        }
        self.put(&chart(), &values)
    }

    /// The same with so many replicas. One has its state in its pod. Several have volumes, and others are told the nodes'
    /// addresses: a NodePort leads from each to one that lives.
    fn install_replicated(&self, images: &Images, id: u32, replicas: u32) -> Result<()> {
        if replicas == 1 {
            return self.install(images, id);
        }
        volumes::offer(self.cluster, usize::try_from(replicas)?)?;
        let addresses: Vec<Ipv4Addr> = self.cluster.plan.nodes.iter().map(|node| node.ip).collect();
        let apiserver = json!({ "replicas": replicas, "advertise": { "addresses": addresses } });
        self.install_with(images, id, &json!({ "apiserver": apiserver }))
    }

    /// Of this chart. Where the state is kept, a volume for it is made on each node.
    pub fn install_from(&self, chart: &Path, images: &Images, id: u32, keeps_state: bool) -> Result<()> {
        if keeps_state {
            volumes::offer(self.cluster, 1)?;
        }
        self.put(chart, &self.values(images, id, keeps_state))
    }

    fn put(&self, chart: &Path, values: &Value) -> Result<()> {
        self.kubectl.run(&["create", "namespace", NAMESPACE])?;
        self.kubectl.run(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged"])?;
        let values = values.to_string();
        let mut helm = self.helm();
        helm.args(["install", RELEASE]).arg(chart).args(["-n", NAMESPACE, "-f", "-"]);
        proc::output_given("helm install", helm, &values).map(drop)
    }

    /// To this project's chart and other images, as docs/guide/upgrade.md says, until everything runs them.
    pub fn upgrade(&self, images: &Images) -> Result<()> {
        let mut helm = self.helm();
        helm.args(["upgrade", RELEASE]).arg(chart()).args(["-n", NAMESPACE, "--reset-then-reuse-values"]);
        helm.args(["--set", &format!("image.tag={}", images.tag)]);
        proc::output("helm upgrade", helm)?;
        self.all_replaced()
    }

    /// To what it was before the last upgrade.
    pub fn rollback(&self) -> Result<()> {
        let mut helm = self.helm();
        helm.args(["rollback", RELEASE, "-n", NAMESPACE]);
        proc::output("helm rollback", helm)?;
        self.all_replaced()
    }

    fn all_replaced(&self) -> Result<()> {
        self.kubectl.rolled_out(NAMESPACE, "statefulset/isthmus-mesh-apiserver", READY)?;
        self.kubectl.rolled_out(NAMESPACE, "daemonset/isthmus-node-agent", READY).with_context(|| self.agents_say())
    }

    /// What these nodes are, where it differs from most people's: no WireGuard in the kernel, and the root of the
    /// unified hierarchy is a node's own, so that all of its pods are below it.
    fn values(&self, images: &Images, id: u32, keeps_state: bool) -> Value {
        json!({
            "cluster": { "name": self.name(), "id": id, "serviceCIDRs": [self.cluster.plan.service_cidr] },
            "image": { "registry": images.registry, "tag": images.tag, "pullPolicy": "Never" },
            "apiserver": { "persistence": { "enabled": keeps_state } },
            "agent": { "podCgroups": ["."], "hostPaths": { "cgroup": cgroup_mount() } },
            "tunnel": { "enabled": true },
        })
    }

    /// Nobody does anything for it: agents enrol by their pods' tokens.
    pub fn ready(&self) -> Result<()> {
        self.kubectl.rolled_out(NAMESPACE, "statefulset/isthmus-mesh-apiserver", READY)?;
        self.kubectl.rolled_out(NAMESPACE, "daemonset/isthmus-node-agent", READY).with_context(|| self.agents_say())
    }

    /// The last words of all agents.
    fn agents_say(&self) -> String {
        let args = ["logs", "-n", NAMESPACE, "-l", AGENTS, "--tail=4", "--prefix"];
        self.kubectl.run(&args).unwrap_or_else(|error| format!("{error:#}"))
    }

    /// meshctl in the server's pod: who may `kubectl exec` there administrates.
    pub fn meshctl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.kubectl.command();
        command.args(["exec", "-i", "-n", NAMESPACE, SERVER, "--", "meshctl"]).args(args);
        proc::output_given(&format!("meshctl {}", args.join(" ")), command, input.unwrap_or_default())
    }

    /// Deletes the first replica's pod, and gives how long it takes until all agents are connected to the next one, which has
    /// another address.
    pub fn replace_server(&self) -> Result<Duration> {
        let begun = Instant::now();
        self.kubectl.run(&["delete", "pod", SERVER, "-n", NAMESPACE])?;
        self.kubectl.rolled_out(NAMESPACE, "statefulset/isthmus-mesh-apiserver", READY)?;
        let nodes = self.cluster.nodes.len();
        wait_for(&format!("agents of {} to find the server in its new place", self.name()), READY, || {
            let status: Value = serde_json::from_str(&self.meshctl(&["status", "-o", "json"], None)?)?;
            let agents = status["clusters"][0]["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
            let connected = agents.iter().filter(|agent| agent["connected"] == true).count();
            if connected == nodes { Ok(Some(())) } else { anyhow::bail!("{connected} of {nodes} are connected") }
        })?;
        Ok(begun.elapsed())
    }

    /// Joins another cluster: that one makes a token, this one redeems it. Gives when the command to join began.
    pub fn connect(&self, id: u32, other: &Release<'_>) -> Result<Instant> {
        let id = id.to_string();
        let token = other.meshctl(&["token", "create", "--peer", self.name(), "--peer-id", &id], None)?;
        let begun = Instant::now();
        self.meshctl(&["connect", self.name(), "--token-file", "-"], Some(&token))?;
        Ok(begun)
    }

    /// Joins another cluster by an object that names the Secret with its token, as people do who keep both in Git. Gives how
    /// long it took until the other's Services are used.
    pub fn join_by_object(&self, id: u32, other: &Release<'_>) -> Result<Duration> {
        let id = id.to_string();
        let token = other.meshctl(&["token", "create", "--peer", self.name(), "--peer-id", &id], None)?;
        let (name, secret) = (other.name(), format!("{}-token", other.name()));
        let metadata = json!({ "name": secret, "namespace": NAMESPACE });
        let secret_object =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "token": token } });
        let spec = json!({ "token": { "secretRef": { "name": secret, "key": "token" } } });
        let peering = json!({
            "apiVersion": "mesh.isthmus.io/v1alpha1", "kind": "ClusterPeering", "metadata": { "name": name }, "spec": spec,
        });
        let begun = Instant::now();
        self.kubectl.apply(&format!("{secret_object}\n---\n{peering}"))?;
        let waits = ["wait", "--for=condition=Ready", &format!("clusterpeering/{name}"), "--timeout=60s"];
        let waited = self.kubectl.run(&waits);
        waited.with_context(|| self.kubectl.run(&["describe", "clusterpeering", name]).unwrap_or_default())?;
        Ok(begun.elapsed())
    }

    /// Ends when the object is gone: then this side has forgotten the other.
    pub fn part_by_object(&self, other: &str) -> Result<()> {
        self.kubectl.run(&["delete", "clusterpeering", other, "--timeout=60s"]).map(drop)
    }

    /// This side's half: meshctl in the pod knows this cluster only, and exits with 2 because it cannot ask the other one.
    pub fn disconnect(&self, other: &str) -> Result<()> {
        match self.meshctl(&["disconnect", self.name(), other], None) {
            Err(error) if !format!("{error:#}").contains("disconnected") => Err(error),
            _ => Ok(()),
        }
    }

    /// What helm says. Its hook has cleaned the nodes when it ends.
    pub fn uninstall(&self) -> Result<String> {
        let mut helm = self.helm();
        helm.args(["uninstall", RELEASE, "-n", NAMESPACE, "--timeout", "5m"]);
        let said = proc::output("helm uninstall", helm)?;
        self.kubectl.run(&["delete", "namespace", NAMESPACE, "--timeout=60s"])?;
        Ok(said)
    }

    /// Waits until so many pods with a label are ready and no other is there, and gives their names.
    pub fn pods(&self, label: &str, count: usize) -> Result<Vec<Pod>> {
        wait_for(&format!("{count} pods {label} of {} to be ready", self.name()), READY, || {
            let list = self.kubectl.get(&["pods", "-n", "default", "-l", label])?;
            let all = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ready = all.iter().filter(|pod| has_condition(pod, "Ready")).filter_map(Pod::of).collect::<Vec<_>>();
            if ready.len() == count && all.len() == count {
                Ok(Some(ready))
            } else {
                anyhow::bail!("{} there, ready: {ready:?}", all.len())
            }
        })
    }

    /// How often each container of a mesh's pods was started again, by pod; all of them are ready.
    pub fn restarts(&self) -> Result<BTreeMap<String, u64>> {
        let list = self.kubectl.get(&["pods", "-n", NAMESPACE])?;
        let mut restarts = BTreeMap::new();
        for pod in list["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if !has_condition(pod, "Ready") {
                anyhow::bail!("{name} of {} is not ready", self.name());
            }
            let counts = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
            restarts.insert(name.to_owned(), counts.filter_map(|status| status["restartCount"].as_u64()).sum());
        }
        Ok(restarts)
    }

    /// The cluster's own address of a Service of the namespace `default`.
    pub fn cluster_ip(&self, service: &str) -> Result<Ipv4Addr> {
        let object = self.kubectl.get(&["service", service, "-n", "default"])?;
        let ip = object["spec"]["clusterIP"].as_str().with_context(|| format!("Service {service} has no address"))?;
        ip.parse().with_context(|| format!("{ip} is no address"))
    }

    pub fn kubectl(&self) -> &Kubectl {
        self.kubectl
    }

    fn helm(&self) -> Command {
        let mut command = Command::new(&self.helm);
        // Its caches and its configuration are not the user's.
        command.env_clear().env("HOME", "/nonexistent").env("HELM_DRIVER", "secret");
        command.arg("--kubeconfig").arg(&self.cluster.control_plane.kubeconfig);
        command
    }
}

/// The chart in two clusters, with so many replicas of mesh-apiserver each, their nodes enrolled, and the clusters joined.
pub fn install_and_connect(clusters: [&Release<'_>; 2], images: &Images, replicas: [u32; 2]) -> Result<()> {
    let installed: Vec<Result<()>> = std::thread::scope(|scope| {
        let install = |((release, id), replicas): ((&Release<'_>, u32), u32)| {
            release.install_replicated(images, id, replicas)?;
            release.ready()
        };
        let installs = clusters.into_iter().zip(1..).zip(replicas).map(|one| scope.spawn(move || install(one)));
        let installs: Vec<_> = installs.collect();
        installs.into_iter().map(|one| one.join().map_err(|_panic| anyhow!("an install panicked"))?).collect()
    });
    installed.into_iter().collect::<Result<Vec<()>>>()?;
    clusters[0].connect(1, clusters[1]).map(drop)
}

/// A pod that is ready.
#[derive(Debug, Clone)]
pub struct Pod {
    pub name: String,
    pub ip: String,
    pub node: String,
}

impl Pod {
    fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        Some(Self { name: text(&metadata["name"])?, ip: text(&status["podIP"])?, node: text(&spec["nodeName"])? })
    }
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("..")).join("helm/isthmus")
}
