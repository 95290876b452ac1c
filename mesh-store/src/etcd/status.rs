//! The store's errors as gRPC statuses, with the codes that etcd uses.

use mesh_store_mvcc::{Code, Error as Refusal};
use tonic::Status;

use crate::backend::{Error, MemberError};

pub(super) fn of(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Member(MemberError::NotFound) => Status::not_found(text),
        Error::Member(MemberError::BadUrls) => Status::invalid_argument(text),
        Error::Member(MemberError::Unhealthy | MemberError::TransferTimedOut)
        | Error::NoLeader
        | Error::LeaderChanged
        | Error::LeaderLost
        | Error::TimedOut
        | Error::Fenced { .. }
        | Error::Stopped
        | Error::Failed { .. }
        | Error::External { .. } => Status::unavailable(text),
        Error::Member(_) => Status::failed_precondition(text),
        Error::TooManyRequests => Status::resource_exhausted(text),
        Error::NotServed { .. } => Status::unimplemented(text),
    }
}

pub(super) fn refused(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal.code() {
        Code::InvalidArgument => Status::invalid_argument(text),
        Code::NotFound => Status::not_found(text),
        Code::OutOfRange => Status::out_of_range(text),
        Code::FailedPrecondition => Status::failed_precondition(text),
        Code::ResourceExhausted => Status::resource_exhausted(text),
        Code::DataLoss => Status::data_loss(text),
    }
}

pub(super) fn not_served(what: &str) -> Status {
    Status::unimplemented(format!("isthmus: {what} is not served by this store"))
}
