//! The cluster's own certificate authority: made at the first start, kept in a directory, or as PEM wherever the caller keeps
//! it for the replicas of one cluster; never sent to anybody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mesh_runtime::file;
use mesh_types::{ClusterName, NodeName};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::bundle::{self, TrustBundle};
use crate::ca_hash::CaHash;
use crate::leaf;
use crate::secret::{self, SecretKey, SigningPair};
use crate::validity::{self, Validity};
use crate::x509::{self, Malformed};
use crate::{csr, pem};

mod issue;

pub use issue::ServerNames;

pub(crate) const CERTIFICATE_FILE: &str = "ca.crt";
pub(crate) const KEY_FILE: &str = "ca.key";
pub(crate) const CERTIFICATE_MODE: u32 = 0o644;

/// A cluster's CA with its key.
pub struct RootCa {
    cluster: ClusterName,
    uuid: Uuid,
    pub(crate) certificate: CertificateDer<'static>,
    not_after: Timestamp,
    hash: CaHash,
    bundle: TrustBundle,
    pub(crate) issuer: Issuer<'static, SigningPair>,
}

/// Why the CA cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {step} {path}", path = path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path} is missing beside the rest of the CA: restore it from a backup; or remove the directory to start with a \
         new CA, after which every peer and agent has to join again",
        path = path.display()
    )]
    Missing { path: PathBuf },
    #[error("{path} holds no usable CA certificate", path = path.display())]
    Certificate { path: PathBuf, source: bundle::Error },
    #[error("{path} was not made by this program: it does not name the cluster and its uuid", path = path.display())]
    Foreign { path: PathBuf },
    #[error("{path} is the CA of cluster {found:?}, but this cluster is {expected:?}: wrong state directory, or wrong name", path = path.display())]
    OtherCluster { path: PathBuf, found: String, expected: ClusterName },
    #[error("{path} and {KEY_FILE} beside it do not belong together: restore both from the same backup", path = path.display())]
    OtherKey { path: PathBuf },
    #[error("the CA in {path} expired at {at}", path = path.display())]
    Expired { path: PathBuf, at: Timestamp },
    #[error("cannot sign a certificate for {name:?}")]
    Sign { name: String, source: rcgen::Error },
    #[error("{name:?} cannot stand in a certificate: use a DNS name or an IP address in ASCII")]
    Name { name: String },
    #[error("the CA made a certificate that cannot be read back")]
    ReadBack(#[from] Malformed),
    #[error(transparent)]
    Csr(#[from] csr::Error),
    #[error(transparent)]
    Leaf(#[from] leaf::Error),
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error(transparent)]
    File(#[from] file::Error),
}

impl RootCa {
    /// Reads the CA in `dir`, or makes one there when `dir` is absent or empty. A crash leaves a whole CA or none, and of
    /// several processes that start at once one makes it.
    pub fn load_or_create(dir: &Path, cluster: &ClusterName) -> Result<Self, Error> {
        if !is_empty(dir)? {
            return Self::load(dir, cluster);
        }
        let io = |step, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { step, path, source }
        };
        let parent = file::parent(dir);
        fs::create_dir_all(parent).map_err(io("create the directory", parent))?;
        let lock_path = parent.join(format!(".{}.lock", dir.file_name().unwrap_or_default().display()));
        let lock = fs::File::create(&lock_path).map_err(io("create", &lock_path))?;
        lock.lock().map_err(io("lock", &lock_path))?;
        // Another process may have made it while this one waited for the lock, which lives until the end of this function.
        if !is_empty(dir)? {
            return Self::load(dir, cluster);
        }
        let made = Self::generate(cluster)?;
        made.save_new(dir)?;
        tracing::info!(%cluster, uuid = %made.uuid, dir = %dir.display(), "made the cluster's CA");
        Ok(made)
    }

    /// A new CA with a new uuid, in memory only.
    pub fn generate(cluster: &ClusterName) -> Result<Self, Error> {
        Self::generate_for(cluster, Uuid::new_v4())
    }

    /// A CA with another key for the same cluster: what a rotation goes over to. In memory only.
    pub fn successor(&self) -> Result<Self, Error> {
        Self::generate_for(&self.cluster, self.uuid)
    }

    fn generate_for(cluster: &ClusterName, uuid: Uuid) -> Result<Self, Error> {
        let name = common_name(cluster);
        let sign = |source| Error::Sign { name: name.clone(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = issue::distinguished_name(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![SanType::URI(issue::text(&trust_domain(&uuid))?)];
        params.serial_number = Some(issue::random_serial());
        Validity::lasting(Validity::CA).apply_to(&mut params);
        let pair = SecretKey::generate()?.pair().map_err(sign)?;
        let certificate = params.self_signed(&pair).map_err(sign)?;
        Self::assemble(certificate.der().clone(), pair, cluster, Path::new("the new CA"))
    }

    /// Reads an existing CA.
    pub fn load(dir: &Path, cluster: &ClusterName) -> Result<Self, Error> {
        let (path, key_path) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
        for path in [&path, &key_path] {
            if !path.exists() {
                return Err(Error::Missing { path: path.clone() });
            }
        }
        let text = fs::read(&path).map_err(|source| Error::Io { step: "read", path: path.clone(), source })?;
        Self::with_key(&text, &SecretKey::load(&key_path)?, cluster, &path)
    }

    /// Reads a CA that is kept elsewhere; `origin` says in errors where its certificate is from.
    pub fn from_pem(
        certificate_pem: &[u8],
        key_pem: &[u8],
        cluster: &ClusterName,
        origin: &str,
    ) -> Result<Self, Error> {
        let key = SecretKey::from_pem(key_pem, &format!("the key beside {origin}"))?;
        Self::with_key(certificate_pem, &key, cluster, Path::new(origin))
    }

    fn with_key(certificate_pem: &[u8], key: &SecretKey, cluster: &ClusterName, path: &Path) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem)
            .map_err(|_not_pem| Error::Certificate { path: path.to_owned(), source: bundle::Error::Pem })?;
        let pair = key.pair().map_err(|source| Error::Sign { name: path.display().to_string(), source })?;
        Self::assemble(certificate, pair, cluster, path)
    }

    fn assemble(
        certificate: CertificateDer<'static>,
        pair: SigningPair,
        cluster: &ClusterName,
        path: &Path,
    ) -> Result<Self, Error> {
        let path = || path.to_owned();
        let bundle = TrustBundle::from_der([certificate.clone()])
            .map_err(|source| Error::Certificate { path: path(), source })?;
        let facts = x509::read(&certificate)?;
        let uuid = facts.cluster_uuid().ok_or_else(|| Error::Foreign { path: path() })?;
        let name = facts.shown_name();
        if name != common_name(cluster) {
            let found = name.strip_prefix(NAME_PREFIX).unwrap_or(&name).to_owned();
            return Err(Error::OtherCluster { path: path(), found, expected: cluster.clone() });
        }
        if pair.subject_public_key_info() != facts.spki {
            return Err(Error::OtherKey { path: path() });
        }
        if validity::now() >= facts.not_after {
            return Err(Error::Expired { path: path(), at: facts.not_after });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|source| Error::Sign { name, source })?;
        let (not_after, hash) = (facts.not_after, facts.key_hash);
        Ok(Self { cluster: cluster.clone(), uuid, certificate, not_after, hash, bundle, issuer })
    }

    /// Both files appear together: they are made in a directory beside, which is then renamed.
    pub(crate) fn save_new(&self, dir: &Path) -> Result<(), Error> {
        let io = |step, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { step, path, source }
        };
        let parent = file::parent(dir);
        let beside = parent.join(format!(".{}.new", dir.file_name().unwrap_or_default().display()));
        match fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove", &beside)(error)),
            _ => {}
        }
        fs::create_dir(&beside).map_err(io("create the directory", &beside))?;
        self.issuer.key().key().save(&beside.join(KEY_FILE))?;
        file::write_atomic(&beside.join(CERTIFICATE_FILE), self.bundle.pem().as_bytes(), CERTIFICATE_MODE)?;
        fs::rename(&beside, dir).map_err(io("rename the new CA to", dir))?;
        Ok(file::sync_dir(parent)?)
    }

    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The cluster's uuid, which is its SPIFFE trust domain: made with the CA and written in it.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Names the CA: its key's hash.
    pub fn hash(&self) -> CaHash {
        self.hash
    }

    /// The CA certificate as others trust it.
    pub fn bundle(&self) -> TrustBundle {
        self.bundle.clone()
    }

    pub fn certificate_pem(&self) -> String {
        pem::encode_certificates([self.certificate.as_ref()])
    }

    /// The key as PEM text, to keep it where the replicas of the cluster, and nobody else, read it.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.issuer.key().key().pem()
    }

    /// Signs the request of a node's agent. Its name is `agent-<node>` whatever the request says. PEM, the leaf only.
    pub fn sign_agent(&self, csr_pem: &str, node: &NodeName, validity: Validity) -> Result<String, Error> {
        self.sign_request(csr_pem, &issue::Kind::Agent(node), validity)
    }

    /// Signs the request of Cilium's agents. Their name is `local-<this cluster>` whatever the request says. PEM.
    pub fn sign_local(&self, csr_pem: &str, validity: Validity) -> Result<String, Error> {
        self.sign_request(csr_pem, &issue::Kind::Local, validity)
    }

    fn sign_request(&self, csr_pem: &str, kind: &issue::Kind<'_>, validity: Validity) -> Result<String, Error> {
        let key = csr::public_key(csr_pem)?;
        let certificate = self.sign(kind, &key, validity)?;
        Ok(pem::encode_certificates([certificate.as_ref()]))
    }
}

/// Whether nothing is there, or an empty directory.
fn is_empty(dir: &Path) -> Result<bool, Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(Error::Io { step: "read the directory", path: dir.to_owned(), source }),
    }
}

const NAME_PREFIX: &str = "isthmus-ca-";

fn common_name(cluster: &ClusterName) -> String {
    format!("{NAME_PREFIX}{cluster}")
}

fn trust_domain(uuid: &Uuid) -> String {
    format!("spiffe://{uuid}")
}

impl std::fmt::Debug for RootCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootCa").field("cluster", &self.cluster).field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
