//! Asks one cluster for all facts. A question that is refused is a fact of its own and keeps no other back.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node as NodeObject};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource as _;
use kube::api::{Api, ListParams};

use crate::kubernetes::{Access, Cluster, Error, account};
use crate::verb::check::facts::{Asked, Facts, Node, Right, Skew};
use crate::verb::check::judge::{EXPORTS, IMPORTS, PEERINGS};
use crate::verb::check::{Options, probe};

mod credentials;
mod release;

pub(crate) use release::state;

/// Nodes of a page; those of large clusters come in several.
const PAGE: u32 = 500;
/// A `Date` has whole seconds.
const DATE_STEP: Duration = Duration::from_secs(1);

/// All of the cluster that a context names.
pub(crate) async fn facts(access: &Access, options: &Options) -> Facts {
    let mut facts = Facts {
        context: access.context.clone(),
        plans_userspace_tunnel: options.plans_userspace_tunnel,
        ..Facts::default()
    };
    let failed = |facts: &mut Facts, error: &Error| {
        let failure = error.failure(&access.context);
        facts.unreachable = Some((failure.one_line(), failure.hint.unwrap_or_default()));
    };
    let cluster = match Cluster::open(access, options.timeout).await {
        Ok(cluster) => cluster,
        Err(error) => {
            failed(&mut facts, &error);
            return facts;
        }
    };
    facts.credentials_end = credentials::end(&cluster.config.auth_info);
    match version(&cluster).await {
        Ok((version, skew)) => (facts.kubernetes, facts.skew) = (version, skew),
        Err(error) => {
            failed(&mut facts, &error);
            return facts;
        }
    }
    let found = release::find(&cluster).await;
    let namespace = found.as_ref().map(|found| found.mesh.namespace.clone());
    let (rights, nodes, service_cidrs, crds, corefile, storage) = tokio::join!(
        rights(&cluster, namespace.as_deref()),
        nodes(&cluster),
        service_cidrs(&cluster),
        crds(&cluster),
        corefile(&cluster),
        default_storage(&cluster),
    );
    (facts.rights, facts.nodes, facts.service_cidrs) = (rights, nodes, service_cidrs);
    (facts.crds, facts.corefile, facts.has_default_storage) = (crds, corefile, storage);
    if let Asked::Known(nodes) = &mut facts.nodes
        && options.probes
    {
        probe::all(&cluster, found.as_ref().and_then(|found| found.agent.as_ref()), options, nodes).await;
    }
    if let Some(found) = found {
        let mut mesh = found.mesh;
        mesh.admin = Some(release::admin(access, options.timeout).await);
        facts.mesh = Some(mesh);
    }
    facts
}

/// What the API server is, and its clock beside ours.
async fn version(cluster: &Cluster) -> Result<(Option<(u32, u32)>, Option<Skew>), Error> {
    let request = http::Request::get("/version").body(kube::client::Body::empty());
    let request = request.map_err(|error| Error::Mesh(error.to_string()))?;
    let asked = Instant::now();
    let answer = cluster.ask("get", "/version", cluster.client.send(request)).await?;
    let took = asked.elapsed();
    if answer.status() == http::StatusCode::UNAUTHORIZED {
        let message =
            "it says Unauthorized: the token or certificate has expired, or is not of this cluster".to_owned();
        return Err(Error::Unauthenticated { server: cluster.server.clone(), message });
    }
    let date = answer.headers().get(http::header::DATE).and_then(|value| value.to_str().ok());
    let skew = date.and_then(|text| {
        let theirs = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(difference(theirs, Timestamp::now(), took + DATE_STEP))
    });
    let number = |text: &str| text.trim_end_matches('+').parse().ok();
    let version = cluster.ask("get", "/version", cluster.client.apiserver_version()).await?;
    Ok((number(&version.major).zip(number(&version.minor)), skew))
}

/// Another clock beside ours; what the answer took, and the other's step, are not held against it.
pub(super) fn difference(theirs: Timestamp, ours: Timestamp, slack: Duration) -> Skew {
    let between = theirs.duration_since(ours);
    Skew { by: between.unsigned_abs().saturating_sub(slack), is_ahead: between.is_positive() }
}

