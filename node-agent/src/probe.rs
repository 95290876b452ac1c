//! Whether other nodes answer through the tunnel: one small datagram to each node in use, every 300 ms; and less often to a
//! few nodes of each cluster of which nothing is in use.
//!
//! ```text
//!   paths (pure, time injected) ◀──▶ socket: sends, answers others' probes, hears answers
//!        │ Presumed / Up / Down
//!        └─▶ control masks backends; a dead path's handshake is forced, so that its return is not waited for
//! ```
//! Must never conclude anything about a cluster: what one node sees masks backends on that node only.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use mesh_runtime::{ErrorChain, Shutdown};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::names::TUNNEL_DEVICE;
use crate::tunnel::wireguard::Device;
use crate::tunnel::{Peer, PublicKey, WireGuard as _};
use crate::underlay;

pub mod message;
pub mod paths;
pub mod sample;
pub mod socket;

use message::{Kind, Message};
use paths::{Action, Interest, Paths};
use socket::{Arrival, Socket, Way};

/// A node to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub cluster: String,
    pub node: String,
    pub interest: Interest,
    /// Its WireGuard side, for forcing handshakes.
    pub peer: Option<(PublicKey, Peer)>,
}

/// Nodes in use, and those that are sampled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    pub nodes: BTreeMap<Ipv4Addr, Target>,
    /// Paths that are new now are taken to be up until probes say otherwise: a restarted agent finds traffic flowing.
    pub presume_up: bool,
}

/// One path as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub cluster: String,
    pub node: String,
    pub interest: Interest,
    pub is_up: bool,
    pub rtt_micros: u32,
    pub since_unix_nanos: u64,
}

pub type Reports = BTreeMap<IpAddr, Report>;

#[derive(Debug, Clone)]
pub struct Options {
    pub port: u16,
}

/// The task.
pub struct Prober {
    options: Options,
    targets: watch::Receiver<Targets>,
    underlay: watch::Receiver<underlay::State>,
    reports: watch::Sender<Reports>,
    paths: Paths,
    /// Tells this process's probes from an earlier one's.
    nonce: u32,
    /// When round trip times are told anew; changes are told at once.
    next_report: Instant,
    /// The secure device when it was last looked at.
    tunnel: Option<u32>,
    /// Bytes that had come from a peer when its handshake was last thought of. Written by the forcing threads only.
    received: Arc<Mutex<BTreeMap<Ipv4Addr, u64>>>,
}

const REPORT: std::time::Duration = std::time::Duration::from_secs(2);

