//! The way to a peer walked once, step by step, as the session goes it: for `meshctl troubleshoot`. Reads only, changes
//! nothing, and goes on from one step to the next only where the next could tell more.
//!
//! ```text
//!  record, certificate --> per endpoint: resolve -> connect -> tls -> role -> heartbeat -> config -> canaries -> resources
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::client::failure::TlsFailure;
use certs::client::reach::{Unreachable, reach, refusal};
use certs::{ClientTls, LiveLeaf, Trust, TrustBundle};
use futures::future::join_all;
use jiff::Timestamp;
use mesh_runtime::ErrorChain;

use super::error::Error;
use super::link::Link;
use crate::contract::cluster_config::Capabilities;
use crate::contract::{Resource, keys};
use crate::mirror::Watched;
use crate::peer::{AccessError, PeerRecord};

mod facts;

/// For a name, for a connection, and for a handshake, each.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Warn,
    Fail,
    /// An earlier step failed.
    NotReached,
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// One word: see [`STEPS`], and the names of resources.
    pub step: &'static str,
    /// Empty for a step that is about no endpoint.
    pub endpoint: String,
    pub outcome: Outcome,
    /// What was found, and what to do about it.
    pub text: String,
}

/// The steps to an endpoint before its resources, in order.
pub const STEPS: [&str; 7] = ["resolve", "connect", "tls", "role", "heartbeat", "config", "canaries"];

/// A server of this cluster that takes the certificate, and still does not answer as it should.
const NO_ETCD_API: &str =
    "is this the port of its etcd API, and does its store have a leader? `meshctl store status` there says so";

/// The steps to one endpoint so far.
struct Walk {
    endpoint: String,
    /// The name that the server there proves to have.
    server_name: String,
    /// The kinds that the peer exports, as far as it has said.
    exported: Vec<Resource>,
    steps: Vec<Step>,
}

/// The way ends here: the step that failed was noted.
struct Stopped;

impl Walk {
    fn new(endpoint: String, server_name: String) -> Self {
        Self { endpoint, server_name, exported: Capabilities::default().exported().collect(), steps: Vec::new() }
    }

    fn note(&mut self, step: &'static str, outcome: Outcome, text: impl Into<String>) {
        self.steps.push(Step { step, endpoint: self.endpoint.clone(), outcome, text: text.into() });
    }

    fn pass(&mut self, step: &'static str, text: impl Into<String>) {
        self.note(step, Outcome::Pass, text);
    }

    fn stop(&mut self, step: &'static str, text: impl Into<String>) -> Stopped {
        self.note(step, Outcome::Fail, text);
        Stopped
    }

    /// Every step that was not come to says so, so that nobody takes it for passed.
    fn finish(mut self) -> Vec<Step> {
        let all = STEPS.into_iter().chain(self.exported.clone().into_iter().map(Resource::name));
        let known: Vec<&str> = self.steps.iter().map(|step| step.step).collect();
        for step in all.filter(|step| !known.contains(step)) {
            self.note(step, Outcome::NotReached, "");
        }
        self.steps
    }
}

/// Walks to every endpoint of a peer at the same time. `leaf` is the own cluster's, as its session shows it.
pub async fn walk(peer: &PeerRecord, leaf: &Arc<LiveLeaf>) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &peer.declaration.name;
    let mut own = Walk::new(String::new(), String::new());
    let of_cilium = peer.cilium.as_ref().map(|access| Ok::<_, AccessError>((access.bundle()?, access.leaf()?)));
    let (bundle, leaf) = match of_cilium.transpose() {
        Ok(Some((bundle, leaf))) => (Ok(bundle), LiveLeaf::new(leaf)),
        Ok(None) => (TrustBundle::from_pem(&peer.declaration.trust_bundle_pem), Arc::clone(leaf)),
        Err(error) => {
            own.note("record", Outcome::Fail, ErrorChain(&error).to_string());
            return own.steps;
        }
    };
    let bundle = match bundle {
        Err(error) => {
            let text = format!("its trust bundle cannot be used ({}): connect it again", ErrorChain(&error));
            own.note("record", Outcome::Fail, text);
            return own.steps;
        }
        Ok(bundle) if bundle.expires_at() <= Timestamp::now() => {
            let text = format!("its CA ended at {}: give {name} a new one and connect it again", bundle.expires_at());
            own.note("record", Outcome::Fail, text);
            return own.steps;
        }
        Ok(bundle) => bundle,
    };
    let endpoints = &peer.declaration.etcd_endpoints;
    if endpoints.is_empty() {
        own.note(
            "record",
            Outcome::Fail,
            "it holds no endpoint: connect again with a token of a server that was started with --advertise-address",
        );
        return own.steps;
    }
    own.pass("record", format!("{name} (id {}) has {} endpoints", peer.declaration.id, endpoints.len()));
    steps.append(&mut own.steps);
    steps.push(of_leaf(&leaf));
    let (bundle, leaf) = (&bundle, &leaf);
    let walks = endpoints.iter().enumerate().map(|(n, endpoint)| async move {
        let mut walk = Walk::new(endpoint.clone(), peer.server_name(n));
        // Where it stopped is in its steps.
        to_endpoint(&mut walk, peer, n, bundle, leaf).await.ok();
        walk.finish()
    });
    steps.extend(join_all(walks).await.into_iter().flatten());
    steps
}

