//! etcd's users and roles: who may read and write what beyond the server's own table.
//!
//! It owns the record at [`KEY`], the rules by which it changes, and what a user may do by it. It must never decide who a
//! caller is: a user is the name that a client certificate proved, and passwords are not kept at all.
//!
//! ```text
//!  etcd/auth.rs --Change--> Book::apply --> record (one key, replaced by compare and put)
//!                                              |  watched by the server on every replica
//!  etcd/gate.rs --may <name> read this?--> Users <--refresh
//! ```

mod book;
mod coverage;
mod error;
mod record;
mod users;

pub use book::{Book, Change, Permission, PermissionKind};
pub use error::AuthError;
pub use record::{Ledger, RecordError, UpdateError};
pub use users::Users;

/// Where users, roles and the switch are kept.
pub const KEY: &str = "isthmus/v1/auth";

/// What the mesh keeps for itself. No permission reaches into it, or a role that may write "all keys" could make itself
/// root, or let a foreign CA in.
pub const RESERVED: &str = "isthmus/";

/// The user that must exist before users count, and the role that may do everything.
pub const ROOT: &str = "root";
