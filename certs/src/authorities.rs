//! The CAs that may vouch for callers: this cluster's own and one set per joined cluster, each with a verifier of its
//! own, replaceable while connections are open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_types::ClusterName;
use parking_lot::Mutex;
use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::bundle::{TrustBundle, Verifiers};
use crate::ca_hash::CaHash;
use crate::principal::{Authority, Principal, PrincipalError, Role};
use crate::x509::{self, Facts};

/// All CAs by which callers are verified.
///
/// # Invariants
/// No two authorities hold the same CA key, so a certificate is never verified by two of them; but for Cilium
/// clusters ([`Authorities::set_cilium_peer`]), which are then told apart by their callers' common names, or not at all.
pub struct Authorities {
    own: ClusterName,
    /// Replaced as a whole under `writing`, read at every handshake.
    current: ArcSwap<Set>,
    writing: Mutex<()>,
}

#[derive(Clone)]
struct Set {
    own: Arc<CaVerifier>,
    peers: BTreeMap<ClusterName, Arc<CaVerifier>>,
    /// Further names that the own CA may vouch for: the users of the store.
    users: Arc<BTreeSet<String>>,
}

/// Whether a peer may have a CA in common with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// With nobody.
    Never,
    /// With other peers of this kind: Cilium's clusters usually have one CA for the whole mesh.
    Cilium,
}

struct CaVerifier {
    sharing: Sharing,
    bundle: TrustBundle,
    verifiers: Verifiers,
}

/// Who a client is, and the one CA that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) ca: CaHash,
}

/// Why a bundle cannot become an authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the trust bundle of {owner} holds a CA key ({hash}) that {other} has as well, so the two could not be told apart: \
         give each cluster its own CA"
    )]
    SharedCa { owner: String, other: String, hash: CaHash },
    #[error("{name} is this cluster's own name: a peer needs another one")]
    OwnName { name: ClusterName },
    #[error("the trust bundle of {owner} cannot verify certificates")]
    Verifier { owner: String, source: rustls::server::VerifierBuilderError },
}

impl Authorities {
    /// Only the own CA at first.
    pub fn new(own: ClusterName, bundle: TrustBundle) -> Result<Arc<Self>, Error> {
        let verifier = CaVerifier::new(bundle, Sharing::Never, "this cluster")?;
        let set = Set { own: verifier, peers: BTreeMap::new(), users: Arc::default() };
        Ok(Arc::new(Self { own, current: ArcSwap::from_pointee(set), writing: Mutex::new(()) }))
    }

    /// The cluster whose servers verify by this.
    pub fn own_name(&self) -> &ClusterName {
        &self.own
    }

    pub fn own_bundle(&self) -> TrustBundle {
        self.current.load().own.bundle.clone()
    }

    /// Replaces the own CAs, as a rotation does, from the next handshake on. `false`: they were these already.
    pub fn set_own(&self, bundle: TrustBundle) -> Result<bool, Error> {
        let _writing = self.writing.lock();
        let mut set = Set::clone(&self.current.load());
        if set.own.bundle == bundle {
            return Ok(false);
        }
        for (name, peer) in &set.peers {
            told_apart("this cluster", &bundle, name.as_str(), &peer.bundle)?;
        }
        set.own = CaVerifier::new(bundle, Sharing::Never, "this cluster")?;
        self.current.store(Arc::new(set));
        Ok(true)
    }

    /// Lets the CAs of `bundle` vouch for `peer`, from the next handshake on. `false`: it was so already.
    pub fn set_peer(&self, peer: &ClusterName, bundle: TrustBundle) -> Result<bool, Error> {
        self.set(peer, bundle, Sharing::Never)
    }

    /// The same for a Cilium cluster, whose CA may be that of other Cilium clusters as well.
    pub fn set_cilium_peer(&self, peer: &ClusterName, bundle: TrustBundle) -> Result<bool, Error> {
        self.set(peer, bundle, Sharing::Cilium)
    }

