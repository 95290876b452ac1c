//! `meshctl connectivity`: do pods, nodes and Services of two clusters reach each other. Owns the objects that a test makes, in
//! a namespace of its own on both clusters, and removes them after success, failure and Ctrl-C alike.

mod ask;
mod cell;
mod diagnose;
mod objects;
mod place;
mod report;
mod run;
mod serve;

pub(crate) use ask::ask;
pub(crate) use run::{clean, test};
pub(crate) use serve::{idle, serve};

/// The server's ports, and those of Services before them.
const TCP_PORT: u16 = 8080;
const UDP_PORT: u16 = 9090;
const SERVICE_TCP_PORT: u16 = 80;
const SERVICE_UDP_PORT: u16 = 90;

/// What a server says to whoever asks it: a line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Answer {
    cluster: String,
    pod: String,
    /// The address that it saw.
    peer: String,
}
