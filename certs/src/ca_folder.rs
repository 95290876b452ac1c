//! The folder of a cluster's CA, with the one that a rotation goes over to beside it. Every step leaves a folder that a
//! process which is killed in its midst, or another replica that shares the folder, can go on from.
//!
//! ```text
//! ca.crt ca.key               the CA in use
//! next/ca.crt next/ca.key     made by `make_next`; `promote` moves it up, `discard_next` removes it
//! ```
//! Must never decide which of the two signs: the rotation's record in the store does.

mod seed;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesh_runtime::file;
use mesh_types::ClusterName;

use crate::ca_hash::CaHash;
use crate::root_ca::{self, CERTIFICATE_FILE, CERTIFICATE_MODE, KEY_FILE, RootCa};
use crate::secret::SecretKey;

const NEXT: &str = "next";
const LOCK: &str = ".lock";

/// The CAs whose keys are in the folder.
#[derive(Debug)]
pub struct Cas {
    pub current: RootCa,
    pub next: Option<RootCa>,
}

/// Where they are.
#[derive(Debug, Clone)]
pub struct CaFolder {
    dir: PathBuf,
    cluster: ClusterName,
}

/// Why the folder cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Ca(#[from] root_ca::Error),
    #[error(
        "the CA folder {dir} cannot be changed: a rotation makes the new CA there, so it must be writable for this \
         server. Where it is a read-only mount (a Secret, say), or its CA is kept by another program, this version \
         cannot rotate it",
        dir = dir.display()
    )]
    Unwritable { dir: PathBuf, source: io::Error },
    #[error(
        "the key of the new CA {hash} is not in {dir}: where replicas do not share the folder, copy \"{NEXT}\" with its \
         files from the replica that has it; or abort the rotation",
        dir = dir.display()
    )]
    NoNext { dir: PathBuf, hash: CaHash },
    #[error(
        "cannot read {}: the folder that the CA is copied from must hold {CERTIFICATE_FILE} and {KEY_FILE}, as \
         `meshctl certs create-ca` makes them",
        path.display()
    )]
    Seed { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] file::Error),
}

impl Cas {
    /// The CA with this key, if it is one of the two.
    pub fn of(self, hash: &CaHash) -> Option<RootCa> {
        [Some(self.current), self.next].into_iter().flatten().find(|ca| ca.hash() == *hash)
    }

    pub fn hashes(&self) -> impl Iterator<Item = CaHash> + '_ {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().map(RootCa::hash)
    }
}

impl CaFolder {
    /// The folder `dir`, with a CA in it: one is made where there is none.
    pub fn open(dir: &Path, cluster: &ClusterName) -> Result<(Self, Cas), Error> {
        let folder = Self { dir: dir.to_owned(), cluster: cluster.clone() };
        let cas = match folder.read() {
            Err(Error::Ca(root_ca::Error::Missing { .. })) => {
                RootCa::load_or_create(dir, cluster)?;
                folder.read()?
            }
            read => read?,
        };
        Ok((folder, cas))
    }

    /// What is in the folder now. A promotion that was cut short is finished first.
    pub fn read(&self) -> Result<Cas, Error> {
        let next = match RootCa::load(&self.next_dir(), &self.cluster) {
            Ok(next) => Some(next),
            // It comes and goes in one rename, so half of it is one that is being removed.
            Err(root_ca::Error::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match RootCa::load(&self.dir, &self.cluster) {
            Ok(current) => Ok(Cas { next: next.filter(|next| next.hash() != current.hash()), current }),
            Err(root_ca::Error::OtherKey { .. }) if next.as_ref().is_some_and(|next| self.is_half_promoted(next)) => {
                let _lock = self.lock()?;
                self.move_up()?;
                Ok(Cas { current: RootCa::load(&self.dir, &self.cluster)?, next: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the CA that a rotation goes over to. One that is left of a rotation that never began is replaced.
    pub fn make_next(&self) -> Result<RootCa, Error> {
        let _lock = self.lock()?;
        let next = self.read()?.current.successor()?;
        self.remove_next()?;
        next.save_new(&self.next_dir())?;
        Ok(next)
    }

    /// Makes `hash` the CA in use, and forgets the key of the former one. Repeating it changes nothing.
    pub fn promote(&self, hash: &CaHash) -> Result<(), Error> {
        let missing = || Error::NoNext { dir: self.dir.clone(), hash: *hash };
        let cas = self.read()?;
        if cas.current.hash() != *hash {
            let _lock = self.lock()?;
            // Another replica may have done it in the meantime.
            let cas = self.read()?;
            if cas.current.hash() != *hash {
                cas.next.filter(|next| next.hash() == *hash).ok_or_else(missing)?;
                self.move_up()?;
                tracing::info!(dir = %self.dir.display(), ca = %hash, "the new CA is the one in use");
            }
        }
        self.discard_next(hash)
    }

    /// Forgets the key of a CA that a rotation would have gone over to, or has. Repeating it changes nothing, and one that
    /// was made for another rotation since then stays.
    pub fn discard_next(&self, hash: &CaHash) -> Result<(), Error> {
        if !self.next_dir().exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        match RootCa::load(&self.next_dir(), &self.cluster) {
            Ok(next) if next.hash() != *hash => Ok(()),
            // What cannot be read is of no use to anybody.
            _ => self.remove_next(),
        }
    }

    fn next_dir(&self) -> PathBuf {
        self.dir.join(NEXT)
    }

    /// The certificate is moved up and the key is not.
    fn is_half_promoted(&self, next: &RootCa) -> bool {
        fs::read_to_string(self.dir.join(CERTIFICATE_FILE)).is_ok_and(|text| text == next.certificate_pem())
    }

    fn move_up(&self) -> Result<(), Error> {
        let next = RootCa::load(&self.next_dir(), &self.cluster)?;
        let key = SecretKey::load(&self.next_dir().join(KEY_FILE)).map_err(root_ca::Error::from)?;
        file::write_atomic(&self.dir.join(CERTIFICATE_FILE), next.certificate_pem().as_bytes(), CERTIFICATE_MODE)?;
        key.save(&self.dir.join(KEY_FILE)).map_err(root_ca::Error::from)?;
        Ok(())
    }

    fn remove_next(&self) -> Result<(), Error> {
        match fs::remove_dir_all(self.next_dir()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Unwritable { dir: self.dir.clone(), source })
            }
            _ => Ok(file::sync_dir(&self.dir)?),
        }
    }

    /// Replicas may share the folder; the lock goes with what is returned.
    fn lock(&self) -> Result<fs::File, Error> {
        let unwritable = |source| Error::Unwritable { dir: self.dir.clone(), source };
        let lock = fs::File::create(self.dir.join(LOCK)).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests;
