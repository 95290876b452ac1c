//! etcd's v3 gRPC API over any [`Store`].
//!
//! It owns the translation between protobuf and the store's own words, and the question whether a caller may do what it
//! asks. It must never keep state about keys: a service is the store, the gate and nothing else.
//!
//! ```text
//!  connection (principal in its extensions) --> Gate --> kv | watch | lease | auth | lock | election | cluster | maintenance
//!                                                          --> Arc<dyn Store>
//! ```

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbResponseHeader, PbWatchServer,
};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::backend::Store;
use crate::metrics::Metrics;

mod alarm;
mod auth;
mod by_path;
mod check;
mod cluster;
mod convert;
mod election;
mod figures;
mod gate;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod hostile;
mod http;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod queue;
mod status;
mod watch;

pub use figures::Figures;
pub use gate::{Access, Authorizer, Denied, Gate, Grants, Mode};

/// The etcd version whose API this is; clients turn features on and off by it.
pub const ETCD_VERSION: &str = "3.6.0";

/// Room for what a message carries beside the request that is measured.
const MESSAGE_OVERHEAD: usize = 512 * 1024;

#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Larger requests are refused, as etcd does.
    pub max_request_bytes: usize,
    /// Operations in one transaction.
    pub max_txn_ops: usize,
    /// This member's name in `member list`.
    pub member_name: String,
    /// Where clients reach this member, for `member list`.
    pub client_urls: Vec<String>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            max_request_bytes: 1_572_864,
            max_txn_ops: crate::mvcc::DEFAULT_MAX_TXN_OPS,
            member_name: "isthmus".to_owned(),
            client_urls: Vec::new(),
        }
    }
}

/// What all services share.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    gate: Gate,
    metrics: Metrics,
    options: EtcdOptions,
}

impl Shared {
    fn header(&self, revision: i64) -> PbResponseHeader {
        let identity = self.store.identity();
        PbResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            raft_term: identity.raft_term,
            revision,
        }
    }

    /// The header of an answer that is not about a revision of its own.
    fn header_now(&self) -> PbResponseHeader {
        self.header(self.store.revision())
    }
}

/// The gRPC services with etcd's two HTTP paths, to be added to a [`Server`] (start from [`server`]).
///
/// The caller of each request is found by the [`Gate`] in the request's extensions, where the TLS layer put it.
pub fn routes(store: Arc<dyn Store>, gate: Gate, metrics: Metrics, options: EtcdOptions) -> Routes {
    let limit = options.max_request_bytes + MESSAGE_OVERHEAD;
    let shared = Arc::new(Shared { store, gate, metrics, options });
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(limit).max_encoding_message_size(usize::MAX)
        };
    }
    let tasks = TaskTracker::new();
    let mut routes = Routes::new(limited!(PbKvServer, kv::Kv(Arc::clone(&shared))))
        .add_service(limited!(PbWatchServer, watch::Watch(Arc::clone(&shared))))
        .add_service(limited!(PbLeaseServer, lease::Lease(Arc::clone(&shared))))
        .add_service(limited!(PbClusterServer, cluster::Cluster(Arc::clone(&shared))))
        .add_service(limited!(PbMaintenanceServer, maintenance::Maintenance(Arc::clone(&shared))))
        .add_service(lock::Lock { shared: Arc::clone(&shared), tasks: tasks.clone() })
        .add_service(election::Election { shared: Arc::clone(&shared), tasks })
        .add_service(auth::Auth(Arc::clone(&shared)));
    let router = routes.axum_router_mut();
    *router = http::add(std::mem::take(router), shared);
    routes
}

/// A server with the HTTP/2 settings that suit etcd's clients: pings of any rate are answered, dead peers are noticed.
/// `/version` and `/health` are asked for in HTTP/1.1 as well.
pub fn server() -> Server {
    Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
}
