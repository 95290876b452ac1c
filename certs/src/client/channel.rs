//! tonic channels over the project's own TLS: newest leaf at each connect, several addresses, errors that say which
//! address failed at which step.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::ClientTls;
use super::failure::TlsFailure;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Per address: resolving, TCP and TLS together.
    pub connect_timeout: Duration,
    /// A ping goes out after so much silence, also while no call is open.
    pub keepalive_interval: Duration,
    /// A ping without an answer for so long ends the connection.
    pub keepalive_timeout: Duration,
}

impl Default for ChannelOptions {
    /// A dead server is noticed within 4 s.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
        }
    }
}

/// Why one address could not be connected to; the source of tonic's transport error.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("no address to connect to")]
    NoAddress,
    #[error("cannot connect to {address}")]
    Tcp { address: String, source: io::Error },
    #[error("no TLS with {address}, expected as {expected}")]
    Tls { address: String, expected: String, source: TlsFailure },
    #[error("no connection to {address} within {} ms: is the address right, and the port open on the way?", after.as_millis())]
    Timeout { address: String, after: Duration },
}

/// A channel to whichever of `addresses` (`host:port`) answers, which connects at its first call and again whenever it
/// has to. A lost connection goes on at the next address: a server that cuts its callers off means it.
pub fn channel(addresses: &[String], tls: &ClientTls, options: &ChannelOptions) -> Channel {
    let dialer = Arc::new(Dialer {
        addresses: addresses.to_vec(),
        first: AtomicUsize::new(0),
        tls: tls.clone(),
        timeout: options.connect_timeout,
    });
    endpoint(tls.server_name())
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_authority: Uri| {
            let dialer = Arc::clone(&dialer);
            async move { dialer.dial().await.map(TokioIo::new) }
        }))
}

/// The scheme is `http` because tonic takes `https` for "wrap it in TLS yourself", and the connector did that already.
fn endpoint(server_name: &ServerName<'_>) -> Endpoint {
    let authority = server_name.to_str();
    let authority = if authority.contains(':') { format!("[{authority}]") } else { authority.into_owned() };
    Endpoint::from_shared(format!("http://{authority}")).expect("a DNS name or IP address is a valid authority")
}

struct Dialer {
    addresses: Vec<String>,
    /// Where the next dial starts: behind the address that worked last.
    first: AtomicUsize,
    tls: ClientTls,
    timeout: Duration,
}

impl Dialer {
    async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let mut last = DialError::NoAddress;
        let first = self.first.load(Ordering::Relaxed);
        for offset in 0..self.addresses.len() {
            let index = (first + offset) % self.addresses.len();
            let address = &self.addresses[index];
            let timed_out = |_elapsed| DialError::Timeout { address: address.clone(), after: self.timeout };
            match tokio::time::timeout(self.timeout, self.dial_one(address)).await.map_err(timed_out).flatten() {
                Ok(stream) => {
                    self.first.store(index + 1, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial_one(&self, address: &str) -> Result<TlsStream<TcpStream>, DialError> {
        let tcp = |source| DialError::Tcp { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        let server_name = self.tls.server_name.clone();
        let expected = server_name.to_str().into_owned();
        let connecting = TlsConnector::from(self.tls.config()).connect(server_name, stream);
        connecting.await.map_err(|error| DialError::Tls {
            address: address.to_owned(),
            expected,
            source: TlsFailure::from(error),
        })
    }
}