/// The certificate that this side shows.
fn of_leaf(leaf: &LiveLeaf) -> Step {
    let leaf = leaf.get();
    let (name, until) = (leaf.common_name().to_owned(), leaf.validity().not_after);
    let step = |outcome, text| Step { step: "certificate", endpoint: String::new(), outcome, text };
    if leaf.is_expired() {
        let text =
            format!("the own certificate {name} ended at {until}: check this machine's clock, and restart this server");
        return step(Outcome::Fail, text);
    }
    if leaf.is_renewal_due(Timestamp::now()) {
        return step(
            Outcome::Warn,
            format!("the own certificate {name} ends at {until} and should have been renewed by now"),
        );
    }
    step(Outcome::Pass, format!("the own certificate {name} is valid until {until}"))
}

async fn to_endpoint(
    walk: &mut Walk,
    peer: &PeerRecord,
    n: usize,
    bundle: &TrustBundle,
    leaf: &Arc<LiveLeaf>,
) -> Result<(), Stopped> {
    let address = resolve(walk).await?;
    connect(walk, address).await?;
    handshake(walk, address, bundle).await?;
    let mut link = admitted(walk, address, (peer, n), bundle, leaf).await?;
    facts::read(walk, &mut link, peer).await
}

async fn resolve(walk: &mut Walk) -> Result<SocketAddr, Stopped> {
    const REMEDY: &str = "correct the name at the peer's --advertise-address, or this machine's DNS";
    let endpoint = walk.endpoint.clone();
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(&endpoint)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(walk.stop("resolve", format!("cannot be resolved ({error}): {REMEDY}"))),
        Err(_elapsed) => {
            let text = format!("the name server did not answer within {} s: {REMEDY}", PATIENCE.as_secs());
            return Err(walk.stop("resolve", text));
        }
    };
    let Some(first) = addresses.first().copied() else {
        return Err(walk.stop("resolve", format!("the name has no address: {REMEDY}")));
    };
    walk.pass("resolve", format!("is {first}"));
    Ok(first)
}

async fn connect(walk: &mut Walk, address: SocketAddr) -> Result<(), Stopped> {
    const REMEDY: &str = "is the peer's mesh-apiserver running, and does every firewall between let this port through?";
    match tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => {
            walk.pass("connect", "takes connections");
            Ok(())
        }
        Ok(Err(error)) => Err(walk.stop("connect", format!("{address} does not take connections ({error}): {REMEDY}"))),
        Err(_elapsed) => {
            let text = format!("{address} did not answer within {} s: {REMEDY}", PATIENCE.as_secs());
            Err(walk.stop("connect", text))
        }
    }
}

async fn handshake(walk: &mut Walk, address: SocketAddr, bundle: &TrustBundle) -> Result<(), Stopped> {
    let name = walk.server_name.clone();
    let tls = match ClientTls::new(&Trust::Bundle(bundle.clone()), None, &name) {
        Ok(tls) => tls,
        Err(error) => return Err(walk.stop("tls", ErrorChain(&error).to_string())),
    };
    match reach(&address.to_string(), &tls, PATIENCE).await {
        Ok(reached) => {
            walk.pass("tls", format!("is {name}, by a certificate that is valid until {}", reached.not_after));
            Ok(())
        }
        Err(Unreachable::Tls { source, .. }) => {
            Err(walk.stop("tls", format!("is not accepted as {name}: {}", ErrorChain(&TlsFailure::from(source)))))
        }
        Err(Unreachable::Silent { within, .. }) => {
            let text = format!(
                "takes connections, but began no TLS within {} s: does another program listen there?",
                within.as_secs()
            );
            Err(walk.stop("tls", text))
        }
        Err(error @ Unreachable::Connect { .. }) => Err(walk.stop("tls", ErrorChain(&error).to_string())),
    }
}

/// Whether the peer takes this side's certificate and lets it read what every remote cluster may.
async fn admitted(
    walk: &mut Walk,
    address: SocketAddr,
    (peer, n): (&PeerRecord, usize),
    bundle: &TrustBundle,
    leaf: &Arc<LiveLeaf>,
) -> Result<Link, Stopped> {
    let name = leaf.get().common_name().to_owned();
    let mut link = match Link::prepare(peer, n, (bundle, &leaf.get())).await {
        Ok(link) => link,
        Err(error) => return Err(walk.stop("role", ErrorChain(&error).to_string())),
    };
    match link.list(Watched::Heartbeat, &mesh_store::mvcc::KeyRange::prefix(keys::HEARTBEAT)).await {
        Ok(listing) => {
            walk.pass("role", format!("takes {name} as a remote cluster"));
            facts::heartbeat(walk, peer, listing)?;
            Ok(link)
        }
        Err(Error::Denied { .. }) => {
            let text = format!(
                "does not let {name} read its heartbeat: its certificate has not the role of a remote cluster there; connect \
                 the clusters again"
            );
            Err(walk.stop("role", text))
        }
        Err(error) => {
            let tls = ClientTls::new(&Trust::Bundle(bundle.clone()), Some(leaf), &walk.server_name).ok();
            let refused = match &tls {
                Some(tls) => refusal(&address.to_string(), tls, PATIENCE).await,
                None => None,
            };
            let text = match refused {
                Some(TlsFailure::Refused { hint, .. }) => format!("refuses the certificate {name}: {hint}"),
                _ => format!("does not serve {name} ({}): {NO_ETCD_API}", ErrorChain(&error)),
            };
            Err(walk.stop("role", text))
        }
    }
}
