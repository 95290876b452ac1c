//! The CA certificates by which one cluster is verified.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, UnixTime};
use uuid::Uuid;

use crate::ca_hash::CaHash;
use crate::leaf::Leaf;
use crate::provider::provider;
use crate::x509::{self, Malformed};
use crate::{Validity, pem};

/// The CAs of one cluster: one, or several while they are being rotated. Sorted, without duplicates, never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    cas: Vec<Ca>,
}

#[derive(Clone, PartialEq, Eq)]
struct Ca {
    der: CertificateDer<'static>,
    subject: String,
    hash: CaHash,
    validity: Validity,
}

/// A verifier of clients for each CA of a bundle.
pub(crate) type Verifiers = Vec<(CaHash, Arc<dyn ClientCertVerifier>)>;

/// One CA of a bundle, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFacts {
    pub subject: String,
    pub hash: CaHash,
    pub validity: Validity,
}

/// Why a text is not a trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the trust bundle is not valid PEM: it holds one \"BEGIN CERTIFICATE\" section per CA")]
    Pem,
    #[error("the trust bundle holds no certificate")]
    Empty,
    #[error("the trust bundle holds more than {max} certificates", max = TrustBundle::MAX_CAS)]
    TooMany,
    #[error("the trust bundle holds a private key: a key never leaves its cluster; paste the CA certificate only")]
    HoldsKey,
    #[error("certificate {position} of the trust bundle cannot be used")]
    Malformed { position: usize, source: Malformed },
    #[error(
        "certificate {subject:?} of the trust bundle is not a CA's: give the certificate that signs, not the one signed"
    )]
    NotCa { subject: String },
    #[error("certificate {subject:?} of the trust bundle cannot be a trust anchor")]
    Anchor { subject: String, source: rustls::Error },
}

