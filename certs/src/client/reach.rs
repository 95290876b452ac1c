//! Whether a server answers at an address and is who it should be: a TCP connection and a TLS handshake, and no more.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ClientTls;
use super::failure::TlsFailure;
use crate::x509;

/// Why an address is no way to a server. The texts say at which step it ended.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("{address} does not take connections")]
    Connect { address: String, source: io::Error },
    #[error("{address} did not answer within {} s", within.as_secs())]
    Silent { address: String, within: Duration },
    #[error("{address} takes connections, but another server than the expected one answers")]
    Tls { address: String, source: io::Error },
}

/// A server that is who it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Until when its certificate is valid.
    pub not_after: Timestamp,
}

/// Connects to `host:port` and shakes hands. A server that wants a client's certificate may still refuse it afterwards.
pub async fn reach(address: &str, tls: &ClientTls, within: Duration) -> Result<Reached, Unreachable> {
    let attempt = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| Unreachable::Connect { address: address.to_owned(), source })?;
        let refused = |source| Unreachable::Tls { address: address.to_owned(), source };
        let connector = TlsConnector::from(tls.config());
        let stream = connector.connect(tls.server_name().clone(), stream).await.map_err(refused)?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(<[_]>::first).map(|leaf| x509::read(leaf));
        match leaf {
            Some(Ok(facts)) => Ok(Reached { not_after: facts.not_after }),
            Some(Err(error)) => Err(refused(io::Error::other(error))),
            None => Err(refused(io::Error::other("it sent no certificate"))),
        }
    };
    let silent = |_elapsed| Unreachable::Silent { address: address.to_owned(), within };
    tokio::time::timeout(within, attempt).await.map_err(silent)?
}

/// Why a server does not take this side's certificate, if it says so. With TLS 1.3 that comes after the handshake, in place of
/// the server's first bytes, and HTTP libraries lose it: hence asked for here. `tls` shows the certificate.
pub async fn refusal(address: &str, tls: &ClientTls, within: Duration) -> Option<TlsFailure> {
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(tls.config()).connect(tls.server_name().clone(), stream).await?;
        stream.read_u8().await.map(drop)
    };
    match tokio::time::timeout(within, attempt).await {
        Ok(Err(error)) => Some(TlsFailure::from(error)),
        // It speaks, or waits for this side to.
        Ok(Ok(())) | Err(_) => None,
    }
}
