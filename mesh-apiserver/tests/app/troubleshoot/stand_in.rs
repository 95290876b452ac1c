//! A peer that can have any fault: an embedded store behind the project's own etcd services, over mutual TLS, with facts,
//! rights and certificates of the test's choice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::{
    Authorities, ClientAuth, Connections, Leaf, LiveLeaf, Principal, RootCa, ServerNames, ServerTls, TlsIncoming,
    TlsMetrics, TrustBundle, Validity,
};
use federation::contract::{ClusterConfig, Layout, keys};
use federation::{Declaration, PeerRecord};
use mesh_runtime::{Cause, OnExit, Shutdown, TaskSet};
use mesh_store::etcd::{Access, Authorizer, Denied, EtcdOptions, Gate, Grants, routes, server};
use mesh_store::mvcc::{KeyRange, PutRequest};
use mesh_store::{Embedded, Metrics, Store};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};

pub(super) const NAME: &str = "west";

/// What the stand-in is made of, and what its peer's record says of it. A fault is a change of it.
pub(super) struct Plan {
    pub(super) ca: RootCa,
    pub(super) leaf: Leaf,
    pub(super) facts: BTreeMap<String, Vec<u8>>,
    pub(super) readable: Vec<KeyRange>,
    pub(super) knows_caller: bool,
    /// In place of where it listens.
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) bundle_pem: String,
    pub(super) id: u32,
    /// In place of a record.
    pub(super) record: Option<Vec<u8>>,
}

/// Running; ends when dropped.
pub(super) struct StandIn {
    pub(super) record: Vec<u8>,
    tasks: TaskSet,
    _dir: tempfile::TempDir,
}

struct Rights(Grants);

impl Authorizer<Principal> for Rights {
    fn check(&self, principal: &Principal, access: Access<'_>) -> Result<(), Denied> {
        principal.peer().ok_or(Denied)?;
        self.0.check(access)
    }
}

pub(super) fn hour() -> Validity {
    Validity::lasting(Duration::from_hours(1))
}

pub(super) fn name() -> ClusterName {
    ClusterName::new(NAME).unwrap()
}

impl Plan {
    /// Without a fault.
    pub(super) fn well() -> Self {
        let (name, id) = (name(), ClusterId::new(2).unwrap());
        let ca = RootCa::generate(&name).unwrap();
        let leaf = ca.issue_server(&ServerNames::default(), hour()).unwrap();
        let now = federation::contract::stamp::rfc3339(jiff::Timestamp::now());
        let mut facts: BTreeMap<String, Vec<u8>> = BTreeMap::from([
            (keys::HEARTBEAT.to_owned(), now.clone().into_bytes()),
            (keys::cluster_config(&name), ClusterConfig::own(id, IdentityLayout::Clusters255).encode()),
        ]);
        let exported = ClusterConfig::own(id, IdentityLayout::Clusters255).capabilities;
        facts.extend(exported.exported().map(|r| (Layout::State.canary(r, &name), now.clone().into_bytes())));
        let readable = vec![
            KeyRange::prefix(keys::HEARTBEAT),
            KeyRange::prefix(keys::STATE),
            KeyRange::prefix(keys::EXPORT),
            KeyRange::prefix(keys::canaries(&name)),
            KeyRange::single(keys::cluster_config(&name)),
        ];
        let bundle_pem = ca.bundle().pem();
        Self { ca, leaf, facts, readable, knows_caller: true, endpoints: None, bundle_pem, id: 2, record: None }
    }

    /// With a certificate that nobody need renew soon.
    pub(super) fn lasting() -> Self {
        let mut plan = Self::well();
        plan.leaf = plan.ca.issue_server(&ServerNames::default(), Validity::lasting(Validity::LEAF)).unwrap();
        plan
    }

    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.facts.insert(key.to_owned(), value.as_bytes().to_vec());
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.facts.remove(key).expect("the fault takes away what is there");
    }
}

impl StandIn {
    /// Serves callers of the cluster `caller`.
    pub(super) async fn start(plan: Plan, caller: &ClusterName, caller_ca: TrustBundle) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::detached();
        let store: Arc<dyn Store> =
            Embedded::open(mesh_store::Options::new(dir.path()), metrics.clone()).await.unwrap();
        for (key, value) in plan.facts {
            store.put(PutRequest::new(key, value)).await.unwrap();
        }
        let authorities = Authorities::new(plan.ca.cluster().clone(), plan.ca.bundle()).unwrap();
        if plan.knows_caller {
            authorities.set_peer(caller, caller_ca).unwrap();
        }
        let tls = ServerTls::new(LiveLeaf::new(plan.leaf), authorities, ClientAuth::Required);
        let options = certs::incoming::Options::new("stand-in", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await.unwrap();
        let address: SocketAddr = incoming.local_addr().unwrap();
        let gate = Gate::new(Rights(Grants { read: plan.readable, write: Vec::new() }), certs::principal);
        let services = routes(Arc::clone(&store), gate, metrics, EtcdOptions::default());
        let tasks = TaskSet::new(Shutdown::new());
        let stop = tasks.shutdown().requested_owned();
        tasks.spawn("stand-in", OnExit::Log, async move {
            server().add_routes(services).serve_with_incoming_shutdown(incoming, stop).await
        });
        let endpoints = plan.endpoints.unwrap_or_else(|| vec![address.to_string()]);
        let declaration = declaration(plan.id, plan.bundle_pem, endpoints);
        let record = plan.record.unwrap_or_else(|| PeerRecord::isthmus(declaration, 1).to_put().value.to_vec());
        Self { record, tasks, _dir: dir }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.tasks.shutdown().trigger(Cause::Requested("the fault was looked at".into()));
    }
}

fn declaration(id: u32, trust_bundle_pem: String, etcd_endpoints: Vec<String>) -> Declaration {
    let prefix = |text: &str| vec![text.parse().unwrap()];
    Declaration {
        name: name(),
        id: ClusterId::new(id).unwrap(),
        uuid: uuid::Uuid::from_u128(2),
        trust_bundle_pem,
        mesh_endpoints: etcd_endpoints.clone(),
        etcd_endpoints,
        pod_prefixes: prefix("10.2.0.0/16"),
        node_prefixes: prefix("192.0.2.0/24"),
        service_prefixes: prefix("10.102.0.0/16"),
        layout: IdentityLayout::Clusters255,
        encryption: Encryption::Wireguard,
        version: "0.1.0".to_owned(),
    }
}
