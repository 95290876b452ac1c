//! The load of the demo and the scenarios: what `lab-load` is asked for, what it writes down, and reading that again.
//! Requests are never retried: each failure is a record.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod check;
pub mod generator;
pub mod record;
pub mod running;

/// What to send, at what rate.
#[derive(Debug, Clone)]
pub struct Plan {
    pub targets: Vec<Target>,
    /// New requests per second, over all targets in turn; each is a new connection.
    pub rate: u32,
    /// Long-lived connections, over all targets in turn.
    pub long: u32,
    /// One request of so many carries the large body. 0 for none.
    pub large_every: u32,
}

pub const SMALL_BODY: usize = 100;
pub const LARGE_BODY: usize = 1024 * 1024;
/// Between two messages of a long-lived connection.
pub const PING_PERIOD: Duration = Duration::from_millis(100);
/// How long a message of a long-lived connection may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a request may take from its start, connecting included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// `name=address:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub name: String,
    pub address: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
#[error("target {0:?} is not of the form name=address:port")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = || BadTarget(text.to_owned());
        let (name, address) = text.split_once('=').ok_or_else(bad)?;
        Ok(Self { name: name.to_owned(), address: address.parse().map_err(|_not_an_address| bad())? })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}