impl Prober {
    pub fn new(
        options: Options,
        targets: watch::Receiver<Targets>,
        underlay: watch::Receiver<underlay::State>,
    ) -> Self {
        let reports = watch::Sender::new(Reports::new());
        Self {
            options,
            targets,
            underlay,
            reports,
            paths: Paths::default(),
            nonce: rand::random(),
            next_report: Instant::now(),
            tunnel: None,
            received: Arc::default(),
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<Reports> {
        self.reports.subscribe()
    }

    /// Runs until `shutdown`; a socket that fails is opened anew by the caller's restart.
    pub async fn run(&mut self, shutdown: &Shutdown) -> io::Result<()> {
        let Some(node_ip) = shutdown.unless_requested(self.node_ip()).await.flatten() else { return Ok(()) };
        let socket = Arc::new(Socket::bind(node_ip, self.options.port)?);
        self.retarget(node_ip);
        loop {
            let wake = self.paths.next_wakeup();
            tokio::select! {
                arrival = socket.receive() => self.heard(&socket, &arrival?),
                changed = self.targets.changed() => {
                    if changed.is_err() { return Ok(()) }
                    self.retarget(node_ip);
                }
                Ok(()) = self.underlay.changed() => self.tunnel_changed(),
                () = sleep_until(wake) => {}
                () = shutdown.requested() => return Ok(()),
            }
            self.act(&socket);
        }
    }

    async fn node_ip(&mut self) -> Option<Ipv4Addr> {
        let state = self.underlay.wait_for(|state| state.uplink.is_some()).await.ok()?;
        state.uplink.as_ref().map(|uplink| uplink.node_ip)
    }

    fn retarget(&mut self, node_ip: Ipv4Addr) {
        let targets = self.targets.borrow_and_update().clone();
        let wanted: BTreeMap<Ipv4Addr, Interest> =
            targets.nodes.iter().map(|(address, target)| (*address, target.interest)).collect();
        self.paths.set_targets(&wanted, targets.presume_up, node_ip, Instant::now());
        self.report();
    }

    /// A device that has just come is tried at once.
    fn tunnel_changed(&mut self) {
        let tunnel = self.underlay.borrow_and_update().tunnel;
        if tunnel.is_some() && tunnel != self.tunnel {
            self.paths.probe_now(Instant::now());
        }
        self.tunnel = tunnel;
    }

    fn heard(&mut self, socket: &Arc<Socket>, arrival: &Arrival) {
        if !self.is_trusted(arrival) {
            return;
        }
        let Some(message) = Message::decode(&arrival.bytes) else { return };
        match message.kind {
            Kind::Request => {
                let answer = Message { kind: Kind::Answer, ..message };
                // A lost answer is what the other side counts; nothing more can be done about it here.
                socket.send(arrival.from, &answer, self.way_to(*arrival.from.ip())).ok();
            }
            Kind::Answer if message.nonce == self.nonce => {
                if self.paths.answered(*arrival.from.ip(), message.sequence, Instant::now()) {
                    self.report();
                }
            }
            Kind::Answer => {}
        }
    }

    /// With encryption, only what came out of the secure device; without, only from a node that is known.
    fn is_trusted(&self, arrival: &Arrival) -> bool {
        let state = self.underlay.borrow();
        if state.is_encrypted {
            return state.tunnel.is_some_and(|index| index == arrival.device);
        }
        state.guarded.contains(&IpAddr::V4(*arrival.from.ip()))
    }

    /// What a probe to a node may leave by: the secure device; any other only once the underlay, which is told of a new peer
    /// on its own way, knows the node and knows that it is to be reached in clear.
    fn way_to(&self, node: Ipv4Addr) -> Way {
        let state = self.underlay.borrow();
        match (state.is_encrypted, state.tunnel) {
            (true, Some(index)) => Way::Through(index),
            (false, _) if state.guarded.contains(&IpAddr::V4(node)) => Way::Any,
            _ => Way::Closed,
        }
    }

    fn act(&mut self, socket: &Arc<Socket>) {
        let (actions, changed) = self.paths.poll(Instant::now());
        for action in actions {
            match action {
                Action::Probe { to, sequence } => {
                    let message = Message { kind: Kind::Request, sequence, nonce: self.nonce };
                    let way = self.way_to(to);
                    let to = std::net::SocketAddrV4::new(to, self.options.port);
                    if let Err(error) = socket.send(to, &message, way) {
                        tracing::trace!(%to, %error, "probe not sent");
                    }
                }
                Action::Handshake { to } => self.force_handshake(to),
            }
        }
        if changed || self.next_report <= Instant::now() {
            self.next_report = Instant::now() + REPORT;
            self.report();
        }
    }

    /// A handshake ends the session that there is, so it is forced only where nothing at all came from the peer since the
    /// last look: an agent that is away does not answer probes, and its tunnel carries traffic all the same.
    fn force_handshake(&self, to: Ipv4Addr) {
        let (backend, is_ready) = {
            let state = self.underlay.borrow();
            (state.backend, state.tunnel.is_some())
        };
        let target = self.targets.borrow().nodes.get(&to).and_then(|target| target.peer.clone());
        let (Some(backend), Some((key, peer)), true) = (backend, target, is_ready) else { return };
        let received = Arc::clone(&self.received);
        let forced = move || {
            let result = Device::new(TUNNEL_DEVICE, backend).and_then(|device| {
                let now = device.stats()?.into_iter().find(|s| s.key == key).map_or(0, |s| s.received_bytes);
                let before = received.lock().insert(to, now);
                if before == Some(now) { device.force_handshake(&key, &peer) } else { Ok(()) }
            });
            if let Err(error) = result {
                tracing::debug!(%to, error = %ErrorChain(&error), "no handshake");
            }
        };
        // Ends by itself within the tunnel's patience; nothing waits for it.
        drop(tokio::task::spawn_blocking(forced));
    }

    fn report(&self) {
        let targets = self.targets.borrow();
        let reports = self.paths.iter().filter_map(|(address, path)| {
            let target = targets.nodes.get(&address)?;
            // Of a node in use what is presumed counts: its backends are used, or not.
            if path.interest() == Interest::Sampled && !path.is_known() {
                return None;
            }
            let report = Report {
                cluster: target.cluster.clone(),
                node: target.node.clone(),
                interest: path.interest(),
                is_up: path.is_up(),
                rtt_micros: path.rtt_micros(),
                since_unix_nanos: path.since_unix_nanos(),
            };
            Some((IpAddr::V4(address), report))
        });
        let reports: Reports = reports.collect();
        self.reports.send_if_modified(|old| {
            for (address, report) in &reports {
                if old.get(address).is_some_and(|before| before.is_up != report.is_up) {
                    let Report { cluster, node, is_up, .. } = report;
                    tracing::info!(%cluster, %node, %address, is_up, "path");
                }
            }
            let changed = *old != reports;
            *old = reports;
            changed
        });
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
