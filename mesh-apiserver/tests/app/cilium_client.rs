//! A cluster as a Cilium that joins it sees it: `topology-tests/etcd-peer/cilium-client`, which asks as Cilium's
//! remote-cluster client does and tells what it got, beside whole servers over TLS.
//!
//! It ends by itself, and with it the test, at what Cilium would silently lose data by: keys out of order, a page whose
//! `more` or `count` is not true, an event twice, a revision that goes back.

mod changes;
mod checklist;
mod history;
mod local;
mod peer;
mod refusals;
mod relay;
mod replicas;
mod restarts;
mod steps;

use std::path::PathBuf;

use certs::{RootCa, Validity};
use etcd_peer::EtcdPeer;
use mesh_types::ClusterName;

use self::peer::Peer;
use crate::harness::Server;

/// The program; `None` where there is no Go, which is said.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn program() -> Option<PathBuf> {
    let workspace =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    let program = EtcdPeer::go_program(workspace, "cilium-client").expect("the program builds");
    if program.is_none() {
        println!("skipped: there is no Go on this machine to build topology-tests/etcd-peer/cilium-client with");
    }
    program
}

/// A key or value as the program tells it.
fn text(bytes: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold("hex:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    std::str::from_utf8(bytes).map_or_else(|_no_text| hex(bytes), str::to_owned)
}

/// The common names that a client of the cluster west may have.
#[derive(Debug, Clone, Copy)]
enum Name {
    /// What all clusters of a Cilium mesh have in common.
    Remote,
    RemoteWest,
}

/// The cluster west, whose Cilium dials east. East trusts its CA once they are joined.
struct West {
    server: Server,
    program: PathBuf,
    certificates: tempfile::TempDir,
}

impl West {
    async fn joined(east: &Server, program: PathBuf) -> Self {
        let server = Server::start("west", 2).await;
        server.ready().await;
        east.connect(&server).await.expect("the clusters fit");
        Self { server, program, certificates: tempfile::tempdir().unwrap() }
    }

    fn leaf(&self, name: Name) -> certs::Leaf {
        let ca = RootCa::load(&self.server.state("ca"), &ClusterName::new("west").unwrap()).unwrap();
        let validity = Validity::lasting(Validity::LEAF);
        let leaf = match name {
            Name::Remote => ca.issue_user("remote", validity),
            Name::RemoteWest => ca.issue_remote(validity),
        };
        leaf.unwrap()
    }

    /// Its Cilium, which finds east at these addresses.
    fn cilium(&self, east: &Server, addresses: &[std::net::SocketAddr], name: Name, more: &[&str]) -> Peer {
        let [certificate, key] = ["crt", "key"].map(|kind| self.certificates.path().join(format!("{name:?}.{kind}")));
        self.leaf(name).save(&certificate, &key).unwrap();
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut flags = vec![
            format!("-cluster={}", east.name),
            format!("-addresses={}", addresses.join(",")),
            format!("-ca={}", east.state("ca.crt").display()),
            format!("-cert={}", certificate.display()),
            format!("-key={}", key.display()),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        Peer::start(&self.program, &flags)
    }
}
