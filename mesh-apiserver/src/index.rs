//! Objects in, desired keys out: plain structs, one file a kind. No async, no client, no clock.
//!
//! ```text
//!  Namespace ----labels----+        (its terms: Terms)
//!  Pod  ------------------ + --> Ip           (identity labels, host)
//!  Node -- + --------------+ --> Node
//!  agent's Registration ---+
//!  Service ------ + -----------> LocalService, Service (when global and shared), Terms
//!  EndpointSlice -+ -----------> LocalBackend, EndpointSlice (of a Service that is global and shared)
//!  ServiceExport -+ with Service -> ServiceExport
//! ```
//! An object that changes makes exactly the keys that depend on it be worked out again; only those that differ come out.

mod desired;
mod endpoints;
pub(crate) mod exports;
mod namespaces;
mod nodes;
mod pods;
mod services;
mod terms;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::exchange::Scope;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, ServiceName};

use self::desired::Desired;
pub use self::desired::{Address, Change, Key, Value};
use self::endpoints::Endpoints;
use self::exports::Exports;
use self::namespaces::Namespaces;
use self::nodes::Nodes;
use self::pods::Pods;
use self::services::Services;
use crate::objects::{Kind, Object, ObjectKey};
use crate::registration::Registration;

/// What the index knows of its own cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    pub cluster: ClusterName,
    pub cluster_id: ClusterId,
    pub encryption: Encryption,
}

/// All objects of the cluster and the keys they make.
pub struct Index {
    settings: Settings,
    namespaces: Namespaces,
    nodes: Nodes,
    pods: Pods,
    services: Services,
    endpoints: Endpoints,
    exports: Exports,
    terms: terms::Errors,
    desired: Desired,
}

