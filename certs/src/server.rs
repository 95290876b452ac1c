//! TLS as a server: the own leaf, and one verifier of client certificates per connection, which keeps its verdict.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::authorities::{Authorities, Verified};
use crate::leaf::LiveLeaf;
use crate::principal::PrincipalError;
use crate::provider::{VERSIONS, provider};

pub(crate) const ALPN_H2: &[u8] = b"h2";
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Does a client need a certificate?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Required,
    /// Without one the caller has no principal. One that is shown must be valid all the same.
    Optional,
}

/// What a TLS listener needs. Leaf and authorities may be replaced at any time.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub leaf: Arc<LiveLeaf>,
    pub authorities: Arc<Authorities>,
    pub client_auth: ClientAuth,
    /// HTTP/1.1 besides HTTP/2.
    pub http1: bool,
}

/// What the verifier of one connection found; nothing when the client showed no certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<OnceLock<Result<Verified, PrincipalError>>>);

impl Verdict {
    pub(crate) fn get(&self) -> Option<&Result<Verified, PrincipalError>> {
        self.0.get()
    }
}

impl ServerTls {
    /// HTTP/2 only.
    pub fn new(leaf: Arc<LiveLeaf>, authorities: Arc<Authorities>, client_auth: ClientAuth) -> Self {
        Self { leaf, authorities, client_auth, http1: false }
    }

    #[must_use]
    pub fn with_http1(self) -> Self {
        Self { http1: true, ..self }
    }

    /// The configuration of one connection, and where its verdict will be.
    pub(crate) fn for_connection(&self) -> (Arc<ServerConfig>, Verdict) {
        let verdict = Verdict::default();
        let verifier = ConnectionVerifier {
            authorities: Arc::clone(&self.authorities),
            is_required: self.client_auth == ClientAuth::Required,
            verdict: verdict.clone(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.leaf) as Arc<_>);
        // A resumed session skips the verifier, so a removed peer could come back by one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        if self.http1 {
            config.alpn_protocols.push(ALPN_HTTP1.to_vec());
        }
        (Arc::new(config), verdict)
    }
}

#[derive(Debug)]
struct ConnectionVerifier {
    authorities: Arc<Authorities>,
    is_required: bool,
    verdict: Verdict,
}

impl ClientCertVerifier for ConnectionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    /// None: a stranger need not learn who is joined, and clients have one certificate to choose from.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let verdict = self.verdict.0.get_or_init(|| self.authorities.verify(&chain, now));
        match verdict {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(TlsError::InvalidCertificate(error.certificate_error())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
