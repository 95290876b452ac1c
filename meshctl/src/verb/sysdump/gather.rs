//! What is asked of one cluster, in order. What cannot be had is told in the dump's own list, and keeps nothing else back.

use std::io;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ListParams, LogParams};
use mesh_proto::v1;
use serde_json::{Value, json};

use super::archive::Archive;
use crate::admin::Admin;
use crate::app::Run;
use crate::args::kubernetes::Sysdump;
use crate::config::Context;
use crate::kubernetes::exec::exec;
use crate::kubernetes::forward::http_get;
use crate::kubernetes::{Access, Cluster, Error, Release};
use crate::output;
use crate::verb::{certs, status};

/// A log, a map and metrics are cut to so many bytes.
const MOST: u64 = 8 << 20;
const PAGE: u32 = 500;
/// A list ends after so many pages: a dump is no backup.
const PAGES: usize = 20;
/// Lists of the whole cluster, by their path: what the mesh reads, and what it is set by.
const WIDE: [(&str, &str); 9] = [
    ("nodes", "/api/v1/nodes"),
    ("namespaces", "/api/v1/namespaces"),
    ("services", "/api/v1/services"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("clusterpeerings", "/apis/mesh.isthmus.io/v1alpha1/clusterpeerings"),
    ("meshconfigs", "/apis/mesh.isthmus.io/v1alpha1/meshconfigs"),
    ("serviceexports", "/apis/multicluster.x-k8s.io/v1beta1/serviceexports"),
    ("serviceimports", "/apis/multicluster.x-k8s.io/v1beta1/serviceimports"),
    ("servicecidrs", "/apis/networking.k8s.io/v1/servicecidrs"),
];
/// Lists of the mesh's own namespace. Of Secrets only names: their values never leave the cluster.
const OWN: [(&str, &str, &str); 11] = [
    ("pods", "api/v1", "pods"),
    ("configmaps", "api/v1", "configmaps"),
    ("serviceaccounts", "api/v1", "serviceaccounts"),
    ("persistentvolumeclaims", "api/v1", "persistentvolumeclaims"),
    ("events", "api/v1", "events"),
    ("statefulsets", "apis/apps/v1", "statefulsets"),
    ("daemonsets", "apis/apps/v1", "daemonsets"),
    ("jobs", "apis/batch/v1", "jobs"),
    ("networkpolicies", "apis/networking.k8s.io/v1", "networkpolicies"),
    ("rolebindings", "apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ("leases", "apis/coordination.k8s.io/v1", "leases"),
];
const SECRETS_AS: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;q=0";
const MAPS: [&str; 9] =
    ["config", "counters", "nodes", "endpoints", "services", "backends", "ipcache", "sockets", "ct"];

/// One cluster's folder in the dump.
pub(super) struct Folder<'a> {
    pub(super) archive: &'a mut Archive,
    pub(super) context: &'a str,
    /// What is missing in the dump, and why.
    pub(super) missing: Vec<String>,
}

impl Folder<'_> {
    fn name(&self, name: &str) -> String {
        let context: String = self
            .context
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .collect();
        format!("{context}/{name}")
    }

    fn json(&mut self, name: &str, found: Result<Value, String>) -> io::Result<()> {
        match found {
            Ok(value) => self.archive.json(&self.name(&format!("{name}.json")), value),
            Err(why) => {
                self.missing.push(format!("{name}: {why}"));
                Ok(())
            }
        }
    }

    fn text(&mut self, name: &str, found: Result<String, String>) -> io::Result<()> {
        match found {
            Ok(text) => self.archive.text(&self.name(name), &text),
            Err(why) => {
                self.missing.push(format!("{name}: {why}"));
                Ok(())
            }
        }
    }

    /// All of one cluster.
    pub(super) async fn fill(
        &mut self,
        run: &Run,
        args: &Sysdump,
        context: &Context,
        access: &Access,
    ) -> io::Result<()> {
        let cluster = match Cluster::open(access, run.timeout).await {
            Ok(cluster) => cluster,
            Err(error) => return self.json("objects", Err(error.failure(self.context).one_line())),
        };
        output::note(format!("{}: objects", self.context));
        let version = cluster.ask("get", "/version", cluster.client.apiserver_version()).await;
        self.json("version", version.map(|version| json!(version)).map_err(|error| error.to_string()))?;
        for (name, path) in WIDE {
            let found = list(&cluster, path, name, None).await;
            self.list(name, found)?;
        }
        output::note(format!("{}: what the mesh says", self.context));
        self.mesh(run, context).await?;
        let release = match Release::find(&cluster).await {
            Ok(release) => release,
            Err(error) => return self.json("release", Err(error.to_string())),
        };
        let namespace = release.namespace.as_str();
        for (name, group, plural) in OWN {
            let path = format!("/{group}/namespaces/{namespace}/{plural}");
            let found = list(&cluster, &path, name, None).await;
            self.list(&format!("mesh/{name}"), found)?;
        }
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let names = list(&cluster, &path, "secrets", Some(SECRETS_AS)).await;
        self.list("mesh/secrets-without-values", names)?;
        output::note(format!("{}: logs, metrics{}", self.context, if args.no_maps { "" } else { ", maps" }));
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let pods = cluster.ask("list", "pods", pods.list(&ListParams::default().limit(PAGE))).await;
        for pod in pods.map(|pods| pods.items).unwrap_or_default() {
            self.pod(&cluster, args, namespace, &pod).await?;
        }
        Ok(())
    }

    /// A resource that this cluster does not have is none of it, not something that is missing.
    fn list(&mut self, name: &str, found: Result<Value, Error>) -> io::Result<()> {
        match found {
            Err(error) if error.is_absent() => Ok(()),
            found => self.json(name, found.map_err(|error| error.to_string())),
        }
    }

    async fn mesh(&mut self, run: &Run, context: &Context) -> io::Result<()> {
        let mut admin = match Box::pin(Admin::connect(context, run.timeout)).await {
            Ok(admin) => admin,
            Err(failure) => return self.json("status", Err(failure.one_line())),
        };
        let result = admin.api.get_status(v1::GetStatusRequest {}).await;
        let answer = admin.answer("GetStatus", result);
        let found = answer.map(|answer| status::json(self.context, answer));
        self.json("status", found.map_err(|failure| failure.one_line()))?;
        let result = admin.api.get_certificates(v1::GetCertificatesRequest {}).await;
        let answer = admin.answer("GetCertificates", result);
        let found = answer.map(|answer| certs::json(self.context, answer));
        self.json("certificates", found.map_err(|failure| failure.one_line()))
    }

    async fn pod(&mut self, cluster: &Cluster, args: &Sysdump, namespace: &str, pod: &Pod) -> io::Result<()> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let statuses: &[ContainerStatus] =
            pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let containers: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).collect();
        for container in &containers {
            let has_restarted = statuses.iter().any(|status| status.name == container.name && status.restart_count > 0);
            for is_previous in [false, true] {
                if is_previous && !has_restarted {
                    continue;
                }
                let log = log(cluster, args, namespace, &name, &container.name, is_previous).await;
                let kind = if is_previous { "previous.log" } else { "log" };
                self.text(&format!("logs/{name}/{}.{kind}", container.name), log)?;
            }
        }
        let ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
        let metrics = ports.into_iter().find(|port| port.name.as_deref() == Some("metrics"));
        if let Some(port) = metrics.and_then(|port| u16::try_from(port.container_port).ok()) {
            let found = http_get(cluster, namespace, &name, port, "/metrics", MOST).await;
            self.text(&format!("metrics/{name}.txt"), found.map_err(|error| error.to_string()))?;
        }
        let labels = pod.metadata.labels.iter().flatten();
        let is_agent =
            labels.into_iter().any(|(key, value)| key == "app.kubernetes.io/component" && value == "node-agent");
        if is_agent && !args.no_maps {
            for map in MAPS {
                let command = ["/usr/bin/node-agent", "bpf", "dump", map, "-o", "json"].map(str::to_owned);
                let printed = exec(cluster, namespace, &name, &command, MOST).await;
                let found = match printed {
                    Ok(printed) if printed.out.is_empty() => Err(printed.err),
                    Ok(printed) => Ok(printed.out),
                    Err(error) => Err(error.to_string()),
                };
                self.text(&format!("maps/{name}/{map}.json"), found)?;
            }
        }
        Ok(())
    }
}

