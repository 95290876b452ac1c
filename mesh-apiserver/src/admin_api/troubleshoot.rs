//! The way to joined clusters, walked from this server's own place with its own certificate, and what its session says.

use federation::contract::keys;
use federation::outlook::Paths;
use federation::session::walk::{self, Outcome, Step};
use federation::{PeerRecord, State};
use futures::future::join_all;
use mesh_proto::v1;
use mesh_runtime::ErrorChain;
use mesh_store::mvcc::RangeRequest;
use mesh_types::ClusterName;
use tonic::Status;

use super::AdminApi;
use crate::agent_api::unavailable;

impl AdminApi {
    /// Of one peer, or of all where no name is given.
    pub(super) async fn walks(&self, wanted: &str) -> Result<v1::TroubleshootResponse, Status> {
        let found = self.store.range(RangeRequest::prefix(keys::PEERS)).await.map_err(|e| unavailable(&e))?;
        let name =
            |key: &[u8]| String::from_utf8_lossy(key.strip_prefix(keys::PEERS.as_bytes()).unwrap_or(key)).into_owned();
        let records = found.kvs.iter().map(|kv| (name(&kv.key), &kv.value));
        let chosen: Vec<_> = records.filter(|(name, _)| wanted.is_empty() || name == wanted).collect();
        if chosen.is_empty() && !wanted.is_empty() {
            return Err(Status::not_found(format!(
                "{} has not joined a cluster {wanted:?}: `meshctl peers` lists those it has, `meshctl connect` joins one",
                self.cluster
            )));
        }
        let walks = chosen.into_iter().map(|(name, value)| async move {
            let steps = match PeerRecord::decode(&format!("{}{name}", keys::PEERS), value) {
                Ok(peer) => self.walk(&peer).await,
                Err(error) => vec![Step {
                    step: "record",
                    endpoint: String::new(),
                    outcome: Outcome::Fail,
                    text: format!("{}: disconnect the cluster and connect it again", ErrorChain(&error)),
                }],
            };
            v1::PeerWalk { peer_name: name, steps: steps.into_iter().map(message).collect() }
        });
        Ok(v1::TroubleshootResponse { walks: join_all(walks).await })
    }

    async fn walk(&self, peer: &PeerRecord) -> Vec<Step> {
        let mut steps = walk::walk(peer, &self.remote).await;
        steps.extend(self.of_session(&peer.declaration.name));
        steps
    }

    /// What the standing session and the agents say beside the walk; nothing on a replica that does not mirror.
    fn of_session(&self, name: &ClusterName) -> Vec<Step> {
        let Some(known) = self.controller.session(name) else { return Vec::new() };
        let step = |step, outcome, text| Step { step, endpoint: String::new(), outcome, text };
        let outcome = match known.standing.state {
            State::Live => Outcome::Pass,
            State::Connecting | State::Configuring | State::Syncing => Outcome::Warn,
            State::Stale | State::Withdrawn => Outcome::Fail,
        };
        let session = step("session", outcome, format!("{}: {}", known.standing.state, known.standing.reason));
        let paths = match &known.sight {
            Some(sight) => match sight.paths {
                Paths::Up => step("paths", Outcome::Pass, "packets reach its nodes".to_owned()),
                Paths::Down { .. } => {
                    let by = sight.unreached_by.join(", ");
                    let text = format!(
                        "no packet reaches any of its nodes, as {by} see it: do both sides let WireGuard's UDP port through?"
                    );
                    step("paths", Outcome::Fail, text)
                }
                Paths::Unknown => step("paths", Outcome::Warn, "too few agents probe its nodes to tell".to_owned()),
            },
            None => {
                step("paths", Outcome::Warn, "no agent probes its nodes: no Service uses a backend there".to_owned())
            }
        };
        vec![session, paths]
    }
}

fn message(step: Step) -> v1::WalkStep {
    let result = match step.outcome {
        Outcome::Pass => v1::WalkResult::Pass,
        Outcome::Warn => v1::WalkResult::Warn,
        Outcome::Fail => v1::WalkResult::Fail,
        Outcome::NotReached => v1::WalkResult::NotReached,
    };
    v1::WalkStep { step: step.step.to_owned(), endpoint: step.endpoint, result: result.into(), text: step.text }
}
