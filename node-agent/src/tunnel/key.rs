//! Keys of the device. The private one lives in a file of mode 0600 and in no log, error or `Debug` text.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotatun::x25519;
use mesh_runtime::file;
use rand::TryRngCore as _;

const KEY_MODE: u32 = 0o600;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Curve25519 private key.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the WireGuard key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} may be read by others than its owner: chmod 600 it, and make a new one if others may have read it", .0.display())]
    Open(PathBuf),
    #[error("{} does not hold a WireGuard private key: remove it, a new one is made", .0.display())]
    Malformed(PathBuf),
    #[error("cannot save the WireGuard key")]
    Write(#[from] file::Error),
    #[error("the kernel gives no random numbers")]
    Random(#[source] rand::rand_core::OsError),
}

impl PrivateKey {
    /// The key in `path`, or a new one that is saved there first.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let mode = std::fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
                if mode.permissions().mode() & 0o077 != 0 {
                    return Err(Error::Open(path.to_owned()));
                }
                let bytes = decode(text.trim()).ok_or_else(|| Error::Malformed(path.to_owned()))?;
                Ok(Self(x25519::StaticSecret::from(bytes)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                file::write_atomic(path, STANDARD.encode(key.0.to_bytes()).as_bytes(), KEY_MODE)?;
                Ok(key)
            }
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }

    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(Error::Random)?;
        Ok(Self(x25519::StaticSecret::from(bytes)))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(*x25519::PublicKey::from(&self.0).as_bytes())
    }

    /// For the device's configuration, and nothing else.
    pub(super) fn expose(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

impl PublicKey {
    /// From base64, as WireGuard writes it.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }
}

fn decode(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wireguard.key");
        let key = PrivateKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, KEY_MODE);
        assert_eq!(PrivateKey::load_or_create(&path).unwrap().public(), key.public());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(PrivateKey::load_or_create(&path), Err(Error::Open(_))));
    }

    #[test]
    fn a_private_key_is_never_printed() {
        let key = PrivateKey::generate().unwrap();
        let text = format!("{key:?}");
        assert!(!text.contains(&STANDARD.encode(key.expose())) && text.contains(&key.public().to_string()));
        assert_eq!(PublicKey::parse(&key.public().to_string()), Some(key.public()));
    }
}
