//! The calls of `isthmus.v1.Agent`.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use certs::{RootCa, Validity};
use federation::contract::keys;
use futures::{Stream, StreamExt, stream};
use mesh_proto::v1;
use mesh_proto::v1::agent_server::Agent;
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::mvcc::{PutRequest, RangeRequest};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, NodeName};
use prost::Message;
use tonic::{Extensions, Request, Response, Status};

use super::presence::{self, Presence};
use crate::credentials::Credentials;
use crate::registration::Registration;
use crate::rotation::Following;
use crate::view;
use crate::{callers, quorum};

/// The most objects of one agent that are shown as not realized.
const MAX_REPORTED_ERRORS: usize = 100;

pub struct AgentApi {
    pub cluster: ClusterName,
    pub cluster_id: ClusterId,
    pub encryption: Encryption,
    pub store: Arc<dyn Store>,
    pub view: view::Handle,
    pub presence: Presence,
    pub credentials: Arc<Credentials>,
    pub following: Following,
    pub quorum: quorum::Handle,
    /// Ends streams, which would otherwise keep the server from stopping.
    pub shutdown: Shutdown,
}

/// Encoded `SubscribeResponse`s.
pub(super) type EncodedStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// One agent's stream; its presence ends with it.
struct Subscriber {
    subscription: view::Subscription,
    _presence: presence::Stream,
}

impl AgentApi {
    pub(super) async fn frames(
        &self,
        extensions: &Extensions,
        request: v1::SubscribeRequest,
    ) -> Result<EncodedStream, Status> {
        let node = callers::agent(extensions, &self.cluster)?;
        if !self.quorum.follows() {
            return Err(Status::unavailable("this replica has lost the others of its store: turn to another one"));
        }
        tracing::info!(%node, revision = request.revision, "agent follows the view");
        let subscription = self.view.subscribe(request.cluster_id, request.revision).await;
        let subscriber = Subscriber { subscription, _presence: self.presence.open(node) };
        let frames = stream::unfold(subscriber, |mut subscriber| async move {
            subscriber.subscription.next().await.map(|frame| (Ok(frame), subscriber))
        });
        let stopped = self.shutdown.requested_owned();
        let lost = self.quorum.clone().lost();
        let ends = async move {
            tokio::select! {
                () = stopped => {}
                () = lost => {}
            }
        };
        Ok(Box::pin(frames.take_until(Box::pin(ends))))
    }

    /// What the leaf of this node's agent was last asked to be renewed for.
    fn leaf_epoch(&self, node: &NodeName) -> u64 {
        self.following.leaves().of(&format!("agent-{node}"))
    }

    fn registration(&self, request: v1::RegisterRequest) -> Result<Registration, Status> {
        let key = match (request.wireguard_key.len(), self.encryption) {
            (0, Encryption::None) => None,
            (0, Encryption::Wireguard) => {
                return Err(Status::invalid_argument(
                    "this cluster encrypts with WireGuard: register with a public key, or run the cluster with --encryption none",
                ));
            }
            (len, _) => {
                let key = <[u8; 32]>::try_from(&request.wireguard_key[..]);
                Some(key.map_err(|_size| Status::invalid_argument(format!("wireguard_key has {len} bytes, not 32")))?)
            }
        };
        let port = |name: &str, port: u32| {
            u16::try_from(port).map_err(|_range| Status::invalid_argument(format!("{name} {port} is not a port")))
        };
        Ok(Registration {
            wireguard_key: key,
            wireguard_port: port("wireguard_port", request.wireguard_port)?,
            vxlan_port: port("vxlan_port", request.vxlan_port)?,
            version: request.version,
            kernel: request.kernel,
            wireguard_backend: request.wireguard_backend,
        })
    }
}

#[tonic::async_trait]
impl Agent for AgentApi {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    /// For callers in this process; over the network [`super::AgentService`] sends the encoded messages as they are.
    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (_, extensions, request) = request.into_parts();
        let frames = self.frames(&extensions, request).await?;
        let decode = |frame: Bytes| {
            v1::SubscribeResponse::decode(frame).map_err(|error| Status::internal(ErrorChain(&error).to_string()))
        };
        Ok(Response::new(Box::pin(frames.map(move |frame| frame.and_then(decode)))))
    }

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let node = callers::agent(request.extensions(), &self.cluster)?;
        let value = self.registration(request.into_inner())?.encode();
        let key = keys::own_node(&node);
        let known = self.store.range(RangeRequest::get(key.clone())).await.map_err(|e| unavailable(&e))?;
        if known.kvs.first().is_none_or(|kv| kv.value != value) {
            self.store.put(PutRequest::new(key, value)).await.map_err(|e| unavailable(&e))?;
            tracing::info!(%node, "agent registered");
        }
        Ok(Response::new(v1::RegisterResponse {
            cluster: self.cluster.to_string(),
            cluster_id: self.cluster_id.get(),
            encryption: v1::Encryption::from(self.encryption).into(),
        }))
    }

    async fn report_status(
        &self,
        request: Request<v1::ReportStatusRequest>,
    ) -> Result<Response<v1::ReportStatusResponse>, Status> {
        let node = callers::agent(request.extensions(), &self.cluster)?;
        let mut report = request.into_inner();
        report.errors.truncate(MAX_REPORTED_ERRORS);
        let leaf_epoch = self.leaf_epoch(&node);
        self.presence.report(node, report);
        let trusts = self.credentials.authorities.own_bundle().hash_set();
        Ok(Response::new(v1::ReportStatusResponse {
            trusts: trusts.iter().map(ToString::to_string).collect(),
            issuer: self.credentials.ca.get().hash().to_string(),
            leaf_epoch,
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let node = callers::agent(request.extensions(), &self.cluster)?;
        // Read before the leaf is made: a request that comes in between is for the next one.
        let leaf_epoch = self.leaf_epoch(&node);
        let certificate_pem = sign(&self.credentials.ca.get(), &request.into_inner().csr_pem, &node)?;
        tracing::info!(%node, "agent's certificate renewed");
        let trust_bundle_pem = self.credentials.authorities.own_bundle().pem();
        Ok(Response::new(v1::RenewResponse { certificate_pem, trust_bundle_pem, leaf_epoch }))
    }
}

pub(super) fn sign(ca: &RootCa, csr_pem: &str, node: &NodeName) -> Result<String, Status> {
    ca.sign_agent(csr_pem, node, Validity::lasting(Validity::LEAF))
        .map_err(|error| Status::invalid_argument(ErrorChain(&error).to_string()))
}

pub(crate) fn unavailable(error: &mesh_store::backend::Error) -> Status {
    Status::unavailable(format!("the store cannot answer: {}", ErrorChain(error)))
}
