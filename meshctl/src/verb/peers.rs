//! `meshctl peers`: the joined clusters, as each asked cluster sees them. Also the row that `connect` shows.

mod revoke;

use jiff::Timestamp;
use mesh_proto::v1;
pub(crate) use revoke::revoke;
use serde::Serialize;

use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::table::{Cell, Table, Tone};
use crate::{age, ask, wire};

/// The word for a session that is well.
pub(crate) const LIVE: &str = "Live";

/// A peer as one cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Peer {
    pub(crate) context: String,
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) reason: String,
    pub(crate) last_heartbeat: Option<Timestamp>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) pod_prefixes: Vec<String>,
    pub(crate) mirrored_revision: i64,
    pub(crate) reconnects: u64,
    pub(crate) relists: u64,
    pub(crate) clock_offset_micros: i64,
    /// Why the CAs that it says are its own were not taken over.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) trust_refused: String,
    pub(crate) resources: Vec<Resource>,
    pub(crate) paths: Paths,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_cilium: bool,
    /// Other Cilium clusters whose callers may be its own: they have a CA in common.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) shares_ca_with: Vec<String>,
}

/// Whether packets reach it, as the agents of the asked cluster see it together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Paths {
    /// up, down or unknown; empty where the server does not say.
    pub(crate) state: String,
    pub(crate) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreached_by: Vec<String>,
}

impl Paths {
    fn new(paths: v1::PathsStatus) -> Self {
        let since = age::timestamp(paths.since_unix_nanos);
        Self { state: paths.state, since, unreached_by: paths.unreached_by }
    }

    pub(crate) fn cell(&self) -> Cell {
        let tone = match self.state.as_str() {
            "up" => Tone::Good,
            "down" => Tone::Bad,
            _ => Tone::Plain,
        };
        Cell::toned(&self.state, tone)
    }
}

/// One mirrored kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Resource {
    pub(crate) kind: String,
    pub(crate) synced: bool,
    pub(crate) keys: u32,
    pub(crate) rejected: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) last_rejection: String,
    /// Changes left out by this cluster's own import rules.
    pub(crate) not_imported: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) last_not_imported: String,
}

impl Peer {
    /// A prefix that cannot be read is shown as such: the row is worth more than its one bad field.
    pub(crate) fn new(context: &str, peer: v1::PeerStatus) -> Self {
        let pod_prefixes = peer.pod_prefixes.iter().map(|prefix| {
            wire::prefixes("peer.pod_prefixes", std::slice::from_ref(prefix))
                .map_or_else(|e| format!("({e})"), |list| list.iter().map(ToString::to_string).collect())
        });
        Self {
            context: context.to_owned(),
            pod_prefixes: pod_prefixes.collect(),
            since: age::timestamp(peer.since_unix_nanos),
            last_heartbeat: age::timestamp(peer.last_heartbeat_unix_nanos),
            paths: Paths::new(peer.paths.unwrap_or_default()),
            name: peer.name,
            id: peer.id,
            state: peer.state,
            reason: peer.reason,
            endpoints: peer.endpoints,
            mirrored_revision: peer.mirrored_revision,
            reconnects: peer.reconnects,
            relists: peer.relists,
            clock_offset_micros: peer.clock_offset_micros,
            is_cilium: peer.is_cilium,
            shares_ca_with: peer.shares_ca_with,
            trust_refused: peer.trust_refused,
            resources: peer
                .resources
                .into_iter()
                .map(|r| Resource {
                    kind: r.resource,
                    synced: r.synced,
                    keys: r.keys,
                    rejected: r.rejected,
                    last_rejection: r.last_rejection,
                    not_imported: r.not_imported,
                    last_not_imported: r.last_not_imported,
                })
                .collect(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == LIVE
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.resources.iter().map(|r| r.rejected).sum()
    }

    pub(crate) fn not_imported(&self) -> u64 {
        self.resources.iter().map(|r| r.not_imported).sum()
    }

    pub(crate) fn state_cell(&self) -> Cell {
        let tone = match self.state.as_str() {
            LIVE => Tone::Good,
            "Withdrawn" => Tone::Bad,
            _ => Tone::Warn,
        };
        Cell::toned(&self.state, tone)
    }

    /// `3/4`: kinds in sync of kinds mirrored.
    pub(crate) fn synced(&self) -> String {
        format!("{}/{}", self.resources.iter().filter(|r| r.synced).count(), self.resources.len())
    }
}

/// The table of peers.
pub(crate) fn table(peers: &[Peer], now: Timestamp, colour: bool) -> String {
    let mut table = Table::new([
        "CLUSTER",
        "PEER",
        "ID",
        "STATE",
        "FOR",
        "HEARTBEAT",
        "PATHS",
        "SYNCED",
        "REVISION",
        "RECONNECTS",
        "RELISTS",
        "REASON",
    ]);
    for peer in peers {
        table.row([
            peer.context.as_str().into(),
            if peer.is_cilium { format!("{} (Cilium)", peer.name) } else { peer.name.clone() }.into(),
            peer.id.to_string().into(),
            peer.state_cell(),
            age::since(now, peer.since).into(),
            age::since(now, peer.last_heartbeat).into(),
            peer.paths.cell(),
            peer.synced().into(),
            peer.mirrored_revision.to_string().into(),
            peer.reconnects.to_string().into(),
            peer.relists.to_string().into(),
            peer.reason.as_str().into(),
        ]);
    }
    table.render(colour)
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.api.list_peers(v1::ListPeersRequest {}).await;
        admin.answer("ListPeers", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let peers: Vec<Peer> = answers
        .answers
        .into_iter()
        .flat_map(|(context, list)| list.peers.into_iter().map(move |p| Peer::new(&context, p)))
        .collect();
    if peers.is_empty() && exit == Exit::Ok {
        output::note("no cluster is joined; `meshctl connect A B` joins two");
    }
    for peer in peers.iter().filter(|peer| !peer.shares_ca_with.is_empty()) {
        output::note(format!(
            "note: {} has a CA in common with {}: callers that say \"remote\" may be either, and read what is exported to \
             everyone",
            peer.name,
            peer.shares_ca_with.join(", ")
        ));
    }
    run.output.data(&peers, |peers, colour| table(peers, Timestamp::now(), colour))?;
    Ok(exit)
}
