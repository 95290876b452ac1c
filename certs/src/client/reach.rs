//! Whether a server answers at an address and is who it should be: a TCP connection and a TLS handshake, and no more.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ClientTls;

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

/// Connects to `host:port` and shakes hands. A server that wants a client's certificate may still refuse it afterwards.
pub async fn reach(address: &str, tls: &ClientTls, within: Duration) -> Result<(), Unreachable> {
    let attempt = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| Unreachable::Connect { address: address.to_owned(), source })?;
        TlsConnector::from(tls.config())
            .connect(tls.server_name().clone(), stream)
            .await
            .map(drop)
            .map_err(|source| Unreachable::Tls { address: address.to_owned(), source })
    };
    let silent = |_elapsed| Unreachable::Silent { address: address.to_owned(), within };
    tokio::time::timeout(within, attempt).await.map_err(silent)?
}
