//! A real kube-apiserver on a real etcd, on loopback: its files, its process, and whoever may ask it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certs::{RootCa, ServerNames, Validity};
use etcd_peer::{Cluster, EtcdPeer, KubeApiserver, Options, free_ports};
use mesh_types::ClusterName;
use serde_json::json;

use super::api::Api;

/// Two cores that do other things, too.
const READY: Duration = Duration::from_mins(2);
/// Who may do everything, and who may do what the tests' roles say; known to these tests only.
const ADMIN: &str = "of-the-administrator";
const MESH: &str = "of-the-mesh";
/// The account that mesh-apiserver asks as.
pub(super) const ACCOUNT: &str = "isthmus";

/// What the objects of one cluster are kept in, and what every API server on it is started with.
pub(super) struct Kube {
    program: PathBuf,
    pub(super) folder: tempfile::TempDir,
    pub(super) etcd: Cluster,
}

/// One API server; its process ends with this value.
pub(super) struct Apiserver {
    pub(super) api: Api,
    pub(super) port: u16,
    command: Command,
    child: Option<Child>,
    log: PathBuf,
}

impl Kube {
    /// `None`, and says so, where there is no kube-apiserver.
    pub(super) fn find() -> Option<Self> {
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace");
        let Some(kube) = KubeApiserver::find(workspace).expect("a program that ISTHMUS_KUBE_APISERVER names") else {
            println!("skipped: no kube-apiserver here; `cargo xtask kube-apiserver` builds one in about 15 minutes");
            return None;
        };
        let etcd = EtcdPeer::obtain(workspace).and_then(|peer| Cluster::start(&peer, &Options::default()));
        let folder = tempfile::tempdir().expect("a folder for the test");
        let at = |name: &str| folder.path().join(name);
        let authority = RootCa::generate(&ClusterName::new("kube").expect("a name")).expect("a CA");
        let names = ServerNames { dns: Vec::new(), ips: vec!["127.0.0.1".parse().expect("an address")] };
        let leaf = authority.issue_server(&names, Validity::lasting(Duration::from_hours(24))).expect("a leaf");
        leaf.save(&at("server.crt"), &at("server.key")).expect("the folder is the test's own");
        std::fs::write(at("ca.crt"), authority.certificate_pem()).expect("the folder is the test's own");
        let tokens = format!("{ADMIN},admin,1,system:masters\n{MESH},{ACCOUNT},2\n");
        std::fs::write(at("tokens.csv"), tokens).expect("the folder is the test's own");
        Some(Self { program: kube.program, folder, etcd: etcd.expect("an etcd") })
    }

    /// Starts an API server and waits until it is ready.
    pub(super) async fn start(&self) -> Apiserver {
        let at = |name: &str| self.folder.path().join(name);
        let [port] = free_ports().expect("a free port");
        let log = at(&format!("kube-apiserver-{port}.log"));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .arg(format!("--etcd-servers={}", self.etcd.endpoints().join(",")))
            // Compaction is the tests'.
            .arg("--etcd-compaction-interval=0")
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={port}")])
            // A loopback address may not be advertised; nobody calls this one.
            .args(["--advertise-address=10.255.0.1", "--service-cluster-ip-range=10.101.0.0/16"])
            .args(["--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc"])
            // Nobody makes accounts for pods here.
            .arg("--disable-admission-plugins=ServiceAccount")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (flag, file) in [
            ("--tls-cert-file", "server.crt"),
            ("--tls-private-key-file", "server.key"),
            ("--token-auth-file", "tokens.csv"),
            // Public keys may come as certificates.
            ("--service-account-key-file", "server.crt"),
            ("--service-account-signing-key-file", "server.key"),
            ("--cert-dir", ""),
        ] {
            command.arg(format!("{flag}={}", at(file).display()));
        }
        let api = Api::new(port, &at("ca.crt"), ADMIN);
        let mut server = Apiserver { api, port, command, child: None, log };
        server.restart().await;
        server
    }

    /// A kubeconfig for mesh-apiserver, for an API server at that port.
    pub(super) fn kubeconfig(&self, port: u16) -> PathBuf {
        let path = self.folder.path().join(format!("kubeconfig-{port}"));
        let ca = self.folder.path().join("ca.crt");
        let config = json!({
            "kind": "Config", "apiVersion": "v1", "current-context": "mesh",
            "contexts": [{"name": "mesh", "context": {"cluster": "here", "user": "mesh"}}],
            "clusters": [{"name": "here", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority": ca,
            }}],
            "users": [{"name": "mesh", "user": {"token": MESH}}],
        });
        std::fs::write(&path, config.to_string()).expect("the folder is the test's own");
        path
    }
}

impl Apiserver {
    /// Starts it where it was, and waits until it is ready.
    pub(super) async fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::create(&self.log).expect("the folder is the test's own");
        self.child = Some(self.command.stderr(log).spawn().expect("kube-apiserver starts"));
        let deadline = Instant::now() + READY;
        loop {
            if matches!(self.api.try_get("/readyz").await, Ok((200, _))) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                panic!(
                    "kube-apiserver is not ready ({ended:?}); its log ends with, newest first:\n{}",
                    tail.join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of this test");
            child.wait().expect("a child of this test");
        }
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        self.kill();
    }
}
