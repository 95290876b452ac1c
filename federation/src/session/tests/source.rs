//! A peer for sessions to follow: an embedded store behind the two calls that the contract needs, Range and Watch, over
//! mutual TLS. Counts what is asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certs::{Authorities, ClientAuth, Connections, LiveLeaf, RootCa, ServerNames, ServerTls, TlsIncoming, TlsMetrics};
use etcd_client::EventType;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbKvServer,
    PbKvService, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseHeader,
    PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchServer, PbWatchService,
};
use futures::Stream;
use mesh_runtime::{Cause, OnExit, Shutdown, TaskSet};
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::{EventKind, KeyRange, KeyValue, RangeRequest};
use mesh_store::{Embedded, Store};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::hour;

pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) address: SocketAddr,
    ranges: Arc<AtomicU64>,
    tasks: TaskSet,
    _dir: TempDir,
}

impl Source {
    /// Serves with a leaf of `ca` to callers of the cluster `caller`.
    pub(super) async fn start(ca: &RootCa, caller: &RootCa) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Embedded::open(mesh_store::Options::new(dir.path()), mesh_store::Metrics::detached()).await.unwrap();
        let leaf = LiveLeaf::new(ca.issue_server(&ServerNames::default(), hour()).unwrap());
        let authorities = Authorities::new(ca.cluster().clone(), ca.bundle()).unwrap();
        authorities.set_peer(caller.cluster(), caller.bundle()).unwrap();
        let tls = ServerTls::new(leaf, authorities, ClientAuth::Required);
        let options = certs::incoming::Options::new("source", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::bind((Ipv4Addr::LOCALHOST, 0).into(), tls, options).await.unwrap();
        let address = incoming.local_addr().unwrap();
        let tasks = TaskSet::new(Shutdown::new());
        let ranges = Arc::new(AtomicU64::new(0));
        let api = Api { store: Arc::clone(&store), ranges: Arc::clone(&ranges), tasks: tasks.clone() };
        let stop = tasks.shutdown().requested_owned();
        tasks.spawn("source", OnExit::Log, async move {
            tonic::transport::Server::builder()
                .add_service(PbKvServer::new(api.clone()))
                .add_service(PbWatchServer::new(api))
                .serve_with_incoming_shutdown(incoming, stop)
                .await
        });
        Self { store, address, ranges, tasks, _dir: dir }
    }

    /// Range calls served so far.
    pub(super) fn ranges(&self) -> u64 {
        self.ranges.load(Ordering::SeqCst)
    }

    pub(super) async fn stop(self) {
        self.tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        // Open watch streams hold the server; their tasks are aborted.
        drop(self.tasks.join(Duration::from_millis(100)).await);
    }
}

#[derive(Clone)]
struct Api {
    store: Arc<dyn Store>,
    ranges: Arc<AtomicU64>,
    tasks: TaskSet,
}

impl Api {
    fn header(&self, revision: i64) -> Option<PbResponseHeader> {
        let identity = self.store.identity();
        Some(PbResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision,
            raft_term: identity.raft_term,
        })
    }
}

fn key_value(kv: KeyValue) -> PbKeyValue {
    PbKeyValue {
        key: kv.key.to_vec(),
        value: kv.value.to_vec(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn unserved<T>() -> tonic::Result<Response<T>> {
    Err(Status::unimplemented("a peer serves Range and Watch"))
}

#[tonic::async_trait]
impl PbKvService for Api {
    async fn range(&self, request: Request<PbRangeRequest>) -> tonic::Result<Response<PbRangeResponse>> {
        self.ranges.fetch_add(1, Ordering::SeqCst);
        let PbRangeRequest { key, range_end, limit, revision, .. } = request.into_inner();
        let request = RangeRequest { range: KeyRange::new(key, range_end), limit, revision, ..RangeRequest::default() };
        let found = self.store.range(request).await.map_err(|e| Status::out_of_range(e.to_string()))?;
        Ok(Response::new(PbRangeResponse {
            header: self.header(found.revision),
            kvs: found.kvs.into_iter().map(key_value).collect(),
            more: found.more,
            count: found.count,
        }))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = tonic::Result<PbRangeStreamResponse>> + Send>>;

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> tonic::Result<Response<Self::RangeStreamStream>> {
        unserved()
    }

    async fn put(&self, _: Request<PbPutRequest>) -> tonic::Result<Response<PbPutResponse>> {
        unserved()
    }

    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> tonic::Result<Response<PbDeleteResponse>> {
        unserved()
    }

    async fn txn(&self, _: Request<PbTxnRequest>) -> tonic::Result<Response<PbTxnResponse>> {
        unserved()
    }

    async fn compact(&self, _: Request<PbCompactionRequest>) -> tonic::Result<Response<PbCompactionResponse>> {
        unserved()
    }
}

#[tonic::async_trait]
impl PbWatchService for Api {
    type WatchStream = ReceiverStream<tonic::Result<PbWatchResponse>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> tonic::Result<Response<Self::WatchStream>> {
        let (out, responses) = mpsc::channel(64);
        let (api, mut requests) = (self.clone(), request.into_inner());
        self.tasks.spawn("watch requests", OnExit::Log, async move {
            let mut next_id = 0;
            while let Ok(Some(PbWatchRequest { request_union })) = requests.message().await {
                let Some(PbWatchRequestUnion::CreateRequest(create)) = request_union else { continue };
                let range = KeyRange::new(create.key, create.range_end);
                let request = WatchRequest { range, start_revision: create.start_revision, progress_interval: None };
                api.follow(next_id, request, &out).await;
                next_id += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Api {
    async fn follow(&self, watch_id: i64, request: WatchRequest, out: &mpsc::Sender<tonic::Result<PbWatchResponse>>) {
        let mut watcher = self.store.watch(request).await.unwrap();
        let created = PbWatchResponse {
            header: self.header(watcher.created_revision()),
            watch_id,
            created: true,
            ..PbWatchResponse::default()
        };
        if out.send(Ok(created)).await.is_err() {
            return;
        }
        let (api, out) = (self.clone(), out.clone());
        self.tasks.spawn("watch", OnExit::Log, async move {
            while let Some(update) = watcher.next().await {
                if out.send(Ok(api.response(watch_id, update))).await.is_err() {
                    return;
                }
            }
        });
    }

    fn response(&self, watch_id: i64, update: WatchUpdate) -> PbWatchResponse {
        let empty =
            |revision| PbWatchResponse { header: self.header(revision), watch_id, ..PbWatchResponse::default() };
        match update {
            WatchUpdate::Events(batch) => PbWatchResponse {
                events: batch
                    .events
                    .into_iter()
                    .map(|event| PbEvent {
                        r#type: match event.kind {
                            EventKind::Put => EventType::Put,
                            EventKind::Delete => EventType::Delete,
                        } as i32,
                        kv: Some(key_value(event.kv)),
                        prev_kv: None,
                    })
                    .collect(),
                ..empty(batch.revision)
            },
            WatchUpdate::Progress { revision } => empty(revision),
            WatchUpdate::Compacted { compact_revision } => {
                PbWatchResponse { canceled: true, compact_revision, ..empty(0) }
            }
        }
    }
}
