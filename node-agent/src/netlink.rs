//! rtnetlink: links, routes, rules, pod devices, and the watch over all of them.
//!
//! Owns the encoding and decoding of messages. Must never decide what should exist: `underlay` does.

use std::fmt;
use std::io;

use mesh_runtime::{OnExit, TaskSet};
use rtnetlink::packet_core::ErrorMessage;

pub mod links;
pub mod pods;
pub mod routes;
pub mod rules;
pub mod uplink;
pub mod watch;

/// What was asked of the kernel and what it said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct Error {
    pub what: String,
    pub source: io::Error,
}

impl Error {
    fn is(&self, errno: nix::Error) -> bool {
        self.source.raw_os_error() == Some(errno as i32)
    }

    /// The kernel does not have the thing at all (a kind of device, for instance).
    pub fn is_unsupported(&self) -> bool {
        self.is(nix::Error::EOPNOTSUPP)
    }

    pub fn is_absent(&self) -> bool {
        self.is(nix::Error::ENODEV) || self.is(nix::Error::ENOENT) || self.is(nix::Error::ESRCH)
    }

    pub fn is_present(&self) -> bool {
        self.is(nix::Error::EEXIST)
    }
}

/// `Err` of a request, with what it was for.
trait During<T> {
    fn during(self, what: impl fmt::Display) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, rtnetlink::Error> {
    fn during(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|error| Error { what: what.to_string(), source: io_error(error) })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|source| Error { what: what.to_string(), source })
    }
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => ErrorMessage::to_io(&message),
        other => io::Error::other(other),
    }
}

/// A connection to the kernel, in the network namespace of the thread that opened it. Not to be shared: the kernel walks
/// one list a socket at a time, and answers a second request with `EBUSY`.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// With strict checking: only then the kernel reads the target namespace of an address dump.
    pub fn open(tasks: &TaskSet) -> Result<Self, Error> {
        let (connection, handle, _none) =
            rtnetlink::new_connection_with_strict_check().during("open a netlink socket")?;
        tasks.spawn("netlink", OnExit::Log, connection);
        Ok(Self { handle })
    }
}
