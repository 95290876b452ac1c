//! Objects and small clusters for tests.

use std::time::Duration;

use bytes::Bytes;
use federation::Declaration;
use federation::contract::{ClusterConfig, Layout, Resource, keys};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};
use serde_json::{Value, json};

use crate::export::{Facts, Limits};
use crate::identity::Allocator;
use crate::index::{Index, Settings};
use crate::objects::{Object, ObjectKey};

/// Reads an object as a manifest would give it.
pub(crate) fn object(value: &Value) -> Object {
    let value = value.clone();
    match value["kind"].as_str().unwrap() {
        "Namespace" => Object::Namespace(serde_json::from_value(value).unwrap()),
        "Node" => Object::Node(serde_json::from_value(value).unwrap()),
        "Pod" => Object::Pod(serde_json::from_value(value).unwrap()),
        "Service" => Object::Service(serde_json::from_value(value).unwrap()),
        "ServiceExport" => Object::ServiceExport(serde_json::from_value(value).unwrap()),
        "EndpointSlice" => Object::EndpointSlice(serde_json::from_value(value).unwrap()),
        other => panic!("{other}"),
    }
}

pub(crate) fn pod(name: &str, ip: &str, app: &str) -> Object {
    object(&json!({
        "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app, "pod-template-hash": name}},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIP": ip, "hostIP": "192.0.2.9"},
    }))
}

pub(crate) fn node(name: &str, ip: &str, pods: &str) -> Object {
    object(&json!({
        "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]},
    }))
}

/// Service `shop/cart` with the given annotations.
pub(crate) fn service(ip: &str, annotations: &Value) -> Object {
    object(&json!({
        "kind": "Service", "metadata": {"name": "cart", "namespace": "shop", "annotations": annotations},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": "cart"},
                 "ports": [{"name": "grpc", "port": 7070, "targetPort": 8080}]},
    }))
}

/// Its slice. `backends`: address and one of `+` ready, `-` not ready, `t` terminating.
pub(crate) fn slice(name: &str, backends: &[(&str, char)]) -> Object {
    let endpoints: Vec<Value> = backends
        .iter()
        .map(|(ip, state)| {
            let conditions = match state {
                '+' => json!({"ready": true, "serving": true, "terminating": false}),
                't' => json!({"ready": false, "serving": true, "terminating": true}),
                _ => json!({"ready": false, "serving": false, "terminating": false}),
            };
            json!({"addresses": [ip], "conditions": conditions, "nodeName": "n1"})
        })
        .collect();
    object(&json!({
        "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
        "endpoints": endpoints, "ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}],
    }))
}

/// One cluster's index and export, without a store.
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    pub(crate) index: Index,
    pub(crate) facts: Facts,
    pub(crate) now: u64,
}

impl Cluster {
    pub(crate) fn new(name: &str, id: u32) -> Self {
        let (cluster, cluster_id) = (ClusterName::new(name).unwrap(), ClusterId::new(id).unwrap());
        let settings = Settings { cluster: cluster.clone(), cluster_id, encryption: Encryption::Wireguard };
        let allocator = Allocator::new(IdentityLayout::Clusters255, cluster_id, Duration::from_secs(45));
        let mut facts = Facts::new(cluster.clone(), allocator);
        facts.declare(&Declaration {
            name: cluster.clone(),
            id: cluster_id,
            uuid: uuid::Uuid::from_u128(id.into()),
            trust_bundle_pem: "CA".to_owned(),
            etcd_endpoints: Vec::new(),
            mesh_endpoints: Vec::new(),
            pod_prefixes: vec![format!("10.{id}.0.0/16").parse().unwrap()],
            node_prefixes: Vec::new(),
            service_prefixes: Vec::new(),
            layout: IdentityLayout::Clusters255,
            encryption: Encryption::Wireguard,
            version: "test".to_owned(),
        });
        Self { name: cluster, index: Index::new(settings), facts, now: 0 }
    }

    pub(crate) fn apply(&mut self, object: Object) {
        for change in self.index.apply(object) {
            self.facts.apply(change, self.now);
        }
    }

    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        for change in self.index.delete(key) {
            self.facts.apply(change, self.now);
        }
    }

    /// What is to be written, as if it were; a value of `None` is a deletion.
    pub(crate) fn commit(&mut self) -> Vec<(Bytes, Option<Bytes>)> {
        let mut written = Vec::new();
        for batch in self.facts.planner().batches(Limits { keys: 1000, bytes: 1 << 20 }) {
            written.extend(batch.puts.iter().map(|(k, v)| (k.clone(), Some(v.clone()))));
            written.extend(batch.deletes.iter().map(|k| (k.clone(), None)));
            self.facts.planner().committed(&batch);
        }
        written
    }
}

/// What a mirror makes of a peer's writes: the exported ones, under `cache/`, the peer's record and its configuration.
pub(crate) fn mirrored(cluster: &mut Cluster) -> Vec<(Bytes, Option<Bytes>)> {
    let peer = &cluster.name.clone();
    let mut out = Vec::new();
    for (key, value) in cluster.commit() {
        let key = std::str::from_utf8(&key).unwrap();
        for resource in Resource::ALL {
            if let Some(rest) = key.strip_prefix(&Layout::State.prefix(resource, peer)) {
                let key = format!("{}{rest}", Layout::Cache.prefix(resource, peer));
                out.push((key.into(), value.clone()));
            }
        }
        if key == keys::OWN_CLUSTER {
            let declaration: Declaration = serde_json::from_slice(value.as_ref().unwrap()).unwrap();
            let config = ClusterConfig::own(declaration.id, declaration.layout).into_cached().encode();
            out.push((keys::cluster_config(peer).into(), Some(config.into())));
            let put = federation::PeerRecord::isthmus(declaration, 0).to_put();
            out.push((put.key, Some(put.value)));
        }
    }
    out
}
