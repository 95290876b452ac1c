//! A server and an etcd with one CA, and the calls that both are sent.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use certs::root_ca::ServerNames;
use certs::{Leaf, RootCa};
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, Identity, LeaseGrantOptions, LeaseTimeToLiveOptions,
    Permission, PermissionType, PutOptions, RoleRevokePermissionOptions, TlsOptions, Txn, TxnOp, UserAddOptions,
};
use etcd_peer::{Cluster, ClusterTls, EtcdPeer, Options};
use mesh_types::ClusterName;
use parking_lot::Mutex;

use super::day;
use crate::harness::Server;

/// One call.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Enable,
    Disable,
    UserAdd(&'static str),
    UserAddWithPassword(&'static str, &'static str),
    UserDelete(&'static str),
    UserGet(&'static str),
    UserList,
    GrantRole(&'static str, &'static str),
    RevokeRole(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleDelete(&'static str),
    RoleGet(&'static str),
    RoleList,
    /// Role, kind, key, end.
    Grant(&'static str, i32, &'static str, &'static str),
    GrantRead(&'static str, &'static str, &'static str),
    RevokePermission(&'static str, &'static str, &'static str),
    Authenticate(&'static str),
    Get(&'static str),
    Range(&'static str, &'static str),
    Put(&'static str, &'static str),
    PutOn(&'static str, i64),
    TxnPut(&'static str, &'static str),
    Delete(&'static str),
    LeaseGrant(i64),
    KeepAlive(i64),
    LeaseKeys(i64),
    Revoke(i64),
}

impl Op {
    /// `ok`, with what the answer says beyond its header, or the refusal.
    pub(super) async fn run(&self, client: &mut Client) -> String {
        match self.call(client).await {
            Ok(answer) if answer.is_empty() => "ok".to_owned(),
            Ok(answer) => format!("ok {answer}"),
            Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(error) => error.to_string(),
        }
    }

    async fn call(&self, client: &mut Client) -> Result<String, Error> {
        let none = |()| String::new();
        match self.clone() {
            Self::Enable => client.auth_enable().await.map(drop).map(none),
            Self::Disable => client.auth_disable().await.map(drop).map(none),
            Self::UserAdd(user) => {
                let options = UserAddOptions::new().with_no_pwd();
                client.user_add(user, "", Some(options)).await.map(drop).map(none)
            }
            Self::UserAddWithPassword(user, word) => client.user_add(user, word, None).await.map(drop).map(none),
            Self::UserDelete(user) => client.user_delete(user).await.map(drop).map(none),
            Self::UserGet(user) => Ok(format!("{:?}", client.user_get(user).await?.roles())),
            Self::UserList => Ok(format!("{:?}", client.user_list().await?.users())),
            Self::GrantRole(user, role) => client.user_grant_role(user, role).await.map(drop).map(none),
            Self::RevokeRole(user, role) => client.user_revoke_role(user, role).await.map(drop).map(none),
            Self::RoleAdd(role) => client.role_add(role).await.map(drop).map(none),
            Self::RoleDelete(role) => client.role_delete(role).await.map(drop).map(none),
            Self::RoleGet(role) => Ok(format!("{:?}", client.role_get(role).await?.permissions())),
            Self::RoleList => Ok(format!("{:?}", client.role_list().await?.roles())),
            Self::GrantRead(role, key, end) => grant(client, role, 0, key, end).await,
            Self::Grant(role, kind, key, end) => grant(client, role, kind, key, end).await,
            Self::RevokePermission(role, key, end) => {
                let options = Some(RoleRevokePermissionOptions::new().with_range_end(end));
                client.role_revoke_permission(role, key, options).await.map(drop).map(none)
            }
            Self::Authenticate(user) => {
                let mut auth = client.auth_client();
                auth.authenticate(user.to_owned(), "word".to_owned()).await.map(drop).map(none)
            }
            Self::Get(key) => Ok(client.get(key, None).await?.count().to_string()),
            // How many there are is not the same in both.
            Self::Range(key, end) => client.get(key, Some(GetOptions::new().with_range(end))).await.map(drop).map(none),
            Self::Put(key, value) => client.put(key, value, None).await.map(drop).map(none),
            Self::PutOn(key, lease) => {
                client.put(key, "leased", Some(PutOptions::new().with_lease(lease))).await.map(drop).map(none)
            }
            Self::TxnPut(key, value) => {
                client.txn(Txn::new().and_then([TxnOp::put(key, value, None)])).await.map(drop).map(none)
            }
            Self::Delete(key) => Ok(client.delete(key, None).await?.deleted().to_string()),
            Self::LeaseGrant(id) => {
                let options = LeaseGrantOptions::new().with_id(id);
                client.lease_grant(600, Some(options)).await.map(drop).map(none)
            }
            Self::KeepAlive(id) => {
                let (mut keeper, mut answers) = client.lease_keep_alive(id).await?;
                keeper.keep_alive().await?;
                let answer = answers.message().await?;
                Ok(answer.map(|answer| answer.ttl().to_string()).unwrap_or_default())
            }
            Self::LeaseKeys(id) => {
                let options = LeaseTimeToLiveOptions::new().with_keys();
                let lease = client.lease_time_to_live(id, Some(options)).await?;
                let mut keys: Vec<_> = lease.keys().iter().map(|key| String::from_utf8_lossy(key)).collect();
                keys.sort();
                Ok(format!("{keys:?}"))
            }
            Self::Revoke(id) => client.lease_revoke(id).await.map(drop).map(none),
        }
    }
}

async fn grant(client: &mut Client, role: &str, kind: i32, key: &str, end: &str) -> Result<String, Error> {
    let kind = match kind {
        0 => PermissionType::Read,
        1 => PermissionType::Write,
        _ => PermissionType::Readwrite,
    };
    let permission = Permission::new(kind, key).with_range_end(end);
    client.role_grant_permission(role, permission).await.map(|_| String::new())
}

pub(super) struct Both {
    server: Server,
    etcd: Cluster,
    etcdctl: PathBuf,
    ca: RootCa,
    dir: tempfile::TempDir,
    clients: Mutex<HashMap<&'static str, [Client; 2]>>,
    calls: Cell<usize>,
    refusals: Mutex<BTreeSet<String>>,
}

impl Both {
    pub(super) async fn start() -> Self {
        let server = Server::start("east", 7).await;
        server.ready().await;
        let ca = RootCa::load(&server.state("ca"), &ClusterName::new("east").unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("ca.crt"), ca.certificate_pem()).unwrap();
        let leaf = ca.issue_server(&ServerNames::default(), day()).unwrap();
        leaf.save(&file("s.crt"), &file("s.key")).unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace");
        let peer = EtcdPeer::obtain(workspace).expect("etcd's programs");
        let tls = ClusterTls { ca: file("ca.crt"), certificate: file("s.crt"), key: file("s.key") };
        let options = Options { members: 1, flags: Vec::new(), tls: Some(tls) };
        let etcd = Cluster::start(&peer, &options).unwrap();
        let (clients, calls, refusals) = (Mutex::default(), Cell::default(), Mutex::default());
        Self { server, etcd, etcdctl: peer.etcdctl, ca, dir, clients, calls, refusals }
    }

    fn leaf(&self, user: &str) -> Leaf {
        self.ca.issue_user(user, day()).unwrap()
    }

    /// In etcd the administrator is the user root; here it is who has the administrator's certificate.
    async fn clients(&self, user: &'static str) -> [Client; 2] {
        if let Some(clients) = self.clients.lock().get(user) {
            return clients.clone();
        }
        let leaf = self.leaf(user);
        let own = if user == "root" { self.server.admin_leaf() } else { leaf.clone() };
        let clients = [self.server.etcd(&own).await, self.direct(&leaf).await];
        self.clients.lock().insert(user, clients.clone());
        clients
    }

    async fn direct(&self, leaf: &Leaf) -> Client {
        let [cert, key] = ["c.crt", "c.key"].map(|name| self.dir.path().join(name));
        leaf.save(&cert, &key).unwrap();
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(self.ca.certificate_pem()))
            .identity(Identity::from_pem(std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap()));
        Client::connect(self.etcd.endpoints(), Some(ConnectOptions::new().with_tls(tls))).await.unwrap()
    }

    /// Sends the call to both and compares the answers.
    pub(super) async fn alike(&self, user: &'static str, op: &Op) {
        let [mut ours, mut theirs] = self.clients(user).await;
        let (ours, theirs) = tokio::join!(op.run(&mut ours), op.run(&mut theirs));
        assert_eq!(ours, theirs, "call {}: {op:?} by {user}: here, and in etcd", self.calls.get());
        if !ours.starts_with("ok") {
            self.refusals.lock().insert(ours);
        }
        self.calls.set(self.calls.get() + 1);
    }

    /// The answer of this server alone.
    pub(super) async fn ours(&self, user: &'static str, op: &Op) -> String {
        let [mut ours, _] = self.clients(user).await;
        op.run(&mut ours).await
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.get()
    }

    pub(super) fn refusals(&self) -> BTreeSet<String> {
        self.refusals.lock().clone()
    }

    /// `auth status` by etcdctl, which etcd-client does not have.
    pub(super) async fn status(&self) -> String {
        let (cert, key) = (self.server.state("admin.crt"), self.server.state("admin.key"));
        let endpoint = format!("https://{}", self.server.app.etcd);
        let (etcdctl, ca) = (self.etcdctl.clone(), self.server.state("ca.crt"));
        // In this process the server must go on while etcdctl asks it.
        tokio::task::spawn_blocking(move || auth_status(&etcdctl, &endpoint, &ca, &cert, &key)).await.unwrap()
    }

    pub(super) fn etcds_status(&self) -> String {
        let file = |name: &str| self.dir.path().join(name);
        self.leaf("root").save(&file("root.crt"), &file("root.key")).unwrap();
        auth_status(&self.etcdctl, &self.etcd.endpoints()[0], &file("ca.crt"), &file("root.crt"), &file("root.key"))
    }

    pub(super) async fn stop(self) {
        self.server.app.stop().await;
    }
}

fn auth_status(etcdctl: &Path, endpoint: &str, ca: &Path, cert: &Path, key: &Path) -> String {
    let ran = Command::new(etcdctl)
        .args(["auth", "status", "--endpoints", endpoint])
        .arg("--cacert")
        .arg(ca)
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}
