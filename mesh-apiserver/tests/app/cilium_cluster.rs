//! A Cilium cluster that is consumed: a real etcd with Cilium's users and roles, and keys written as Cilium's exporter writes
//! them, beside whole servers of ours that take it in as a peer.

mod changes;
mod exporter;
mod joining;

use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::root_ca::ServerNames;
use certs::{Leaf, RootCa, Validity};
use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, Permission, PermissionType, TlsOptions, UserAddOptions,
};
use etcd_peer::{Cluster, ClusterTls, EtcdPeer, Options};
use mesh_proto::v1;
use mesh_types::ClusterName;

/// Cluster `c`, number 3: pods in 10.3.0.0/16, nodes in 192.0.3.0/24.
struct Cilium {
    etcd: Cluster,
    ca: RootCa,
    dir: tempfile::TempDir,
    /// As `admin-c`, which its exporter is.
    admin: Client,
}

fn prefix(text: &str) -> v1::Prefix {
    mesh_proto::convert::prefix_message(&text.parse().expect("a prefix"))
}

impl Cilium {
    /// Etcd as Cilium's chart runs it, after its `etcdinit`: client certificates, users by common name, roles.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = ClusterName::new("c").unwrap();
        let ca = RootCa::generate(&name).unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("ca.crt"), ca.certificate_pem()).unwrap();
        // What its chart puts into the server's certificate.
        let names = ServerNames { dns: vec!["*.mesh.cilium.io".to_owned()], ips: vec!["127.0.0.1".parse().unwrap()] };
        ca.issue_server(&names, day()).unwrap().save(&file("s.crt"), &file("s.key")).unwrap();
        let etcd = start_etcd(&dir);
        let admin = client(&etcd, &ca, "root").await;
        let cilium = Self { etcd, ca, dir, admin };
        cilium.init().await;
        for name in ["remote", "remote-east", "nobody"] {
            cilium.leaf(name).save(&cilium.file(&format!("{name}.crt")), &cilium.file(&format!("{name}.key"))).unwrap();
        }
        cilium
    }

    /// What `clustermesh-apiserver etcdinit` does (Cilium `pkg/kvstore/etcdinit/init.go`).
    async fn init(&self) {
        let mut auth = self.admin.auth_client();
        let grants: [(&str, &[Permission]); 3] = [
            ("root", &[Permission::new(PermissionType::Readwrite, "").with_all_keys()]),
            (
                "remote",
                &[
                    Permission::read("cilium/.heartbeat").with_prefix(),
                    Permission::read("cilium/cluster-config/c"),
                    Permission::read("cilium/state/").with_prefix(),
                    Permission::read("cilium/synced/c/").with_prefix(),
                ],
            ),
            ("nothing", &[]),
        ];
        for (role, permissions) in grants {
            auth.role_add(role).await.unwrap();
            for permission in permissions {
                auth.role_grant_permission(role, permission.clone()).await.unwrap();
            }
        }
        let users = [
            ("root", "root"),
            ("admin-c", "root"),
            ("remote", "remote"),
            ("remote-east", "remote"),
            ("nobody", "nothing"),
        ];
        for (user, role) in users {
            auth.user_add(user, "", Some(UserAddOptions::new().with_no_pwd())).await.unwrap();
            auth.user_grant_role(user, role).await.unwrap();
        }
        auth.auth_enable().await.unwrap();
    }

    fn leaf(&self, name: &str) -> Leaf {
        self.ca.issue_user(name, day()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `meshctl connect east --cilium FILE` sends, with the certificate of this name.
    fn request(&self, name: &str) -> v1::ConnectCiliumRequest {
        let text = |file: &str| self.file(file).display().to_string();
        let endpoints = self.etcd.endpoints().into_iter().map(|url| v1::CiliumEndpoint {
            address: url.trim_start_matches("https://").to_owned(),
            server_name: "c.mesh.cilium.io".to_owned(),
        });
        v1::ConnectCiliumRequest {
            name: "c".to_owned(),
            id: 3,
            endpoints: endpoints.collect(),
            trusted_ca_file: text("ca.crt"),
            cert_file: text(&format!("{name}.crt")),
            key_file: text(&format!("{name}.key")),
            pod_prefixes: vec![prefix("10.3.0.0/16")],
            node_prefixes: vec![prefix("192.0.3.0/24")],
            service_prefixes: vec![prefix("10.103.0.0/16")],
            max_connected_clusters: 255,
            encryption: v1::Encryption::Wireguard.into(),
            knows_cas: Vec::new(),
        }
    }

    /// Its `clustermesh-apiserver` pod was replaced: another etcd, empty, at the same address, set up anew.
    async fn replace_etcd(&mut self) {
        self.etcd.replace("second").unwrap();
        self.admin = client(&self.etcd, &self.ca, "root").await;
        self.init().await;
    }
}

fn day() -> Validity {
    Validity::lasting(Duration::from_hours(24))
}

fn start_etcd(dir: &tempfile::TempDir) -> Cluster {
    let file = |name: &str| dir.path().join(name);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
    let tls = ClusterTls { ca: file("ca.crt"), certificate: file("s.crt"), key: file("s.key") };
    let options = Options { members: 1, flags: Vec::new(), tls: Some(tls) };
    Cluster::start(&EtcdPeer::obtain(workspace).unwrap(), &options).unwrap()
}

async fn client(etcd: &Cluster, ca: &RootCa, name: &str) -> Client {
    let leaf = ca.issue_user(name, day()).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(ca.certificate_pem()))
        .identity(Identity::from_pem(leaf.certificate_pem(), leaf.key_pem().as_bytes()));
    Client::connect(etcd.endpoints(), Some(ConnectOptions::new().with_tls(tls))).await.unwrap()
}