    fn set(&self, peer: &ClusterName, bundle: TrustBundle, sharing: Sharing) -> Result<bool, Error> {
        if *peer == self.own {
            return Err(Error::OwnName { name: peer.clone() });
        }
        let _writing = self.writing.lock();
        let mut set = Set::clone(&self.current.load());
        if set.peers.get(peer).is_some_and(|known| known.bundle == bundle && known.sharing == sharing) {
            return Ok(false);
        }
        let owner = peer.to_string();
        told_apart(&owner, &bundle, "this cluster", &set.own.bundle)?;
        let may_share = |other: &CaVerifier| sharing == Sharing::Cilium && other.sharing == Sharing::Cilium;
        for (name, other) in set.peers.iter().filter(|(name, other)| *name != peer && !may_share(other)) {
            told_apart(&owner, &bundle, name.as_str(), &other.bundle)?;
        }
        set.peers.insert(peer.clone(), CaVerifier::new(bundle, sharing, &owner)?);
        self.current.store(Arc::new(set));
        Ok(true)
    }

    /// Trusts `peer` no more, from the next handshake on; [`crate::Connections::disconnect`] ends the open connections.
    /// `false`: it was not trusted.
    pub fn remove_peer(&self, peer: &ClusterName) -> bool {
        let _writing = self.writing.lock();
        let mut set = Set::clone(&self.current.load());
        let was_trusted = set.peers.remove(peer).is_some();
        if was_trusted {
            self.current.store(Arc::new(set));
        }
        was_trusted
    }

    /// Lets the own CA vouch for exactly these users of the store, from the next handshake on.
    pub fn set_users(&self, users: BTreeSet<String>) {
        let _writing = self.writing.lock();
        let set = Set::clone(&self.current.load());
        self.current.store(Arc::new(Set { users: Arc::new(users), ..set }));
    }

    pub fn peers(&self) -> Vec<ClusterName> {
        self.current.load().peers.keys().cloned().collect()
    }

    pub fn peer_bundle(&self, peer: &ClusterName) -> Option<TrustBundle> {
        self.current.load().peers.get(peer).map(|known| known.bundle.clone())
    }

    /// The principal is one of the own cluster, of a peer that is still trusted, or a user that is still one; and the CA
    /// that vouched for it still may.
    pub fn trusts(&self, principal: &Principal, ca: &CaHash) -> bool {
        let set = self.current.load();
        let vouches = |peer: &ClusterName| set.peers.get(peer).is_some_and(|known| known.bundle.contains(ca));
        let is_vouched_for = match &principal.authority {
            Authority::Own => set.own.bundle.contains(ca),
            Authority::Peer(peer) => vouches(peer),
            // One that is no member any more must not come in as the others: all of them connect again.
            Authority::Peers(peers) => peers.iter().all(vouches),
        };
        let is_known = match principal.role() {
            Role::User(name) => set.users.contains(name),
            Role::Remote(_) | Role::SharedRemote(_) | Role::Replica | Role::Admin | Role::Agent(_) | Role::Local => {
                true
            }
        };
        is_known && is_vouched_for
    }

