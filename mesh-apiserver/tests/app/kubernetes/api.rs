//! The Kubernetes API as the administrator uses it: JSON over HTTP, a connection a request.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::harness::until;

pub(super) struct Api {
    port: u16,
    tls: TlsConnector,
    token: &'static str,
}

impl Api {
    pub(super) fn new(port: u16, ca: &Path, token: &'static str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("the CA's file")).expect("a CA");
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.expect("versions of TLS").with_root_certificates(roots).with_no_client_auth();
        Self { port, tls: TlsConnector::from(Arc::new(config)), token }
    }

    /// Makes an object in its collection.
    pub(super) async fn create(&self, collection: &str, object: &Value) -> Value {
        self.must(Method::POST, collection, "application/json", Some(object)).await
    }

    /// The same, of a collection that begins to exist: the API server takes a moment from a CRD to its paths.
    pub(super) async fn create_when_possible(&self, collection: &str, object: &Value) {
        until("a collection that can be written to", || async {
            let made = self.call(Method::POST, collection, "application/json", Some(object)).await;
            matches!(made, Ok((201, _))).then_some(())
        })
        .await;
    }

    /// Merges into an object, or into its status.
    pub(super) async fn patch(&self, path: &str, change: &Value) -> Value {
        self.must(Method::PATCH, path, "application/merge-patch+json", Some(change)).await
    }

    pub(super) async fn delete(&self, path: &str) {
        let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        self.must(Method::DELETE, path, "application/json", Some(&now)).await;
    }

    /// The answer, whatever it is.
    pub(super) async fn try_create(&self, collection: &str, object: &Value) -> anyhow::Result<(u16, String)> {
        self.call(Method::POST, collection, "application/json", Some(object)).await
    }

    pub(super) async fn try_get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        self.call(Method::GET, path, "application/json", None).await
    }

    async fn must(&self, method: Method, path: &str, content: &str, body: Option<&Value>) -> Value {
        let what = format!("{method} {path}");
        let (status, text) = self.call(method, path, content, body).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        assert!((200..300).contains(&status), "{what}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connect")?;
        let stream = self.tls.connect(ServerName::try_from("127.0.0.1")?, stream).await.context("TLS")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", content)
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&bytes).into_owned()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended.context("the connection ended")?;
                answer.await
            }
        }
    }
}
