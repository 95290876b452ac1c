//! What everybody holds: asked of the other replicas, read from agents' reports and from peers' sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certs::metrics::Expiring;
use certs::rotation::{Held, Party, Report};
use certs::{CaHash, Connections, Leaf, Role, TrustBundle, bundle};
use federation::contract::keys;
use federation::session::Snapshot;
use mesh_proto::v1;
use mesh_store::Store;
use mesh_store::mvcc::RangeRequest;
use mesh_types::view::Object;
use mesh_types::{ClusterName, NodeName};

use super::follower::Following;
use crate::admin_api::{Others, agents_at};
use crate::agent_api::Presence;
use crate::credentials::Credentials;
use crate::view;

/// Stands for a CA that nobody knows: a leaf of it is never that of the wanted one.
const UNKNOWN: [u8; 32] = [0; 32];

/// All that it takes to ask. Cheap to clone.
#[derive(Clone)]
pub struct Parties {
    pub cluster: ClusterName,
    pub replica: u64,
    pub store: Arc<dyn Store>,
    pub others: Others,
    pub presence: Presence,
    pub view: view::Handle,
    pub credentials: Arc<Credentials>,
    pub connections: Connections,
    pub following: Following,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Census {
    /// What each replica that answers holds.
    pub replicas: BTreeMap<u64, v1::GetHeldResponse>,
    /// Replicas that do not answer.
    pub silent: Vec<u64>,
    /// The agents whose word counts.
    pub agents: Vec<v1::AgentStatus>,
}

impl Parties {
    /// Asks all replicas and reads all agents' reports.
    pub async fn ask(&self) -> Result<Census, mesh_store::backend::Error> {
        let (held, elsewhere) = tokio::join!(self.others.held(), self.others.agents());
        let mut replicas: BTreeMap<u64, v1::GetHeldResponse> = BTreeMap::new();
        let mut silent = Vec::new();
        for (number, answer) in held {
            match answer {
                Some(answer) => drop(replicas.insert(number, answer)),
                None => silent.push(number),
            }
        }
        replicas.insert(self.replica, self.held().await);
        let known = agents_at(&self.presence).into_iter().chain(elsewhere.into_iter().flatten());
        let agents = self.agents(known).await?;
        Ok(Census { replicas, silent, agents })
    }

    /// What this replica holds.
    pub async fn held(&self) -> v1::GetHeldResponse {
        let trusted = self.credentials.authorities.own_bundle();
        let leaves = self.leaves();
        let issuer = |leaf: &Leaf| trusted.issuer_of(leaf).unwrap_or(CaHash::from(UNKNOWN));
        let (keys, problem) = match self.credentials.keep.read().await {
            Ok(cas) => (cas.hashes().map(|hash| hash.to_string()).collect(), self.following.problem()),
            Err(error) => (Vec::new(), mesh_runtime::ErrorChain(&error).to_string()),
        };
        let holder = format!("replica {}", self.replica);
        let certificates = leaves.iter().map(|leaf| leaf_row(&holder, leaf, trusted.issuer_of(leaf))).collect();
        let authorities = &self.credentials.authorities;
        let peer = |name: ClusterName| {
            let cas = authorities.peer_bundle(&name)?.hash_set();
            Some(v1::TrustedPeer { name: name.to_string(), cas: texts(&cas) })
        };
        v1::GetHeldResponse {
            replica: self.replica,
            trusts: texts(&trusted.hash_set()),
            presents: texts(&leaves.iter().map(issuer).collect()),
            keys,
            certificates,
            peers: authorities.peers().into_iter().filter_map(peer).collect(),
            leaves_epoch: self.following.leaves().epoch,
            problem,
            old_clients: self.old_clients(),
        }
    }

    /// When this replica's leaves end, and the CAs that it trusts.
    pub fn expiring(&self) -> Vec<Expiring> {
        let authorities = &self.credentials.authorities;
        let cas = |of: &str, bundle: &TrustBundle| {
            let facts = bundle.facts().into_iter();
            let rows = facts.map(|ca| Expiring {
                kind: "ca",
                of: of.to_owned(),
                name: subject_name(&ca.subject).to_owned(),
                ca: ca.hash.to_string(),
                not_after: ca.validity.not_after,
            });
            rows.collect::<Vec<_>>()
        };
        let leaf = |leaf: Leaf| Expiring {
            kind: "leaf",
            of: "own".to_owned(),
            name: leaf.common_name().to_owned(),
            ca: String::new(),
            not_after: leaf.validity().not_after,
        };
        let mut all = cas("own", &authorities.own_bundle());
        all.extend(self.leaves().into_iter().map(leaf));
        let peers = authorities.peers().into_iter();
        all.extend(peers.filter_map(|peer| Some(cas(peer.as_str(), &authorities.peer_bundle(&peer)?))).flatten());
        all
    }

    fn leaves(&self) -> Vec<Leaf> {
        let own = [self.credentials.server.get(), self.credentials.remote.get()];
        own.into_iter().chain(self.credentials.admin()).collect()
    }

