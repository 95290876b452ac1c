//! A network between client and server that a test can cut, and lead elsewhere.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// An address that stands for a server's. Ends when dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// Where connections lead; `None` while it is cut.
    target: watch::Sender<Option<SocketAddr>>,
    _task: JoinSet<()>,
}

impl Relay {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (target, seen) = watch::channel(Some(server));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, seen));
        Self { address, target, _task: task }
    }

    /// Breaks every connection off, and each that is made from now on.
    pub(super) fn cut(&self) {
        self.target.send_replace(None);
    }

    pub(super) fn lead_to(&self, server: SocketAddr) {
        self.target.send_replace(Some(server));
    }
}

async fn accept(listener: TcpListener, target: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut target = target.clone();
        let Some(server) = *target.borrow_and_update() else { continue };
        connections.spawn(async move {
            tokio::select! {
                _ = target.changed() => {}
                () = pass(client, server) => {}
            }
        });
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        // Either side may break off.
        copy_bidirectional(&mut client, &mut server).await.ok();
    }
}
