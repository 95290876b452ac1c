//! What one replica of a cluster does for all: it reads the source, exports, beats, and mirrors the joined clusters.
//!
//! ```text
//!  campaign --> Held --> term: source, exporter, heartbeat, federation over a fenced store --> lost or stopped
//!      ^                                                                                     |
//!      +-------------------------------------------------------------------------------------+
//! ```
//! The replica that leads the store takes the role, so that its writes need no way to another one. Every write of a term is
//! refused by the log once the role has another holder, whatever the former one believes. Everything else in the process
//! (listeners, view, agents' streams, trust) runs on every replica and must never depend on who holds the role.

mod election;
mod handle;
mod term;

use std::sync::Arc;

use mesh_runtime::{Cause, ErrorChain, ReadyGuard, Shutdown};
use mesh_store::{Fenced, Store};

pub use self::election::{Election, Held, Holder};
pub use self::handle::Handle;
pub use self::term::{Plan, TermError};

/// The key of the role.
pub const KEY: &str = "isthmus/v1/election/controller";

/// The task of the role, on every replica.
pub struct Controller {
    store: Arc<dyn Store>,
    election: Election,
    plan: Plan,
    handle: Handle,
    /// Dropped when the first export of this replica, or the term of another one, is seen, or a store that is too full for
    /// either and holds a former export.
    ready: Option<ReadyGuard>,
}

impl Controller {
    pub fn new(store: Arc<dyn Store>, own: Holder, plan: Plan, ready: ReadyGuard) -> (Self, Handle) {
        let election = Election::new(Arc::clone(&store), KEY, own);
        let handle = Handle::new(election.seen());
        (Self { store, election, plan, handle: handle.clone(), ready: Some(ready) }, handle)
    }

    /// Campaigns and serves terms until stopped. A term that fails while the role is still held ends the process, as any
    /// part of it does that must not end.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), TermError> {
        while !shutdown.is_requested() {
            let Some(held) = shutdown.unless_requested(self.campaign()).await else { break };
            tracing::info!(revision = held.create_revision, "this replica exports and mirrors for its cluster now");
            let fenced = Arc::new(Fenced::new(Arc::clone(&self.store), KEY, held.create_revision));
            let stop = shutdown.child();
            let term = self.plan.start(fenced, &self.handle, self.ready.take(), &stop);
            let lost = tokio::select! {
                reason = self.election.lost(&held) => Some(reason),
                () = stop.requested() => None,
            };
            if let Some(reason) = &lost {
                tracing::warn!(reason, "the role of this replica has ended");
            }
            let failure = match stop.cause() {
                Some(Cause::Failure(what)) => Some(what.clone()),
                _ => None,
            };
            stop.trigger(Cause::Requested("its term ends".to_owned()));
            term.end().await;
            self.handle.clear();
            // Where the log refused a write of this term, the role went first and the news of it came second: no failure.
            if lost.is_none() && self.election.is_held(&held).await {
                self.election.resign(&held).await;
                if let Some(what) = failure {
                    return Err(TermError(what));
                }
            }
        }
        Ok(())
    }

    async fn campaign(&mut self) -> Held {
        let mut said = String::new();
        loop {
            let waits_for_export = self.ready.is_some();
            tokio::select! {
                campaign = self.election.campaign(&mut self.ready) => match campaign {
                    Ok(held) => return held,
                    Err(error) => {
                        let error = ErrorChain(&error).to_string();
                        if said != error {
                            tracing::warn!(error, "the store refuses a candidate, trying again");
                            said = error;
                        }
                        tokio::time::sleep(election::RETRY).await;
                    }
                },
                // What a campaign that is given up may have written is taken for that of a former life.
                () = self.plan.until_a_full_store_gives_no_more(&*self.store), if waits_for_export => {
                    tracing::warn!("nobody can export while the store is full: what was exported before is served");
                    self.ready = None;
                }
            }
        }
    }
}