/// What the caller may, of all that meshctl does.
async fn rights(cluster: &Cluster, mesh: Option<&str>) -> Vec<Right> {
    let of_mesh = mesh.map(str::to_owned);
    let mut wanted: Vec<(&'static str, &'static str, &'static str, Option<String>, &'static str)> = vec![
        ("list", "", "nodes", None, "`meshctl check`"),
        ("get", "mesh.isthmus.io", "clusterpeerings", None, "looking at the mesh"),
        ("update", "mesh.isthmus.io", "clusterpeerings", None, "`meshctl connect`"),
    ];
    match of_mesh {
        Some(namespace) => {
            for (verb, resource, what) in [
                ("list", "pods", "finding mesh-apiserver"),
                ("create", "pods/portforward", "reaching mesh-apiserver"),
                ("get", "configmaps", "knowing mesh-apiserver by its CA"),
                ("create", "pods", "looking into nodes"),
                ("get", "pods/log", "looking into nodes, and `meshctl sysdump`"),
            ] {
                wanted.push((verb, "", resource, Some(namespace.clone()), what));
            }
        }
        None => {
            for (group, resource) in [
                ("", "namespaces"),
                ("", "serviceaccounts"),
                ("", "services"),
                ("apps", "daemonsets"),
                ("apps", "statefulsets"),
                ("rbac.authorization.k8s.io", "clusterroles"),
                ("rbac.authorization.k8s.io", "clusterrolebindings"),
            ] {
                wanted.push(("create", group, resource, None, "`meshctl install`"));
            }
        }
    }
    let asked = wanted.into_iter().map(|(verb, group, resource, namespace, wanted_for)| async move {
        let is_given = account::may(cluster, verb, group, resource, namespace.as_deref()).await;
        // Without an answer nothing is known against it.
        is_given.ok().map(|is_given| Right { verb, group, resource, namespace, is_given, wanted_for })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn answer<T>(result: Result<T, Error>) -> Asked<T> {
    match result {
        Ok(known) => Asked::Known(known),
        Err(error) if error.is_absent() => Asked::Absent,
        Err(error) => Asked::Refused(error.to_string()),
    }
}

async fn nodes(cluster: &Cluster) -> Asked<Vec<Node>> {
    let api = Api::<NodeObject>::all(cluster.client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut nodes = Vec::new();
    loop {
        match cluster.ask("list", "nodes", api.list(&page)).await {
            Ok(list) => {
                nodes.extend(list.items.iter().map(node));
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
                    None => return Asked::Known(nodes),
                }
            }
            Err(error) => return answer(Err(error)),
        }
    }
}

fn node(object: &NodeObject) -> Node {
    let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let prefixes = object.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten());
    Node {
        name: object.meta().name.clone().unwrap_or_default(),
        os: info.map(|info| info.operating_system.clone()).unwrap_or_default(),
        architecture: info.map(|info| info.architecture.clone()).unwrap_or_default(),
        kernel: info.map(|info| info.kernel_version.clone()).unwrap_or_default(),
        is_ready: ready.is_some_and(|ready| ready.status == "True"),
        ready_message: ready.and_then(|ready| ready.message.clone()).unwrap_or_default(),
        pod_cidrs: prefixes.filter_map(|text| text.parse().ok()).collect(),
        probe: None,
        skew: None,
    }
}

async fn service_cidrs(cluster: &Cluster) -> Asked<Vec<IpNet>> {
    let api = Api::<ServiceCIDR>::all(cluster.client.clone());
    let list = cluster.ask("list", "servicecidrs.networking.k8s.io", api.list(&ListParams::default())).await;
    answer(list.map(|list| {
        let all = list.items.into_iter().filter_map(|object| object.spec?.cidrs);
        all.flatten().filter_map(|text| text.parse().ok()).collect()
    }))
}

async fn crds(cluster: &Cluster) -> Asked<Vec<String>> {
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let mut there = Vec::new();
    for name in [PEERINGS, EXPORTS, IMPORTS] {
        let what = format!("customresourcedefinitions {name}");
        match cluster.ask("get", &what, api.get_metadata(name)).await {
            Ok(_) => there.push(name.to_owned()),
            Err(error) if error.is_absent() => {}
            Err(error) => return answer(Err(error)),
        }
    }
    Asked::Known(there)
}

async fn corefile(cluster: &Cluster) -> Asked<String> {
    let api = Api::<ConfigMap>::namespaced(cluster.client.clone(), "kube-system");
    let map = cluster.ask("get", "configmaps kube-system/coredns", api.get("coredns")).await;
    match map {
        Ok(map) => map.data.and_then(|mut data| data.remove("Corefile")).map_or(Asked::Absent, Asked::Known),
        Err(error) => answer(Err(error)),
    }
}

async fn default_storage(cluster: &Cluster) -> Asked<bool> {
    let api = Api::<StorageClass>::all(cluster.client.clone());
    let list = cluster.ask("list", "storageclasses.storage.k8s.io", api.list(&ListParams::default())).await;
    answer(list.map(|list| {
        list.items.iter().any(|class| {
            let notes = class.metadata.annotations.iter().flatten();
            notes
                .into_iter()
                .any(|(key, value)| key == "storageclass.kubernetes.io/is-default-class" && value == "true")
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_without_the_time_that_the_answer_took() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let skew = difference(at(1100), at(1000), Duration::from_secs(3));
        assert_eq!(skew, Skew { by: Duration::from_secs(97), is_ahead: true });
        assert_eq!(difference(at(999), at(1000), Duration::from_secs(3)).by, Duration::ZERO);
        assert!(!difference(at(900), at(1000), DATE_STEP).is_ahead);
    }
}
