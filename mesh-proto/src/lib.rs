//! The project's own protocol: agent stream, admin API, join.
//!
//! Owns the `.proto` files, their generated code ([`v1`]) and the conversions to `mesh-types` ([`convert`]). A message
//! that does not convert is an error that names the field; nothing is guessed.

pub mod convert;

/// Generated from `proto/isthmus/v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::unwrap_used,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("isthmus.v1");
}
