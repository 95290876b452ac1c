//! TLS connections as tonic's server takes them: accepted, verified, with the principal attached.
//!
//! ```text
//! TcpListener -> accept -> handshake (many at a time, each with a deadline) -> TlsConnection{principal} -> tonic
//!                                \-> refused: logged with address, name and CA; counted
//! ```
//! Never yields an error, so a failed handshake cannot end a server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use mesh_runtime::ErrorChain;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tonic::Extensions;

use crate::authorities::Verified;
use crate::metrics::TlsMetrics;
use crate::principal::{Principal, PrincipalError};
use crate::server::ServerTls;

mod connection;
mod registry;

pub use connection::{ConnectInfo, TlsConnection};
pub use registry::{Connections, OpenConnection};

/// Settings of one listener.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in logs and metrics.
    pub listener: &'static str,
    pub handshake_timeout: Duration,
    /// Handshakes at a time; further ones wait in the kernel's queue.
    pub max_handshakes: usize,
    /// Open connections over all listeners that share `connections`; further ones are closed at once.
    pub max_connections: usize,
    /// Where open connections are listed and cut.
    pub connections: Connections,
    pub metrics: TlsMetrics,
}

impl Options {
    pub fn new(listener: &'static str, connections: Connections, metrics: TlsMetrics) -> Self {
        Self {
            listener,
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 64,
            max_connections: 8192,
            connections,
            metrics,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {listener}: is another process using the port?")]
pub struct BindError {
    pub listener: &'static str,
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Give it to `tonic::transport::Server::serve_with_incoming_shutdown`. Dropping it ends the handshakes under way.
#[derive(Debug)]
pub struct TlsIncoming {
    listener: TcpListener,
    shared: Arc<Shared>,
    handshakes: JoinSet<Option<TlsConnection>>,
    /// Set after a failed accept: out of file descriptors, most likely, which does not pass by asking again at once.
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Shared {
    tls: ServerTls,
    options: Options,
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl TlsIncoming {
    pub async fn bind(address: SocketAddr, tls: ServerTls, options: Options) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|source| BindError {
            listener: options.listener,
            address,
            source,
        })?;
        Ok(Self::from_listener(listener, tls, options))
    }

    pub fn from_listener(listener: TcpListener, tls: ServerTls, options: Options) -> Self {
        Self { listener, shared: Arc::new(Shared { tls, options }), handshakes: JoinSet::new(), pause: None }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts handshakes until nobody waits, or enough are under way.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.handshakes.len() < self.shared.options.max_handshakes {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, peer)) => {
                    self.handshakes.spawn(Arc::clone(&self.shared).handshake(stream, peer));
                }
                Err(error) => {
                    let listener = self.shared.options.listener;
                    tracing::warn!(listener, error = %ErrorChain(&error), "cannot accept a connection");
                    self.pause = Some(Box::pin(tokio::time::sleep_until(Instant::now() + ACCEPT_PAUSE)));
                }
            }
        }
        Poll::Pending
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Accepting first, so that the handshakes it starts are polled for below and wake this task.
            let _pending_either_way = self.poll_accept(context);
            match self.handshakes.poll_join_next(context) {
                Poll::Ready(Some(Ok(Some(connection)))) => return Poll::Ready(Some(Ok(connection))),
                // Refused, which is logged already; its place is free for another one.
                Poll::Ready(Some(Ok(None) | Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Shared {
    async fn handshake(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> Option<TlsConnection> {
        let Options { listener, metrics, connections, .. } = &self.options;
        let listener = *listener;
        if connections.len() >= self.options.max_connections {
            metrics.count(listener, "overload");
            tracing::warn!(listener, %peer, limit = self.options.max_connections, "too many connections: closed");
            return None;
        }
        // Small messages are the rule; a socket that refuses the option works all the same.
        stream.set_nodelay(true).ok();
        let (config, verdict) = self.tls.for_connection();
        let accepted = tokio::time::timeout(self.options.handshake_timeout, TlsAcceptor::from(config).accept(stream));
        let stream = match accepted.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.refused(peer, verdict.get(), &error);
                return None;
            }
            Err(_elapsed) => {
                metrics.count(listener, "timeout");
                tracing::info!(listener, %peer, "no TLS handshake in time: closed");
                return None;
            }
        };
        let verified = verdict.get().and_then(|verdict| verdict.as_ref().ok()).cloned();
        let (principal, ca) = verified.map(|verified| (verified.principal, verified.ca)).unzip();
        metrics.count(listener, if principal.is_some() { "accepted" } else { "anonymous" });
        tracing::debug!(listener, %peer, principal = principal.as_ref().map(tracing::field::display), "connected");
        let local = stream.get_ref().0.local_addr().ok();
        let entry = connections.register(listener, peer, principal.clone(), ca);
        // A peer, user or CA removed between its verification and the line above would otherwise stay.
        if principal.as_ref().zip(ca).is_some_and(|(principal, ca)| !self.tls.authorities.trusts(principal, &ca)) {
            return None;
        }
        let info = ConnectInfo { principal, peer, local, listener };
        Some(TlsConnection::new(stream, info, entry, metrics.opened(listener)))
    }

    fn refused(&self, peer: SocketAddr, verdict: Option<&Result<Verified, PrincipalError>>, error: &io::Error) {
        let Options { listener, metrics, .. } = &self.options;
        if let Some(Err(refusal)) = verdict {
            metrics.count(listener, refusal.reason());
            tracing::warn!(listener, %peer, error = %ErrorChain(refusal), "client certificate refused");
        } else {
            metrics.count(listener, "failed");
            tracing::info!(listener, %peer, error = %ErrorChain(error), "TLS handshake failed");
        }
    }
}

/// Who sent a request: `None` when it came without a client certificate, or not through a [`TlsIncoming`].
pub fn principal(extensions: &Extensions) -> Option<Principal> {
    extensions.get::<ConnectInfo>().and_then(|info| info.principal.clone())
}

#[cfg(test)]
mod tests;
