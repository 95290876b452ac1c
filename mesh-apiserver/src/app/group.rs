//! This server's replica of the store: the way to the others, the port that they use, and the wait until it belongs to
//! them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::{ChannelOptions, ClientTls, Role, Trust, channel};
use federation::peer::server_name;
use mesh_runtime::{OnExit, Shutdown, TaskSet};
use mesh_store::backend::Member;
use mesh_store::mvcc::Quota;
use mesh_store::raft_port::{GrpcTransport, RaftService};
use mesh_store::{Embedded, Metrics, OpenError, Options, Start};

use super::servers::Servers;
use crate::args::{Config, Replicas, endpoint};
use crate::credentials::Credentials;

/// How often it is said what a start waits for.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// The others have gone when their calls are cut: nothing is lost with them.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A running replica and its port. The port is closed after the replica: a leader hands over through it.
pub(super) struct Group {
    pub(super) store: Arc<Embedded>,
    /// The way to the others.
    pub(super) transport: Arc<GrpcTransport>,
    port: TaskSet,
}

impl Group {
    /// Returns when the replica serves. The first start of a group waits for all replicas, later ones for a quorum.
    pub(super) async fn start(
        config: &Config,
        servers: &Servers,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let replicas = &config.replicas;
        let listener = super::listen(replicas.listen, "the other replicas").await?;
        let port = listener.local_addr()?.port();
        let members = members(config, port);
        let member = members.iter().find(|member| member.id == replicas.own).cloned();
        let options = Options {
            member: member.context("this replica is not among --replica")?,
            start: if replicas.joins { Start::Join { members } } else { Start::Together { members } },
            quota: Quota { bytes: config.store_quota_bytes },
            ..Options::new(config.state_dir.join("store"))
        };
        let transport = Arc::new(transport(config, &servers.credentials)?);
        let store = Embedded::start(options, Arc::<GrpcTransport>::clone(&transport), metrics)
            .await
            .context("cannot open the store")?;
        let tasks = TaskSet::new(Shutdown::new());
        let service = RaftService::new(store.receiver(), |extensions, _id| {
            certs::principal(extensions).is_some_and(|principal| principal.role() == Role::Replica)
        });
        tasks.spawn("raft port", OnExit::Log, servers.raft(listener, service, tasks.shutdown().clone()));
        let group = Self { store, transport, port: tasks };
        match group.wait_until_it_serves(replicas, shutdown).await {
            Ok(()) => Ok(group),
            Err(error) => {
                group.stop().await;
                super::failure::until_there_is_room(&group.store, shutdown, |_| {}).await;
                Err(error).context("cannot start this replica of the store")
            }
        }
    }

    async fn wait_until_it_serves(&self, replicas: &Replicas, shutdown: &Shutdown) -> anyhow::Result<()> {
        loop {
            let ready = shutdown.unless_requested(self.store.ready(REMIND_EVERY)).await;
            match ready {
                None => anyhow::bail!("it was told to stop while it waited for the others"),
                Some(Err(OpenError::NotReady { .. })) => {
                    let others: Vec<&str> = replicas.others_hosts().collect();
                    tracing::warn!(
                        ?others,
                        "no leader yet: waiting for the other replicas (the first start waits for all, later ones for a \
                         majority)"
                    );
                }
                Some(ready) => return Ok(ready?),
            }
        }
    }

    pub(super) async fn stop(&self) {
        self.store.shutdown().await;
        self.port.shutdown().trigger(mesh_runtime::Cause::Requested("the store has stopped".to_owned()));
        if let Err(late) = self.port.join(CLOSE_WITHIN).await {
            tracing::debug!(%late, "calls of other replicas were cut");
        }
    }
}

fn members(config: &Config, raft_port: u16) -> Vec<Member> {
    let member = |(id, host): (&u64, &String)| Member {
        id: *id,
        name: format!("{}-{id}", config.cluster),
        peer_urls: vec![format!("https://{}", endpoint(host, raft_port))],
        client_urls: vec![format!("https://{}", endpoint(host, config.listen_etcd.port()))],
        is_learner: false,
    };
    config.replicas.hosts.iter().map(member).collect()
}

fn transport(config: &Config, credentials: &Credentials) -> Result<GrpcTransport, certs::client::Error> {
    let server_name = server_name(&config.cluster);
    let trust = Trust::Live(Arc::clone(&credentials.trust));
    let tls = ClientTls::new(&trust, Some(&credentials.server), &server_name)?;
    let options = ChannelOptions {
        connect_timeout: Duration::from_secs(1),
        keepalive_interval: Duration::from_secs(1),
        keepalive_timeout: Duration::from_secs(2),
    };
    Ok(GrpcTransport::new(move |member| {
        let addresses: Vec<String> =
            member.peer_urls.iter().filter_map(|url| url.strip_prefix("https://")).map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err(format!("member {} has no https:// peer URL", member.id));
        }
        Ok(channel(&addresses, &tls, &options))
    }))
}