impl Index {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            namespaces: Namespaces::default(),
            nodes: Nodes::default(),
            pods: Pods::default(),
            services: Services::default(),
            endpoints: Endpoints::default(),
            exports: Exports::default(),
            terms: terms::Errors::default(),
            desired: Desired::default(),
        }
    }

    pub fn apply(&mut self, object: Object) -> Vec<Change> {
        match object {
            Object::Namespace(namespace) => {
                let name = namespace.metadata.name.clone();
                let terms = self.terms.of_namespace(&namespace);
                self.desired.set(Key::Terms(Scope::Namespace(name.clone())), Some(Value::Terms(terms)));
                if self.namespaces.apply(namespace) {
                    let ips = self.pods.ips_in_namespace(&name);
                    self.refresh_ips(ips);
                }
            }
            Object::Node(node) => {
                let name = node.metadata.name.clone();
                self.nodes.apply(node);
                self.refresh_node(&name);
            }
            Object::Pod(pod) => {
                let ips = self.pods.apply(pod);
                self.refresh_ips(ips);
            }
            Object::Service(service) => {
                let terms = self.terms.of_service(&service).map(Value::Terms);
                let name = self.services.apply(service);
                self.desired.set(Key::Terms(Scope::Service(name.clone())), terms);
                self.refresh_service(&name);
                self.refresh_slices(&name);
                self.refresh_export(&name);
            }
            Object::EndpointSlice(slice) => {
                let key = ObjectKey::new(Kind::EndpointSlice, &slice.metadata);
                if slice.source_cluster().is_some_and(|cluster| cluster != self.settings.cluster.as_str()) {
                    // Backends of another cluster are that one's to tell.
                    return self.delete(&key);
                }
                for name in self.endpoints.apply(slice) {
                    self.refresh_service(&name);
                }
                self.refresh_slice(&key);
            }
            Object::ServiceExport(export) => {
                let name = self.exports.apply(export);
                self.refresh_export(&name);
            }
            // It says what the exports say.
            Object::ServiceImport(_) => {}
        }
        self.desired.take_changes()
    }

    pub fn delete(&mut self, key: &ObjectKey) -> Vec<Change> {
        match key.kind {
            Kind::Namespace => {
                self.namespaces.delete(&key.name);
                self.withdraw(Scope::Namespace(key.name.clone()));
                let ips = self.pods.ips_in_namespace(&key.name);
                self.refresh_ips(ips);
            }
            Kind::Node => {
                self.nodes.delete(&key.name);
                self.refresh_node(&key.name);
            }
            Kind::Pod => {
                let ips = self.pods.delete(key);
                self.refresh_ips(ips);
            }
            Kind::Service => {
                let name = ServiceName::new(key.namespace.clone(), key.name.clone());
                self.services.delete(&name);
                self.refresh_service(&name);
                self.refresh_slices(&name);
                self.refresh_export(&name);
                self.withdraw(Scope::Service(name));
            }
            Kind::EndpointSlice => {
                if let Some(name) = self.endpoints.delete(key) {
                    self.refresh_service(&name);
                }
                self.refresh_slice(key);
            }
            Kind::ServiceExport => {
                let name = ServiceName::new(key.namespace.clone(), key.name.clone());
                self.exports.delete(&name);
                self.refresh_export(&name);
            }
            Kind::ServiceImport => {}
        }
        self.desired.take_changes()
    }

    /// The node's agent said what other nodes need to know; `None`: its registration is gone.
    pub fn register(&mut self, node: &str, registration: Option<Registration>) -> Vec<Change> {
        self.nodes.register(node, registration);
        self.refresh_node(node);
        self.desired.take_changes()
    }

    /// Prefixes that the nodes' pods take addresses from, merged where they touch.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        self.nodes.pod_cidrs()
    }

    /// Other clusters are told that this one's pods have addresses in these prefixes, and take no others.
    pub fn declare_pods(&mut self, prefixes: &[IpNet]) {
        self.pods.declare(prefixes);
    }

    /// Host prefixes of the nodes' own addresses.
    pub fn node_addresses(&self) -> Vec<IpNet> {
        self.nodes.addresses()
    }

    /// What is wrong with objects that were read all the same, by object.
    pub fn errors(&self) -> BTreeMap<ObjectKey, String> {
        let mut errors = self.services.errors();
        errors.extend(self.pods.conflicts());
        errors.extend(self.exports.errors());
        for (name, (count, ip)) in self.pods.undeclared() {
            let pods = if count == 1 { "a pod".to_owned() } else { format!("{count} pods") };
            let error = format!(
                "{pods} on it, {ip} for one, in none of the pod prefixes that this cluster declares: other clusters do not \
                 take them. Name the prefix with --pod-cidr, and join anew"
            );
            errors.insert(ObjectKey { kind: Kind::Node, namespace: String::new(), name }, error);
        }
        for (key, error) in self.terms.all() {
            let known = errors.entry(key.clone()).or_default();
            *known = if known.is_empty() { error.clone() } else { format!("{known}; {error}") };
        }
        errors
    }

    fn withdraw(&mut self, scope: Scope) {
        self.terms.forget(&scope);
        self.desired.set(Key::Terms(scope), None);
    }

    fn refresh_node(&mut self, name: &str) {
        let value = self.nodes.value(name, &self.settings);
        self.desired.set(Key::Node(mesh_types::NodeName(name.to_owned())), value.map(|v| Value::Node(Box::new(v))));
        // A pod's tunnel endpoint is its node's address.
        let ips = self.pods.ips_on_node(name);
        self.refresh_ips(ips);
    }

    fn refresh_ips(&mut self, ips: impl IntoIterator<Item = IpAddr>) {
        for ip in ips {
            // The datapath of this version carries IPv4; others would turn away what they were not told of.
            let owner = self.pods.owner(ip).filter(|_| ip.is_ipv4());
            let address = owner.map(|pod| {
                let host = self.nodes.tunnel_endpoint(pod.node_name()).or(pod.host_ip());
                let namespace_labels = self.namespaces.labels(&pod.metadata.namespace);
                pods::address(pod, ip, host, namespace_labels, &self.settings)
            });
            self.desired.set(Key::Ip(ip), address.map(|a| Value::Ip(Box::new(a))));
        }
    }

    fn refresh_service(&mut self, name: &ServiceName) {
        let backends = self.endpoints.backends(name);
        let declared = self.services.declared(name, &self.settings.cluster);
        self.desired.set(Key::LocalService(name.clone()), declared.clone().map(Value::LocalService));
        let known = if declared.is_some() { backends } else { BTreeMap::new() };
        let merged: BTreeMap<IpAddr, _> =
            known.iter().map(|(ip, b)| (*ip, b.to_backend(&self.settings.cluster, name, *ip))).collect();
        let exported = declared.as_ref().filter(|s| s.shared).map(|service| {
            let carried = merged.values().filter(|backend| backend.address.is_ipv4());
            let value = self.services.exported(service, &self.settings, carried, &known);
            Value::Service(Box::new(value))
        });
        self.desired.set(Key::Service(name.clone()), exported);
        self.desired.set_backends(name, merged);
    }

    fn refresh_export(&mut self, name: &ServiceName) {
        let value = self.exports.value(name, self.services.object(name), &self.settings.cluster);
        self.desired.set(Key::ServiceExport(name.clone()), value.map(|v| Value::ServiceExport(Box::new(v))));
    }

    /// All slices of a Service, which may have begun or ceased to be exported.
    fn refresh_slices(&mut self, name: &ServiceName) {
        let keys: Vec<ObjectKey> =
            self.endpoints.slices(name).map(|slice| ObjectKey::new(Kind::EndpointSlice, &slice.metadata)).collect();
        for key in keys {
            self.refresh_slice(&key);
        }
    }

    fn refresh_slice(&mut self, key: &ObjectKey) {
        let Settings { cluster, cluster_id, .. } = &self.settings;
        let is_shared = |name: &ServiceName| self.services.declared(name, cluster).is_some_and(|s| s.shared);
        let slice = self.endpoints.slice(key).filter(|slice| slice.service().is_some_and(|name| is_shared(&name)));
        let value = slice.and_then(|slice| slice.exported(cluster, *cluster_id));
        let named = Key::EndpointSlice { namespace: key.namespace.clone(), slice: key.name.clone() };
        self.desired.set(named, value.map(|v| Value::EndpointSlice(Box::new(v))));
    }
}

#[cfg(test)]
mod tests;
