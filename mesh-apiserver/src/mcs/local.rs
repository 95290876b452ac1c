//! The own cluster's objects that matter to the MCS API, as the source delivered them. Pure.
//!
//! Owns copies of them: the exporter's index has its own and is another task's. What a change may concern comes out as names
//! of Services of the cluster set, to be looked at again.

use std::collections::{BTreeMap, BTreeSet};

use mesh_types::ServiceName;

use super::names::{self, DERIVED, MANAGED_BY, MCS_SERVICE, OWNER, SLICE_MANAGED_BY};
use crate::objects::{EndpointSlice, Kind, Meta, Object, ObjectKey, Service, ServiceExport, ServiceImport};
use crate::source::{Batch, Change};

#[derive(Debug, Default)]
pub(super) struct Local {
    namespaces: BTreeSet<String>,
    services: BTreeMap<ServiceName, Service>,
    slices: BTreeMap<ServiceName, EndpointSlice>,
    /// Names of slices by what they have backends of, and of those that this server made by what they were made for.
    by_service: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    made_for: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    exports: BTreeMap<ServiceName, ServiceExport>,
    imports: BTreeMap<ServiceName, ServiceImport>,
    /// Everything that there is was delivered once.
    is_complete: bool,
}

impl Local {
    /// Takes in what the source found, and says what it concerns.
    pub(super) fn note(&mut self, batch: &Batch) -> BTreeSet<ServiceName> {
        self.is_complete |= batch.is_complete;
        let mut touched = BTreeSet::new();
        for change in &batch.changes {
            match change {
                Change::Apply(object) => self.apply(object, &mut touched),
                Change::Delete(key) => self.delete(key, &mut touched),
            }
        }
        touched
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    pub(super) fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name)
    }

    pub(super) fn export(&self, name: &ServiceName) -> Option<&ServiceExport> {
        self.exports.get(name)
    }

    pub(super) fn import(&self, name: &ServiceName) -> Option<&ServiceImport> {
        self.imports.get(name)
    }

    /// The slices of a Service, by their own names.
    pub(super) fn slices_of(&self, service: &ServiceName) -> impl Iterator<Item = &EndpointSlice> {
        self.by_service.get(service).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// The slices that were made for a Service of the cluster set, with their names.
    pub(super) fn made_for(&self, service: &ServiceName) -> impl Iterator<Item = (&ServiceName, &EndpointSlice)> {
        let names = self.made_for.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name).map(|slice| (name, slice)))
    }

    pub(super) fn slice(&self, name: &ServiceName) -> Option<&EndpointSlice> {
        self.slices.get(name)
    }

    /// Whether there is an export or an object of it.
    pub(super) fn is_known(&self, name: &ServiceName) -> bool {
        self.exports.contains_key(name)
            || self.imports.get(name).is_some_and(|import| is_managed(&import.metadata))
            || self.made_for.contains_key(name)
            || self.services.get(&names::derived(name)).is_some_and(|service| is_managed(&service.metadata))
    }

    /// Everything that there is an export or an object of, in one namespace or in all.
    pub(super) fn names<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a ServiceName> {
        let all = self.exports.keys().chain(self.imports.keys()).chain(self.made_for.keys());
        all.filter(move |name| namespace.is_none_or(|namespace| name.namespace == namespace))
    }

    pub(super) fn imports(&self) -> usize {
        self.imports.values().filter(|import| is_managed(&import.metadata)).count()
    }

    fn apply(&mut self, object: &Object, touched: &mut BTreeSet<ServiceName>) {
        match object {
            Object::Namespace(namespace) => {
                let name = &namespace.metadata.name;
                let is_news = if namespace.is_terminating() {
                    self.namespaces.remove(name)
                } else {
                    self.namespaces.insert(name.clone())
                };
                if is_news {
                    touched.insert(whole(name));
                }
            }
            Object::Service(service) => {
                let name = name_of(&service.metadata);
                touched.extend(made_for(&service.metadata));
                touched.insert(name.clone());
                self.services.insert(name, service.clone());
            }
            Object::EndpointSlice(slice) => {
                let name = name_of(&slice.metadata);
                self.forget_slice(&name, touched);
                if let Some(service) = slice.service() {
                    touched.insert(service.clone());
                    self.by_service.entry(service).or_default().insert(name.clone());
                }
                if let Some(service) = made_for(&slice.metadata).filter(|_| is_managed_slice(&slice.metadata)) {
                    touched.insert(service.clone());
                    self.made_for.entry(service).or_default().insert(name.clone());
                }
                self.slices.insert(name, slice.clone());
            }
            Object::ServiceExport(export) => {
                touched.insert(export.service());
                self.exports.insert(export.service(), export.clone());
            }
            Object::ServiceImport(import) => {
                let name = name_of(&import.metadata);
                touched.insert(name.clone());
                self.imports.insert(name, import.clone());
            }
            Object::Node(_) | Object::Pod(_) => {}
        }
    }

    fn delete(&mut self, key: &ObjectKey, touched: &mut BTreeSet<ServiceName>) {
        let name = ServiceName::new(key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Namespace => {
                self.namespaces.remove(&key.name);
                touched.insert(whole(&key.name));
            }
            Kind::Service => {
                if let Some(service) = self.services.remove(&name) {
                    touched.extend(made_for(&service.metadata));
                }
                touched.insert(name);
            }
            Kind::EndpointSlice => self.forget_slice(&name, touched),
            Kind::ServiceExport => {
                self.exports.remove(&name);
                touched.insert(name);
            }
            Kind::ServiceImport => {
                self.imports.remove(&name);
                touched.insert(name);
            }
            Kind::Node | Kind::Pod => {}
        }
    }

    fn forget_slice(&mut self, name: &ServiceName, touched: &mut BTreeSet<ServiceName>) {
        let Some(slice) = self.slices.remove(name) else { return };
        let made = made_for(&slice.metadata).filter(|_| is_managed_slice(&slice.metadata));
        for (index, service) in [(&mut self.by_service, slice.service()), (&mut self.made_for, made)] {
            let Some(service) = service else { continue };
            if let Some(names) = index.get_mut(&service) {
                names.remove(name);
                if names.is_empty() {
                    index.remove(&service);
                }
            }
            touched.insert(service);
        }
    }
}

/// Stands for all names of a namespace. No Service has an empty name.
fn whole(namespace: &str) -> ServiceName {
    ServiceName::new(namespace, "")
}

/// Whether this controller made an import or a derived Service.
pub(super) fn is_managed(meta: &Meta) -> bool {
    meta.labels.get(MANAGED_BY).is_some_and(|owner| owner == OWNER)
}

/// The same of a slice.
pub(super) fn is_managed_slice(meta: &Meta) -> bool {
    meta.labels.get(SLICE_MANAGED_BY).is_some_and(|owner| owner == OWNER)
}

/// What it has nothing to do with itself: a derived Service's changes concern the Service that it is derived from.
fn made_for(meta: &Meta) -> Option<ServiceName> {
    let name = meta.labels.get(MCS_SERVICE).filter(|name| !name.is_empty() && !name.starts_with(DERIVED))?;
    Some(ServiceName::new(meta.namespace.clone(), name.clone()))
}

fn name_of(meta: &Meta) -> ServiceName {
    ServiceName::new(meta.namespace.clone(), meta.name.clone())
}
