//! Private keys: wiped when dropped, never shown, kept in files that nobody else may read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mesh_runtime::file;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::{Zeroize, Zeroizing};

/// A private key (PKCS #8, DER).
pub struct SecretKey {
    der: PrivatePkcs8KeyDer<'static>,
}

/// Why a key could not be made, read or written. Never holds any part of the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
    #[error("cannot read the key file {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the key file {path} may be read by others (mode {mode:04o}), so it is not used: run `chmod 600 {path}`, and \
         replace the key if somebody may have copied it",
        path = path.display()
    )]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error("{origin} holds no usable private key: PEM with a PKCS #8 section (\"BEGIN PRIVATE KEY\") is expected")]
    Malformed { origin: String },
    #[error(transparent)]
    Write(#[from] file::Error),
}

impl SecretKey {
    /// A new ECDSA P-256 key.
    pub fn generate() -> Result<Self, Error> {
        let pair = SigningPair(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Generate)?);
        Ok(pair.key())
    }

    /// Reads PEM text; `origin` says in errors where it is from.
    pub fn from_pem(pem: &[u8], origin: &str) -> Result<Self, Error> {
        let malformed = || Error::Malformed { origin: origin.to_owned() };
        // The parser's errors may quote the text.
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_may_quote_the_key| malformed())?;
        let key = Self { der };
        key.pair().map_err(|_says_no_more| malformed())?;
        Ok(key)
    }

    /// Reads a key file; refuses one that others may read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Error::OpenToOthers { path: path.to_owned(), mode });
        }
        // Sized before reading, so that a growing buffer leaves no copy behind.
        let size = usize::try_from(metadata.len()).unwrap_or_default();
        let mut pem = Zeroizing::new(Vec::with_capacity(size + 1));
        file.read_to_end(&mut pem).map_err(read)?;
        Self::from_pem(&pem, &path.display().to_string())
    }

    /// Writes the key atomically with mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(file::write_atomic(path, self.pem().as_bytes(), 0o600)?)
    }

    /// The key as PEM text, for APIs that take nothing else.
    pub fn pem(&self) -> Zeroizing<String> {
        crate::pem::encode("PRIVATE KEY", self.der.secret_pkcs8_der())
    }

    pub(crate) fn der(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.der
    }

    pub(crate) fn pair(&self) -> Result<SigningPair, rcgen::Error> {
        KeyPair::try_from(&self.der).map(SigningPair)
    }
}

/// The key as rcgen signs with it. rcgen wipes its copy on demand only; this wipes it when dropped.
pub(crate) struct SigningPair(KeyPair);

impl SigningPair {
    pub(crate) fn key(&self) -> SecretKey {
        SecretKey { der: PrivatePkcs8KeyDer::from(self.0.serialize_der()) }
    }
}

impl PublicKeyData for SigningPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for SigningPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Drop for SigningPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self { der: self.der.clone_key() }
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.der.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.key");
        let key = SecretKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(SecretKey::load(&path).unwrap().pem(), key.pem());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let text = SecretKey::load(&path).unwrap_err().to_string();
        assert!(text.contains("(mode 0644)") && text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_malformed_key_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.key");
        let cut: String = SecretKey::generate().unwrap().pem().chars().filter(|c| *c != '+').take(90).collect();
        file::write_atomic(&path, cut.as_bytes(), 0o600).unwrap();
        let error = SecretKey::load(&path).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("ca.key holds no usable private key"), "{text}");
        assert!(!text.contains("MIG"), "{text}");
    }

    #[test]
    fn debug_text_shows_nothing() {
        assert_eq!(format!("{:?}", SecretKey::generate().unwrap()), "SecretKey(redacted)");
    }
}
