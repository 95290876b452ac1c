//! A cluster that others reach by a name and by ports that it does not listen on, as behind a NodePort or a load balancer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use certs::token::Token;
use mesh_proto::v1;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Server, until};

/// A port that leads to another one.
struct Way {
    listener: TcpListener,
    port: u16,
    taken: Arc<AtomicUsize>,
}

impl Way {
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port, taken: Arc::default() }
    }

    /// Until the returned value is dropped.
    fn lead_to(self, target: SocketAddr, ways: &mut JoinSet<()>) -> Arc<AtomicUsize> {
        let taken = Arc::clone(&self.taken);
        ways.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut from, _)) = self.listener.accept().await {
                self.taken.fetch_add(1, Ordering::Relaxed);
                open.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        // How a connection ends is for those at its ends.
                        tokio::io::copy_bidirectional(&mut from, &mut to).await.ok();
                    }
                });
            }
        });
        taken
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_join_by_the_name_and_the_ports_that_are_advertised() {
    let (etcd, mesh) = (Way::new().await, Way::new().await);
    let (etcd_port, mesh_port) = (etcd.port, mesh.port);
    let flags = [
        "--advertise-address=localhost".to_owned(),
        format!("--advertise-etcd-port={etcd_port}"),
        format!("--advertise-mesh-port={mesh_port}"),
    ];
    let (east, west) = (Server::start_with("east", 1, flags.to_vec()).await, Server::start("west", 2).await);
    let mut ways = JoinSet::new();
    let etcd_taken = etcd.lead_to(east.app.etcd, &mut ways);
    let mesh_taken = mesh.lead_to(east.app.mesh, &mut ways);

    let token = east.join_token(&west).await.unwrap();
    assert_eq!(Token::parse(&token).unwrap().endpoints, [format!("localhost:{mesh_port}")]);
    let declared = east.admin().await.get_declaration(v1::GetDeclarationRequest {}).await.unwrap().into_inner();
    assert_eq!(declared.etcd_endpoints, [format!("localhost:{etcd_port}")]);

    west.connect(&east).await.unwrap();
    for server in [&east, &west] {
        until("a live peer", || async {
            let peers = server.status().await.peers;
            peers.first().is_some_and(|peer| peer.state == "Live").then_some(())
        })
        .await;
    }
    assert!(mesh_taken.load(Ordering::Relaxed) > 0, "the join went another way");
    assert!(etcd_taken.load(Ordering::Relaxed) > 0, "the session went another way");
    east.app.stop().await;
    west.app.stop().await;
}
