//! Backends of one cluster to the slices that this cluster has of them. Pure.
//!
//! A slice is made for each slice of the source, so that a change of one costs one. Only ports of the import that the source
//! cluster exports itself are kept, under the import's names: a port never leads to a cluster that does not have it.

use std::collections::{BTreeMap, BTreeSet};

use federation::contract::endpoint_slice::{
    Conditions, Endpoint, EndpointPort, EndpointSliceValue, Hints, SERVICE_NAME,
};
use federation::contract::service::Ports;
use federation::contract::{ServiceExportValue, ServiceValue};
use mesh_types::ServiceName;
use serde_json::{Map, Value, json};

use super::names::{self, MCS_SERVICE, OWNER, SLICE_MANAGED_BY, SOURCE_CLUSTER};
use super::ports::name_in;
use super::resolve::Import;

/// What the datapath carries.
const FAMILY: &str = "IPv4";
/// Kubernetes' own controller fills slices so far.
const PER_SLICE: usize = 100;

/// Whose slices they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Of the Service itself, with the names that its ports have there; the nodes are this cluster's.
    Own,
    /// Of the derived Service, whose ports have the import's names. Names of nodes mean nothing here, or another node.
    Peer,
}

/// The slice to make of one of a cluster's; `None` for one that no port of the import leads to.
pub(super) fn made(
    service: &ServiceName,
    import: &Import,
    export: &ServiceExportValue,
    origin: Origin,
    source: &str,
    slice: &EndpointSliceValue,
) -> Option<(String, Value)> {
    if slice.address_type != FAMILY {
        return None;
    }
    let derived = names::derived(service);
    let name = names::slice(&derived, &export.cluster, source);
    let mut ports = Vec::new();
    for port in &import.ports {
        let Some(exported) = name_in(export, port) else { continue };
        let wanted = if origin == Origin::Own { exported } else { &port.name };
        let protocol = port.protocol.to_string();
        let is_it = |found: &&EndpointPort| {
            found.name.as_deref().unwrap_or_default() == wanted
                && found.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        ports.extend(slice.ports.iter().find(is_it).map(|found| {
            object([
                ("name", Some(json!(port.name))),
                ("protocol", Some(json!(protocol))),
                ("port", found.port.map(|number| json!(number))),
                ("appProtocol", port.app_protocol.as_ref().map(|app| json!(app))),
            ])
        }));
    }
    // What is only its backends is found by their addresses, with ports or without.
    if ports.is_empty() && !import.is_headless {
        return None;
    }
    let endpoints: Vec<Value> = slice.endpoints.iter().filter_map(|endpoint| told(endpoint, origin)).collect();
    let value = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": service.namespace,
            "labels": {
                SERVICE_NAME: derived.name,
                MCS_SERVICE: service.name,
                SOURCE_CLUSTER: export.cluster,
                SLICE_MANAGED_BY: OWNER,
            },
        },
        "addressType": FAMILY,
        "endpoints": endpoints,
        "ports": ports,
    });
    Some((name, value))
}

/// A Service's one value as slices, for a cluster that exports none: its ready backends, those with the same ports together.
pub(super) fn of_service(service: &ServiceValue) -> Vec<(String, EndpointSliceValue)> {
    let mut by_ports: BTreeMap<Vec<(&String, String, u16)>, BTreeSet<&String>> = BTreeMap::new();
    for (address, ports) in &service.backends {
        by_ports.entry(key_of(ports)).or_default().insert(address);
    }
    let mut slices = Vec::new();
    for (ports, addresses) in by_ports {
        let addresses: Vec<&String> = addresses.into_iter().filter(|address| !address.contains(':')).collect();
        for group in addresses.chunks(PER_SLICE) {
            let endpoint = |address: &&String| Endpoint {
                addresses: vec![(*address).clone()],
                conditions: Conditions { ready: Some(true), serving: Some(true), terminating: Some(false) },
                hostname: service.hostnames.get(*address).cloned(),
                node_name: None,
                zone: service.zones.get(*address).map(|zone| zone.zone.clone()).filter(|zone| !zone.is_empty()),
                hints: None,
            };
            let port = |(name, protocol, number): &(&String, String, u16)| EndpointPort {
                name: Some((*name).clone()),
                protocol: Some(protocol.clone()),
                port: Some(i32::from(*number)),
                app_protocol: None,
            };
            let value = EndpointSliceValue {
                cluster: service.cluster.clone(),
                cluster_id: service.cluster_id,
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                labels: BTreeMap::from([(SERVICE_NAME.to_owned(), service.name.clone())]),
                annotations: BTreeMap::new(),
                address_type: FAMILY.to_owned(),
                endpoints: group.iter().map(endpoint).collect(),
                ports: ports.iter().map(port).collect(),
            };
            slices.push((format!("service/{}", slices.len()), value));
        }
    }
    slices
}

fn key_of(ports: &Ports) -> Vec<(&String, String, u16)> {
    ports.iter().map(|(name, port)| (name, port.protocol.to_string(), port.port)).collect()
}

/// `None` for an endpoint without an address.
fn told(endpoint: &Endpoint, origin: Origin) -> Option<Value> {
    let address = endpoint.addresses.first()?;
    let Conditions { ready, serving, terminating } = endpoint.conditions;
    let flag = |flag: Option<bool>| flag.map(|flag| json!(flag));
    let conditions = object([("ready", flag(ready)), ("serving", flag(serving)), ("terminating", flag(terminating))]);
    let text = |text: &Option<String>| text.as_ref().filter(|text| !text.is_empty()).map(|text| json!(text));
    Some(object([
        ("addresses", Some(json!([address]))),
        ("conditions", Some(conditions)),
        ("hostname", text(&endpoint.hostname)),
        ("nodeName", text(&endpoint.node_name).filter(|_| origin == Origin::Own)),
        ("zone", text(&endpoint.zone)),
        ("hints", endpoint.hints.as_ref().and_then(hints)),
    ]))
}

fn hints(hints: &Hints) -> Option<Value> {
    let zones: Vec<Value> = hints.for_zones.iter().map(|zone| json!({"name": zone.name})).collect();
    (!zones.is_empty()).then(|| json!({"forZones": zones}))
}

/// An object of what there is.
pub(super) fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests;
