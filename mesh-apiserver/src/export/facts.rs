//! Desired facts to keys and values: gives every address its identity number and every fact its encoding. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use federation::Declaration;
use federation::contract::{self, Layout, ServiceExportValue, keys, stamp};
use ipnet::IpNet;
use mesh_types::exchange::{Rules, Scope};
use mesh_types::labels::POD_NAMESPACE;
use mesh_types::{ClusterName, Exchange, LabelSet, SecurityIdentity, ServiceName};

use super::audience::Audiences;
use super::keys::{local_backend, local_service};
use super::planner::Planner;
use crate::identity::{Allocator, Record, record};
use crate::index::{Address, Change, Key, Value};

pub struct Facts {
    cluster: ClusterName,
    allocator: Allocator,
    planner: Planner,
    /// Who may have what of the export.
    audiences: Audiences,
    /// Whose Services are taken here; the sessions' to keep.
    imports: Rules,
    is_import_news: bool,
    /// The number each address refers to.
    numbers: BTreeMap<IpAddr, SecurityIdentity>,
    /// Addresses that have identity "init" because no number was free.
    waiting: BTreeMap<IpAddr, Address>,
}

impl Facts {
    pub fn new(cluster: ClusterName, allocator: Allocator) -> Self {
        let (numbers, waiting) = (BTreeMap::new(), BTreeMap::new());
        let audiences = Audiences::new(cluster.clone());
        let (planner, imports) = (Planner::default(), Rules::default());
        Self { cluster, allocator, planner, audiences, imports, is_import_news: true, numbers, waiting }
    }

    /// Takes over what the store holds. Identity numbers among it stay with their labels; records that cannot be used are
    /// returned, and removed by the first prune.
    pub fn load(&mut self, kvs: Vec<(Bytes, Bytes)>) -> Vec<record::Error> {
        let mut errors = Vec::new();
        for (key, value) in &kvs {
            if key == keys::EXCHANGE {
                match serde_json::from_slice::<Exchange>(value) {
                    Ok(former) => self.audiences.restore(&former.export),
                    Err(error) => {
                        tracing::warn!(%error, key = keys::EXCHANGE, "not a record of this version, made anew");
                    }
                }
            }
            let Some(key) = std::str::from_utf8(key).ok().filter(|k| k.starts_with(record::BY_NUMBER)) else {
                continue;
            };
            match Record::decode(key, value) {
                Ok((number, labels, record)) => {
                    self.allocator.restore(number, labels, &record);
                }
                Err(error) => errors.push(error),
            }
        }
        self.planner.load(kvs);
        let records: Vec<_> = self.allocator.records().collect();
        for (number, labels, record) in records {
            self.set_number(number, &labels, Some(&record));
        }
        errors
    }

    pub fn apply(&mut self, change: Change, now_unix_nanos: u64) {
        match (change.key, change.value) {
            (Key::Node(name), value) => {
                let value =
                    value.and_then(|v| if let Value::Node(node) = v { Some(node.encode().into()) } else { None });
                self.planner.set(Layout::State.node(&self.cluster, &name), value);
            }
            (Key::Ip(ip), Some(Value::Ip(address))) => self.set_address(ip, Some(*address), now_unix_nanos),
            (Key::Ip(ip), _) => self.set_address(ip, None, now_unix_nanos),
            (Key::LocalService(name), value) => {
                let value = value.and_then(|v| if let Value::LocalService(s) = v { Some(json(&s)) } else { None });
                self.planner.set(local_service(&name), value);
            }
            (Key::LocalBackend(name, ip), value) => {
                let value = value.and_then(|v| if let Value::LocalBackend(b) = v { Some(json(&b)) } else { None });
                self.planner.set(local_backend(&name, ip), value);
            }
            (Key::Service(name), value) => {
                let value = value.and_then(|v| if let Value::Service(s) = v { Some(s.encode().into()) } else { None });
                self.export_of_service(Layout::State.service(&self.cluster, &name), name, value);
            }
            (Key::ServiceExport(name), value) => {
                let key = Layout::State.service_export(&self.cluster, &name);
                let value = value.and_then(|v| if let Value::ServiceExport(e) = v { Some(*e) } else { None });
                let value = value.map(|value| self.dated(&key, value, now_unix_nanos).encode().into());
                self.export_of_service(key, name, value);
            }
            (Key::Terms(scope), Some(Value::Terms(terms))) => {
                self.is_import_news |= self.imports.set(&scope, terms.import_from);
                self.audiences.rule(&mut self.planner, &scope, terms.export_to);
            }
            (Key::Terms(scope), _) => {
                self.is_import_news |= self.imports.set(&scope, None);
                match scope {
                    Scope::Namespace(namespace) => self.audiences.orphan(&namespace),
                    Scope::Service(_) => self.audiences.rule(&mut self.planner, &scope, None),
                }
            }
            (Key::EndpointSlice { namespace, slice }, value) => {
                let slice = Layout::State.endpoint_slice(&self.cluster, &namespace, &slice);
                match value {
                    Some(Value::EndpointSlice(value)) => {
                        let service = value.service();
                        let scope = service.map_or(Scope::Namespace(namespace), Scope::Service);
                        self.audiences.set(&mut self.planner, slice, scope, Some(value.encode().into()));
                    }
                    _ => self.export_of_namespace(slice, &namespace, None),
                }
            }
        }
    }

