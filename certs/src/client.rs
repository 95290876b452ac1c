//! TLS as a client: whom to trust, what to show, which name to expect.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls_pki_types::ServerName;

use crate::bundle::TrustBundle;
use crate::ca_hash::CaHash;
use crate::leaf::{Leaf, LiveLeaf};
use crate::provider::{VERSIONS, provider};
use crate::server::ALPN_H2;

pub mod channel;
pub mod failure;
pub mod live;
mod pinned;
pub mod reach;

use live::LiveBundle;
use pinned::PinnedVerifier;

/// By what a server is verified.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The CAs of its cluster.
    Bundle(TrustBundle),
    /// The same, replaceable while the client is in use.
    Live(Arc<LiveBundle>),
    /// The hash of its cluster's CA, which a join token carries; the server sends the CA itself.
    Pinned(CaHash),
}

/// How to call one server (or replicas that share a name).
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name:?} is neither a DNS name nor an IP address")]
    ServerName { name: String },
    #[error("the trust bundle cannot verify servers")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

impl ClientTls {
    /// Trusts by `trust`, shows `leaf` when given (always its newest), expects `server_name` in the server's certificate.
    pub fn new(trust: &Trust, leaf: Option<&Arc<LiveLeaf>>, server_name: &str) -> Result<Self, Error> {
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Bundle(bundle) => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(bundle.root_store()), provider()).build()?
            }
            Trust::Live(bundle) => Arc::clone(bundle) as Arc<_>,
            Trust::Pinned(hash) => Arc::new(PinnedVerifier::new(*hash)),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match leaf {
            Some(leaf) => builder.with_client_cert_resolver(Arc::clone(leaf) as Arc<_>),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // The project's servers offer none; a foreign server's would outlive a replaced leaf.
        config.resumption = Resumption::disabled();
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_says_no_more| Error::ServerName { name: server_name.to_owned() })?;
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// For connectors of one's own.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

/// The same as tonic's own type, for clients that take nothing else (`etcd_client::TlsOptions`). Read once: a replaced
/// leaf counts when the client is made anew. The key is copied into memory that is not wiped.
pub fn tonic_config(bundle: &TrustBundle, leaf: &Leaf, server_name: &str) -> tonic::transport::ClientTlsConfig {
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(bundle.pem()))
        .identity(Identity::from_pem(leaf.certificate_pem(), leaf.key_pem().as_bytes()))
        .domain_name(server_name)
}
