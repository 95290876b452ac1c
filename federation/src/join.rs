//! Joining two clusters: what both compare first, the tokens, and the two sides of the call.
//!
//! ```text
//!  b: Tokens::create ------ token text, by hand -----> a: redeem_and_store
//!                                                         check_claims(own, token's issuer, own peers)
//!  b: accept_join <---- Join over TLS pinned to b's CA ---'
//!     check_claims(own, a, own peers)
//!     one Txn: token redeemed + peer a stored
//!     -------------------------- b's declaration ------> stores peer b
//! ```
//! A Cilium cluster gives no token: `join_cilium` takes what its people wrote down, and asks its store once. `join_declared` takes
//! an Isthmus cluster in by what both sides wrote down, and asks nobody.
//!
//! # Invariants
//! - Nothing is changed on either side before both have compared everything.
//! - Repeating a join that was done changes nothing and answers the same.

mod accept;
mod check;
mod cilium;
mod declared;
pub mod preflight;
mod redeem;
pub mod tokens;

pub use accept::{AcceptError, accept_join};
pub use check::{Conflict, check_claims};
pub use cilium::{CiliumError, join_cilium};
pub use declared::{DeclaredError, join_declared};
pub use redeem::{Joined, RedeemError, redeem_and_store};
pub use tokens::{Redeemed, Redemption, TokenRecord, Tokens};

use certs::token::Claims;

use crate::peer::Declaration;

impl From<&Declaration> for Claims {
    fn from(said: &Declaration) -> Self {
        Self {
            name: said.name.clone(),
            id: said.id,
            uuid: said.uuid,
            layout: said.layout,
            encryption: said.encryption,
            pod_prefixes: said.pod_prefixes.clone(),
            node_prefixes: said.node_prefixes.clone(),
            service_prefixes: said.service_prefixes.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
