//! One cluster's Kubernetes API as the generator uses it: JSON over one HTTP/2 connection, which many requests share and which
//! is opened again after it broke. The generator is a user of its own, so that API servers count its requests apart. Decides
//! nothing about what is made.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use topology_tests::kubernetes::certs::Subject;
use topology_tests::kubernetes::cluster::Cluster;

/// Longer than kube-apiserver itself lets a request take.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Api {
    address: SocketAddr,
    tls: TlsConnector,
    /// `None` before the first request, and after one failed.
    connection: Mutex<Option<Connection>>,
}

/// Its requests end with it.
#[derive(Clone)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Arc<JoinSet<()>>,
}

impl Api {
    /// As a user whose certificate is made in `folder`, through the machine's way to the cluster's API server.
    pub(crate) fn of(cluster: &Cluster, user: &str, folder: &Path) -> Result<Self> {
        let servers = &cluster.control_plane;
        let text = std::fs::read(&servers.kubeconfig).context("read the administrator's kubeconfig")?;
        let config: Value = serde_json::from_slice(&text).context("a kubeconfig of this project is JSON")?;
        let url = config["clusters"][0]["cluster"]["server"].as_str().context("a kubeconfig names its server")?;
        let address = url.trim_start_matches("https://").parse().with_context(|| format!("{url} has no address"))?;
        servers.pki.write_leaf(folder, user, &Subject::user(user))?;
        let file = |end: &str| folder.join(format!("{user}.{end}"));
        let chain = vec![CertificateDer::from_pem_file(file("crt")).context("the user's certificate")?];
        let key = PrivateKeyDer::from_pem_file(file("key")).context("the user's key")?;
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(servers.pki.file("ca.crt")).context("the cluster's CA")?;
        roots.add(ca).context("trust the cluster's CA")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address, tls: TlsConnector::from(Arc::new(config)), connection: Mutex::default() })
    }

    /// Makes an object in its collection, and gives it as it was made.
    pub(crate) async fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        let text = self.call(Method::POST, collection, "application/json", Some(object)).await?;
        serde_json::from_slice(&text).context("the API server answers in JSON")
    }

    /// Merges into an object, or into its status.
    pub(crate) async fn patch(&self, path: &str, change: &Value) -> Result<()> {
        self.call(Method::PATCH, path, "application/merge-patch+json", Some(change)).await.map(drop)
    }

    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let text = self.call(Method::GET, path, "application/json", None).await?;
        String::from_utf8(text.into()).context("the API server answers in UTF-8")
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Result<Lines> {
        let response = self.send(Method::GET, path, "application/json", None).await?;
        if !response.status().is_success() {
            bail!("GET {path}: {}", response.status());
        }
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }

    async fn call(&self, method: Method, path: &str, content: &str, body: Option<&Value>) -> Result<Bytes> {
        let what = format!("{method} {path}");
        let work = async {
            let response = self.send(method, path, content, body).await?;
            let status = response.status();
            let text = response.into_body().collect().await.context("read the answer")?.to_bytes();
            if !status.is_success() {
                bail!("{status}: {}", String::from_utf8_lossy(&text));
            }
            Ok(text)
        };
        let answer = tokio::time::timeout(PATIENCE, work).await;
        answer.with_context(|| format!("{what}: no answer within {PATIENCE:?}"))?.context(what)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("content-type", content)
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
            .context("a request")?;
        let mut connection = self.connection().await?;
        connection.sender.ready().await.context("the connection to the API server")?;
        connection.sender.send_request(request).await.context("send the request")
    }

    async fn connection(&self) -> Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(open) = kept.as_ref().filter(|connection| !connection.sender.is_closed()) {
            return Ok(open.clone());
        }
        let opened = self.connect().await?;
        *kept = Some(opened.clone());
        Ok(opened)
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true).context("send small pieces at once")?;
        let stream = self.tls.connect(ServerName::from(self.address.ip()), stream).await.context("TLS")?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("HTTP/2")?;
        let mut driver = JoinSet::new();
        // How it ends is told to whoever waits for an answer on it.
        driver.spawn(async move { drop(connection.await) });
        Ok(Connection { sender, _driver: Arc::new(driver) })
    }
}

/// The events of a watch, one a line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + end + 1);
                return serde_json::from_slice(&line).context("a line of a watch");
            }
            searched = self.buffer.len();
            let frame = self.body.frame().await.context("a watch ended")?.context("read a watch")?;
            if let Ok(more) = frame.into_data() {
                self.buffer.extend_from_slice(&more);
            }
        }
    }
}
