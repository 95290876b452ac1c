//! The socket beside the UAPI's: what WireGuard's configuration protocol has no word for.
//!
//! One request a line, one answer a line: `handshake <base64 public key>` -> `ok` or `error <why>`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PublicKey;

/// Where UAPI sockets live; fixed by WireGuard's tools.
pub const SOCKET_FOLDER: &str = "/var/run/wireguard";
/// Longest wait for an answer; a handshake over a path that works takes a round trip.
const PATIENCE: Duration = Duration::from_secs(2);

pub fn uapi_socket(device: &str) -> PathBuf {
    Path::new(SOCKET_FOLDER).join(format!("{device}.sock"))
}

pub fn control_socket(device: &str) -> PathBuf {
    Path::new(SOCKET_FOLDER).join(format!("{device}.ctl"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a handshake now, where there is no fresh session.
    Handshake(PublicKey),
}

impl Request {
    pub fn parse(line: &str) -> Result<Self, String> {
        match line.trim().split_once(' ') {
            Some(("handshake", key)) => PublicKey::parse(key.trim())
                .map(Self::Handshake)
                .ok_or_else(|| "the key is not 32 bytes in base64".to_owned()),
            _ => Err(format!("unknown request {:?}: use \"handshake <public key>\"", line.trim())),
        }
    }
}

/// Sends one request and waits for its answer.
pub fn ask(device: &str, request: &Request) -> io::Result<Result<(), String>> {
    let mut stream = UnixStream::connect(control_socket(device))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Request::Handshake(key) = request;
    writeln!(stream, "handshake {key}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(match answer.trim() {
        "ok" => Ok(()),
        other => Err(other.strip_prefix("error ").unwrap_or(other).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused_with_the_reason() {
        let key = PublicKey([7; 32]);
        assert_eq!(Request::parse(&format!("handshake {key}\n")), Ok(Request::Handshake(key)));
        assert_eq!(Request::parse("handshake x").unwrap_err(), "the key is not 32 bytes in base64");
        assert!(Request::parse("stop").unwrap_err().starts_with("unknown request"));
    }
}
