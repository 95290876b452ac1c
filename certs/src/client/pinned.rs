//! Verification of a server of which no more than its CA's hash is known: the CA comes with the handshake.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::bundle::{self, TrustBundle};
use crate::ca_hash::CaHash;
use crate::provider::provider;
use crate::x509;

/// Accepts a chain whose CA has the pinned key, and which is otherwise as valid as any: signature, time, name, usage.
#[derive(Debug)]
pub(super) struct PinnedVerifier {
    pinned: CaHash,
}

/// Why a server was not accepted as the one that a token speaks of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error(
        "the server does not have the CA that the token names ({pinned}); it presented {presented}: the token is another \
         cluster's or from before its CA was replaced, the address is wrong, or somebody stands in between"
    )]
    OtherCa { pinned: CaHash, presented: String },
    #[error("the CA that the token names expired or is not valid yet: check the clocks of both sides")]
    CaTime,
    #[error("the CA that the server presented cannot be used")]
    Ca(#[from] bundle::Error),
}

impl PinnedVerifier {
    pub(super) fn new(pinned: CaHash) -> Self {
        Self { pinned }
    }

    fn pinned_ca(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<TrustBundle, PinError> {
        let mut presented = Vec::new();
        for certificate in chain {
            // What cannot be read cannot be the CA either.
            let Ok(facts) = x509::read(certificate) else { continue };
            if facts.key_hash == self.pinned {
                let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                // A trust anchor's own time is not looked at by the verifier below.
                if now < facts.not_before.as_second() || now > facts.not_after.as_second() {
                    return Err(PinError::CaTime);
                }
                return Ok(TrustBundle::from_der([certificate.clone().into_owned()])?);
            }
            presented.push(facts.key_hash.to_string());
        }
        let presented = if presented.is_empty() { "none".to_owned() } else { presented.join(", ") };
        Err(PinError::OtherCa { pinned: self.pinned, presented })
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let refused =
            |error: PinError| TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))));
        let ca = self.pinned_ca(intermediates, now).map_err(refused)?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(ca.root_store()), provider())
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?
            .verify_server_cert(leaf, intermediates, server_name, ocsp_response, now)
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
