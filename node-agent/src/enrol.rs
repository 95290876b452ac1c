//! Who this agent is: its key, its leaf, the CA it trusts, all in the state folder.
//!
//! The key is made here and never leaves. It is saved before the first request, so that an answer that was lost is given
//! again: the same token with the same key counts once.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::token::{Bearer, Token};
use certs::{ChannelOptions, ClientTls, LiveBundle, LiveLeaf, PendingLeaf, SecretKey, Trust, TrustBundle};
use mesh_proto::v1;
use mesh_proto::v1::join_client::JoinClient;
use mesh_runtime::{Backoff, ErrorChain, Shutdown, clock, file};
use tonic::Code;
use tonic::transport::Channel;

mod files;
mod renewal;

use files::Files;
pub use renewal::{Renewal, Wanted};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Options {
    pub node: String,
    pub cluster: String,
    pub apiservers: Vec<String>,
    pub token_file: Option<PathBuf>,
    pub state_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the state folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "this node is not enrolled and there is no token: make one with `meshctl token create --node {0}` and give it by --enrol-token-file"
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
    node: String,
    server_name: String,
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
        tracing::info!(name = leaf.common_name(), not_after = %leaf.validity().not_after, "stored certificate");
        Ok(Some(Self {
            files: files.clone(),
            leaf: LiveLeaf::new(leaf),
            trust: trust(bundle)?,
            node: options.node.clone(),
            server_name: server_name(options),
        }))
    }

    async fn enrol(options: &Options, files: &Files) -> Result<Self, Attempt> {
        let (text, token) = read_token(options)?;
        let key = if files.key.exists() { SecretKey::load(&files.key)? } else { SecretKey::generate()? };
        let pending = PendingLeaf::for_key(key, &options.node).map_err(Error::from)?;
        pending.key().save(&files.key)?;

        let tls = ClientTls::new(&Trust::Pinned(token.ca), None, &server_name(options)).map_err(Error::from)?;
        let addresses = if options.apiservers.is_empty() { &token.endpoints } else { &options.apiservers };
        let mut client = JoinClient::new(certs::channel(addresses, &tls, &ChannelOptions::default()));
        let mut request = tonic::Request::new(v1::EnrollRequest {
            token: text,
            node: options.node.clone(),
            csr_pem: pending.csr_pem().to_owned(),
        });
        request.set_timeout(PATIENCE);
        let answer = client.enroll(request).await.map_err(|status| Attempt::from_status(&status))?.into_inner();
        let leaf = pending.complete(&answer.certificate_pem).map_err(Error::Answer)?;
        let bundle = TrustBundle::from_pem(&answer.trust_bundle_pem).map_err(Error::from)?;
        // The bundle first: a certificate file says that enrolment is complete.
        file::write_atomic(&files.bundle, bundle.pem().as_bytes(), 0o644).map_err(Error::from)?;
        leaf.save(&files.certificate, &files.key).map_err(Error::from)?;
        tracing::info!(name = leaf.common_name(), token = token.id, cluster = answer.cluster, "enrolled");
        let (files, node) = (files.clone(), options.node.clone());
        let trust = trust(bundle)?;
        Ok(Self { files, leaf: LiveLeaf::new(leaf), trust, node, server_name: server_name(options) })
    }

    /// To whichever API server answers. Connects by itself, and again whenever it has to.
    pub fn channel(&self, apiservers: &[String]) -> Result<Channel, Error> {
        let tls = ClientTls::new(&Trust::Live(Arc::clone(&self.trust)), Some(&self.leaf), &self.server_name)?;
        Ok(certs::channel(apiservers, &tls, &ChannelOptions::default()))
    }
}

fn trust(bundle: TrustBundle) -> Result<Arc<LiveBundle>, Error> {
    LiveBundle::new(bundle).map_err(|error| Error::Tls(error.into()))
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
    fn from_status(status: &tonic::Status) -> Self {
        match status.code() {
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                Self::Final(Error::Refused { message: status.message().to_owned() })
            }
            _ => Self::Again(ErrorChain(status).to_string()),
        }
    }
}

fn read_token(options: &Options) -> Result<(String, Token), Attempt> {
    let path = options.token_file.as_ref().ok_or_else(|| Error::NoToken(options.node.clone()))?;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Attempt::Again(format!("there is no token file {} yet", path.display())));
        }
        Err(source) => return Err(Error::TokenFile { path: path.clone(), source }.into()),
    };
    let token = Token::parse(&text).map_err(|source| Error::Token { path: path.clone(), source })?;
    let (path, node) = (path.clone(), options.node.clone());
    match &token.bearer {
        Bearer::Node(name) if name.0 == node => {}
        other => return Err(Error::WrongBearer { path, bearer: other.to_string(), node }.into()),
    }
    if token.issuer.name.as_str() != options.cluster {
        let (issuer, cluster) = (token.issuer.name.to_string(), options.cluster.clone());
        return Err(Error::WrongCluster { path, issuer, cluster }.into());
    }
    if token.is_expired(clock::unix_seconds()) {
        return Err(Error::Expired(path).into());
    }
    Ok((text, token))
}
