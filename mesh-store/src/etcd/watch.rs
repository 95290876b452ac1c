//! `etcdserverpb.Watch`: many watches on one stream.
//!
//! The response stream itself does the work when it is polled: it takes one request or one update at a time, so `created`
//! answers keep the order of the requests, and a client that does not read is served from history when it does. Nothing
//! is queued for it meanwhile.

use std::sync::Arc;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, future};
use tonic::{Request, Response, Status, Streaming};

use super::Shared;

mod leaderless;
mod session;

use session::Session;

pub(super) struct Watch(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbWatchService for Watch {
    type WatchStream = BoxStream<'static, Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.gate.admit(request.extensions(), &self.0.metrics)?;
        self.0.metrics.watch_streams.get_or_create(&caller.label).inc();
        let requires_leader = leaderless::is_required(request.metadata());
        let session = Session::new(Arc::clone(&self.0), caller, request.into_inner());
        let lost = leaderless::lost(Arc::clone(&self.0.store));
        let lost = if requires_leader { lost.boxed() } else { future::pending().boxed() };
        let responses = stream::unfold(Some((session, lost)), |state| async move {
            let (mut session, mut lost) = state?;
            tokio::select! {
                response = session.next() => Some((response?, Some((session, lost)))),
                () = &mut lost => Some((Err(leaderless::status()), None)),
            }
        });
        Ok(Response::new(responses.boxed()))
    }
}
