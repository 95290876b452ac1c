//! What is to be there for one name, by what the own cluster and the joined ones have. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use federation::contract::ServiceExportValue;
use mesh_types::exchange::{EXPORT_TO, IMPORT_FROM};
use mesh_types::service::{GLOBAL, SHARED};
use mesh_types::{ClusterId, ClusterName, GlobalSettings, ServiceName, WithdrawAfter};
use serde_json::{Map, Value, json};

use super::conditions::{self, Said};
use super::local::Local;
use super::names::{self, MANAGED_BY, MCS_SERVICE, OWNER};
use super::remote::Remote;
use super::resolve::{Import, resolve};
use super::slices::{self, Origin, object};
use crate::index::exports::{FAMILY, NotExported, exported};
use crate::objects::ServiceExport;

/// The group and version of what is made.
pub(super) const API_VERSION: &str = "multicluster.x-k8s.io/v1beta1";

#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// `None`: nothing is to be there.
    pub(super) import: Option<Import>,
    /// By their names.
    pub(super) slices: BTreeMap<String, Value>,
    /// What is to be said of the own export, where there is one.
    pub(super) export: Option<Vec<Said>>,
    /// Settings of the derived Service.
    pub(super) annotations: BTreeMap<String, String>,
}

impl Wanted {
    pub(super) fn of(name: &ServiceName, local: &Local, remote: &Remote, own: &ClusterName, id: ClusterId) -> Self {
        let service = local.service(name);
        let export = local.export(name);
        let told = export.map(|export| exported(export, service, own));
        let own_value = told.as_ref().and_then(|told| told.as_ref().ok());
        let remote_values: Vec<(&ClusterName, &ServiceExportValue)> =
            remote.exports(name).filter(|(cluster, _)| *cluster != own).collect();
        let all = remote_values.iter().map(|(_, value)| *value).chain(own_value);
        let import = resolve(all).filter(|_| local.has_namespace(&name.namespace));
        let said = told.as_ref().map(|told| {
            let told: Result<(), &NotExported> = told.as_ref().map(|_value| ());
            conditions::of_export(told, import.as_ref())
        });
        let mut wanted = Self { export: said, ..Self::default() };
        let Some(import) = import else { return wanted };
        wanted.annotations = annotations(service.map(|service| &service.metadata.annotations));
        if is_carried(&import) {
            let mut add = |made: Option<(String, Value)>| wanted.slices.extend(made);
            if let Some(value) = own_value {
                for slice in local.slices_of(name).filter(|slice| slice.source_cluster().is_none()) {
                    let Some(told) = slice.value(own, id) else { continue };
                    add(slices::made(name, &import, value, Origin::Own, &slice.metadata.name, &told));
                }
            }
            let derived = names::derived(name);
            let setting = withdraw_after(&wanted.annotations);
            for (cluster, value) in remote_values {
                if remote.is_withdrawn(cluster, setting) {
                    continue;
                }
                for (source, slice) in remote.backends(&derived, cluster) {
                    add(slices::made(name, &import, value, Origin::Peer, &source, &slice));
                }
            }
        }
        wanted.import = Some(import);
        wanted
    }
}

/// Whether the datapath carries a family that all exports have. Versions that do not say had none to choose.
pub(super) fn is_carried(import: &Import) -> bool {
    import.ip_families.as_ref().is_none_or(|families| families.iter().any(|family| family == FAMILY))
}

pub(super) fn import_object(name: &ServiceName, import: &Import, addresses: &[IpAddr]) -> Value {
    let mut labels = strings(&import.labels);
    labels.insert(MANAGED_BY.to_owned(), OWNER.into());
    let ports: Vec<Value> = import.ports.iter().map(|port| port_object(port, |_| ())).collect();
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let families: &[&str] = if is_carried(import) { &[FAMILY] } else { &[] };
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceImport",
        "metadata": {
            "name": name.name,
            "namespace": name.namespace,
            "labels": labels,
            "annotations": strings(&import.annotations),
        },
        "spec": object([
            ("type", Some(json!(if import.is_headless { "Headless" } else { "ClusterSetIP" }))),
            ("ports", Some(ports.into())),
            ("ips", (!addresses.is_empty()).then(|| json!(addresses))),
            ("ipFamilies", Some(json!(families))),
            ("sessionAffinity", Some(json!(import.session_affinity))),
            ("sessionAffinityConfig", affinity_config(import)),
            ("internalTrafficPolicy", import.internal_traffic_policy.as_ref().map(|policy| json!(policy))),
            ("trafficDistribution", import.traffic_distribution.as_ref().map(|how| json!(how))),
        ]),
    })
}

