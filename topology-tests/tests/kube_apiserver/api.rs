//! The Kubernetes API as a client sees it: JSON over HTTP/2, a token for who is asking, watches as lines.

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
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// kube-apiserver itself gives a request up after a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the API is and what it takes to be its administrator.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    tls: TlsConnector,
    token: Arc<str>,
}

/// What a request was answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `AlreadyExists` and the like.
    pub(crate) fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The text that a person would be shown.
    pub(crate) fn message(&self) -> String {
        self.body["message"].as_str().map_or_else(|| self.body.to_string(), str::to_owned)
    }

    pub(crate) fn resource_version(&self) -> Result<i64> {
        resource_version(&self.body)
    }
}

/// Of an object or a list.
pub(crate) fn resource_version(object: &Value) -> Result<i64> {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().with_context(|| format!("no resourceVersion in {object}"))
}

impl Api {
    pub(crate) fn new(address: SocketAddr, ca: &Path, token: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(ca).with_context(|| format!("read {}", ca.display()))?;
        roots.add(certificate).context("trust the CA")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address, tls: TlsConnector::from(Arc::new(config)), token: token.into() })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let name = ServerName::try_from("localhost").context("a fixed name")?;
        let stream = self.tls.connect(name, stream).await.context("TLS to kube-apiserver")?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("HTTP/2")?;
        let mut driver = JoinSet::new();
        // How it ends is told to whoever waits for an answer on it.
        driver.spawn(async move { drop(connection.await) });
        let authority = self.address.to_string();
        Ok(Connection { sender, authority, token: Arc::clone(&self.token), _driver: driver })
    }
}

/// One connection; its requests end with it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    token: Arc<str>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let work = async {
            let response = self.send(method, path, body).await?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.context("read the answer")?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
            Ok::<_, anyhow::Error>(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
        };
        let answer = tokio::time::timeout(PATIENCE, work).await;
        answer.with_context(|| format!("{what}: no answer within {PATIENCE:?}"))?.with_context(|| what.clone())
    }

    /// Opens a watch; refused, it gives the answer.
    pub(crate) async fn watch(&mut self, path: &str) -> Result<Result<Lines, Answer>> {
        let response = self.send(Method::GET, path, None).await?;
        let status = response.status().as_u16();
        let mut lines = Lines { body: response.into_body(), buffer: BytesMut::new() };
        if status == 200 {
            return Ok(Ok(lines));
        }
        let body = lines.next().await?.unwrap_or_default();
        Ok(Err(Answer { status, body }))
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
            .context("a request")?;
        self.sender.ready().await.context("the connection to kube-apiserver")?;
        self.sender.send_request(request).await.context("send the request")
    }
}

/// A stream of JSON values, one a line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next value; `None` at a regular end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + end + 1);
                return Ok(Some(serde_json::from_slice(&line).context("a line of a watch")?));
            }
            searched = self.buffer.len();
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.context("read a watch")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("a watch ended in the middle of a line"),
            }
        }
    }
}
