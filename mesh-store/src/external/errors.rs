//! etcd-client's errors as the store's.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use mesh_store_mvcc::Error as Refusal;
use tonic::Code;

use crate::backend::{Error, MemberError};

/// How etcd-client words that a lease to be kept alive is not there.
pub(super) const NO_SUCH_LEASE: &str = "lease not found";

/// What etcd may refuse, each with its own text. `Compacted` is told apart by its text alone: the revision is asked for
/// afterwards.
fn refusals() -> [Refusal; 15] {
    [
        Refusal::EmptyKey,
        Refusal::KeyNotFound,
        Refusal::ValueProvided,
        Refusal::LeaseProvided,
        Refusal::TooManyOps,
        Refusal::DuplicateKey,
        Refusal::InvalidSortOption,
        Refusal::Compacted { compact_revision: 0 },
        Refusal::FutureRevision,
        Refusal::LeaseNotFound,
        Refusal::LeaseExists,
        Refusal::LeaseTtlTooLarge,
        Refusal::RequestTooLarge,
        Refusal::NoSpace,
        Refusal::Corrupt,
    ]
}

fn member_refusals() -> [MemberError; 11] {
    [
        MemberError::NotFound,
        MemberError::Exists,
        MemberError::PeerUrlExists,
        MemberError::BadUrls,
        MemberError::NotLearner,
        MemberError::LearnerNotReady,
        MemberError::TooManyLearners,
        MemberError::NotEnoughStarted,
        MemberError::Unhealthy,
        MemberError::BadTransferee,
        MemberError::TransferTimedOut,
    ]
}

/// True when etcd refused a request for this.
pub(super) fn is(error: &etcd_client::Error, refusal: &Refusal) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message() == refusal.to_string())
}

pub(super) fn of(error: &etcd_client::Error, endpoints: &Arc<str>) -> Error {
    if let etcd_client::Error::GRpcStatus(status) = error {
        let text = status.message();
        if let Some(refusal) = refusals().into_iter().find(|refusal| refusal.to_string() == text) {
            return Error::Refused(refusal);
        }
        if let Some(refusal) = member_refusals().into_iter().find(|refusal| refusal.to_string() == text) {
            return Error::Member(refusal);
        }
        match (status.code(), text) {
            (_, "etcdserver: too many requests") => return Error::TooManyRequests,
            (_, "etcdserver: no leader") => return Error::NoLeader,
            (_, "etcdserver: leader changed") => return Error::LeaderChanged,
            (_, "etcdserver: request timed out, possibly due to previous leader failure") => {
                return Error::LeaderLost;
            }
            (Code::Unavailable, text) if text.starts_with("etcdserver: request timed out") => return Error::TimedOut,
            _ => {}
        }
    }
    Error::External { endpoints: Arc::clone(endpoints), reason: reason(error) }
}

/// True when there was no connection to send a request on: it has certainly done nothing.
pub(super) fn was_never_sent(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
            );
        }
        cause = error.source();
    }
    false
}

/// What happened, down to its cause: on one line.
pub(super) fn reason(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            format!("{}: its user must be allowed to read and write every key", status.message())
        }
        _ => status.message().to_owned(),
    };
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_refuses_keeps_its_meaning_and_the_rest_names_the_endpoint() {
        let endpoints: Arc<str> = "https://a:2379".into();
        let refused =
            |code: Code, text: &str| of(&etcd_client::Error::GRpcStatus(tonic::Status::new(code, text)), &endpoints);
        let lease = refused(Code::NotFound, "etcdserver: requested lease not found");
        assert!(matches!(lease, Error::Refused(Refusal::LeaseNotFound)));
        let slow = refused(Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost");
        assert!(matches!(slow, Error::TimedOut));
        let denied = refused(Code::PermissionDenied, "etcdserver: permission denied");
        assert_eq!(
            denied.to_string(),
            "the external etcd at https://a:2379 did not answer: etcdserver: permission denied: its user must be allowed \
             to read and write every key"
        );
        assert!(denied.is_unknown_outcome());
    }
}
