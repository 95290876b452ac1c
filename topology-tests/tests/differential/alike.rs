//! What counts as the same answer: everything but who answered, the order of what etcd itself leaves open, and a second of
//! a lease's remaining time.

use etcd_client::proto::{
    PbCompactionResponse, PbDeleteResponse, PbHashKvResponse, PbKeyValue, PbLeaseGrantResponse,
    PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeResponse, PbLeaseTimeToLiveResponse, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnResponse,
};

use crate::op::Op;
use crate::rpc::{Answered, Rpc};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(PbRangeResponse),
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Txn(PbTxnResponse),
    Compact(PbCompactionResponse),
    Grant(PbLeaseGrantResponse),
    Revoke(PbLeaseRevokeResponse),
    TimeToLive(PbLeaseTimeToLiveResponse),
    KeepAlive(Option<PbLeaseKeepAliveResponse>),
    Leases(PbLeaseLeasesResponse),
    HashKv(PbHashKvResponse),
}

impl Answer {
    fn header_mut(&mut self) -> Option<&mut PbResponseHeader> {
        match self {
            Self::Range(answer) => answer.header.as_mut(),
            Self::Put(answer) => answer.header.as_mut(),
            Self::Delete(answer) => answer.header.as_mut(),
            Self::Txn(answer) => answer.header.as_mut(),
            Self::Compact(answer) => answer.header.as_mut(),
            Self::Grant(answer) => answer.header.as_mut(),
            Self::Revoke(answer) => answer.header.as_mut(),
            Self::TimeToLive(answer) => answer.header.as_mut(),
            Self::KeepAlive(answer) => answer.as_mut().and_then(|answer| answer.header.as_mut()),
            Self::Leases(answer) => answer.header.as_mut(),
            Self::HashKv(answer) => answer.header.as_mut(),
        }
    }

    pub(crate) fn revision(&mut self) -> Option<i64> {
        self.header_mut().map(|header| header.revision)
    }
}

/// Makes a request whose revisions are numbers; `None` for what is not one request with one answer.
pub(crate) async fn ask(rpc: &Rpc, op: &Op) -> Option<Answered<Answer>> {
    Some(match op {
        Op::Range(request) => rpc.range(request.clone()).await.map(Answer::Range),
        Op::Put(request) => rpc.put(request.clone()).await.map(Answer::Put),
        Op::Delete(request) => rpc.delete(request.clone()).await.map(Answer::Delete),
        Op::Txn(request) => rpc.txn(request.clone()).await.map(Answer::Txn),
        Op::Compact(revision) => rpc.compact(*revision).await.map(Answer::Compact),
        Op::Grant { id, ttl } => rpc.grant(*id, *ttl).await.map(Answer::Grant),
        Op::GrantAny { ttl } => grant_any(rpc, *ttl).await.map(Answer::Grant),
        Op::Revoke { id } => rpc.revoke(*id).await.map(Answer::Revoke),
        Op::TimeToLive { id, keys } => rpc.time_to_live(*id, *keys).await.map(Answer::TimeToLive),
        Op::KeepAlive { id } => rpc.keep_alive(*id).await.map(Answer::KeepAlive),
        Op::Leases => rpc.leases().await.map(Answer::Leases),
        Op::HashKv(revision) => rpc.hash_kv(*revision).await.map(Answer::HashKv),
        Op::Watch(_) | Op::Cancel { .. } | Op::Progress => return None,
    })
}

/// Grants with an id of the server's choice, which must be a number that no client would take for none.
async fn grant_any(rpc: &Rpc, ttl: i64) -> Answered<PbLeaseGrantResponse> {
    let granted = rpc.grant(0, ttl).await?;
    rpc.revoke(granted.id).await?;
    Ok(PbLeaseGrantResponse { id: granted.id.signum(), ..granted })
}

/// Takes out of both answers what need not be equal.
pub(crate) fn level(op: &Op, etcd: &mut Answer, isthmus: &mut Answer) {
    for answer in [&mut *etcd, &mut *isthmus] {
        if let Some(header) = answer.header_mut() {
            *header = PbResponseHeader { revision: header.revision, ..PbResponseHeader::default() };
        }
        match (op, answer) {
            (Op::Range(request), Answer::Range(answer)) => forget_ties(request, answer),
            (Op::Txn(request), Answer::Txn(answer)) => forget_ties_inside(request, answer),
            (_, Answer::TimeToLive(answer)) => answer.keys.sort(),
            _ => {}
        }
    }
    if let (Answer::TimeToLive(etcd), Answer::TimeToLive(isthmus)) = (etcd, isthmus)
        && etcd.ttl.abs_diff(isthmus.ttl) <= 1
        && etcd.ttl >= 0
        && isthmus.ttl >= 0
    {
        isthmus.ttl = etcd.ttl;
    }
}

fn forget_ties_inside(request: &PbTxnRequest, answer: &mut PbTxnResponse) {
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    for (op, answer) in branch.iter().zip(&mut answer.responses) {
        match (&op.request, &mut answer.response) {
            (Some(PbTxnOpRequest::RequestRange(request)), Some(PbTxnOpResponse::ResponseRange(answer))) => {
                forget_ties(request, answer);
            }
            (Some(PbTxnOpRequest::RequestTxn(request)), Some(PbTxnOpResponse::ResponseTxn(answer))) => {
                forget_ties_inside(request, answer);
            }
            _ => {}
        }
    }
}

/// Up to so many elements Go sorts by insertion, which keeps the order of equal ones; for more it does not.
const SORTED_STABLY: i64 = 12;

/// In a long answer that is ordered by something that keys share, only that something is compared.
fn forget_ties(request: &PbRangeRequest, answer: &mut PbRangeResponse) {
    if answer.count <= SORTED_STABLY || request.sort_target == 0 {
        return;
    }
    for kv in &mut answer.kvs {
        let mut shown = PbKeyValue::default();
        match request.sort_target {
            1 => shown.version = kv.version,
            2 => shown.create_revision = kv.create_revision,
            3 => shown.mod_revision = kv.mod_revision,
            _ => shown.value.clone_from(&kv.value),
        }
        *kv = shown;
    }
}
