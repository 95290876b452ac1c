//! Requests as they stand on the wire: no client library in between that would refuse or mend one.

use anyhow::{Context as _, Result};
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbHashKvRequest, PbHashKvResponse,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbTxnRequest,
    PbTxnResponse, PbWatchRequest, PbWatchResponse,
};
use futures::channel::mpsc;
use futures::stream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A refusal as clients tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { code: status.code(), text: status.message().to_owned() }
    }
}

pub(crate) type Answered<T> = std::result::Result<T, Refusal>;

#[derive(Clone)]
pub(crate) struct Rpc {
    channel: Channel,
}

impl Rpc {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let endpoint = Channel::from_shared(format!("http://{address}")).context("an address")?.tcp_nodelay(true);
        Ok(Self { channel: endpoint.connect().await.with_context(|| format!("connect to {address}"))? })
    }

    async fn grpc(&self) -> std::result::Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(format!("the connection is gone: {error}")))?;
        Ok(grpc)
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Answered<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.grpc().await?.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn range(&self, request: PbRangeRequest) -> Answered<PbRangeResponse> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(crate) async fn put(&self, request: PbPutRequest) -> Answered<PbPutResponse> {
        self.call("/etcdserverpb.KV/Put", request).await
    }

    pub(crate) async fn delete(&self, request: PbDeleteRequest) -> Answered<PbDeleteResponse> {
        self.call("/etcdserverpb.KV/DeleteRange", request).await
    }

    pub(crate) async fn txn(&self, request: PbTxnRequest) -> Answered<PbTxnResponse> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub(crate) async fn compact(&self, revision: i64) -> Answered<PbCompactionResponse> {
        // Physical: etcd answers when the old versions are gone, so that what follows does not depend on time.
        self.call("/etcdserverpb.KV/Compact", PbCompactionRequest { revision, physical: true }).await
    }

    pub(crate) async fn grant(&self, id: i64, ttl: i64) -> Answered<PbLeaseGrantResponse> {
        self.call("/etcdserverpb.Lease/LeaseGrant", PbLeaseGrantRequest { id, ttl }).await
    }

    pub(crate) async fn revoke(&self, id: i64) -> Answered<PbLeaseRevokeResponse> {
        self.call("/etcdserverpb.Lease/LeaseRevoke", PbLeaseRevokeRequest { id }).await
    }

    pub(crate) async fn time_to_live(&self, id: i64, keys: bool) -> Answered<PbLeaseTimeToLiveResponse> {
        self.call("/etcdserverpb.Lease/LeaseTimeToLive", PbLeaseTimeToLiveRequest { id, keys }).await
    }

    pub(crate) async fn leases(&self) -> Answered<PbLeaseLeasesResponse> {
        self.call("/etcdserverpb.Lease/LeaseLeases", PbLeaseLeasesRequest {}).await
    }

    pub(crate) async fn hash_kv(&self, revision: i64) -> Answered<PbHashKvResponse> {
        self.call("/etcdserverpb.Maintenance/HashKV", PbHashKvRequest { revision }).await
    }

    /// One beat on a stream of its own.
    pub(crate) async fn keep_alive(&self, id: i64) -> Answered<Option<PbLeaseKeepAliveResponse>> {
        let codec = ProstCodec::<PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse>::default();
        let requests = stream::iter([PbLeaseKeepAliveRequest { id }]);
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let answers = self.grpc().await?.streaming(Request::new(requests), path, codec).await?;
        Ok(answers.into_inner().message().await?)
    }

    pub(crate) async fn watch(
        &self,
        requests: mpsc::UnboundedReceiver<PbWatchRequest>,
    ) -> Answered<Streaming<PbWatchResponse>> {
        let codec = ProstCodec::<PbWatchRequest, PbWatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        Ok(self.grpc().await?.streaming(Request::new(requests), path, codec).await?.into_inner())
    }
}
