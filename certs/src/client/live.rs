//! Verification of servers by CAs that may be replaced while clients use them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{DigitallySignedStruct, Error as TlsError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::bundle::TrustBundle;
use crate::provider::provider;

/// The CAs by which servers are verified at the moment. Replacing them counts from the next handshake on; open
/// connections stay.
#[derive(Debug)]
pub struct LiveBundle {
    /// Written by `replace`, read at every handshake.
    current: ArcSwap<InUse>,
}

#[derive(Debug)]
struct InUse {
    bundle: TrustBundle,
    verifier: Arc<WebPkiServerVerifier>,
}

impl InUse {
    fn of(bundle: TrustBundle) -> Result<Arc<Self>, VerifierBuilderError> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(bundle.root_store()), provider()).build()?;
        Ok(Arc::new(Self { bundle, verifier }))
    }
}

impl LiveBundle {
    pub fn new(bundle: TrustBundle) -> Result<Arc<Self>, VerifierBuilderError> {
        Ok(Arc::new(Self { current: ArcSwap::new(InUse::of(bundle)?) }))
    }

    /// The CAs as they are now.
    pub fn get(&self) -> TrustBundle {
        self.current.load().bundle.clone()
    }

    /// `false`: they were these already.
    pub fn replace(&self, bundle: TrustBundle) -> Result<bool, VerifierBuilderError> {
        if self.current.load().bundle == bundle {
            return Ok(false);
        }
        self.current.store(InUse::of(bundle)?);
        Ok(true)
    }
}

impl ServerCertVerifier for LiveBundle {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let in_use = self.current.load();
        in_use.verifier.verify_server_cert(leaf, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.current.load().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.current.load().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().verifier.supported_verify_schemes()
    }
}
