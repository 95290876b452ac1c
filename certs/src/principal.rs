//! Who is calling: a name together with the CA that vouched for it, and the rule which CA may vouch for which name.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use mesh_types::ClusterName;
use rustls::CertificateError;

use crate::x509::Malformed;

/// The common name of API servers, as servers and among replicas.
pub const API_SERVER: &str = "mesh-apiserver";

/// Whose CA verified a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// This cluster's own.
    Own,
    /// The one that a joined cluster gave.
    Peer(ClusterName),
    /// The one that several Cilium clusters have in common; the caller's name did not say which of them it is.
    Peers(BTreeSet<ClusterName>),
}

/// A verified caller.
///
/// # Invariants
/// Made by [`Principal::admit`] and `Principal::user` only (and for the local root user): the name is one that the
/// authority may vouch for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    pub authority: Authority,
    pub name: String,
    /// The name is none of this table's own: it counts because the store has a user of it.
    is_user: bool,
}

/// What a principal is, by its name and authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// A replica of this cluster's API server.
    Replica,
    /// May do everything.
    Admin,
    /// The agent of this node.
    Agent(&'a str),
    /// Cilium's `local` user: reads the caches.
    Local,
    /// Another cluster: reads what is exported to it.
    Remote(&'a ClusterName),
    /// One of these Cilium clusters, which cannot be told apart: reads what is exported to everyone.
    SharedRemote(&'a BTreeSet<ClusterName>),
    /// A user of the store: may do what it was granted there, over the etcd API alone.
    User(&'a str),
}

/// Why a client certificate is not a principal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PrincipalError {
    #[error("the client certificate cannot be read")]
    Malformed(#[from] Malformed),
    #[error(
        "certificate {name:?} (issuer {issuer:?}) is signed neither by this cluster's CA nor by that of a joined \
         cluster: if its cluster should be a peer, connect it first; if it was rebuilt, connect it again"
    )]
    UnknownIssuer { name: String, issuer: String },
    #[error(
        "certificate {name:?}, signed by {authority}, expired at {at}: renew it, and check the clocks of both sides"
    )]
    Expired { name: String, authority: Authority, at: Timestamp },
    #[error("certificate {name:?}, signed by {authority}, is not valid before {at}: check the clocks of both sides")]
    NotYetValid { name: String, authority: Authority, at: Timestamp },
    #[error("certificate {name:?} (issuer {issuer:?}) is not valid for a client")]
    Invalid { name: String, issuer: String, source: rustls::Error },
    #[error("certificate {subject:?}, signed by {authority}, has {count} common names: exactly one is needed")]
    CommonNames { subject: String, authority: Authority, count: usize },
    #[error(
        "certificate {name:?} is signed by the CA of {peer}, which may vouch for \"remote\" and \"remote-{peer}\" only: \
         it cannot speak for this cluster nor for another one"
    )]
    PeerOverreach { name: String, peer: ClusterName },
    #[error(
        "certificate {name:?} is signed by the CA that {peers} have in common, which may vouch for \"remote\" and for \
         \"remote-<one of them>\" only"
    )]
    SharedOverreach { name: String, peers: String },
    #[error(
        "certificate {name:?} is signed by this cluster's CA, but is no caller's name here: expected are \
         {API_SERVER:?}, \"admin-{own}\", \"local-{own}\" and \"agent-<node>\", or a user of the store (`etcdctl user add \
         {name} --no-password` makes it one)"
    )]
    UnknownName { name: String, own: ClusterName },
}

impl Principal {
    /// Applies the rule: which names `authority` may vouch for in cluster `own`.
    pub fn admit(authority: Authority, name: &str, own: &ClusterName) -> Result<Self, PrincipalError> {
        match &authority {
            Authority::Own => {
                let of_this_cluster = |role: &str| name.strip_prefix(role) == Some(own.as_str());
                let agent = name.strip_prefix("agent-").is_some_and(|node| !node.is_empty());
                if !(name == API_SERVER || agent || of_this_cluster("admin-") || of_this_cluster("local-")) {
                    return Err(PrincipalError::UnknownName { name: name.to_owned(), own: own.clone() });
                }
            }
            Authority::Peer(peer) => {
                if name != "remote" && name.strip_prefix("remote-") != Some(peer.as_str()) {
                    return Err(PrincipalError::PeerOverreach { name: name.to_owned(), peer: peer.clone() });
                }
            }
            Authority::Peers(peers) => {
                if name != "remote" {
                    let peers = peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    return Err(PrincipalError::SharedOverreach { name: name.to_owned(), peers });
                }
            }
        }
        Ok(Self { authority, name: name.to_owned(), is_user: false })
    }

