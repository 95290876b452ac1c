//! Installing and upgrading: what is found out for the user, Helm's run, and waiting until it runs.

use std::io::Write as _;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::chart::Chart;
use super::helm::{Action, Helm, Options};
use super::{manifests, only, wait};
use crate::app::Run;
use crate::args::kubernetes::{Install, Upgrade, Values};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::{Cluster, Release};
use crate::output;

const SECURITY: &str = "pod-security.kubernetes.io/enforce";

pub(crate) async fn install(run: &Run, args: &Install) -> Result<Exit, Failure> {
    let (access, cluster) = only(run).await?;
    let failed = |error: &crate::kubernetes::Error| error.failure(&cluster.context);
    let namespace = args.namespace.as_str();
    if let Some(file) = &args.manifests {
        namespace_for_agents(&cluster, namespace, args.values.dry_run).await.map_err(|error| failed(&error))?;
        manifests::apply(&cluster, file, namespace, args.values.dry_run).await?;
        return wait::until_running(run, &cluster, namespace, &args.values).await;
    }
    let helm = Helm::find()?;
    let chart = chart(&args.values)?;
    let found = found(&cluster, args).await?;
    namespace_for_agents(&cluster, namespace, args.values.dry_run).await.map_err(|error| failed(&error))?;
    let file = values_file(&found)?;
    let mut values = vec![file.path().to_owned()];
    values.extend(args.values.files.iter().cloned());
    let options = Options {
        access: &access,
        release: &args.release,
        namespace,
        values: &values,
        set: &args.values.set,
        is_dry: args.values.dry_run,
    };
    helm.run(Action::Install { chart: chart.path() }, &options).await?;
    wait::until_running(run, &cluster, namespace, &args.values).await
}

pub(crate) async fn upgrade(run: &Run, args: &Upgrade) -> Result<Exit, Failure> {
    let (access, cluster) = only(run).await?;
    let release = Release::find(&cluster).await.map_err(|error| error.failure(&cluster.context))?;
    let helm = Helm::find()?;
    let chart = chart(&args.values)?;
    let options = Options {
        access: &access,
        release: &release.instance,
        namespace: &release.namespace,
        values: &args.values.files,
        set: &args.values.set,
        is_dry: args.values.dry_run,
    };
    helm.run(Action::Upgrade { chart: chart.path() }, &options).await?;
    wait::until_running(run, &cluster, &release.namespace, &args.values).await
}

fn chart(values: &Values) -> Result<Chart, Failure> {
    match &values.chart {
        Some(path) if path.join("Chart.yaml").is_file() => Ok(Chart::Named(path.clone())),
        Some(path) => {
            Err(Failure::said(Exit::Usage, path.display().to_string(), "it is no chart: it has no Chart.yaml"))
        }
        None => Chart::built_in().map_err(|error| Failure::new(Exit::Failed, "chart", &error)),
    }
}

/// What is known without asking the user. Their own values count before it.
async fn found(cluster: &Cluster, args: &Install) -> Result<serde_json::Value, Failure> {
    let mut values = json!({ "cluster": {} });
    if let Some(name) = &args.cluster_name {
        values["cluster"]["name"] = name.clone().into();
    }
    if let Some(id) = args.cluster_id {
        values["cluster"]["id"] = id.into();
    }
    let prefixes = service_prefixes(cluster).await;
    if prefixes.is_empty() {
        output::note(
            "the prefixes of Services are not known here: name them with --set 'cluster.serviceCIDRs={PREFIX}'",
        );
    } else {
        output::note(format!("cluster.serviceCIDRs: {}", prefixes.join(", ")));
        values["cluster"]["serviceCIDRs"] = json!(prefixes);
    }
    Ok(values)
}

/// Where Kubernetes tells them (1.33), those of IPv4, which is what leaves a cluster.
async fn service_prefixes(cluster: &Cluster) -> Vec<String> {
    let api = Api::<ServiceCIDR>::all(cluster.client.clone());
    let list = cluster.ask("list", "servicecidrs.networking.k8s.io", api.list(&ListParams::default())).await;
    let all = list.map(|list| list.items).unwrap_or_default();
    let all = all.into_iter().filter_map(|object| object.spec?.cidrs).flatten();
    all.filter(|text| text.parse::<IpNet>().is_ok_and(|prefix| prefix.addr().is_ipv4())).collect()
}

fn values_file(values: &serde_json::Value) -> Result<tempfile::NamedTempFile, Failure> {
    let failed = |error: &std::io::Error| Failure::new(Exit::Failed, "values", error);
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().map_err(|error| failed(&error))?;
    file.write_all(values.to_string().as_bytes()).map_err(|error| failed(&error))?;
    Ok(file)
}

/// Agents work on the node itself, which a namespace has to allow.
async fn namespace_for_agents(cluster: &Cluster, name: &str, is_dry: bool) -> Result<(), crate::kubernetes::Error> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { SECURITY: "privileged" } },
    });
    let mut params = PatchParams::apply("meshctl").force();
    if is_dry {
        // Helm's own trial needs the namespace to be there: say so, and make none.
        let there = cluster.ask("get", "namespaces", api.get(name)).await;
        if there.is_err_and(|error| error.is_absent()) {
            output::note(format!("namespace {name} would be made, with {SECURITY}=privileged"));
        }
        params.dry_run = true;
    }
    cluster.ask("patch", "namespaces", api.patch(name, &params, &Patch::Apply(&object))).await.map(drop)
}

/// How long a wait may be, of the arguments.
pub(super) fn patience(values: &Values) -> Duration {
    Duration::from_secs(u64::from(values.wait))
}
