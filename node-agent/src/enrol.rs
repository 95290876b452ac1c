//! Who this agent is: its key, its leaf, the CA it trusts, all in the state folder.
//!
//! The key is made here and never leaves. It is saved before the first request, so that an answer that was lost is given
//! again: the same token with the same key counts once.
//!
//! In Kubernetes the agent shows its pod's ServiceAccount token, to a server that the cluster's CAs vouch for. That may be
//! repeated, so an agent whose leaf is of no use any more enrols anew by itself.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::{ChannelOptions, ClientTls, Leaf, LiveBundle, LiveLeaf, PendingLeaf, SecretKey, Trust, TrustBundle};
use mesh_proto::v1::join_client::JoinClient;
use mesh_runtime::{Backoff, ErrorChain, Shutdown, file};
use tonic::Code;
use tonic::transport::Channel;

mod files;
mod means;
mod renewal;

use files::Files;
pub use means::Means;
pub use renewal::{Renewal, Wanted};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Options {
    pub node: String,
    pub cluster: String,
    pub apiservers: Vec<String>,
    pub means: Means,
    pub state_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the state folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "this node is not enrolled and there is no token: make one with `meshctl token create --node {0}` and give it by \
         --enrol-token-file; in Kubernetes, give --enrol-service-account-token-file"
    )]
    NoToken(String),
    #[error("cannot read the token file {}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("the token in {} cannot be used", path.display())]
    Token { path: PathBuf, source: certs::token::Error },
    #[error("the token in {} is for {bearer}, not for this node ({node})", path.display())]
    WrongBearer { path: PathBuf, bearer: String, node: String },
    #[error("the token in {} is of cluster {issuer}, this node is of cluster {cluster}", path.display())]
    WrongCluster { path: PathBuf, issuer: String, cluster: String },
    #[error("the token in {} has expired: make a new one", .0.display())]
    Expired(PathBuf),
    #[error("the API server refuses to enrol this node: {message}")]
    Refused { message: String },
    #[error("the API server's answer cannot be used")]
    Answer(#[source] certs::leaf::Error),
    #[error("the stored certificate is for {found}, this node's is {wanted}: wrong state folder, or remove {} to enrol anew", path.display())]
    OtherNode { found: String, wanted: String, path: PathBuf },
    #[error(transparent)]
    Leaf(#[from] certs::leaf::Error),
    #[error(transparent)]
    Secret(#[from] certs::secret::Error),
    #[error(transparent)]
    Csr(#[from] certs::csr::Error),
    #[error("the trust bundle cannot be used")]
    Bundle(#[from] certs::bundle::Error),
    #[error(transparent)]
    Tls(#[from] certs::client::Error),
    #[error("cannot save what the API server answered")]
    Save(#[from] file::Error),
    #[error("cannot put the new key at {}", path.display())]
    Key { path: PathBuf, source: io::Error },
    #[error("stopped while waiting for the API server")]
    Stopped,
}

/// An enrolled agent.
#[derive(Debug, Clone)]
pub struct Identity {
    files: Files,
    leaf: Arc<LiveLeaf>,
    trust: Arc<LiveBundle>,
    options: Options,
}

/// The name that every API server of the cluster has in its certificate, whatever address it is dialled by.
fn server_name(options: &Options) -> String {
    format!("{}.mesh.isthmus.io", options.cluster)
}

/// Makes the state folder, for its owner only.
pub fn prepare_folder(path: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Folder { path: path.to_owned(), source })
}

impl Identity {
    /// What the state folder holds, or what the API server gives for the token; waits for it to answer.
    pub async fn establish(options: &Options, shutdown: &Shutdown) -> Result<Self, Error> {
        let files = Files::under(&options.state_dir);
        if let Some(identity) = Self::load(options, &files)? {
            return Ok(identity);
        }
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            // Read anew each time: the file may be written, or replaced by a fresh one, while we wait.
            let error = match Self::enrol(options, &files).await {
                Ok(identity) => return Ok(identity),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => error,
            };
            tracing::warn!(error, "not enrolled yet");
            if shutdown.unless_requested(backoff.wait()).await.is_none() {
                return Err(Error::Stopped);
            }
        }
    }

    fn load(options: &Options, files: &Files) -> Result<Option<Self>, Error> {
        if !files.certificate.exists() || !files.bundle.exists() {
            return Ok(None);
        }
        let leaf = files.load_leaf()?;
        let wanted = format!("agent-{}", options.node);
        if leaf.common_name() != wanted {
            let (found, path) = (leaf.common_name().to_owned(), files.certificate.clone());
            return Err(Error::OtherNode { found, wanted, path });
        }
        if leaf.is_expired() {
            tracing::warn!("the stored certificate has expired, enrolling anew");
            return Ok(None);
        }
        let text = std::fs::read_to_string(&files.bundle)
            .map_err(|source| Error::TokenFile { path: files.bundle.clone(), source })?;
        let bundle = TrustBundle::from_pem(&text)?;
        if options.means.supersedes(&bundle, bundle.issuer_of(&leaf)) {
            tracing::warn!("the stored certificate is of a CA that the cluster does not have any more, enrolling anew");
            return Ok(None);
        }
        tracing::info!(name = leaf.common_name(), not_after = %leaf.validity().not_after, "stored certificate");
        Self::of(options, files, leaf, bundle).map(Some)
    }

    fn of(options: &Options, files: &Files, leaf: Leaf, bundle: TrustBundle) -> Result<Self, Error> {
        let trust = LiveBundle::new(bundle).map_err(|error| Error::Tls(error.into()))?;
        Ok(Self { files: files.clone(), leaf: LiveLeaf::new(leaf), trust, options: options.clone() })
    }

    async fn enrol(options: &Options, files: &Files) -> Result<Self, Attempt> {
        let (leaf, bundle) = ask(options, files).await?;
        Ok(Self::of(options, files, leaf, bundle)?)
    }

    /// Whether nobody will take the leaf any more, and another one can be had without a person.
    fn is_past_renewal(&self) -> bool {
        let (leaf, bundle) = (self.leaf.get(), self.trust.get());
        match &self.options.means {
            Means::Nothing | Means::Token(_) => false,
            means @ Means::ServiceAccount { .. } => {
                leaf.is_expired() || means.supersedes(&bundle, bundle.issuer_of(&leaf))
            }
        }
    }

    /// The same agent with a fresh leaf, by the same means as at first.
    async fn enrol_anew(&self) -> Result<(), String> {
        let (leaf, bundle) = ask(&self.options, &self.files).await.map_err(|attempt| match attempt {
            Attempt::Final(error) => ErrorChain(&error).to_string(),
            Attempt::Again(text) => text,
        })?;
        self.trust.replace(bundle).map_err(|error| ErrorChain(&error).to_string())?;
        self.leaf.replace(leaf);
        Ok(())
    }

    /// To whichever API server answers. Connects by itself, and again whenever it has to.
    pub fn channel(&self, apiservers: &[String]) -> Result<Channel, Error> {
        let tls = ClientTls::new(&Trust::Live(Arc::clone(&self.trust)), Some(&self.leaf), &server_name(&self.options))?;
        Ok(certs::channel(apiservers, &tls, &ChannelOptions::default()))
    }
}

/// Asks an API server for a leaf, and saves it with the CAs that come with it.
async fn ask(options: &Options, files: &Files) -> Result<(Leaf, TrustBundle), Attempt> {
    let means::Shown { mut request, trust, apiservers, by } = options.means.show(options)?;
    let keeps_its_key = options.means.keeps_its_key();
    let key = if keeps_its_key && files.key.exists() { SecretKey::load(&files.key)? } else { SecretKey::generate()? };
    let pending = PendingLeaf::for_key(key, &options.node).map_err(Error::from)?;
    if keeps_its_key {
        pending.key().save(&files.key)?;
    }
    let tls = ClientTls::new(&trust, None, &server_name(options)).map_err(Error::from)?;
    let mut client = JoinClient::new(certs::channel(&apiservers, &tls, &ChannelOptions::default()));
    pending.csr_pem().clone_into(&mut request.csr_pem);
    let mut request = tonic::Request::new(request);
    request.set_timeout(PATIENCE);
    let answer = client.enroll(request).await;
    let answer = answer.map_err(|status| Attempt::from_status(&status, &options.means))?.into_inner();
    let leaf = pending.complete(&answer.certificate_pem).map_err(Error::Answer)?;
    let bundle = TrustBundle::from_pem(&answer.trust_bundle_pem).map_err(Error::from)?;
    if keeps_its_key {
        // The bundle first: a certificate file says that enrolment is complete.
        file::write_atomic(&files.bundle, bundle.pem().as_bytes(), 0o644).map_err(Error::from)?;
        leaf.save(&files.certificate, &files.key).map_err(Error::from)?;
    } else {
        files.replace(&bundle, &leaf)?;
    }
    tracing::info!(name = leaf.common_name(), by, cluster = answer.cluster, "enrolled");
    Ok((leaf, bundle))
}

/// How an enrolment ended.
enum Attempt {
    Final(Error),
    Again(String),
}

impl<E: Into<Error>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Attempt {
    fn from_status(status: &tonic::Status, means: &Means) -> Self {
        match status.code() {
            // Kubernetes renews the token.
            Code::Unauthenticated if matches!(means, Means::ServiceAccount { .. }) => {
                Self::Again(format!("the API server refuses to enrol this node: {}", status.message()))
            }
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                Self::Final(Error::Refused { message: status.message().to_owned() })
            }
            _ => Self::Again(ErrorChain(status).to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
