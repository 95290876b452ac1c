//! What lies under the maps: the VXLAN and the WireGuard device, rules, routes, and the programs on devices that are not
//! pods'.
//!
//! # Invariants
//! - A node is reported as guarded only while a packet to its tunnel port can leave through the secure device or not at
//!   all: rules and its `unreachable` route are in place.
//! - Rules and guards are added before, and removed after, everything that uses them.
//! - Without a plan nothing is touched: what an earlier agent left goes on working.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::Datapath;
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_types::view::Encryption;
use tokio::sync::watch;

use crate::compile::plan::Plan;
use crate::mtu::Sizes;
use crate::names::{TUNNEL_DEVICE, VXLAN_DEVICE};
use crate::netlink::links::Kind;
use crate::netlink::routes::Route;
use crate::netlink::uplink::{self, Uplink};
use crate::netlink::watch::Nudges;
use crate::netlink::{self, Netlink};
use crate::tunnel::{self, Backend, Peers, PrivateKey};

pub mod device;
mod routing;

/// Full compare while all is well.
const PERIOD: Duration = Duration::from_secs(5);
/// While something is missing: a tunnel process that starts is noticed within this.
const IMPATIENCE: Duration = Duration::from_millis(100);
/// Changes of devices come in bursts; what comes within this is looked at once.
const BURST: Duration = Duration::from_millis(2);

/// Which WireGuard is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The kernel's if it has one.
    Auto,
    Kernel,
    Userspace,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub uplink: Option<String>,
    pub node_ip: Option<Ipv4Addr>,
    pub vxlan_port: u16,
    pub wireguard_port: u16,
    pub probe_port: u16,
    pub wireguard: Choice,
    pub key: PrivateKey,
}

