//! [`Store`] as a replica answers it: writes through the leader, reads from here once the leader has said up to where.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store_mvcc::{
    Alarm, AlarmAction, Command, DeleteRangeRequest, DeleteRangeResponse, HashKv, LeaseGranted, LeaseId, Overlay,
    PutRequest, PutResponse, RangeRequest, RangeResponse, Response, TxnRequest, TxnResponse,
};
use openraft::ServerState;

use super::Embedded;
use crate::backend::{
    self, Backup, Error, Identity, LeaseTimeToLive, Member, MemberError, Result, Status, Store, WatchRequest, Watcher,
};
use crate::raft::rpc::MemberChange;
use crate::raft::watch;

/// The bound on operations of one transaction for callers inside the process.
const MAX_TXN_OPS: usize = 100_000;

impl Embedded {
    /// Sees to it that what this replica has applied is not older than the call.
    async fn catch_up(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        // The only voter of a group needs to ask nobody: a write is acknowledged after it was applied here, and nobody
        // else can have acknowledged one.
        if self.is_only_voter() && self.leadership.term() != 0 {
            return Ok(());
        }
        let index = self.reads.confirm().await?;
        tokio::select! {
            () = self.replica.applied(index) => Ok(()),
            () = self.stop.cancelled() => Err(Error::Stopped),
        }
    }

    fn is_only_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.state == ServerState::Leader
            && metrics.membership_config.voter_ids().all(|voter| voter == self.member.id)
    }

    async fn propose(&self, command: Command) -> Result<Response> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.make_room(&command).await?;
        self.proposer.propose(command).await
    }

    async fn change_members(&self, change: MemberChange) -> Result<Vec<Member>> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.members.change(change).await
    }
}

fn unexpected(response: &Response) -> Error {
    Error::Failed { reason: format!("the state machine answered another command: {response:?}") }
}

