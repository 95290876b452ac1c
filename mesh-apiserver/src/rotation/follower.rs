//! What every replica does with the records: holds what they say, and says why it does not.

use std::sync::Arc;
use std::time::Duration;

use certs::Connections;
use certs::rotation::Stage;
use federation::contract::keys;
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::mvcc::KeyRange;
use parking_lot::RwLock;

use super::record::{LeafRequests, read_ca, read_leaves};
use crate::credentials::{Credentials, Error};
use crate::follow::{self, Changes};

/// What could not be followed is tried again this often: a key may be copied into the folder meanwhile.
const RETRY: Duration = Duration::from_secs(1);
/// Prefix of both records.
const RECORDS: &str = "isthmus/v1/rotation/";

/// How far this replica has come. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Following(Arc<RwLock<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    stage: Option<Stage>,
    leaves: LeafRequests,
    problem: String,
}

impl Following {
    /// The requests for leaves that this replica's own have been renewed for.
    pub fn leaves(&self) -> LeafRequests {
        self.0.read().leaves.clone()
    }

    /// The stage of the rotation that runs, or of the last one; `None` before the first.
    pub fn stage(&self) -> Option<Stage> {
        self.0.read().stage
    }

    /// Why the record of the rotation is not followed; empty while it is.
    pub fn problem(&self) -> String {
        self.0.read().problem.clone()
    }
}

pub struct Follower {
    pub store: Arc<dyn Store>,
    pub credentials: Arc<Credentials>,
    pub connections: Connections,
    pub following: Following,
    /// Lets go of connections to the other replicas, which were made by the leaf of before.
    pub reconnect: Box<dyn Fn() + Send + Sync>,
}

impl Follower {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), follow::Error> {
        debug_assert!(keys::ROTATION_CA.starts_with(RECORDS) && keys::ROTATION_LEAVES.starts_with(RECORDS));
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), follow::Error> {
        let mut changes = Changes::new(&self.store, KeyRange::prefix(RECORDS), "the records of rotations");
        let mut is_first = true;
        changes.next().await?;
        loop {
            let is_done = self.follow_all(is_first).await;
            is_first &= !is_done;
            tokio::select! {
                changed = changes.next() => changed?,
                () = tokio::time::sleep(RETRY), if !is_done => {}
            }
        }
    }

    /// Whether both records are followed.
    async fn follow_all(&self, is_first: bool) -> bool {
        let followed = self.follow_ca().await;
        let problem = followed.as_ref().err().cloned().unwrap_or_default();
        if self.following.problem() != problem && !problem.is_empty() {
            tracing::error!(problem, "the rotation of the CA is not followed: tried again");
        }
        self.following.0.write().problem = problem;
        let renewed = self.follow_leaves(is_first).await;
        if let Err(error) = &renewed {
            tracing::error!(error, "leaves are not renewed as asked: tried again");
        }
        followed.is_ok() && renewed.is_ok()
    }

    async fn follow_ca(&self) -> Result<(), String> {
        let record = read_ca(&*self.store).await.map_err(|error| ErrorChain(&error).to_string())?;
        self.following.0.write().stage = record.value.as_ref().map(|record| record.stage);
        let followed = self.credentials.follow(record.value.as_ref(), &self.connections).await;
        if followed.map_err(|error: Error| ErrorChain(&error).to_string())? {
            (self.reconnect)();
        }
        Ok(())
    }

    async fn follow_leaves(&self, is_first: bool) -> Result<(), String> {
        let wanted = read_leaves(&*self.store).await.map_err(|error| ErrorChain(&error).to_string())?;
        let known = self.following.leaves();
        if wanted != known {
            let is_wanted = |name: &str| {
                if !is_first {
                    return wanted.of(name) > known.of(name);
                }
                // Leaves are made at every start; only the administrator's is kept in a file, and may be older.
                let requested = i64::try_from(wanted.requested_unix_seconds).unwrap_or(i64::MAX);
                let backdated = i64::try_from(certs::Validity::BACKDATED.as_secs()).unwrap_or_default();
                let admin = self.credentials.admin().filter(|leaf| leaf.common_name() == name);
                let is_older = |leaf: certs::Leaf| leaf.validity().not_before.as_second() + backdated < requested;
                wanted.of(name) > 0 && admin.is_some_and(is_older)
            };
            self.credentials.renew_now(is_wanted).map_err(|error| ErrorChain(&error).to_string())?;
            self.following.0.write().leaves = wanted;
        }
        Ok(())
    }
}
