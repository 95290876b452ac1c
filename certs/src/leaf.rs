//! A leaf certificate with its key, and the slot from which TLS takes the newest one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use mesh_runtime::file;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::{self, SecretKey};
use crate::validity::{self, Validity};
use crate::x509::{self, Facts, Malformed};
use crate::{pem, root_ca};

/// A certificate, what its owner sends along with it, and its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: SecretKey,
    common_name: String,
    validity: Validity,
    uris: Vec<String>,
}

/// Why a leaf cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{origin} holds no certificate: PEM with a \"BEGIN CERTIFICATE\" section is expected")]
    NoCertificate { origin: String },
    #[error("{origin} cannot be used")]
    Malformed { origin: String, source: Malformed },
    #[error("certificate {subject:?} in {origin} is a CA's: a CA never serves or calls by itself")]
    IsCa { origin: String, subject: String },
    #[error("certificate {name:?} in {origin} does not belong to its key: replace both files together")]
    OtherKey { origin: String, name: String },
    #[error("the key of certificate {name:?} in {origin} cannot sign")]
    Key { origin: String, name: String, source: rustls::Error },
    #[error("cannot read the certificate file {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error(transparent)]
    Write(#[from] file::Error),
}

impl Leaf {
    /// Joins a PEM chain (the leaf first) and its key; `origin` says in errors where they are from.
    pub fn from_pem(chain_pem: &str, key: SecretKey, origin: &str) -> Result<Self, Error> {
        let missing = || Error::NoCertificate { origin: origin.to_owned() };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_may_quote_the_text| missing())?;
        Self::from_der(chain, key, origin)
    }

    pub(crate) fn from_der(chain: Vec<CertificateDer<'static>>, key: SecretKey, origin: &str) -> Result<Self, Error> {
        let origin = || origin.to_owned();
        let first = chain.first().ok_or_else(|| Error::NoCertificate { origin: origin() })?;
        let facts = x509::read(first).map_err(|source| Error::Malformed { origin: origin(), source })?;
        if facts.is_ca {
            return Err(Error::IsCa { origin: origin(), subject: facts.subject });
        }
        let common_name = facts.shown_name();
        let Facts { not_before, not_after, uris, .. } = facts;
        let leaf = Self { chain, key, common_name, validity: Validity { not_before, not_after }, uris };
        match leaf.certified_key() {
            Ok(_) => Ok(leaf),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(Error::OtherKey { origin: origin(), name: leaf.common_name })
            }
            Err(source) => Err(Error::Key { origin: origin(), name: leaf.common_name, source }),
        }
    }

    /// Reads both files; refuses a key that others may read.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain =
            fs::read_to_string(certificate).map_err(|source| Error::Read { path: certificate.to_owned(), source })?;
        Self::from_pem(&chain, SecretKey::load(key)?, &certificate.display().to_string())
    }

    /// Writes both files atomically, the key first and with mode 0600.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), Error> {
        self.key.save(key)?;
        Ok(file::write_atomic(certificate, self.certificate_pem().as_bytes(), root_ca::CERTIFICATE_MODE)?)
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The SPIFFE name, `spiffe://<cluster uuid>/<kind>/<name>`.
    pub fn spiffe_id(&self) -> Option<&str> {
        self.uris.iter().map(String::as_str).find(|uri| uri.starts_with("spiffe://"))
    }

    /// Only a third of its life is left at `now`.
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        now >= self.validity.renew_at()
    }

    pub fn is_expired(&self) -> bool {
        validity::now() >= self.validity.not_after
    }

    pub fn certificate_pem(&self) -> String {
        pem::encode_certificates(self.chain.iter().map(CertificateDer::as_ref))
    }

    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.pem()
    }

    fn certified_key(&self) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let mut der = PrivateKeyDer::from(self.key.der().clone_key());
        let key = any_supported_type(&der);
        der.zeroize();
        let certified = CertifiedKey::new(self.chain.clone(), key?);
        certified.keys_match()?;
        Ok(Arc::new(certified))
    }
}

/// The leaf in use. Replacing it counts from the next handshake on, for servers and clients; open connections stay.
#[derive(Debug)]
pub struct LiveLeaf {
    /// Written by `replace`, read at every handshake.
    current: ArcSwap<InUse>,
}

#[derive(Debug)]
struct InUse {
    leaf: Leaf,
    key: Arc<CertifiedKey>,
}

impl InUse {
    fn of(leaf: Leaf) -> Arc<Self> {
        let key = leaf.certified_key().expect("was checked when the leaf was made");
        Arc::new(Self { leaf, key })
    }
}

impl LiveLeaf {
    pub fn new(leaf: Leaf) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::new(InUse::of(leaf)) })
    }

    pub fn replace(&self, leaf: Leaf) {
        tracing::info!(name = leaf.common_name(), not_after = %leaf.validity().not_after, "certificate replaced");
        self.current.store(InUse::of(leaf));
    }

    /// The leaf as it is now.
    pub fn get(&self) -> Leaf {
        self.current.load().leaf.clone()
    }
}

impl ResolvesServerCert for LiveLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

impl ResolvesClientCert for LiveLeaf {
    fn resolve(&self, _issuers_asked_for: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ca, soon};

    #[test]
    fn a_leaf_survives_its_files_and_refuses_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("admin.crt"), dir.path().join("admin.key"));
        let ca = ca("a");
        let leaf = ca.issue_admin(soon()).unwrap();
        leaf.save(&certificate, &key).unwrap();
        let loaded = Leaf::load(&certificate, &key).unwrap();
        assert_eq!((loaded.common_name(), loaded.validity()), ("admin-a", leaf.validity()));
        assert_eq!(loaded.spiffe_id(), Some(&*format!("spiffe://{}/admin/a", ca.uuid())));
        assert!(!loaded.is_expired() && !loaded.is_renewal_due(validity::now()));
        assert!(loaded.is_renewal_due(loaded.validity().renew_at()));

        SecretKey::generate().unwrap().save(&key).unwrap();
        let text = Leaf::load(&certificate, &key).unwrap_err().to_string();
        assert!(text.contains("\"admin-a\"") && text.contains("does not belong to its key"), "{text}");
        assert!(!format!("{loaded:?}").contains("PRIVATE"));
    }
}