    /// Callers by a leaf that this server did not make by itself, and whose CA does not sign any more.
    fn old_clients(&self) -> Vec<String> {
        let issuer = self.credentials.ca.get().hash();
        let connections = self.connections.list().into_iter();
        let old = connections.filter(|connection| connection.ca.is_some_and(|ca| ca != issuer));
        let names = old.filter_map(|connection| match connection.principal.as_ref()?.role() {
            Role::User(name) => Some(format!("{name} at {}", connection.peer)),
            Role::Admin | Role::Local => {
                Some(format!("{} at {}", connection.principal.as_ref()?.name, connection.peer))
            }
            Role::Replica | Role::Agent(_) | Role::Remote(_) | Role::SharedRemote(_) => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Agents that are connected, and those of nodes that the cluster has: a node that was taken out of the cluster waits
    /// for nobody, and nobody for it.
    async fn agents(
        &self,
        known: impl Iterator<Item = v1::AgentStatus>,
    ) -> Result<Vec<v1::AgentStatus>, mesh_store::backend::Error> {
        let registered =
            self.store.range(RangeRequest { keys_only: true, ..RangeRequest::prefix(keys::NODES) }).await?;
        let names = registered.kvs.iter().filter_map(|kv| std::str::from_utf8(&kv.key).ok()?.strip_prefix(keys::NODES));
        let nodes: BTreeSet<NodeName> = self.view.read(|view| {
            let own = view.objects().filter_map(|object| match object {
                Object::Node(node) if node.cluster == self.cluster => Some(node.name.clone()),
                _ => None,
            });
            own.collect()
        });
        let mut agents = crate::admin_api::newest(known);
        for name in names {
            let agent = agents.entry(name.to_owned()).or_default();
            name.clone_into(&mut agent.node);
        }
        let counts = |agent: &v1::AgentStatus| agent.connected || nodes.contains(&NodeName(agent.node.clone()));
        Ok(agents.into_values().filter(counts).collect())
    }
}

impl Census {
    /// As the schedule takes it, with what the peers say.
    pub fn reports(&self, peers: &[Snapshot]) -> Vec<Report> {
        let silent = self.silent.iter().map(|number| {
            Report::silent(Party::Replica(*number), "does not answer: is it running? It follows when it is back")
        });
        let replicas = self.replicas.values().map(|held| Report {
            party: Party::Replica(held.replica),
            held: Some(Held {
                trusts: hashes(&held.trusts),
                presents: hashes(&held.presents),
                keys: hashes(&held.keys),
            }),
            note: held.problem.clone(),
        });
        let agents = self.agents.iter().map(agent_report);
        silent.chain(replicas).chain(agents).chain(peers.iter().map(peer_report)).collect()
    }
}

fn agent_report(agent: &v1::AgentStatus) -> Report {
    let party = Party::Agent(agent.node.clone());
    if !agent.connected {
        let since = since(agent.since_unix_nanos);
        let why = "it follows when it is back, or is waited for no more when its Node is deleted";
        return Report::silent(party, format!("is not connected{since}: {why}"));
    }
    match agent.report.as_ref().and_then(|report| report.credentials.as_ref()) {
        None => Report::silent(
            party,
            "has not said yet what it holds: it has just connected, or its version is older than this server's",
        ),
        Some(held) => Report {
            party,
            held: Some(Held {
                trusts: hashes(&held.trusts),
                presents: [held.issuer.parse().unwrap_or(CaHash::from(UNKNOWN))].into(),
                keys: BTreeSet::new(),
            }),
            note: held.problem.clone(),
        },
    }
}

fn peer_report(peer: &Snapshot) -> Report {
    let party = Party::Peer(peer.peer.declaration.name.to_string());
    if let Some(access) = &peer.peer.cilium {
        let trusts = access.knows_cas.iter().copied().collect();
        let note = "a Cilium cluster cannot say what it trusts: give it the CAs that are to be trusted, write their hashes under \
                    `knows-cas` in its file, and connect it again";
        return Report { party, held: Some(Held { trusts, ..Held::default() }), note: note.to_owned() };
    }
    match &peer.trusts_us {
        _ if peer.signs.phase != federation::state::Phase::Following => {
            let (state, since) = (peer.standing.state, since(peer.standing.since_unix_nanos));
            Report::silent(party, format!("cannot be asked now, it is {state}{since}: {}", peer.reason))
        }
        None => Report::silent(
            party,
            "does not say which of this cluster's CAs it trusts: its version may be older than this server's",
        ),
        Some(trusts) => {
            Report { party, held: Some(Held { trusts: trusts.clone(), ..Held::default() }), note: String::new() }
        }
    }
}

/// " since" a time, where it is known.
fn since(unix_nanos: u64) -> String {
    match jiff::Timestamp::from_nanosecond(unix_nanos.into()) {
        Ok(time) if unix_nanos > 0 => format!(" since {time:.0}"),
        _ => String::new(),
    }
}

/// What was not a hash is none of the CAs.
pub(super) fn hashes(texts: &[String]) -> BTreeSet<CaHash> {
    texts.iter().map(|text| text.parse().unwrap_or(CaHash::from(UNKNOWN))).collect()
}

fn texts(hashes: &BTreeSet<CaHash>) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

fn leaf_row(holder: &str, leaf: &Leaf, issuer: Option<CaHash>) -> v1::Certificate {
    let validity = leaf.validity();
    v1::Certificate {
        holder: holder.to_owned(),
        name: leaf.common_name().to_owned(),
        is_ca: false,
        ca: issuer.map(|hash| hash.to_string()).unwrap_or_default(),
        not_before_unix_nanos: nanos(validity.not_before),
        not_after_unix_nanos: nanos(validity.not_after),
        renew_unix_nanos: nanos(validity.renew_at()),
    }
}

pub(crate) fn ca_row(holder: &str, ca: &bundle::CaFacts) -> v1::Certificate {
    v1::Certificate {
        holder: holder.to_owned(),
        name: subject_name(&ca.subject).to_owned(),
        is_ca: true,
        ca: ca.hash.to_string(),
        not_before_unix_nanos: nanos(ca.validity.not_before),
        not_after_unix_nanos: nanos(ca.validity.not_after),
        renew_unix_nanos: 0,
    }
}

fn subject_name(subject: &str) -> &str {
    subject.strip_prefix("CN=").unwrap_or(subject)
}

fn nanos(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or_default()
}
