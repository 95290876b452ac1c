//! Trust: the cluster's own CA, the leaves it issues, the bundles of other clusters' CAs, and TLS on both sides.
//!
//! ```text
//! RootCa --issues--> Leaf --LiveLeaf--> ServerTls --TlsIncoming--> tonic server --principal()--> Principal
//!                                  \--> ClientTls --channel()----> tonic client      ^
//! TrustBundle (own, one per peer) --> Authorities, one verifier per CA --------------+
//! ```
//!
//! # Invariants
//! - A principal is a name **and** the CA that vouched for it. A peer's CA vouches for `remote` and `remote-<that peer>`
//!   only, whatever its certificates say.
//! - A key is read from and written to files of mode 0600 only (that of a CA also as PEM, for a Secret), is wiped when
//!   dropped, and never appears in a log line, an error or a `Debug` text.
//!
//! Must never decide what a principal may do: roles and rights are the servers' business.

mod ca_hash;
mod issuer;
mod pem;
mod x509;

#[cfg(test)]
mod testing;

pub mod authorities;
pub mod bundle;
pub mod ca_folder;
pub mod client;
pub mod csr;
pub mod incoming;
pub mod leaf;
pub mod metrics;
pub mod principal;
pub mod provider;
pub mod root_ca;
pub mod rotation;
pub mod secret;
pub mod server;
pub mod token;
pub mod validity;

pub use authorities::Authorities;
pub use bundle::TrustBundle;
pub use ca_folder::{CaFolder, Cas};
pub use ca_hash::{CaHash, ParseCaHashError};
pub use client::channel::{ChannelOptions, channel};
pub use client::live::LiveBundle;
pub use client::{ClientTls, Trust};
pub use csr::PendingLeaf;
pub use incoming::{ConnectInfo, Connections, OpenConnection, TlsIncoming, principal};
pub use issuer::LiveCa;
pub use leaf::{Leaf, LiveLeaf};
pub use metrics::TlsMetrics;
pub use principal::{Authority, Principal, PrincipalError, Role};
pub use root_ca::{RootCa, ServerNames};
pub use secret::SecretKey;
pub use server::{ClientAuth, ServerTls};
pub use token::Token;
pub use validity::Validity;
pub use x509::Malformed;
