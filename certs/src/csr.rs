//! Certificates for keys that never leave their node: the request (node's side) and what the issuer takes from it.
//!
//! The issuer takes the public key and the proof that the node holds its private half, and nothing else: the subject, the
//! names and the usages in a request are ignored.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256,
    PublicKeyData,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use crate::ca_hash::CaHash;
use crate::leaf::{self, Leaf};
use crate::secret::{self, SecretKey};

/// Requests are a few hundred bytes; what is much larger was not made by an agent.
const MAX_PEM: usize = 16 * 1024;

/// A key that waits for its certificate.
#[derive(Debug)]
pub struct PendingLeaf {
    key: SecretKey,
    csr_pem: String,
}

/// Why a signing request was refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a certificate signing request")]
    Make(#[source] rcgen::Error),
    #[error("the certificate signing request has {size} bytes: at most {MAX_PEM} are accepted")]
    TooLarge { size: usize },
    #[error("the certificate signing request is not PEM: one \"BEGIN CERTIFICATE REQUEST\" section is expected")]
    Pem,
    #[error("the certificate signing request cannot be used: it must be signed by the key that it is for")]
    Malformed(#[source] rcgen::Error),
    #[error("the certificate signing request has another kind of key than ECDSA P-256")]
    KeyKind,
    #[error(transparent)]
    Secret(#[from] secret::Error),
}

impl PendingLeaf {
    /// Makes a new key and a request for it. `hint` becomes the request's subject: for people who look at it only.
    pub fn generate(hint: &str) -> Result<Self, Error> {
        Self::for_key(SecretKey::generate()?, hint)
    }

    /// A request for a key that exists already: renewal that keeps the key.
    pub fn for_key(key: SecretKey, hint: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, hint);
        let pair = key.pair().map_err(Error::Make)?;
        let request = params.serialize_request(&pair).map_err(Error::Make)?;
        let csr_pem = request.pem().map_err(Error::Make)?;
        Ok(Self { key, csr_pem })
    }

    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }

    /// The key, to be saved before the request is sent: an answer that arrives twice is then still of use.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Joins the issuer's answer with the key.
    pub fn complete(self, certificate_pem: &str) -> Result<Leaf, leaf::Error> {
        Leaf::from_pem(certificate_pem, self.key, "the issuer's answer")
    }
}

/// Names the key that a request is for, as text: equal for every request of one key, whatever else they say.
pub fn key_hash(csr_pem: &str) -> Result<String, Error> {
    Ok(CaHash::of_spki(&public_key(csr_pem)?.subject_public_key_info()).to_string())
}

/// The public key of a request whose signature proves that the sender holds the private one.
pub(crate) fn public_key(csr_pem: &str) -> Result<rcgen::PublicKey, Error> {
    if csr_pem.len() > MAX_PEM {
        return Err(Error::TooLarge { size: csr_pem.len() });
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).map_err(|_says_no_more| Error::Pem)?;
    let key = CertificateSigningRequestParams::from_der(&der).map_err(Error::Malformed)?.public_key;
    // The kind is that of the signature; an uncompressed P-256 point has 65 bytes, which tells other curves apart.
    if PublicKeyData::algorithm(&key) != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
        return Err(Error::KeyKind);
    }
    Ok(key)
}
