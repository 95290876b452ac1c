//! Wiring, in start order: credentials, store, own record, listeners, then the tasks. Stops in reverse: listeners first,
//! the store last.

mod failure;
mod group;
mod record;
mod servers;
mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::{Connections, TlsMetrics};
use federation::Tuning;
use federation::contract::ClusterConfig;
use mesh_runtime::{OnExit, Readiness, Shutdown, TaskSet};
use mesh_store::auth::Users;
use mesh_store::etcd::{EtcdOptions, Gate};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Extensions;

use self::servers::Servers;
use self::store::Backend;
use crate::admin_api::{AdminApi, Others};
use crate::agent_api::join::JoinApi;
use crate::agent_api::{AgentApi, Presence};
use crate::args::{Config, SourceChoice};
use crate::controller::Controller;
use crate::credentials::Credentials;
use crate::index::Settings;
use crate::kubernetes::{AgentAccount, Delegates, McsObjects, Reviews, TrustMap};
use crate::membership::Membership;
use crate::metrics::Figures;
use crate::quorum::Quorum;
use crate::roles::Roles;
use crate::rotation::{Follower, Following, Parties};
use crate::source::kubernetes::Access;
use crate::trust::PeerTrust;
use crate::users::UserRights;
use crate::{controller, export, kubernetes, source, view};

/// Open streams have this long to end by themselves before their connections are cut.
const DRAIN: Duration = Duration::from_millis(500);
/// And all tasks this long before they are aborted.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running API server.
pub struct App {
    pub etcd: SocketAddr,
    pub mesh: SocketAddr,
    pub metrics: SocketAddr,
    pub readiness: Readiness,
    store: Backend,
    connections: Connections,
    tasks: TaskSet,
}

/// Runs until a signal or a failure.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let _signals = shutdown.listen_to_signals().context("cannot listen to signals")?;
    let app = App::start(config, shutdown.clone()).await?;
    shutdown.requested().await;
    app.stop().await;
    Ok(())
}