/// The Service that has the import's address. `owner` is the import's uid.
pub(super) fn service_object(
    name: &ServiceName,
    import: &Import,
    owner: &str,
    annotations: &BTreeMap<String, String>,
) -> Value {
    let derived = names::derived(name);
    let target = |port: &mut Map<String, Value>| {
        // Never used, as nothing selects pods; said, so that the API server has nothing to add.
        let number = port["port"].clone();
        port.insert("targetPort".to_owned(), number);
    };
    let ports: Vec<Value> = import.ports.iter().map(|port| port_object(port, target)).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": derived.name,
            "namespace": derived.namespace,
            "labels": { MANAGED_BY: OWNER, MCS_SERVICE: name.name },
            "annotations": annotations,
            "ownerReferences": owners(name, owner),
        },
        "spec": object([
            ("type", Some("ClusterIP".into())),
            ("clusterIP", import.is_headless.then(|| "None".into())),
            ("ipFamilyPolicy", Some("SingleStack".into())),
            ("ipFamilies", Some(json!([FAMILY]))),
            ("ports", Some(ports.into())),
            ("sessionAffinity", Some(json!(if import.is_headless { "None" } else { &import.session_affinity }))),
            ("sessionAffinityConfig", affinity_config(import).filter(|_| !import.is_headless)),
            ("internalTrafficPolicy", import.internal_traffic_policy.as_ref().map(|policy| json!(policy))),
            ("trafficDistribution", import.traffic_distribution.as_ref().map(|how| json!(how))),
        ]),
    })
}

/// What is made for an import goes with it.
pub(super) fn owners(name: &ServiceName, uid: &str) -> Value {
    json!([{ "apiVersion": API_VERSION, "kind": "ServiceImport", "name": name.name, "uid": uid }])
}

/// The status of an import.
pub(super) fn import_status(name: &ServiceName, import: &Import, conditions: &[crate::objects::Condition]) -> Value {
    let clusters: Vec<Value> = import.clusters.iter().map(|cluster| json!({ "cluster": cluster })).collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceImport",
        "metadata": { "name": name.name, "namespace": name.namespace },
        "status": { "clusters": clusters, "conditions": conditions },
    })
}

/// The status of an export. Its uid is said, so that one of this name that was made since is not taken for it.
pub(super) fn export_status(export: &ServiceExport, conditions: &[crate::objects::Condition]) -> Value {
    let meta = &export.metadata;
    json!({
        "apiVersion": API_VERSION,
        "kind": "ServiceExport",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid },
        "status": { "conditions": conditions },
    })
}

fn port_object(port: &super::ports::ImportPort, more: impl Fn(&mut Map<String, Value>)) -> Value {
    let mut value = object([
        ("name", (!port.name.is_empty()).then(|| json!(port.name))),
        ("protocol", Some(json!(port.protocol.to_string()))),
        ("port", Some(json!(port.port))),
        ("appProtocol", port.app_protocol.as_ref().map(|app| json!(app))),
    ]);
    if let Value::Object(fields) = &mut value {
        more(fields);
    }
    value
}

fn affinity_config(import: &Import) -> Option<Value> {
    import.client_ip_seconds.map(|seconds| json!({ "clientIP": { "timeoutSeconds": seconds } }))
}

fn strings(map: &BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

/// The derived Service is global, and what the own Service of the name says of the mesh counts for it too: who may have it, and
/// which clusters it prefers here. Settings that are not understood are left out, as they are there; but never who may have it.
fn annotations(own: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let is_sharing = |key: &&String| GLOBAL.iter().chain(&SHARED).any(|name| key == name);
    let own = own.into_iter().flatten().filter(|(key, _)| !is_sharing(key));
    let mut all: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.insert(GLOBAL[0].to_owned(), "true".to_owned());
    if GlobalSettings::from_annotations(&all).is_err() {
        all.retain(|key, _| [GLOBAL[0], EXPORT_TO, IMPORT_FROM].contains(&key.as_str()));
    }
    all
}

fn withdraw_after(annotations: &BTreeMap<String, String>) -> Option<WithdrawAfter> {
    GlobalSettings::from_annotations(annotations).ok()?.prefers.withdraw_after
}

#[cfg(test)]
mod tests;