    /// An export whose object was created by nobody is as old as what is exported of it, over restarts as well.
    fn dated(&self, key: &str, mut value: ServiceExportValue, now_unix_nanos: u64) -> ServiceExportValue {
        if value.export_creation_timestamp.is_some() {
            return value;
        }
        let kept = format!("{}{key}", keys::audience(&self.cluster));
        let former = [self.audiences.value(key.as_bytes())]
            .into_iter()
            .chain([key, &kept].map(|key| self.planner.realized(key.as_bytes())))
            .flatten()
            .find_map(|former| ServiceExportValue::decode(former).ok()?.export_creation_timestamp);
        let now = || {
            let now = jiff::Timestamp::from_nanosecond(now_unix_nanos.into());
            stamp::rfc3339(now.expect("64 bits of nanoseconds end in the year 2554"))
        };
        value.export_creation_timestamp = Some(former.unwrap_or_else(now));
        value
    }

    /// Exports a fact that belongs to a namespace to those who may have it.
    fn export_of_namespace(&mut self, key: String, namespace: &str, value: Option<Bytes>) {
        self.audiences.set(&mut self.planner, key, Scope::Namespace(namespace.to_owned()), value);
    }

    /// The same of a Service: its own rule counts before its namespace's.
    fn export_of_service(&mut self, key: String, service: ServiceName, value: Option<Bytes>) {
        self.audiences.set(&mut self.planner, key, Scope::Service(service), value);
    }

    /// Everything that exists has been applied once: the rest of what was loaded goes.
    pub fn scan_is_complete(&mut self, now_unix_nanos: u64) {
        self.allocator.release_unreferenced(now_unix_nanos);
        self.store_numbers();
        self.audiences.prune();
        self.planner.prune();
    }

    /// How long numbers that nobody uses any more stay taken.
    pub fn set_quarantine(&mut self, quarantine: Duration) {
        self.allocator.set_quarantine(quarantine);
    }

    /// Frees identity numbers whose quarantine is over and gives them to addresses that wait for one.
    pub fn expire(&mut self, now_unix_nanos: u64) {
        let freed = self.allocator.expire(now_unix_nanos);
        self.store_numbers();
        if freed {
            for (ip, address) in std::mem::take(&mut self.waiting) {
                self.set_address(ip, Some(address), now_unix_nanos);
            }
        }
    }

    /// Addresses without a number of their own.
    pub fn waiting(&self) -> impl Iterator<Item = (&IpAddr, &Address)> {
        self.waiting.iter()
    }

    pub fn planner(&mut self) -> &mut Planner {
        &mut self.planner
    }

    fn set_address(&mut self, ip: IpAddr, address: Option<Address>, now_unix_nanos: u64) {
        let before = self.numbers.remove(&ip);
        self.waiting.remove(&ip);
        let namespace = address.as_ref().map(|address| address.value.namespace.clone());
        let value = address.map(|mut address| {
            // The new number is taken before the old one is let go, so that equal labels keep theirs.
            let number = match self.allocator.acquire(&address.labels) {
                Ok(number) => {
                    self.numbers.insert(ip, number);
                    number
                }
                Err(_exhausted) => {
                    self.waiting.insert(ip, address.clone());
                    SecurityIdentity::INIT
                }
            };
            address.value.id = number.0;
            Bytes::from(address.value.encode())
        });
        if let Some(number) = before {
            self.allocator.release(number, now_unix_nanos);
        }
        self.store_numbers();
        let key = Layout::State.ip(&self.cluster, &IpNet::from(ip));
        self.export_of_namespace(key, namespace.as_deref().unwrap_or_default(), value);
    }

    fn store_numbers(&mut self) {
        for (number, labels, record) in self.allocator.take_changes() {
            self.set_number(number, &labels, record.as_ref());
        }
    }

    /// A number is exported as long as it is taken, quarantine included: packets on the way still mean it.
    fn set_number(&mut self, number: SecurityIdentity, labels: &LabelSet, record: Option<&Record>) {
        let by_labels = format!("{}{labels}", record::BY_LABELS);
        self.planner.set(format!("{}{number}", record::BY_NUMBER), record.map(|r| r.encode().into()));
        self.planner.set(by_labels, record.map(|_| number.to_string().into()));
        let exported = record.map(|_| contract::identity::encode(labels).into());
        let key = Layout::State.identity(&self.cluster, number);
        match labels.get(POD_NAMESPACE) {
            Some(namespace) => self.export_of_namespace(key, namespace, exported),
            None => self.planner.set(key, exported),
        }
    }

    /// Stores who may have what, for those who keep the rules elsewhere: sessions, and status.
    pub fn publish_exchange(&mut self) {
        let is_import_news = std::mem::take(&mut self.is_import_news);
        if !self.audiences.take_news() && !is_import_news {
            return;
        }
        let exchange = Exchange { export: self.audiences.rules().clone(), import: self.imports.clone() };
        self.planner.set(keys::EXCHANGE, Some(json(&exchange)));
    }

    /// Stores what this cluster says of itself: for joins, for the own agents, and its trust bundle for peers.
    pub fn declare(&mut self, declaration: &Declaration) {
        self.planner.set(keys::OWN_CLUSTER, Some(json(declaration)));
        self.planner.set(keys::EXPORT_TRUST, Some(Bytes::from(declaration.trust_bundle_pem.clone())));
    }

    /// Announces the cluster, once all its facts are written: its configuration and the canaries.
    pub fn announce(&mut self, config: &contract::ClusterConfig, now_rfc3339: &str) {
        self.planner.set(keys::cluster_config(&self.cluster), Some(config.encode().into()));
        for resource in config.capabilities.exported() {
            let key = Layout::State.canary(resource, &self.cluster);
            // A canary says "written once"; writing it again at every start would only be noise to the watchers.
            let value = self.planner.realized(key.as_bytes()).cloned();
            self.planner.set(key, Some(value.unwrap_or_else(|| Bytes::from(now_rfc3339.to_owned()))));
        }
    }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("the view's words always encode: their maps have string keys").into()
}
