//! One mock cluster: its CA, its port, its heartbeat, and the exporting transactions that change what it says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use certs::{
    Authorities, ClientAuth, Connections, LiveLeaf, RootCa, ServerNames, ServerTls, TlsIncoming, TlsMetrics, Validity,
};
use federation::PeerRecord;
use federation::contract::{ExportClock, keys, stamp};
use federation::peer::HEARTBEAT;
use mesh_runtime::{OnExit, TaskSet, clock};
use mesh_store::etcd::{EtcdOptions, Gate, routes, server};
use mesh_store::{Metrics, Store};
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::task::AbortHandle;

use super::access::Remote;
use super::facts::{Fact, Facts};
use super::{MockStore, Reader, Shape};

/// Facts in one transaction of an exporter, as mesh-apiserver's own.
const FACTS_PER_TXN: usize = 120;
const A_DAY: Duration = Duration::from_hours(24);

pub struct Cluster {
    pub facts: Facts,
    pub store: MockStore,
    ca: RootCa,
    address: SocketAddr,
    /// The backend that is away, plus one.
    backend_away: AtomicU32,
    /// What runs to misbehave.
    pub(super) mischief: Mutex<Option<AbortHandle>>,
}

impl Cluster {
    /// Writes everything, then serves it on a port of its own on loopback, to the reader only.
    pub(super) async fn start(number: u32, shape: Shape, reader: &Reader, tasks: &TaskSet) -> Result<Self> {
        let facts = Facts::new(number, shape)?;
        let store = MockStore::new(u64::from(number) << 32 | u64::from(rand::rng().random_range(1..u32::MAX)));
        let ca = RootCa::generate(&facts.name)?;
        let leaf = LiveLeaf::new(ca.issue_server(&ServerNames::default(), Validity::lasting(A_DAY))?);
        let authorities = Authorities::new(facts.name.clone(), ca.bundle())?;
        authorities.set_peer(&reader.name, reader.bundle.clone())?;
        let tls = ServerTls::new(leaf, authorities, ClientAuth::Required);
        let options = certs::incoming::Options::new("mock", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await?;
        let address = incoming.local_addr().context("the port that was opened")?;
        let gate = Gate::new(Remote::of(&facts.name), certs::principal);
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let services = routes(shared, gate, Metrics::detached(), EtcdOptions::default());
        let stop = tasks.shutdown().requested_owned();
        tasks.spawn(facts.name.as_str(), OnExit::Log, async move {
            server().add_routes(services).serve_with_incoming_shutdown(incoming, stop).await
        });
        let (heart, stop) = (store.clone(), tasks.shutdown().clone());
        // Clusters do not beat in step.
        let first = HEARTBEAT.mul_f64(rand::rng().random());
        tasks.spawn(format!("heartbeat of {}", facts.name), OnExit::Log, async move {
            let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + first, HEARTBEAT);
            while stop.unless_requested(beats.tick()).await.is_some() {
                let now = stamp::rfc3339(jiff::Timestamp::now());
                heart.write([(keys::HEARTBEAT.to_owned(), now.into_bytes())]);
            }
        });
        let (backend_away, mischief) = (AtomicU32::new(0), Mutex::new(None));
        let cluster = Self { facts, store, ca, address, backend_away, mischief };
        cluster.export(cluster.facts.all());
        Ok(cluster)
    }

    /// What an API server stores of it when it is joined.
    pub fn record(&self) -> PeerRecord {
        let declaration = self.facts.declaration(self.ca.bundle().pem(), self.address.to_string());
        PeerRecord::isthmus(declaration, clock::unix_nanos())
    }

    /// Exporting transactions: facts, each with the time of writing. Returns that of the first, in Unix nanoseconds.
    pub fn export(&self, facts: Vec<Fact>) -> u64 {
        let first = clock::unix_nanos();
        let mut facts = facts.into_iter().peekable();
        while facts.peek().is_some() {
            let clock = ExportClock { unix_nanos: clock::unix_nanos() };
            let part = facts.by_ref().take(FACTS_PER_TXN);
            self.store.write(part.chain([(keys::EXPORT_CLOCK.to_owned(), clock.encode())]));
        }
        first
    }

    /// An endpoint's pod is replaced. Its name says when, so that whoever sees it knows how old it is.
    pub fn change_one(&self) {
        let n = rand::rng().random_range(0..self.facts.shape.endpoints.max(1));
        self.export(vec![self.facts.endpoint(n, super::control::stamped_name(clock::unix_nanos()))]);
    }

    /// So many new endpoints at once.
    pub fn burst(&self, count: u32) -> u64 {
        let first = self.facts.shape.endpoints;
        let facts = (first..first + count).map(|n| self.facts.endpoint(n, format!("burst-{n}")));
        self.export(facts.collect())
    }

    /// One backend of the Service goes, or the one that went comes back.
    pub fn move_backend(&self) -> u64 {
        let away = self.backend_away.load(Ordering::Relaxed);
        let next = if away == 0 { rand::rng().random_range(0..self.facts.shape.backends.max(1)) + 1 } else { 0 };
        self.backend_away.store(next, Ordering::Relaxed);
        self.export(vec![self.facts.service(next.checked_sub(1))])
    }
}
