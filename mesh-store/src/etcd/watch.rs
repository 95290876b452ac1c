//! `etcdserverpb.Watch`: many watches on one stream.
//!
//! The response stream itself does the work when it is polled: it takes one request or one update at a time, so `created`
//! answers keep the order of the requests, and a client that does not read is served from history when it does. Nothing
//! is queued for it meanwhile.

use std::sync::Arc;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

use super::Shared;

mod session;

use session::Session;

pub(super) struct Watch(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbWatchService for Watch {
    type WatchStream = BoxStream<'static, Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.gate.admit(request.extensions(), &self.0.metrics)?;
        self.0.metrics.watch_streams.get_or_create(&caller.label).inc();
        let session = Session::new(Arc::clone(&self.0), caller, request.into_inner());
        let responses = stream::unfold(session, |mut session| async move {
            let response = session.next().await?;
            Some((response, session))
        });
        Ok(Response::new(responses.boxed()))
    }
}