impl TrustBundle {
    /// The most CAs that one cluster may have at a time.
    pub const MAX_CAS: usize = 16;

    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            match section.map_err(|_may_quote_the_text| Error::Pem)? {
                (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
                (SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey, _) => {
                    return Err(Error::HoldsKey);
                }
                _ => return Err(Error::Pem),
            }
        }
        Self::from_der(certificates)
    }

    pub fn from_der(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, Error> {
        let mut cas = Vec::new();
        for (index, der) in certificates.into_iter().enumerate() {
            let facts = x509::read(&der).map_err(|source| Error::Malformed { position: index + 1, source })?;
            if !facts.is_ca {
                return Err(Error::NotCa { subject: facts.subject });
            }
            RootCertStore::empty()
                .add(der.clone())
                .map_err(|source| Error::Anchor { subject: facts.subject.clone(), source })?;
            let validity = Validity { not_before: facts.not_before, not_after: facts.not_after };
            cas.push(Ca { der, subject: facts.subject, hash: facts.key_hash, validity });
        }
        Self::from_cas(cas)
    }

    fn from_cas(mut cas: Vec<Ca>) -> Result<Self, Error> {
        cas.sort_by(|one, other| one.der.as_ref().cmp(other.der.as_ref()));
        cas.dedup_by(|one, other| one.der == other.der);
        match cas.len() {
            0 => Err(Error::Empty),
            count if count > Self::MAX_CAS => Err(Error::TooMany),
            _ => Ok(Self { cas }),
        }
    }

    /// Both bundles' CAs: what counts while a rotation overlaps.
    pub fn merge(&self, other: &Self) -> Result<Self, Error> {
        Self::from_cas(self.cas.iter().chain(&other.cas).cloned().collect())
    }

    pub fn pem(&self) -> String {
        pem::encode_certificates(self.cas.iter().map(|ca| ca.der.as_ref()))
    }

    /// The hash of each CA's key, as a join token pins it.
    pub fn hashes(&self) -> Vec<CaHash> {
        self.cas.iter().map(|ca| ca.hash).collect()
    }

    /// The same without an order, for comparisons.
    pub fn hash_set(&self) -> BTreeSet<CaHash> {
        self.cas.iter().map(|ca| ca.hash).collect()
    }

    pub fn facts(&self) -> Vec<CaFacts> {
        let facts = |ca: &Ca| CaFacts { subject: ca.subject.clone(), hash: ca.hash, validity: ca.validity };
        self.cas.iter().map(facts).collect()
    }

    /// The uuid of the Isthmus cluster whose CAs these are. `None` where they are not all of one.
    pub fn cluster_uuid(&self) -> Option<Uuid> {
        let mut uuids = self.cas.iter().map(|ca| x509::read(&ca.der).ok().and_then(|facts| facts.cluster_uuid()));
        let first = uuids.next()??;
        uuids.all(|uuid| uuid == Some(first)).then_some(first)
    }

    /// Without the CA of this key. `None` where nothing would be left.
    pub fn without(&self, hash: &CaHash) -> Option<Self> {
        let cas: Vec<Ca> = self.cas.iter().filter(|ca| ca.hash != *hash).cloned().collect();
        (!cas.is_empty()).then_some(Self { cas })
    }

    /// The CA of this bundle that signed a leaf, whether or not either is valid now.
    pub fn issuer_of(&self, leaf: &Leaf) -> Option<CaHash> {
        let end = leaf.chain().first()?;
        let when = u64::try_from(leaf.validity().not_before.as_second()).unwrap_or_default();
        let when = UnixTime::since_unix_epoch(Duration::from_secs(when));
        let verifiers = self.verifiers().ok()?;
        verifiers.into_iter().find(|(_, ca)| ca.verify_client_cert(end, &[], when).is_ok()).map(|(hash, _)| hash)
    }

    /// Each CA verifies alone, so that one knows which of them vouched.
    pub(crate) fn verifiers(&self) -> Result<Verifiers, VerifierBuilderError> {
        let verifier = |ca: &Ca| {
            let mut store = RootCertStore::empty();
            store.add(ca.der.clone()).expect("was added to a store when the bundle was made");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build()?;
            Ok((ca.hash, verifier))
        };
        self.cas.iter().map(verifier).collect()
    }

    pub fn contains(&self, hash: &CaHash) -> bool {
        self.cas.iter().any(|ca| ca.hash == *hash)
    }

    /// A CA key that both bundles hold: whoever has it can speak for both clusters.
    pub fn shared_with(&self, other: &Self) -> Option<CaHash> {
        self.hashes().into_iter().find(|hash| other.contains(hash))
    }

    /// When the first of the CAs expires.
    pub fn expires_at(&self) -> Timestamp {
        self.cas.iter().map(|ca| ca.validity.not_after).min().unwrap_or(Timestamp::MIN)
    }

    pub fn len(&self) -> usize {
        self.cas.len()
    }

    /// Never: a bundle holds at least one CA.
    pub fn is_empty(&self) -> bool {
        self.cas.is_empty()
    }

    pub(crate) fn root_store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        for ca in &self.cas {
            store.add(ca.der.clone()).expect("was added to a store when the bundle was made");
        }
        store
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.cas.iter().map(|ca| (&ca.subject, ca.hash))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ca, soon};

    #[test]
    fn bundles_round_trip_merge_and_compare_whatever_their_order() {
        let (a, b) = (ca("a").bundle(), ca("b").bundle());
        assert_eq!(TrustBundle::from_pem(&a.pem()).unwrap(), a);
        let both = a.merge(&b).unwrap();
        assert_eq!(both, b.merge(&a).unwrap());
        assert_eq!(both.merge(&a).unwrap(), both);
        assert_eq!(both.len(), 2);
        assert!(both.contains(&a.hashes()[0]) && !b.contains(&a.hashes()[0]));
        assert_eq!(a.shared_with(&b), None);
        assert_eq!(both.shared_with(&b), Some(b.hashes()[0]));
    }

    #[test]
    fn what_is_not_a_ca_is_refused_and_named() {
        let a = ca("a");
        let leaf = a.issue_admin(soon()).unwrap();
        let text = TrustBundle::from_pem(&leaf.certificate_pem()).unwrap_err().to_string();
        assert!(text.contains("admin-a") && text.contains("is not a CA's"), "{text}");
        let with_key = a.bundle().pem() + &leaf.key().pem();
        assert!(matches!(TrustBundle::from_pem(&with_key), Err(Error::HoldsKey)));
        assert!(matches!(TrustBundle::from_pem("no pem"), Err(Error::Empty)));
        assert!(matches!(TrustBundle::from_pem(&a.bundle().pem()[..200]), Err(Error::Pem)));
    }
}
