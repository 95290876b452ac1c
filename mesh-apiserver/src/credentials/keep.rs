//! Where the keys of the cluster's CA are kept: a folder, or a Secret of the cluster's Kubernetes. Both hold the CA in use and
//! the one that a rotation goes over to, and both may be shared by replicas.

use std::fmt;
use std::path::PathBuf;

use certs::{CaFolder, CaHash, Cas, RootCa, ca_folder};
use mesh_runtime::Shutdown;
use mesh_types::ClusterName;

use crate::kubernetes::{CaSecret, Client, NamespacedName, SecretError};

/// As a person said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Begins with a copy of the CA in `seed`, where it has none.
    Folder {
        dir: PathBuf,
        seed: Option<PathBuf>,
    },
    Secret(NamespacedName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { dir, .. } => write!(f, "{}", dir.display()),
            Self::Secret(name) => write!(f, "Secret {name}"),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Keep {
    Folder { folder: CaFolder, dir: PathBuf },
    Secret(CaSecret),
}

/// Why the keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the folder of the cluster's CA cannot be used")]
    Folder(#[from] ca_folder::Error),
    #[error("the Secret of the cluster's CA cannot be used")]
    Secret(#[from] SecretError),
    #[error("the cluster's CA is to be kept in Secret {0}, and no API server is given: start with --source kubernetes")]
    NoKubernetes(NamespacedName),
    #[error(
        "the key of the CA {hash} is not in {}: copy it there from the replica that has it (the folder \"next\", or ca.crt and \
         ca.key), or abort the rotation", dir.display()
    )]
    NotInFolder { hash: CaHash, dir: PathBuf },
    #[error("the key of the CA {hash} is not in Secret {place}: restore it from a backup, or abort the rotation")]
    NotInSecret { hash: CaHash, place: NamespacedName },
}

impl Keep {
    /// With a CA in it: one is made where there is none. A Secret begins with `former` instead, where there is such a one.
    /// Waits for Kubernetes where that is asked and does not answer.
    pub async fn open(
        place: &Place,
        cluster: &ClusterName,
        former: Option<&Cas>,
        kubernetes: Option<&Client>,
        shutdown: &Shutdown,
    ) -> Result<(Self, Cas), Error> {
        match place {
            Place::Folder { dir, seed } => {
                if let Some(seed) = seed {
                    CaFolder::seed(dir, seed, cluster)?;
                }
                let (folder, cas) = CaFolder::open(dir, cluster)?;
                Ok((Self::Folder { folder, dir: dir.clone() }, cas))
            }
            Place::Secret(name) => {
                let client = kubernetes.ok_or_else(|| Error::NoKubernetes(name.clone()))?.clone();
                let (secret, cas) = CaSecret::open(client, name.clone(), cluster.clone(), former, shutdown).await?;
                Ok((Self::Secret(secret), cas))
            }
        }
    }

    /// What is kept now.
    pub async fn read(&self) -> Result<Cas, Error> {
        match self {
            Self::Folder { folder, .. } => Ok(folder.read()?),
            Self::Secret(secret) => Ok(secret.read().await?),
        }
    }

    /// Makes the CA that a rotation goes over to. One that is left of a rotation that never began is replaced.
    pub async fn make_next(&self) -> Result<RootCa, Error> {
        match self {
            Self::Folder { folder, .. } => Ok(folder.make_next()?),
            Self::Secret(secret) => Ok(secret.make_next().await?),
        }
    }

    /// Makes `hash` the CA in use, and forgets the key of the former one. Repeating it changes nothing.
    pub async fn promote(&self, hash: &CaHash) -> Result<(), Error> {
        match self {
            Self::Folder { folder, .. } => Ok(folder.promote(hash)?),
            Self::Secret(secret) => Ok(secret.promote(hash).await?),
        }
    }

    /// Forgets the key of a CA that a rotation would have gone over to, or has. Repeating it changes nothing, and one that
    /// was made for another rotation since then stays.
    pub async fn discard_next(&self, hash: &CaHash) -> Result<(), Error> {
        match self {
            Self::Folder { folder, .. } => Ok(folder.discard_next(hash)?),
            Self::Secret(secret) => Ok(secret.discard_next(hash).await?),
        }
    }

    /// The CA with this key, of those that were read.
    pub(super) fn find(&self, cas: Cas, hash: CaHash) -> Result<RootCa, Error> {
        cas.of(&hash).ok_or_else(|| match self {
            Self::Folder { dir, .. } => Error::NotInFolder { hash, dir: dir.clone() },
            Self::Secret(secret) => Error::NotInSecret { hash, place: secret.place().clone() },
        })
    }
}
