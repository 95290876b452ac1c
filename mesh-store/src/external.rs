//! The external backend: [`Store`](crate::Store) over an etcd that somebody else runs, through the `etcd-client` crate.
//!
//! It owns the translation between the store's words and that client, and the check at the start that this etcd can hold
//! a cluster's state at all. It must never keep state about keys: every answer is etcd's.
//!
//! ```text
//!  Store::put --> convert --> etcd-client --> etcd m1 | m2 | m3      errors --> Refused(..) | External { endpoints, .. }
//!  Store::watch --> Following (opens the stream again after a break, from the revision it has reached)
//! ```
//! An etcd holds **one** cluster's state and nothing else: keys are not prefixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::proto::PbResponseHeader;
use etcd_client::{
    Certificate, Client, ClusterClient, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, TlsOptions,
    WatchClient,
};
use tokio_util::sync::CancellationToken;

use crate::backend::Identity;

mod care;
mod check;
mod convert;
mod errors;
mod follow;
mod members;
mod overlay;
mod store;

pub use check::OpenError;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Pings on a connection, so that a dead member is noticed although nothing is asked of it. etcd allows one in 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Options {
    /// `https://host:2379`, one for each member.
    pub endpoints: Vec<String>,
    /// Whom to trust and who we are; `None` connects in clear.
    pub tls: Option<Tls>,
    /// How often an idle watch reports that nothing happened.
    pub progress_interval: Duration,
    /// Operations in the largest transaction that the callers in this process make: etcd's `--max-txn-ops` must allow it.
    pub txn_ops: usize,
}

/// PEM, as read from files.
#[derive(Clone)]
pub struct Tls {
    pub ca: Vec<u8>,
    /// Certificate and key of an etcd user who may do everything; `None` where etcd asks for none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Options {
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, tls: None, progress_interval: Duration::from_secs(10), txn_ops: 1024 }
    }
}

/// An etcd in the place of the embedded store. A clone is the same connection.
#[derive(Clone)]
pub struct External {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    maintenance: MaintenanceClient,
    cluster: ClusterClient,
    seen: Arc<Seen>,
    endpoints: Arc<str>,
    progress_interval: Duration,
    stop: CancellationToken,
}

impl External {
    /// Connects, and makes sure that this etcd can be used.
    pub async fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let endpoints: Arc<str> = options.endpoints.join(",").into();
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(CONNECT_WITHIN)
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            // A member that has lost the others says so, instead of serving watches on which nothing happens.
            .with_require_leader(true);
        if let Some(tls) = options.tls {
            let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(tls.ca));
            if let Some((certificate, key)) = tls.identity {
                config = config.identity(etcd_client::Identity::from_pem(certificate, key));
            }
            connect = connect.with_tls(config);
        }
        let client = Client::connect(&options.endpoints, Some(connect)).await.map_err(|error| {
            OpenError::Unreachable { endpoints: Arc::clone(&endpoints), reason: errors::reason(&error) }
        })?;
        let store = Self {
            kv: client.kv_client().max_decoding_message_size(usize::MAX),
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            cluster: client.cluster_client(),
            seen: Arc::default(),
            endpoints,
            progress_interval: options.progress_interval,
            stop: CancellationToken::new(),
        };
        store.check(options.txn_ops).await?;
        Ok(Arc::new(store))
    }

    /// Ends all watches; later calls fail. etcd goes on.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }
}

/// What the headers of etcd's answers have told so far.
#[derive(Debug, Default)]
struct Seen {
    cluster_id: AtomicU64,
    member_id: AtomicU64,
    raft_term: AtomicU64,
    revision: AtomicI64,
}

impl Seen {
    /// Takes note of an answer's header and returns its revision.
    fn note(&self, header: Option<&PbResponseHeader>) -> i64 {
        let Some(header) = header else { return self.revision() };
        let before = self.cluster_id.swap(header.cluster_id, Ordering::AcqRel);
        self.member_id.store(header.member_id, Ordering::Release);
        self.raft_term.store(header.raft_term, Ordering::Release);
        if before == header.cluster_id {
            self.revision.fetch_max(header.revision, Ordering::AcqRel);
        } else {
            // Another etcd, or one restored from a backup: its revisions have nothing to do with those before.
            if before != 0 {
                tracing::warn!(before, now = header.cluster_id, "the external etcd's cluster id has changed");
            }
            self.revision.store(header.revision, Ordering::Release);
        }
        header.revision
    }

    fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    fn identity(&self) -> Identity {
        Identity {
            cluster_id: self.cluster_id.load(Ordering::Acquire),
            member_id: self.member_id.load(Ordering::Acquire),
            raft_term: self.raft_term.load(Ordering::Acquire),
        }
    }
}
