//! The lab's control plane of one cluster: holds Services and pod records, gives cluster IPs, plays the endpoint controller,
//! and publishes every object as a file into the folder that mesh-apiserver watches. Starts no process.
//!
//! ```text
//! manifests -> services, namespaces ─┐
//! kubelets  -> pod records ──────────┴─> render -> differing files only -> folder
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use parking_lot::Mutex;
use serde_json::Value;

use crate::manifest::{name_of, namespace_of};
use crate::topology::ClusterPlan;
use cluster_ips::ClusterIps;
use folder::Folder;
pub use pod::{Phase, PodRecord};

mod cluster_ips;
mod folder;
mod objects;
mod pod;
mod slices;

/// Namespace and name.
pub type ObjectKey = (String, String);

#[derive(Debug)]
pub struct ControlPlane {
    cluster: ClusterPlan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    namespaces: BTreeMap<String, Value>,
    service_accounts: BTreeMap<ObjectKey, Value>,
    services: BTreeMap<ObjectKey, Value>,
    pods: BTreeMap<ObjectKey, PodRecord>,
    ips: ClusterIps,
    folder: Folder,
}

impl ControlPlane {
    /// Publishes into `folder`; half-written files lie in `scratch`, on the same file system.
    pub fn new(cluster: &ClusterPlan, folder: PathBuf, scratch: PathBuf) -> Result<Self> {
        let state = State {
            namespaces: BTreeMap::new(),
            service_accounts: BTreeMap::new(),
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            ips: ClusterIps::new(cluster.service_cidr),
            folder: Folder::open(folder, scratch)?,
        };
        Ok(Self { cluster: cluster.clone(), state: Mutex::new(state) })
    }

    /// Takes over services, namespaces and service accounts, and publishes.
    pub fn put_objects(&self, namespaces: &[Value], service_accounts: &[Value], services: &[Value]) -> Result<()> {
        let mut state = self.state.lock();
        for namespace in namespaces {
            state.namespaces.insert(name_of(namespace).to_owned(), namespace.clone());
        }
        for account in service_accounts {
            state.service_accounts.insert(key_of(account), account.clone());
        }
        for service in services {
            let key = key_of(service);
            let service = state.ips.assign(&key, service)?;
            state.services.insert(key, service);
        }
        self.publish(&mut state)
    }

    /// Removes a service and its slices.
    pub fn delete_service(&self, namespace: &str, name: &str) -> Result<()> {
        let mut state = self.state.lock();
        let key = (namespace.to_owned(), name.to_owned());
        state.services.remove(&key);
        state.ips.release(&key);
        self.publish(&mut state)
    }

    /// Sets or, with `None`, removes an annotation of a service.
    pub fn annotate_service(&self, namespace: &str, name: &str, annotation: &str, value: Option<&str>) -> Result<()> {
        let mut state = self.state.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let Some(service) = state.services.get_mut(&key) else {
            anyhow::bail!("there is no service {namespace}/{name} in {}", self.cluster.name)
        };
        let annotations = &mut service["metadata"]["annotations"];
        match value {
            Some(value) => annotations[annotation] = value.into(),
            None => drop(annotations.as_object_mut().and_then(|all| all.remove(annotation))),
        }
        self.publish(&mut state)
    }

    /// A kubelet's word about a pod: published at once.
    pub fn put_pod(&self, pod: PodRecord) -> Result<()> {
        let mut state = self.state.lock();
        state.pods.insert((pod.namespace.clone(), pod.name.clone()), pod);
        self.publish(&mut state)
    }

    pub fn delete_pod(&self, namespace: &str, name: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.pods.remove(&(namespace.to_owned(), name.to_owned()));
        self.publish(&mut state)
    }

    pub fn pods(&self) -> Vec<PodRecord> {
        self.state.lock().pods.values().cloned().collect()
    }

    /// A service as published, with its cluster IP.
    pub fn service(&self, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn services(&self) -> Vec<Value> {
        self.state.lock().services.values().cloned().collect()
    }

    /// Renders everything and writes what differs. A lab has tens of objects: the whole is rendered in well under 1 ms.
    fn publish(&self, state: &mut State) -> Result<()> {
        let State { namespaces, service_accounts, services, pods, folder, .. } = state;
        let mut all = BTreeMap::new();
        let mut add = |kind: &str, object: Value| {
            let file = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("{kind}_{namespace}_{}.json", name_of(&object)),
                None => format!("{kind}_{}.json", name_of(&object)),
            };
            all.insert(file, object);
        };
        let used = services.keys().chain(pods.keys()).map(|(namespace, _)| namespace);
        for namespace in used.filter(|name| !namespaces.contains_key(*name)) {
            add("namespace", objects::namespace(namespace));
        }
        for namespace in namespaces.values() {
            add("namespace", objects::with_name_label(namespace));
        }
        for node in &self.cluster.nodes {
            add("node", objects::node(&self.cluster, node));
        }
        for account in service_accounts.values() {
            add("serviceaccount", account.clone());
        }
        for pod in pods.values() {
            add("pod", objects::pod(&self.cluster, pod));
        }
        for service in services.values() {
            add("service", service.clone());
            for slice in slices::of_service(&self.cluster, service, pods.values()) {
                add("endpointslice", slice);
            }
        }
        folder.write(all)
    }
}

fn key_of(object: &Value) -> ObjectKey {
    (namespace_of(object).to_owned(), name_of(object).to_owned())
}

#[cfg(test)]
mod tests;
