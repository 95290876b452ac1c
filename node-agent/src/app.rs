//! Wiring, in start order; everything stops in reverse with the shutdown token, and leaves the kernel as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::{Datapath, Sizes};
use anyhow::Context as _;
use mesh_proto::v1;
use mesh_runtime::admin::Server;
use mesh_runtime::{Backoff, OnExit, Readiness, Shutdown, TaskSet};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, watch};

use crate::args::Settings;
use crate::attach::Attacher;
use crate::control::{Control, Options, Wiring};
use crate::discovery::Discovery;
use crate::enrol::{self, Identity, Renewal, Wanted};
use crate::metrics::Metrics;
use crate::names::TUNNEL_DEVICE;
use crate::netlink::Netlink;
use crate::netlink::watch::Watch;
use crate::node_lock::{self, NodeLock};
use crate::probe::{self, Prober, Targets};
use crate::source::reporter::Reporter;
use crate::source::{Registration, Source};
use crate::status::Status;
use crate::tunnel::PrivateKey;
use crate::underlay::{self, Underlay};

/// Deltas that wait for the maps; the stream waits beyond that. Each may carry 500 objects of a snapshot: it is the API server
/// that keeps what an agent has not taken yet.
const EVENTS: usize = 32;
const STOP: Duration = Duration::from_secs(5);

pub async fn run(settings: Settings, bpffs: &Path, shutdown: Shutdown) -> anyhow::Result<()> {
    let _signals = shutdown.listen_to_signals().context("listen to signals")?;
    let tasks = TaskSet::new(shutdown.clone());
    let readiness = Readiness::new();
    let enrolled = readiness.await_for("enrolment");
    let first_sync = readiness.await_for("the first whole view in the kernel");
    tracing::info!(?settings, bpffs = %bpffs.display(), "settings");

    enrol::prepare_folder(&settings.identity.state_dir)?;
    let _lock = match NodeLock::take(&settings.identity.state_dir, None, &shutdown).await {
        Err(node_lock::Error::Stopped(_)) => return Ok(()),
        taken => taken?,
    };
    let key = PrivateKey::load_or_create(&settings.identity.state_dir.join("wireguard.key"))?;
    let datapath = Datapath::load_or_adopt(bpffs, Sizes::default()).context("bring the datapath up")?;
    let datapath = Arc::new(datapath);
    let watch_all = Arc::new(Watch::default());

    let (plan, plan_seen) = watch::channel(None);
    let options = underlay::Options {
        uplink: settings.uplink.clone(),
        node_ip: settings.node_ip,
        vxlan_port: settings.vxlan_port,
        wireguard_port: settings.wireguard_port,
        probe_port: settings.probe_port,
        wireguard: settings.wireguard,
        key: key.clone(),
    };
    let nudges = watch_all.subscribe();
    let underlay = Underlay::new(options, Netlink::open(&tasks)?, Arc::clone(&datapath), plan_seen, nudges);
    let underlay_state = underlay.subscribe();
    let missed = Arc::new(Notify::new());
    let nudges = watch_all.subscribe();
    let discovery = Discovery::new(Netlink::open(&tasks)?, nudges, underlay_state.clone(), Arc::clone(&missed));
    let (devices, devices_seen) = watch::channel(BTreeMap::new());
    let attacher = Attacher::new(Arc::clone(&datapath), devices_seen);
    let (targets, targets_seen) = watch::channel(Targets::default());
    let prober = Prober::new(probe::Options { port: settings.probe_port }, targets_seen, underlay_state.clone());

    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    Metrics::register_readers(&mut registry, Arc::clone(&datapath), underlay_state.clone());
    let held = watch::Sender::new(v1::Credentials::default());
    Metrics::register_expiry(&mut registry, settings.identity.node.clone(), held.subscribe());
    let admin = Server::bind(settings.listen_metrics, readiness, registry).await?;

    let (events, events_seen) = mpsc::channel(EVENTS);
    let status = watch::Sender::new(Status::default());
    let status_seen = status.subscribe();
    let wiring = Wiring {
        events: events_seen,
        pods: discovery.subscribe(),
        devices,
        attach_failures: attacher.subscribe(),
        underlay: underlay_state.clone(),
        paths: prober.subscribe(),
        plan,
        targets,
        status,
        missed,
    };
    let options = Options {
        cgroup_root: settings.cgroup_root.clone(),
        leaves_own_services: settings.leaves_own_services,
        vxlan_port: settings.vxlan_port,
    };
    let control = Control::new(options, Arc::clone(&datapath), wiring, metrics.clone(), first_sync)?;

    tasks.spawn("admin", OnExit::Shutdown, admin.run(shutdown.clone()));
    tasks.spawn("control", OnExit::Shutdown, control.run(shutdown.clone()));
    tasks.spawn("attacher", OnExit::Shutdown, attacher.run(shutdown.clone()));
    tasks.spawn("underlay", OnExit::Shutdown, underlay.run(shutdown.clone()));
    tasks.spawn("discovery", OnExit::Shutdown, discovery.run(shutdown.clone()));
    spawn_watch(&tasks, watch_all);
    tasks.spawn("probe", OnExit::Shutdown, keep_probing(prober, shutdown.clone()));

    let identity = match Identity::establish(&settings.identity, &shutdown).await {
        Ok(identity) => identity,
        Err(enrol::Error::Stopped) => return stop(&tasks).await,
        Err(error) => return Err(error.into()),
    };
    drop(enrolled);
    let channel = identity.channel(&settings.identity.apiservers)?;
    let registration = Registration {
        wireguard_key: key.public().0,
        wireguard_port: settings.wireguard_port,
        vxlan_port: settings.vxlan_port,
        kernel: kernel_release(),
    };
    let cluster = settings.identity.cluster.clone();
    let source = Source::new(channel.clone(), cluster, registration, events, underlay_state, metrics);
    let wanted = watch::Sender::new(Wanted::default());
    let credentials = held.subscribe();
    let renewal = Renewal::new(identity, channel.clone(), wanted.subscribe(), held);
    let reporter = Reporter { channel, status: status_seen, datapath, credentials, wanted };
    tasks.spawn("source", OnExit::Shutdown, source.run(shutdown.clone()));
    tasks.spawn("reporter", OnExit::Shutdown, reporter.run(shutdown.clone()));
    tasks.spawn("renewal", OnExit::Shutdown, renewal.run(shutdown.clone()));
    stop(&tasks).await
}

/// Waits until stopping is asked for, then for the tasks.
async fn stop(tasks: &TaskSet) -> anyhow::Result<()> {
    tasks.shutdown().requested().await;
    tasks.join(STOP).await.context("stop")
}

fn spawn_watch(tasks: &TaskSet, watch: Arc<Watch>) {
    let shutdown = tasks.shutdown().clone();
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    tasks.spawn_restarting("watch", backoff, move || {
        let (watch, shutdown) = (Arc::clone(&watch), shutdown.clone());
        async move { watch.run(&shutdown).await }
    });
}

/// The socket cannot be had while the node's address is missing; paths keep their state meanwhile.
async fn keep_probing(mut prober: Prober, shutdown: Shutdown) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    while !shutdown.is_requested() {
        match prober.run(&shutdown).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, device = TUNNEL_DEVICE, "the probe's socket failed"),
        }
        shutdown.unless_requested(backoff.wait()).await;
    }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |u| u.release().to_string_lossy().into_owned())
}
