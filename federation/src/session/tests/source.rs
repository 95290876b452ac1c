//! A peer for sessions to follow: an embedded store behind the project's etcd services, over mutual TLS, for callers with
//! the rights that a remote cluster has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use certs::{
    Authorities, ClientAuth, Connections, LiveLeaf, Principal, RootCa, ServerNames, ServerTls, TlsIncoming, TlsMetrics,
};
use mesh_runtime::{Cause, OnExit, Shutdown, TaskSet};
use mesh_store::etcd::{Access, Authorizer, Denied, EtcdOptions, Gate, Grants, routes, server};
use mesh_store::mvcc::KeyRange;
use mesh_store::{Embedded, Metrics, Store};
use mesh_types::ClusterName;
use tempfile::TempDir;

use super::hour;
use crate::contract::keys;

pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) address: SocketAddr,
    /// What it shows to callers.
    pub(super) leaf: Arc<LiveLeaf>,
    metrics: Metrics,
    caller: ClusterName,
    tasks: TaskSet,
    _dir: TempDir,
}

/// The role of remote clusters.
struct Remote(Grants);

impl Authorizer<Principal> for Remote {
    fn check(&self, principal: &Principal, access: Access<'_>) -> Result<(), Denied> {
        principal.peer().ok_or(Denied)?;
        self.0.check(access)
    }
}

impl Remote {
    fn of(own: &ClusterName) -> Self {
        let read = vec![
            KeyRange::prefix(keys::HEARTBEAT),
            KeyRange::prefix(keys::STATE),
            KeyRange::prefix(keys::EXPORT),
            KeyRange::prefix(keys::canaries(own)),
            KeyRange::single(keys::cluster_config(own)),
        ];
        Self(Grants { read, write: vec![] })
    }
}

impl Source {
    /// Serves with a leaf of `ca` to callers of the cluster `caller`.
    pub(super) async fn start(ca: &RootCa, caller: &RootCa) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::detached();
        let store: Arc<dyn Store> =
            Embedded::open(mesh_store::Options::new(dir.path()), metrics.clone()).await.unwrap();
        let leaf = LiveLeaf::new(ca.issue_server(&ServerNames::default(), hour()).unwrap());
        let authorities = Authorities::new(ca.cluster().clone(), ca.bundle()).unwrap();
        authorities.set_peer(caller.cluster(), caller.bundle()).unwrap();
        let tls = ServerTls::new(Arc::clone(&leaf), authorities, ClientAuth::Required);
        let options = certs::incoming::Options::new("source", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await.unwrap();
        let address = incoming.local_addr().unwrap();
        let gate = Gate::new(Remote::of(ca.cluster()), certs::principal);
        let services = routes(Arc::clone(&store), gate, metrics.clone(), EtcdOptions::default());
        let tasks = TaskSet::new(Shutdown::new());
        let stop = tasks.shutdown().requested_owned();
        tasks.spawn("source", OnExit::Log, async move {
            server().add_routes(services).serve_with_incoming_shutdown(incoming, stop).await
        });
        Self { store, address, leaf, metrics, caller: caller.cluster().clone(), tasks, _dir: dir }
    }

    /// Range calls served to the caller so far.
    pub(super) fn ranges(&self) -> u64 {
        self.metrics.range_total(&format!("\"remote-{0}\" (the CA of {0})", self.caller))
    }

    pub(super) async fn stop(self) {
        self.tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        // Open watch streams hold the server, so it is aborted.
        drop(self.tasks.join(Duration::from_millis(100)).await);
    }
}
