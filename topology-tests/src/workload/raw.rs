//! Echo of bytes and of datagrams.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use super::Identity;
use crate::traffic::Answer;

/// A banner line, then every byte back.
pub(super) async fn echo_stream(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&banner(answer)).await?;
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    Ok(())
}

/// A banner line and the payload, for every datagram.
pub(super) async fn echo_datagrams(socket: &UdpSocket, identity: &Identity) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // An error here is an ICMP message about an earlier answer: the next datagram is not concerned.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let mut datagram = banner(&identity.answer(peer));
        datagram.extend_from_slice(&buffer[..length]);
        drop(socket.send_to(&datagram, peer).await);
    }
}

fn banner(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}
