//! One cluster's part of a test: its objects are made, waited for, asked through, and removed.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams};

use super::cell::{Client, From};
use super::objects::{self, Wanted, service_name};
use crate::kubernetes::exec::exec;
use crate::kubernetes::release::{LOOK_AGAIN, is_ready};
use crate::kubernetes::{Cluster, Error, Release};
use crate::output;
use crate::verb::check::pod_state;

/// Nodes that clients are put on.
const NODES: usize = 2;
/// A namespace's deletion is waited for so long.
const GONE: Duration = Duration::from_mins(1);
/// What a command in a pod may print.
const MOST: u64 = 16 << 10;

/// A cluster in the test.
pub(super) struct Place {
    pub(super) cluster: Cluster,
    pub(super) wanted: Wanted,
}

/// What there is to ask, once all pods run.
pub(super) struct Ready {
    pub(super) clients: Vec<Client>,
    pub(super) server: String,
    /// Addresses of the Services here, one for each cluster's server.
    pub(super) services: Vec<String>,
}

impl Place {
    /// Chooses nodes and an image; makes nothing.
    pub(super) async fn plan(
        cluster: Cluster,
        number: usize,
        clusters: usize,
        namespace: &str,
        image: Option<&str>,
    ) -> Result<Self, Error> {
        let release = Release::find(&cluster).await?;
        let image = match image {
            Some(image) => image.to_owned(),
            None => image_of(&cluster, &release).await?,
        };
        let nodes = Api::<Node>::all(cluster.client.clone());
        let nodes = cluster.ask("list", "nodes", nodes.list(&ListParams::default())).await?;
        let mut usable: Vec<String> = nodes.items.iter().filter(|node| is_usable(node)).filter_map(name).collect();
        usable.truncate(NODES);
        if usable.is_empty() {
            return Err(Error::Mesh("no node is ready and takes pods: see `meshctl check`".to_owned()));
        }
        let (namespace, name) = (namespace.to_owned(), release.cluster.clone());
        let wanted = Wanted { namespace, cluster: name, number, clusters, image, nodes: usable };
        Ok(Self { cluster, wanted })
    }

    pub(super) async fn make(&self) -> Result<(), Error> {
        let (client, namespace) = (|| self.cluster.client.clone(), &self.wanted.namespace);
        let spaces = Api::<Namespace>::all(client());
        objects::create(&self.cluster, &spaces, "namespaces", self.wanted.namespace()).await?;
        let services = Api::<Service>::namespaced(client(), namespace);
        for service in self.wanted.services() {
            objects::create(&self.cluster, &services, "services", service).await?;
        }
        let pods = Api::<Pod>::namespaced(client(), namespace);
        for pod in self.wanted.pods() {
            self.make_pod(&pods, pod).await?;
        }
        Ok(())
    }

    /// A namespace's own account is made a moment after it.
    async fn make_pod(&self, pods: &Api<Pod>, pod: serde_json::Value) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match objects::create(&self.cluster, pods, "pods", pod.clone()).await {
                Err(Error::Forbidden { message, .. })
                    if message.contains("serviceaccount") && Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                made => return made.map(drop),
            }
        }
    }

    /// Waits until every pod runs; the error says which one does not, and why.
    pub(super) async fn ready(&self, within: Duration) -> Result<Ready, Error> {
        let api = Api::<Pod>::namespaced(self.cluster.client.clone(), &self.wanted.namespace);
        let wanted = self.wanted.pods().len();
        let deadline = Instant::now() + within;
        let pods = loop {
            let pods = self.cluster.ask("list", "pods", api.list(&ListParams::default())).await?.items;
            let late: Vec<_> = pods.iter().filter(|pod| !is_ready(pod)).collect();
            if pods.len() >= wanted && late.is_empty() {
                break pods;
            }
            if Instant::now() > deadline {
                return Err(self.late(&late));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let mut clients = Vec::new();
        let mut server = String::new();
        for pod in &pods {
            let kind = match pod.metadata.name.as_deref().unwrap_or_default() {
                "server" => {
                    server = address(pod);
                    continue;
                }
                name if name.starts_with("host-") => From::Host,
                _ => From::Pod,
            };
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            clients.push(Client {
                kind,
                pod: pod.metadata.name.clone().unwrap_or_default(),
                node,
                address: address(pod),
            });
        }
        let services = Api::<Service>::namespaced(self.cluster.client.clone(), &self.wanted.namespace);
        let mut addresses = Vec::new();
        for number in 0..self.wanted.clusters {
            let service = self.cluster.ask("get", "services", services.get(&service_name(number))).await?;
            addresses.push(service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default());
        }
        Ok(Ready { clients, server, services: addresses })
    }

    fn late(&self, late: &[&Pod]) -> Error {
        let Some(pod) = late.first() else {
            return Error::Mesh(format!("not all pods of the test were made in {}", self.wanted.namespace));
        };
        let state = pod_state(pod);
        let why = match state.trouble {
            Some((reason, message)) => format!("{reason}: {message}"),
            None => "it has not started; is its node's kubelet running?".to_owned(),
        };
        Error::Mesh(format!(
            "pod {} on {} does not run ({why}): --image names an image of meshctl of this version ({} now)",
            state.name, state.node, self.wanted.image
        ))
    }

    /// Runs a command in a pod: what it printed, or what it said on standard error.
    pub(super) async fn exec(&self, pod: &str, command: &[String]) -> Result<Result<String, String>, Error> {
        let printed = exec(&self.cluster, &self.wanted.namespace, pod, command, MOST).await?;
        let (out, err) = (printed.out.trim(), printed.err.trim());
        Ok(if out.is_empty() { Err(err.to_owned()) } else { Ok(out.to_owned()) })
    }

    /// Removes the namespace, and with it everything.
    pub(super) async fn remove(&self) {
        remove(&self.cluster, &self.wanted.namespace).await;
    }
}

/// Removes a namespace and waits until it is gone.
pub(super) async fn remove(cluster: &Cluster, namespace: &str) {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let deadline = Instant::now() + GONE;
    let mut asked =
        cluster.ask("delete", "namespaces", api.delete(namespace, &DeleteParams::default())).await.map(drop);
    while asked.is_ok() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        asked = cluster.ask("get", "namespaces", api.get(namespace)).await.map(drop);
    }
    match asked {
        Err(error) if error.is_absent() => {}
        Err(error) => output::note(format!("{}: namespace {namespace} may be left: {error}", cluster.context)),
        Ok(()) => output::note(format!(
            "{}: namespace {namespace} is still being removed; see that it goes: kubectl --context {} get namespace {namespace}",
            cluster.context, cluster.context
        )),
    }
}

/// What the mesh's own server runs, which has meshctl in it, and which the nodes could pull.
async fn image_of(cluster: &Cluster, release: &Release) -> Result<String, Error> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &release.namespace);
    let pod = release.pods.first().cloned().unwrap_or_default();
    let pod = cluster.ask("get", "pods", api.get(&pod)).await?;
    let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
    image.ok_or_else(|| Error::Mesh("mesh-apiserver has no image: name one with --image".to_owned()))
}

fn name(node: &Node) -> Option<String> {
    node.metadata.name.clone()
}

fn is_usable(node: &Node) -> bool {
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let status = node.status.clone().unwrap_or_default();
    let is_linux = status.node_info.is_some_and(|info| info.operating_system == "linux");
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    is_linux && is_ready && !is_cordoned
}