impl Store for Embedded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            if !request.serializable {
                self.catch_up().await?;
            }
            Ok(self.replica.state.read().mvcc.range(&request)?)
        }
        .boxed()
    }

    fn range_through(&self, request: RangeRequest, overlay: Overlay) -> BoxFuture<'_, Result<RangeResponse>> {
        async move {
            if !request.serializable {
                self.catch_up().await?;
            }
            Ok(self.replica.state.read().mvcc.range_through(&request, &overlay)?)
        }
        .boxed()
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        async move {
            request.check()?;
            match self.propose(Command::Put(request)).await? {
                Response::Put(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        async move {
            match self.propose(Command::DeleteRange(request)).await? {
                Response::DeleteRange(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        async move {
            request.check(MAX_TXN_OPS)?;
            if request.is_read_only() {
                self.catch_up().await?;
                return Ok(self.replica.state.read().mvcc.read_txn(&request)?);
            }
            match self.propose(Command::Txn(request)).await? {
                Response::Txn(response) => Ok(response),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<i64>> {
        async move {
            match self.propose(Command::Compact { revision }).await? {
                Response::Compact { revision } => Ok(revision),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watcher>> {
        async move {
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            Ok(watch::start(&self.replica, request, self.progress_interval, self.stop.clone()))
        }
        .boxed()
    }

    fn lease_grant(&self, id: LeaseId, ttl: i64) -> BoxFuture<'_, Result<LeaseGranted>> {
        async move {
            match self.propose(Command::LeaseGrant { id, ttl }).await? {
                Response::LeaseGrant(granted) => Ok(granted),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        async move {
            match self.propose(Command::LeaseRevoke { id }).await? {
                Response::LeaseRevoke { revision } => Ok(revision),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64>> {
        async move {
            let renewed = self.lease_calls.renew(id).await?;
            renewed.ok_or(Error::Refused(mesh_store_mvcc::Error::LeaseNotFound))
        }
        .boxed()
    }

    fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> BoxFuture<'_, Result<LeaseTimeToLive>> {
        async move {
            self.catch_up().await?;
            let (granted_ttl, keys) = {
                let state = self.replica.state.read();
                let Some(granted_ttl) = state.mvcc.lease_ttl(id) else {
                    return Ok(LeaseTimeToLive { id, ttl: -1, ..LeaseTimeToLive::default() });
                };
                (granted_ttl, if keys { state.mvcc.lease_keys(id).unwrap_or_default() } else { Vec::new() })
            };
            let left = self.lease_calls.time_left(id).await?;
            let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            Ok(LeaseTimeToLive { id, ttl, granted_ttl, keys })
        }
        .boxed()
    }

    fn lease_list(&self) -> BoxFuture<'_, Result<Vec<LeaseId>>> {
        async move {
            self.catch_up().await?;
            let mut leases: Vec<LeaseId> = self.replica.state.read().mvcc.leases().map(|(id, _)| id).collect();
            leases.sort_by_cached_key(|id| self.replica.leases.deadline(*id));
            Ok(leases)
        }
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        async move {
            let raft = self.raft.metrics().borrow().clone();
            let state = self.replica.state.read();
            Ok(Status {
                revision: state.mvcc.revision(),
                compact_revision: state.mvcc.compact_revision(),
                leader: raft.current_leader.filter(|_| self.election.hears_leader()).unwrap_or(0),
                raft_index: raft.last_log_index.unwrap_or(0),
                raft_applied_index: state.last.map_or(0, |log_id| log_id.index),
                db_size: self.log.disk_bytes() + self.snapshots.disk_bytes(),
                db_size_in_use: state.mvcc.bytes_in_use() as u64,
                db_size_quota: self.quota.bytes,
                keys: state.mvcc.key_count() as u64,
                is_learner: raft.state == ServerState::Learner,
            })
        }
        .boxed()
    }

    fn alarms(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        async move {
            if linearizable {
                self.catch_up().await?;
            }
            Ok(self.replica.state.read().mvcc.alarms().collect())
        }
        .boxed()
    }

    fn set_alarm(&self, action: AlarmAction, alarm: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        async move {
            match self.propose(Command::Alarm { action, alarm }).await? {
                Response::Alarm { alarm, .. } => Ok(alarm),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        self.hash(revision).boxed()
    }

    fn members(&self, linearizable: bool) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move {
            if linearizable {
                self.catch_up().await?;
            }
            Ok(self.replica.members())
        }
        .boxed()
    }

    fn member_add(&self, mut member: Member) -> BoxFuture<'_, Result<Member>> {
        async move {
            if !self.has_transport {
                return Err(MemberError::Alone.into());
            }
            while member.id == 0 {
                member.id = self.replica.random();
            }
            let id = member.id;
            let members = self.change_members(MemberChange::Add(member)).await?;
            members.into_iter().find(|member| member.id == id).ok_or(Error::Member(MemberError::NotFound))
        }
        .boxed()
    }

    fn member_remove(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.change_members(MemberChange::Remove(id)).boxed()
    }

    fn member_promote(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.change_members(MemberChange::Promote(id)).boxed()
    }

    fn member_update(&self, id: u64, peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.change_members(MemberChange::Update { id, peer_urls }).boxed()
    }

    fn move_leader(&self, to: u64) -> BoxFuture<'_, Result<()>> {
        self.transfer.move_to(to).boxed()
    }

    fn backup(&self) -> BoxFuture<'_, Result<Backup>> {
        async move {
            self.catch_up().await?;
            self.write_backup().await
        }
        .boxed()
    }

    fn identity(&self) -> Identity {
        Identity { cluster_id: self.peers.cluster_id(), member_id: self.member.id, raft_term: self.replica.term() }
    }

    fn revision(&self) -> i64 {
        self.replica.revision()
    }

    fn leadership(&self) -> backend::Leadership {
        if self.raft.metrics().borrow().current_leader.is_none() || !self.election.hears_leader() {
            backend::Leadership::Nowhere
        } else if self.leadership.term() != 0 {
            backend::Leadership::Here
        } else {
            backend::Leadership::Elsewhere
        }
    }
}
