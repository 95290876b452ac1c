//! The server of a test: tells everybody who it is and whom it saw, over TCP and UDP, and calls nobody.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};

use super::{Answer, TCP_PORT, UDP_PORT};
use crate::args::kubernetes::Serve;
use crate::exit::Exit;
use crate::failure::Failure;

/// What clients' pods run between questions.
pub(crate) async fn idle() -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Failed, "SIGTERM", &error);
    signal(SignalKind::terminate()).map_err(failed)?.recv().await;
    Ok(Exit::Ok)
}

/// Serves until it is told to end.
pub(crate) async fn serve(args: &Serve) -> Result<Exit, Failure> {
    let failed = |what: &str, error: &std::io::Error| Failure::new(Exit::Failed, what, error);
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP_PORT)).await.map_err(|e| failed("port 8080/tcp", &e))?;
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UDP_PORT)).await.map_err(|e| failed("port 9090/udp", &e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed("SIGTERM", &e))?;
    let answer = |peer: SocketAddr| {
        let answer = Answer { cluster: args.cluster.clone(), pod: args.pod.clone(), peer: peer.ip().to_string() };
        serde_json::to_vec(&answer).unwrap_or_default()
    };
    let mut datagram = [0; 64];
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(Exit::Ok),
            // A client that is gone has its own error.
            Ok((mut stream, peer)) = tcp.accept() => drop(stream.write_all(&answer(peer)).await),
            Ok((_, peer)) = udp.recv_from(&mut datagram) => drop(udp.send_to(&answer(peer), peer).await),
        }
    }
}
