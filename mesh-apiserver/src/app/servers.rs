//! The listeners: etcd API and mesh API over mutual TLS, admin API on a Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::incoming::Options;
use certs::{ClientAuth, Connections, ServerTls, TlsIncoming, TlsMetrics};
use mesh_proto::v1::admin_server::AdminServer;
use mesh_proto::v1::join_server::JoinServer;
use mesh_proto::v1::store_admin_server::StoreAdminServer;
use mesh_runtime::Shutdown;
use mesh_store::Store;
use mesh_store::etcd::{self, EtcdOptions, Gate};
use mesh_store::raft_port::RaftService;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::admin_api::{AdminApi, Bearer};
use crate::agent_api::join::JoinApi;
use crate::agent_api::{AgentApi, AgentService};
use crate::credentials::Credentials;
use crate::kubernetes::Delegates;

/// A peer or agent that vanished without a word is noticed after both.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What all TLS listeners share.
pub(super) struct Servers {
    pub(super) credentials: Arc<Credentials>,
    pub(super) connections: Connections,
    pub(super) tls_metrics: TlsMetrics,
}

impl Servers {
    pub(super) fn etcd(
        &self,
        listener: TcpListener,
        store: Arc<dyn Store>,
        gate: Gate,
        metrics: mesh_store::Metrics,
        options: EtcdOptions,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
        let tls = self.tls(ClientAuth::Required).with_http1();
        let incoming = self.incoming(listener, "etcd", tls);
        let router = etcd::server().add_routes(etcd::routes(store, gate, metrics, options));
        async move { router.serve_with_incoming_shutdown(incoming, shutdown.requested_owned()).await }
    }

    pub(super) fn raft(
        &self,
        listener: TcpListener,
        service: RaftService,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
        let incoming = self.incoming(listener, "raft", self.tls(ClientAuth::Required));
        let router = server().add_service(service);
        async move { router.serve_with_incoming_shutdown(incoming, shutdown.requested_owned()).await }
    }

    pub(super) fn mesh(
        &self,
        listener: TcpListener,
        agent: AgentApi,
        join: JoinApi,
        admin: AdminApi,
        delegates: Option<Delegates>,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
        let incoming = self.incoming(listener, "mesh", self.tls(ClientAuth::Optional));
        let router = server()
            .add_service(AgentService::new(agent))
            .add_service(JoinServer::new(join))
            .add_service(Bearer::new(AdminServer::new(admin.clone()), delegates.clone()))
            .add_service(Bearer::new(StoreAdminServer::new(admin), delegates));
        async move { router.serve_with_incoming_shutdown(incoming, shutdown.requested_owned()).await }
    }

    fn tls(&self, client_auth: ClientAuth) -> ServerTls {
        let Credentials { server, authorities, .. } = &*self.credentials;
        ServerTls::new(Arc::clone(server), Arc::clone(authorities), client_auth)
    }

    fn incoming(&self, listener: TcpListener, name: &'static str, tls: ServerTls) -> TlsIncoming {
        let options = Options::new(name, self.connections.clone(), self.tls_metrics.clone());
        TlsIncoming::from_listener(listener, tls, options)
    }
}

fn server() -> Server {
    Server::builder().http2_keepalive_interval(Some(PING_EVERY)).http2_keepalive_timeout(Some(PING_TIMEOUT))
}

/// The admin API for root and the server's own user; the file goes with it.
pub(super) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot open the admin socket {}", path.display());
        std::fs::create_dir_all(mesh_runtime::file::parent(path)).with_context(context)?;
        // Left by a killed server. The store's lock has made sure that none runs on this state.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(context),
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(context)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(context)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    pub(super) async fn run(self, admin: AdminApi, shutdown: Shutdown) -> Result<(), tonic::transport::Error> {
        let incoming = UnixListenerStream::new(self.listener);
        let router =
            Server::builder().add_service(AdminServer::new(admin.clone())).add_service(StoreAdminServer::new(admin));
        let served = router.serve_with_incoming_shutdown(incoming, shutdown.requested_owned()).await;
        // A file that is gone already is what is wanted.
        std::fs::remove_file(&self.path).ok();
        served
    }
}