/// The underlay as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub uplink: Option<Uplink>,
    pub sizes: Option<Sizes>,
    pub is_encrypted: bool,
    /// There was a plan, and its guards are in place: until then `guarded` says nothing.
    pub is_planned: bool,
    pub vxlan: Option<u32>,
    /// Index of the secure device, while it is configured and its routes are in place.
    pub tunnel: Option<u32>,
    pub backend: Option<Backend>,
    /// Nodes to which nothing can leave in clear.
    pub guarded: BTreeSet<IpAddr>,
    /// What could not be done, for people.
    pub errors: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error(transparent)]
    Uplink(#[from] uplink::Missing),
    #[error(transparent)]
    Tunnel(#[from] tunnel::Error),
    #[error(transparent)]
    Datapath(#[from] agent_ebpf::datapath::Error),
    #[error("device {name} exists and is not ours: remove it, or choose other ports and names")]
    ForeignDevice { name: String },
    #[error("device {0} vanished while it was made")]
    NoVxlan(&'static str),
    #[error("there is no device {0} yet: is mesh-tunnel running?")]
    NoTunnel(&'static str),
    #[error("a call to the tunnel panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// The reconciler.
pub struct Underlay {
    options: Options,
    netlink: Netlink,
    datapath: Arc<Datapath>,
    plan: watch::Receiver<Option<Arc<Plan>>>,
    nudges: watch::Receiver<Nudges>,
    state: watch::Sender<State>,
    /// Device indices that programs were attached to by this agent.
    attached: BTreeSet<u32>,
    /// What the secure device was last given, and which device that was.
    configured: Option<(u32, Peers)>,
}

impl Underlay {
    pub fn new(
        options: Options,
        netlink: Netlink,
        datapath: Arc<Datapath>,
        plan: watch::Receiver<Option<Arc<Plan>>>,
        nudges: watch::Receiver<Nudges>,
    ) -> Self {
        let state = watch::Sender::new(State::default());
        Self { options, netlink, datapath, plan, nudges, state, attached: BTreeSet::new(), configured: None }
    }

    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Runs until `shutdown`; leaves everything in place.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut is_full = true;
        while !shutdown.is_requested() {
            self.nudges.mark_unchanged();
            let plan = self.plan.borrow_and_update().clone();
            let state = self.reconcile(plan.as_deref(), is_full).await;
            let wait = if state.errors.is_empty() { PERIOD } else { IMPATIENCE };
            self.publish(state);
            is_full = tokio::select! {
                changed = self.plan.changed() => { if changed.is_err() { return } false }
                changed = self.nudges.changed() => {
                    if changed.is_err() { return }
                    tokio::time::sleep(BURST).await;
                    false
                }
                () = tokio::time::sleep(wait) => true,
                () = shutdown.requested() => return,
            };
        }
    }

    fn publish(&self, state: State) {
        self.state.send_if_modified(|old| {
            for error in state.errors.iter().filter(|e| !old.errors.contains(e)) {
                tracing::warn!(error, "underlay");
            }
            if old.tunnel != state.tunnel {
                tracing::info!(device = TUNNEL_DEVICE, index = ?state.tunnel, "secure device");
            }
            let changed = *old != state;
            *old = state;
            changed
        });
    }

    async fn reconcile(&mut self, plan: Option<&Plan>, is_full: bool) -> State {
        let before = self.state.borrow().clone();
        let mut state = State { backend: before.backend, is_planned: before.is_planned, ..State::default() };
        match self.netlink.uplink(self.options.uplink.as_deref(), self.options.node_ip).await {
            Ok(uplink) => {
                self.attach(uplink.index, &mut state, Datapath::attach_wan);
                state.uplink = Some(uplink);
            }
            Err(error) => state.note(&Error::from(error)),
        }
        // A look that failed takes nothing back: what was in place is still there.
        state.uplink = state.uplink.or(before.uplink);
        let Some(plan) = plan else { return state };
        let planned = plan.peers.keys().map(|address| IpAddr::V4(*address));
        state.guarded = planned.clone().filter(|address| before.guarded.contains(address)).collect();
        state.is_encrypted = plan.encryption == Encryption::Wireguard;
        let Some(uplink) = state.uplink.clone() else { return state };
        let sizes = Sizes::of(uplink.mtu, state.is_encrypted);
        state.sizes = Some(sizes);

        let guards = match self.guard(plan, state.is_encrypted).await {
            Ok(guards) => guards,
            Err(error) => {
                state.note(&error);
                return state;
            }
        };
        match self.vxlan(sizes.inner).await {
            Ok(index) => {
                self.attach(index, &mut state, Datapath::attach_vxlan);
                state.vxlan = Some(index);
            }
            Err(error) => state.note(&error),
        }
        let mut tunnel = None;
        if let Some(mtu) = sizes.tunnel {
            match self.secure_device(plan, mtu, is_full, &mut state).await {
                Ok(index) => tunnel = Some(index),
                Err(error) => state.note(&error),
            }
        }
        match self.routes(plan, guards, tunnel, &uplink, &state).await {
            Ok(()) => {
                state.tunnel = tunnel;
                state.guarded = planned.collect();
                state.is_planned = true;
            }
            // A look that failed says nothing about a device that was in use.
            Err(error) => {
                state.tunnel = tunnel.filter(|index| before.tunnel == Some(*index));
                state.note(&error);
            }
        }
        state
    }

    /// Once for each device: a device that is made anew has another index.
    fn attach(
        &mut self,
        index: u32,
        state: &mut State,
        attach: impl FnOnce(&Datapath, u32) -> Result<agent_ebpf::links::Attached, agent_ebpf::datapath::Error>,
    ) {
        if self.attached.contains(&index) {
            return;
        }
        match attach(&self.datapath, index) {
            Ok(_) => {
                self.attached.insert(index);
            }
            Err(error) => state.note(&error.into()),
        }
    }

    /// Rules and one `unreachable` route for each peer; returns what of them must exist.
    async fn guard(&self, plan: &Plan, is_encrypted: bool) -> Result<Vec<Route>, Error> {
        if !is_encrypted {
            return Ok(Vec::new());
        }
        let held = self.netlink.own_rules().await?;
        for rule in routing::rules(&self.options).iter().filter(|rule| !held.contains(rule)) {
            self.netlink.add_rule(rule).await?;
        }
        let guards = routing::guards(plan);
        let held: BTreeSet<Route> = self.netlink.own_routes().await?.into_iter().collect();
        for route in guards.iter().filter(|route| !held.contains(route)) {
            self.netlink.replace_route(route).await?;
        }
        Ok(guards)
    }

    /// The routes that use the devices; then what is left over goes.
    async fn routes(
        &self,
        plan: &Plan,
        guards: Vec<Route>,
        tunnel: Option<u32>,
        uplink: &Uplink,
        state: &State,
    ) -> Result<(), Error> {
        let mut wanted = guards;
        wanted.extend(tunnel.into_iter().flat_map(|index| routing::through_tunnel(plan, index, uplink.node_ip)));
        if let (Some(vxlan), Some(sizes)) = (state.vxlan, state.sizes) {
            wanted.extend(routing::prefixes(plan, vxlan, sizes.inner));
        }
        let held: BTreeSet<Route> = self.netlink.own_routes().await?.into_iter().collect();
        for route in wanted.iter().filter(|route| !held.contains(route)) {
            self.netlink.replace_route(route).await?;
        }
        // What could not be looked at must not be mistaken for what is not wanted.
        if !state.errors.is_empty() {
            return Ok(());
        }
        // A route that took another's place is in `wanted` by its key; deleting the old form would delete the new one.
        let keys: BTreeSet<_> = wanted.iter().map(routing::key).collect();
        for route in held.iter().filter(|route| !keys.contains(&routing::key(route))) {
            self.netlink.delete_route(route).await?;
        }
        let rules = if state.is_encrypted { routing::rules(&self.options) } else { Vec::new() };
        for rule in self.netlink.own_rules().await?.iter().filter(|rule| !rules.contains(rule)) {
            self.netlink.delete_rule(rule).await?;
        }
        Ok(())
    }

    async fn vxlan(&self, mtu: u32) -> Result<u32, Error> {
        let port = self.options.vxlan_port;
        let mut found = self.netlink.link(VXLAN_DEVICE).await?;
        if let Some(link) = found.take_if(|link| link.kind != Kind::Vxlan { port, is_external: true }) {
            if !matches!(link.kind, Kind::Vxlan { .. }) {
                return Err(Error::ForeignDevice { name: link.name });
            }
            self.netlink.delete_link(&link).await?;
        }
        if found.is_none() {
            self.netlink.add_vxlan(VXLAN_DEVICE, port).await?;
            found = self.netlink.link(VXLAN_DEVICE).await?;
        }
        // Somebody deleted it between the two calls: the next round makes it again.
        let link = found.ok_or(Error::NoVxlan(VXLAN_DEVICE))?;
        self.netlink.bring_up(&link, mtu).await?;
        Ok(link.index)
    }
}

impl State {
    fn note(&mut self, error: &Error) {
        self.errors.push(ErrorChain(error).to_string());
    }
}