    /// Verifies a client's chain (the leaf first) and applies the rule which CA may vouch for which name.
    pub fn principal_of(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Principal, PrincipalError> {
        self.verify(chain, now).map(|verified| verified.principal)
    }

    /// The same, with the CA that vouched.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Verified, PrincipalError> {
        let (leaf, intermediates) =
            chain.split_first().map_or((&[][..], &[][..]), |(leaf, rest)| (leaf.as_ref(), rest));
        let facts = x509::read(leaf)?;
        // Time is checked before the issuer by the library, so an expired leaf would be blamed on whichever CA is asked
        // first. The issuer is therefore looked for at a time when the leaf was valid.
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let when = now.clamp(facts.not_before.as_second(), facts.not_after.as_second());
        let when = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(when).unwrap_or_default()));
        let (authority, ca) = self.verified_by(&CertificateDer::from(leaf), intermediates, &facts, when)?;
        if now > facts.not_after.as_second() {
            return Err(PrincipalError::Expired { name: facts.shown_name(), authority, at: facts.not_after });
        }
        if now < facts.not_before.as_second() {
            return Err(PrincipalError::NotYetValid { name: facts.shown_name(), authority, at: facts.not_before });
        }
        let principal = match facts.common_names.as_slice() {
            [name] => match Principal::admit(authority, name, &self.own) {
                Err(PrincipalError::UnknownName { .. }) if self.current.load().users.contains(name) => {
                    Ok(Principal::user(name))
                }
                admitted => admitted,
            },
            names => Err(PrincipalError::CommonNames { subject: facts.subject, authority, count: names.len() }),
        };
        principal.map(|principal| Verified { principal, ca })
    }

    fn verified_by(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        facts: &Facts,
        when: UnixTime,
    ) -> Result<(Authority, CaHash), PrincipalError> {
        let set = self.current.load();
        let authorities = || {
            let peers = set.peers.iter().map(|(name, verifier)| (Authority::Peer(name.clone()), verifier));
            std::iter::once((Authority::Own, &set.own)).chain(peers)
        };
        let (name, issuer) = (facts.shown_name(), facts.issuer.clone());
        let mut refused = None;
        // The direct issuer counts before any that is reached through certificates of the caller's choice: a peer could
        // sign the CA certificate of another one, and would then "verify" the other's leaves too.
        for through in [&[][..], intermediates] {
            for (authority, cas) in authorities() {
                for (ca, verifier) in &cas.verifiers {
                    match verifier.verify_client_cert(leaf, through, when) {
                        Ok(_) if cas.sharing == Sharing::Cilium => {
                            let vouches =
                                |other: &CaVerifier| other.sharing == Sharing::Cilium && other.bundle.contains(ca);
                            let clusters = set.peers.iter().filter(|(_, other)| vouches(other));
                            return Ok((named(clusters.map(|(name, _)| name.clone()).collect(), facts), *ca));
                        }
                        Ok(_) => return Ok((authority, *ca)),
                        Err(error) if is_other_issuer(&error) => {}
                        Err(error) => refused = Some(error),
                    }
                }
            }
        }
        Err(match refused {
            None => PrincipalError::UnknownIssuer { name, issuer },
            Some(source) => PrincipalError::Invalid { name, issuer, source },
        })
    }
}

/// Of several clusters with one CA the one that the caller's common name says, or all of them if it says none.
fn named(clusters: BTreeSet<ClusterName>, facts: &Facts) -> Authority {
    let said = facts.common_names.first().and_then(|name| name.strip_prefix("remote-"));
    let one = clusters.iter().find(|cluster| clusters.len() == 1 || said == Some(cluster.as_str()));
    one.cloned().map_or(Authority::Peers(clusters), Authority::Peer)
}

/// The CA did not sign this certificate. A bad signature says so too: the CA has the issuer's name, but another key, as
/// the CA of a rebuilt cluster does.
fn is_other_issuer(error: &TlsError) -> bool {
    matches!(error, TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}

fn told_apart(owner: &str, bundle: &TrustBundle, other: &str, other_bundle: &TrustBundle) -> Result<(), Error> {
    match bundle.shared_with(other_bundle) {
        None => Ok(()),
        Some(hash) => Err(Error::SharedCa { owner: owner.to_owned(), other: other.to_owned(), hash }),
    }
}

impl CaVerifier {
    fn new(bundle: TrustBundle, sharing: Sharing, owner: &str) -> Result<Arc<Self>, Error> {
        let verifiers = bundle.verifiers().map_err(|source| Error::Verifier { owner: owner.to_owned(), source })?;
        Ok(Arc::new(Self { sharing, bundle, verifiers }))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("own", &self.own).field("peers", &self.peers()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
