//! What runs in every pod of the lab: serves each declared port, TCP by protocol sniffing (HTTP/1.1, gRPC, raw echo), UDP by
//! echo, and says in every answer who it is and whom it saw. Calls nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::traffic::Answer;

mod raw;
mod requests;

/// How long answers that have begun may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(1);
/// `listen(2)` backlog: a burst of new connections while both cores are busy must not be dropped.
const BACKLOG: u32 = 1024;

/// Cluster, node and pod, as the kubelet told.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cluster: String,
    pub node: String,
    pub pod: String,
}

impl Identity {
    pub(crate) fn answer(&self, peer: SocketAddr) -> Answer {
        Answer { cluster: self.cluster.clone(), node: self.node.clone(), pod: self.pod.clone(), peer: peer.to_string() }
    }
}

/// A port to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    Tcp(u16),
    Udp(u16),
}

impl Port {
    /// `8080/TCP,53/UDP`; empty means none.
    pub fn parse_list(list: &str) -> Result<Vec<Self>> {
        let one = |word: &str| {
            let (number, protocol) = word.split_once('/').with_context(|| format!("port {word:?} has no protocol"))?;
            let number = number.parse().with_context(|| format!("port {word:?} has no number"))?;
            match protocol {
                "TCP" => Ok(Self::Tcp(number)),
                "UDP" => Ok(Self::Udp(number)),
                other => bail!("port {word:?}: {other} cannot be served here; use TCP or UDP"),
            }
        };
        list.split(',').filter(|word| !word.is_empty()).map(one).collect()
    }
}

/// Serves all ports until SIGTERM, then lets what has begun finish.
pub async fn serve(identity: Identity, ports: &[Port]) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let identity = Rc::new(identity);
    let mut listeners = JoinSet::new();
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel::<(TcpStream, SocketAddr)>();
    for port in ports {
        match port {
            Port::Tcp(number) => {
                let listener = listen(*number)?;
                let begin = begin.clone();
                listeners.spawn_local(async move {
                    loop {
                        // A connection that is gone before it is accepted is its client's matter.
                        if let Ok(connection) = listener.accept().await
                            && begin.send(connection).is_err()
                        {
                            return;
                        }
                    }
                });
            }
            Port::Udp(number) => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *number)).await;
                let socket = socket.with_context(|| format!("bind udp {number}"))?;
                let identity = Rc::clone(&identity);
                listeners.spawn_local(async move { raw::echo_datagrams(&socket, &identity).await });
            }
        }
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            Some((stream, peer)) = begun.recv() => {
                connections.spawn_local(answer(stream, peer, Rc::clone(&identity)));
            }
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    listeners.shutdown().await;
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is not done by then is cut off by the end of the process.
    drop(tokio::time::timeout(DRAIN, drained).await);
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4().context("make a socket")?;
    socket.set_reuseaddr(true).context("allow an early restart")?;
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into()).with_context(|| format!("bind tcp {port}"))?;
    socket.listen(BACKLOG).with_context(|| format!("listen on tcp {port}"))
}

async fn answer(stream: TcpStream, peer: SocketAddr, identity: Rc<Identity>) {
    // Nagle's delay on small answers is the only thing lost when this fails.
    drop(stream.set_nodelay(true));
    let mut first = [0; 8];
    let Ok(length) = stream.peek(&mut first).await else { return };
    // A client that goes away in the middle sees its own error; the server has nothing to add.
    if requests::looks_like_http(&first[..length]) {
        drop(requests::serve(stream, peer, &identity).await);
    } else if length > 0 {
        drop(raw::echo_stream(stream, &identity.answer(peer)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_list_is_read_whole_or_refused() {
        assert_eq!(Port::parse_list("80/TCP,53/UDP").unwrap(), [Port::Tcp(80), Port::Udp(53)]);
        assert!(Port::parse_list("").unwrap().is_empty());
        assert!(Port::parse_list("80/SCTP").unwrap_err().to_string().contains("use TCP or UDP"));
    }
}
