//! One accepted connection, which can be cut from outside.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::registry::Entry;
use crate::metrics;
use crate::principal::Principal;

/// What a server knows of the connection that a request came by; in every request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectInfo {
    pub principal: Option<Principal>,
    pub peer: SocketAddr,
    pub local: Option<SocketAddr>,
    pub listener: &'static str,
}

/// An accepted, verified connection.
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    info: ConnectInfo,
    /// Polled beside every read and write, so that a cut wakes whoever waits on the connection.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    _entry: Entry,
    _counted: metrics::OpenConnection,
}

impl TlsConnection {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        info: ConnectInfo,
        entry: Entry,
        counted: metrics::OpenConnection,
    ) -> Self {
        let cut = Box::pin(entry.cut());
        Self { stream, info, cut, is_cut: false, _entry: entry, _counted: counted }
    }

    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    fn check_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.is_cut && self.cut.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.is_cut = true;
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "this server ended the connection"))
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No farewell to one that was cut: it could hold the connection open by not reading.
        self.check_cut(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl std::fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsConnection").field(&self.info).finish()
    }
}