    /// A user of the store, whom the own CA vouched for by a name that [`Principal::admit`] knows nothing of.
    pub(crate) fn user(name: &str) -> Self {
        Self { authority: Authority::Own, name: name.to_owned(), is_user: true }
    }

    /// Root, or the user that the server runs as, coming over a Unix socket that nobody else may open.
    pub fn local_root(own: &ClusterName) -> Self {
        Self { authority: Authority::Own, name: format!("admin-{own}"), is_user: false }
    }

    pub fn role(&self) -> Role<'_> {
        match &self.authority {
            Authority::Peer(peer) => Role::Remote(peer),
            Authority::Peers(peers) => Role::SharedRemote(peers),
            // First: such a name may look like any other.
            Authority::Own if self.is_user => Role::User(&self.name),
            Authority::Own if self.name == API_SERVER => Role::Replica,
            Authority::Own => match self.name.split_once('-') {
                Some(("agent", node)) => Role::Agent(node),
                Some(("admin", _)) => Role::Admin,
                // What `admit` lets through besides is `local-<own>`, which may do the least.
                _ => Role::Local,
            },
        }
    }

    /// The cluster that a remote caller acts as, where that is certain.
    pub fn peer(&self) -> Option<&ClusterName> {
        match &self.authority {
            Authority::Peer(peer) => Some(peer),
            Authority::Own | Authority::Peers(_) => None,
        }
    }

    /// The remote caller is this cluster, or may be.
    pub fn may_be(&self, cluster: &ClusterName) -> bool {
        match &self.authority {
            Authority::Own => false,
            Authority::Peer(peer) => peer == cluster,
            Authority::Peers(peers) => peers.contains(cluster),
        }
    }

    pub fn is_admin(&self) -> bool {
        self.role() == Role::Admin
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this cluster's CA"),
            Self::Peer(peer) => write!(f, "the CA of {peer}"),
            Self::Peers(peers) => {
                write!(f, "the CA of {}", peers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "))
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.name, self.authority)
    }
}

impl PrincipalError {
    /// A label for counters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Invalid { .. } => "invalid",
            Self::CommonNames { .. } | Self::UnknownName { .. } => "unknown_name",
            Self::PeerOverreach { .. } | Self::SharedOverreach { .. } => "peer_overreach",
        }
    }

    /// What rustls turns into the alert that the other side sees.
    pub(crate) fn certificate_error(&self) -> CertificateError {
        match self {
            Self::UnknownIssuer { .. } => CertificateError::UnknownIssuer,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::Invalid { source: rustls::Error::InvalidCertificate(error), .. } => error.clone(),
            Self::Malformed(_) | Self::Invalid { .. } => CertificateError::BadEncoding,
            Self::CommonNames { .. }
            | Self::PeerOverreach { .. }
            | Self::SharedOverreach { .. }
            | Self::UnknownName { .. } => CertificateError::ApplicationVerificationFailure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        ClusterName::new(name).unwrap()
    }

    #[test]
    fn the_own_ca_vouches_for_the_names_of_this_cluster_only() {
        let own = cluster("cluster-a");
        let role = |name: &str| Principal::admit(Authority::Own, name, &own);
        assert_eq!(role("mesh-apiserver").unwrap().role(), Role::Replica);
        assert_eq!(role("admin-cluster-a").unwrap().role(), Role::Admin);
        assert_eq!(role("local-cluster-a").unwrap().role(), Role::Local);
        assert_eq!(role("agent-node-1").unwrap().role(), Role::Agent("node-1"));
        assert_eq!(Principal::local_root(&own), role("admin-cluster-a").unwrap());
        for bad in [
            "",
            "agent-",
            "admin-cluster-b",
            "admin-",
            "local-x",
            "remote",
            "remote-cluster-a",
            "root",
            "Admin-cluster-a",
        ] {
            assert!(matches!(role(bad), Err(PrincipalError::UnknownName { .. })), "{bad}");
        }
    }

    #[test]
    fn a_peers_ca_vouches_for_that_peer_only() {
        let (own, b) = (cluster("cluster-a"), cluster("cluster-b"));
        let role = |name: &str| Principal::admit(Authority::Peer(b.clone()), name, &own);
        for good in ["remote", "remote-cluster-b"] {
            assert_eq!(role(good).unwrap().role(), Role::Remote(&b), "{good}");
        }
        for bad in [
            "admin-cluster-a",
            "admin-cluster-b",
            "agent-b1",
            "mesh-apiserver",
            "local-cluster-b",
            "remote-cluster-c",
            "remote-",
            "",
        ] {
            let error = role(bad).unwrap_err();
            assert!(matches!(error, PrincipalError::PeerOverreach { .. }), "{bad}");
            assert!(error.to_string().contains("the CA of cluster-b"), "{error}");
        }
    }
}
