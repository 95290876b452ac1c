//! Questions that another replica of this cluster answers: what only the holder of the controller's role knows, and which
//! agents are connected where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{ChannelOptions, ClientTls, LiveBundle, LiveLeaf, Trust, channel};
use federation::peer::server_name;
use futures::future::BoxFuture;
use mesh_proto::v1;
use mesh_proto::v1::admin_client::AdminClient;
use mesh_runtime::ErrorChain;
use mesh_types::ClusterName;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::{AdminApi, sights};
use crate::callers::Asker;

/// A role finds its next holder well within this, when its holder was killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the question is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// One answer of a replica that is reached.
const ANSWER: Duration = Duration::from_secs(2);

/// The admin APIs of the other replicas, by number. Cheap to clone.
#[derive(Clone, Default)]
pub struct Others(Arc<BTreeMap<u64, AdminClient<Channel>>>);

impl Others {
    /// `endpoints` are `host:port` of the other replicas' mesh API; nothing is connected before the first question.
    pub fn new(
        own: &ClusterName,
        endpoints: &BTreeMap<u64, String>,
        trust: &Arc<LiveBundle>,
        leaf: &Arc<LiveLeaf>,
    ) -> Result<Self, certs::client::Error> {
        let tls = ClientTls::new(&Trust::Live(Arc::clone(trust)), Some(leaf), &server_name(own))?;
        let options = ChannelOptions { connect_timeout: Duration::from_secs(1), ..ChannelOptions::default() };
        let client = |(id, endpoint): (&u64, &String)| {
            (*id, AdminClient::new(channel(std::slice::from_ref(endpoint), &tls, &options)))
        };
        Ok(Self(Arc::new(endpoints.iter().map(client).collect())))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// What the agents of one of them see, when that is another version than the known one, or after a while.
    pub(crate) async fn await_sights(&self, id: u64, known_version: u64) -> Result<v1::AwaitSightsResponse, Status> {
        let client = self.0.get(&id).ok_or_else(|| Status::not_found(format!("there is no replica {id}")))?;
        let (mut client, request) = (client.clone(), v1::AwaitSightsRequest { known_version });
        let answer = tokio::time::timeout(sights::AWAITED + ANSWER, client.await_sights(request)).await;
        let answer = answer.map_err(|_elapsed| Status::unavailable(format!("replica {id}: no answer")))?;
        answer.map(Response::into_inner)
    }

    /// What each of the others holds, by number; `None` for one that does not answer.
    pub(crate) async fn held(&self) -> Vec<(u64, Option<v1::GetHeldResponse>)> {
        let ask = |(id, client): (&u64, &AdminClient<Channel>)| {
            let (id, mut client) = (*id, client.clone());
            async move {
                let answer = tokio::time::timeout(ANSWER, client.get_held(v1::GetHeldRequest {})).await;
                (id, answer.ok().and_then(Result::ok).map(Response::into_inner))
            }
        };
        futures::future::join_all(self.0.iter().map(ask)).await
    }

    /// What each of the others that answers knows of agents.
    pub(crate) async fn agents(&self) -> Vec<Vec<v1::AgentStatus>> {
        let ask = |(id, client): (&u64, &AdminClient<Channel>)| {
            let (id, mut client) = (*id, client.clone());
            async move {
                let answer = tokio::time::timeout(ANSWER, client.list_agents(v1::ListAgentsRequest {})).await;
                match answer {
                    Ok(Ok(answer)) => Some(answer.into_inner().agents),
                    Ok(Err(error)) => {
                        tracing::debug!(replica = id, error = %ErrorChain(&error), "its agents are not known");
                        None
                    }
                    Err(_elapsed) => None,
                }
            }
        };
        futures::future::join_all(self.0.iter().map(ask)).await.into_iter().flatten().collect()
    }
}

/// The way to a replica ended in the midst of a question: its leaf or this one's was replaced. What a replica says itself has
/// no source here.
fn is_cut(error: &Status) -> bool {
    std::error::Error::source(error).is_some()
}

impl AdminApi {
    /// The holder's answer to `ask`; `None` when this replica is the holder and answers itself. While a role has no holder a
    /// person's question waits, a few seconds at most; another replica's is never passed on.
    pub(super) async fn holders_answer<T>(
        &self,
        asker: Asker,
        ask: impl Fn(AdminClient<Channel>) -> BoxFuture<'static, Result<Response<T>, Status>> + Send,
    ) -> Result<Option<Response<T>>, Status> {
        if asker == Asker::Replica {
            return if self.controller.is_serving() { Ok(None) } else { Err(self.no_holder("not this one")) };
        }
        let asked = Instant::now();
        let mut last = "none is elected".to_owned();
        while asked.elapsed() < PATIENCE {
            if self.controller.is_serving() {
                return Ok(None);
            }
            let holder = self.controller.holder().filter(|holder| holder.replica != self.replica);
            let client = holder.as_ref().and_then(|holder| self.parties.others.0.get(&holder.replica));
            if let (Some(holder), Some(client)) = (&holder, client) {
                match tokio::time::timeout(ANSWER, ask(client.clone())).await {
                    Ok(Ok(answer)) => return Ok(Some(answer)),
                    Ok(Err(error)) if error.code() != Code::Unavailable && !is_cut(&error) => return Err(error),
                    Ok(Err(error)) => last = format!("replica {}: {}", holder.replica, ErrorChain(&error)),
                    Err(_elapsed) => last = format!("replica {}: no answer", holder.replica),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.no_holder(&last))
    }

    fn no_holder(&self, last: &str) -> Status {
        Status::unavailable(format!(
            "no replica of {} exports and mirrors for it now ({last}): try again, and see `meshctl store status`",
            self.cluster
        ))
    }
}
