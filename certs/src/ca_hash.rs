//! The fingerprint by which a join token pins another cluster's CA.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "sha256:";

/// SHA-256 of a CA's public key (SubjectPublicKeyInfo, DER). It stays the same when a CA certificate is renewed with
/// its key. Written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaHash([u8; 32]);

/// The text is not a CA hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a CA hash: it looks like sha256:<64 hex digits>")]
pub struct ParseCaHashError(String);

impl CaHash {
    pub(crate) fn of_spki(spki_der: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, spki_der).as_ref());
        Self(hash)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for CaHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CaHash {
    type Err = ParseCaHashError;
    fn from_str(text: &str) -> Result<Self, ParseCaHashError> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix(PREFIX).ok_or_else(|| ParseCaHashError(text.to_owned()))?;
        hex::decode_to_slice(digits, &mut hash).map_err(|_not_hex| ParseCaHashError(text.to_owned()))?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for CaHash {
    type Error = ParseCaHashError;
    fn try_from(text: String) -> Result<Self, ParseCaHashError> {
        text.parse()
    }
}

impl From<CaHash> for String {
    fn from(hash: CaHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_other_text_is_refused() {
        let hash = CaHash::of_spki(b"key");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "sha256:", "sha256:00", "md5:00", &hash.to_string()[7..]] {
            assert!(bad.parse::<CaHash>().is_err(), "{bad}");
        }
    }
}