impl App {
    /// Starts everything; returns when all ports are open. Readiness follows when the first export and view are complete.
    pub async fn start(config: Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        tracing::info!(?config, "starting");
        make_private_dir(&config.state_dir)?;
        let (source, kubernetes) = match &config.source {
            SourceChoice::Manifests(folder) => (source::Choice::Manifests(folder.clone()), None),
            SourceChoice::Kubernetes(options) => {
                let access = Access::open(options.clone()).await.context("cannot follow an API server")?;
                let choice =
                    source::Choice::Kubernetes { access: access.clone(), with_imports: config.kubernetes.mcs_api };
                (choice, Some(kubernetes::Client::new(access)))
            }
        };
        let readiness = Readiness::new();
        let exported = readiness.await_for("the first export of all objects");
        let viewed = readiness.await_for("the first merged view");
        let mut registry = Registry::default();
        let tasks = TaskSet::new(shutdown.clone());

        let credentials = Credentials::prepare(&config, kubernetes.as_ref(), &shutdown).await;
        let credentials = Arc::new(credentials.context("cannot prepare CA and certificates")?);
        let review_figures = kubernetes::Figures::default();
        review_figures.register(&mut registry);
        let reviews = kubernetes.clone().map(|client| Reviews::new(client, review_figures));
        let account = reviews.clone().zip(config.kubernetes.agent_account.clone());
        let mcs = kubernetes.clone().filter(|_| config.kubernetes.mcs_api).map(McsObjects::new);
        let trust_map = kubernetes.clone().zip(config.kubernetes.trust_configmap.clone());
        let authorities = Arc::clone(&credentials.authorities);
        let connections = Connections::new();
        let tls_metrics = TlsMetrics::default();
        tls_metrics.register(&mut registry);

        let store_metrics = mesh_store::Metrics::register(&mut registry);
        let etcd_figures = mesh_store::etcd::Figures::register(&mut registry);
        let servers = Servers { credentials: Arc::clone(&credentials), connections: connections.clone(), tls_metrics };
        let backend = Backend::open(&config, &servers, store_metrics.clone(), &shutdown).await?;
        let store = backend.store();

        let etcd_listener = listen(config.listen_etcd, "the etcd API").await?;
        let mesh_listener = listen(config.listen_mesh, "agents, meshctl and joins").await?;
        let (etcd, mesh) = (etcd_listener.local_addr()?, mesh_listener.local_addr()?);
        let declaration = record::prepare(&*store, &config, &credentials, etcd.port(), mesh.port()).await?;

        let mesh_endpoints = declaration.mesh_endpoints.clone();
        let client_urls = declaration.etcd_endpoints.iter().map(|e| format!("https://{e}")).collect();
        let membership = Membership {
            store: Arc::clone(&store),
            authorities: Arc::clone(&authorities),
            connections: connections.clone(),
        };
        let started = kubernetes::Started {
            tuning: Tuning {
                liveness: federation::liveness::Settings {
                    stale_after: config.stale_after,
                    withdraw_after: config.withdraw_after,
                },
                disconnect_grace: config.disconnect_grace,
            },
            encryption: config.encryption,
            layout: config.layout,
        };
        let (tuned, tuning) = watch::channel(started.tuning);
        let objects = kubernetes.zip(config.kubernetes.objects_namespace.clone());
        let objects = objects.map(|(client, namespace)| {
            kubernetes::MeshObjects::new(client, namespace, membership.clone(), started, tuned.clone())
        });
        let (view_feed, view) = view::Feed::new(Arc::clone(&store), config.cluster.clone(), viewed);
        let export_options = export::Options {
            cluster: config.cluster.clone(),
            config: ClusterConfig::own(config.cluster_id, config.layout),
            pods_follow_nodes: config.pod_cidrs.is_empty(),
            nodes_follow_nodes: config.node_cidrs.is_empty(),
            declaration,
            trust: credentials.told(),
            tuning: tuning.clone(),
        };
        let others = Others::new(
            &config.cluster,
            &config.replicas.others(mesh.port()),
            &credentials.trust,
            &credentials.server,
        )?;
        let presence = Presence::default();
        let parties = Parties {
            cluster: config.cluster.clone(),
            replica: config.replicas.own,
            store: Arc::clone(&store),
            others,
            presence: presence.clone(),
            view: view.clone(),
            credentials: Arc::clone(&credentials),
            connections: connections.clone(),
            following: Following::default(),
        };
        let federation_metrics = federation::Metrics::default();
        federation_metrics.register(&mut registry);
        let plan = controller::Plan {
            source,
            settings: Settings {
                cluster: config.cluster.clone(),
                cluster_id: config.cluster_id,
                encryption: config.encryption,
            },
            cluster_id: config.cluster_id,
            layout: config.layout,
            tuning,
            export: export_options,
            leaf: Arc::clone(&credentials.remote),
            federation_metrics,
            parties: parties.clone(),
            trust_map: trust_map.map(|(client, name)| TrustMap::new(client, name, credentials.told())),
            objects,
            mcs,
        };
        let holder = controller::Holder { replica: config.replicas.own, mesh_endpoints };
        let (controller, controller_handle) = Controller::new(Arc::clone(&store), holder, plan, exported);

        let (quorum, quorum_handle) = Quorum::new(Arc::clone(&store), readiness.clone(), connections.clone());
        let figures = Figures {
            controller: controller_handle.clone(),
            view: view.clone(),
            presence: presence.clone(),
            following: parties.following.clone(),
        };
        figures.register(&mut registry);
        let held = parties.clone();
        certs::metrics::Expiries::register(move || held.expiring(), &mut registry);
        let admin = AdminApi {
            cluster: config.cluster.clone(),
            cluster_id: config.cluster_id,
            encryption: config.encryption,
            replica: config.replicas.own,
            parties: parties.clone(),
            store: Arc::clone(&store),
            membership,
            backend: config.store.to_string(),
            view: view.clone(),
            presence: presence.clone(),
            controller: controller_handle,
            remote: Arc::clone(&credentials.remote),
            authorities: Arc::clone(&authorities),
        };
        let agent = AgentApi {
            cluster: config.cluster.clone(),
            cluster_id: config.cluster_id,
            encryption: config.encryption,
            store: Arc::clone(&store),
            view,
            presence,
            credentials: Arc::clone(&credentials),
            following: parties.following.clone(),
            quorum: quorum_handle,
            shutdown: shutdown.clone(),
        };
        let join = JoinApi {
            cluster: config.cluster.clone(),
            store: Arc::clone(&store),
            credentials: Arc::clone(&credentials),
            account: account.map(|(reviews, name)| AgentAccount::new(reviews, name)),
        };
        let http = mesh_runtime::admin::Server::bind(config.listen_metrics, readiness.clone(), registry).await?;
        let metrics = http.local_addr()?;

        let users = Users::default();
        let gate = Gate::new(Roles::new(&config.cluster), |extensions: &Extensions| certs::principal(extensions))
            .with_users(users.clone());
        let etcd_api = servers.etcd(
            etcd_listener,
            Arc::clone(&store),
            gate,
            store_metrics,
            EtcdOptions { member_name: config.cluster.to_string(), client_urls, ..EtcdOptions::default() },
            shutdown.clone(),
        );

        let stop = || shutdown.clone();
        tasks.spawn("metrics and health", OnExit::Shutdown, http.run(stop()));
        tasks.spawn("quorum", OnExit::Shutdown, quorum.run(stop()));
        if let Some(embedded) = backend.embedded() {
            let failed = failure::watch(embedded, connections.clone(), readiness.clone(), stop());
            tasks.spawn("store", OnExit::Shutdown, failed);
        }
        let (figures_of, until) = (Arc::clone(&store), stop());
        tasks.spawn("etcd's figures", OnExit::Shutdown, async move {
            until.unless_requested(etcd_figures.follow(figures_of)).await;
            Ok::<_, std::convert::Infallible>(())
        });
        tasks.spawn("controller", OnExit::Shutdown, controller.run(stop()));
        tasks.spawn("view", OnExit::Shutdown, view_feed.run(stop()));
        let rights = UserRights {
            store: Arc::clone(&store),
            users,
            authorities: Arc::clone(&authorities),
            connections: connections.clone(),
        };
        tasks.spawn("users and roles", OnExit::Shutdown, rights.run(stop()));
        let trust = PeerTrust { store: Arc::clone(&store), authorities, connections: connections.clone() };
        tasks.spawn("trust in peers", OnExit::Shutdown, trust.run(stop()));
        tasks.spawn("etcd API", OnExit::Shutdown, etcd_api);
        let delegates = reviews.map(Delegates::new);
        let mesh_api = servers.mesh(mesh_listener, agent, join, admin.clone(), delegates, stop());
        tasks.spawn("mesh API", OnExit::Shutdown, mesh_api);
        let socket = servers::AdminSocket::bind(&config.admin_socket)?;
        tasks.spawn("admin socket", OnExit::Shutdown, socket.run(admin, stop()));
        let follower = Follower {
            store,
            credentials: Arc::clone(&credentials),
            connections: connections.clone(),
            following: parties.following,
            reconnect: backend.reconnect(),
        };
        tasks.spawn("rotation of certificates", OnExit::Shutdown, follower.run(stop()));
        tasks.spawn("certificates", OnExit::Shutdown, credentials.renew(stop()));
        tracing::info!(%etcd, %mesh, %metrics, socket = %config.admin_socket.display(), "started");
        Ok(Self { etcd, mesh, metrics, readiness, store: backend, connections, tasks })
    }

    /// Ends everything in order and returns when nothing runs any more.
    pub async fn stop(self) {
        self.readiness.drain();
        self.tasks.shutdown().trigger(mesh_runtime::Cause::Requested("asked to".to_owned()));
        if self.tasks.join(DRAIN).await.is_err() {
            tracing::debug!("open streams did not end by themselves");
        }
        self.connections.cut_where(|_| true);
        if let Err(late) = self.tasks.join(STOP_WITHIN).await {
            tracing::warn!(%late, "tasks were aborted");
        }
        self.store.shutdown().await;
    }
}

async fn listen(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let hint = || format!("cannot listen on {address} for {what}: is another process using the port?");
    TcpListener::bind(address).await.with_context(hint)
}

/// The state folder holds keys.
fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let context = || format!("cannot use the state folder {}", dir.display());
    std::fs::create_dir_all(dir).with_context(context)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).with_context(context)
}
