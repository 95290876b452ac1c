//! Asks over HTTP whether something says that it is ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::netns;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a GET from within a network namespace is answered with 200.
pub fn answers_ok(namespace: &str, address: SocketAddr, path: &str) -> bool {
    netns::within(namespace, || http_ok(address, path)).unwrap_or(false)
}

fn http_ok(address: SocketAddr, path: &str) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}
