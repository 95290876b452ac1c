//! What the record of a Cilium cluster has beside a declaration: where its etcd is, and as whom to ask there.
//!
//! A Cilium cluster declares nothing and takes no token, so what it may say is what its people wrote down for it. A key is
//! never part of a record: files are named, as each replica's machine has them, and read again for each connection, so that
//! a renewed certificate counts from the next one on.

use std::fs;
use std::io;
use std::path::PathBuf;

use certs::{CaHash, Leaf, TrustBundle};
use serde::{Deserialize, Serialize};

/// How often its exporter writes a heartbeat, in seconds (Cilium `pkg/kvstore/heartbeat`).
pub(super) const HEARTBEAT_SECONDS: u32 = 60;

/// How a Cilium cluster's store is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CiliumAccess {
    /// Tried in turn; at least one.
    pub endpoints: Vec<CiliumEndpoint>,
    /// CA certificates of its server, PEM.
    pub trusted_ca_file: PathBuf,
    /// Client certificate with common name `remote` or `remote-<own cluster>`, PEM.
    pub cert_file: PathBuf,
    /// Its key; a file that nobody else may read.
    pub key_file: PathBuf,
    /// The CAs of the own cluster that it was given, as its people say: it cannot say so itself when they are rotated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knows_cas: Vec<CaHash>,
}

/// One address of its etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CiliumEndpoint {
    /// `host:port` to connect to.
    pub address: String,
    /// The name in its server's certificate: `<cluster>.mesh.cilium.io` unless the cluster was given another.
    pub server_name: String,
}

/// Why a Cilium cluster cannot be called with what is in the files.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("cannot read the CA file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the CA file {} cannot be used", path.display())]
    Bundle { path: PathBuf, source: certs::bundle::Error },
    #[error("the client certificate for it cannot be used")]
    Leaf(#[from] certs::leaf::Error),
    #[error("the client certificate {} expired: renew it there", path.display())]
    Expired { path: PathBuf },
}

impl CiliumAccess {
    /// Reads the client certificate and its key.
    pub fn leaf(&self) -> Result<Leaf, AccessError> {
        let leaf = Leaf::load(&self.cert_file, &self.key_file)?;
        if leaf.is_expired() {
            return Err(AccessError::Expired { path: self.cert_file.clone() });
        }
        Ok(leaf)
    }

    /// Reads the CAs.
    pub fn bundle(&self) -> Result<TrustBundle, AccessError> {
        let path = || self.trusted_ca_file.clone();
        let text =
            fs::read_to_string(&self.trusted_ca_file).map_err(|source| AccessError::Read { path: path(), source })?;
        TrustBundle::from_pem(&text).map_err(|source| AccessError::Bundle { path: path(), source })
    }
}