async fn log(
    cluster: &Cluster,
    args: &Sysdump,
    namespace: &str,
    pod: &str,
    container: &str,
    is_previous: bool,
) -> Result<String, String> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let params = LogParams {
        container: Some(container.to_owned()),
        previous: is_previous,
        tail_lines: Some(i64::from(args.log_lines)),
        limit_bytes: i64::try_from(MOST).ok(),
        timestamps: true,
        ..LogParams::default()
    };
    cluster.ask("get", "pods/log", api.logs(pod, &params)).await.map_err(|error| error.to_string())
}

/// All pages of a list, as the API server writes it.
async fn list(cluster: &Cluster, path: &str, what: &str, accept: Option<&str>) -> Result<Value, Error> {
    let mut items = Vec::new();
    let mut next = String::new();
    for _page in 0..PAGES {
        let address = if next.is_empty() {
            format!("{path}?limit={PAGE}")
        } else {
            format!("{path}?limit={PAGE}&continue={next}")
        };
        let request = http::Request::get(&address).header(http::header::ACCEPT, accept.unwrap_or("application/json"));
        let request = request.body(Vec::new()).map_err(|error| Error::Mesh(format!("{address}: {error}")))?;
        let mut page: Value = cluster.ask("list", what, cluster.client.request(request)).await?;
        let kind = page["kind"].as_str().unwrap_or_default().trim_end_matches("List").to_owned();
        for mut item in page["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            // Lists leave it out, and by it is known what is not to be shown.
            if item["kind"].is_null() && kind != "PartialObjectMetadata" {
                item["kind"] = kind.clone().into();
            }
            items.push(item);
        }
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => token.clone_into(&mut next),
            None => return Ok(Value::Array(items)),
        }
    }
    items.push(json!({ "note": format!("there are more than {} and they are left out", PAGES * PAGE as usize) }));
    Ok(Value::Array(items))
}
