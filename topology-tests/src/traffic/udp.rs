//! UDP over a connected socket: the workload answers with a line that says who it is, then the payload.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Answer, Error};

/// One datagram and its answer. UDP may lose either: the caller decides what that means.
pub async fn echo(target: SocketAddr, payload: &[u8], answer_within: Duration) -> Result<Answer, Error> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(target).await.map_err(Error::Connect)?;
    socket.send(payload).await?;
    let mut buffer = vec![0; 64 * 1024];
    let length = timeout(answer_within, socket.recv(&mut buffer)).await.map_err(|_elapsed| Error::Timeout)??;
    let datagram = &buffer[..length];
    let end = datagram.iter().position(|byte| *byte == b'\n').ok_or(Error::Mismatch)?;
    if &datagram[end + 1..] != payload {
        return Err(Error::Mismatch);
    }
    serde_json::from_slice(&datagram[..end]).map_err(|_not_json| Error::Protocol("the answer names nobody".into()))
}
