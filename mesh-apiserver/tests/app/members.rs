//! Replicas of a cluster's API server that come and go, as `meshctl store members` makes them.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_proto::v1;
use tokio::task::JoinSet;

use crate::harness::{Server, until};

/// Ports that nobody has on any of the replicas' hosts: for Raft, for clients, and for agents and meshctl.
pub(crate) fn free_ports(hosts: &[String]) -> [u16; 3] {
    loop {
        let ports = [(); 3].map(|()| {
            let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
            probe.local_addr().expect("it is bound").port()
        });
        let is_free = |port| hosts.iter().all(|host| TcpListener::bind((host.as_str(), port)).is_ok());
        if BTreeSet::from(ports).len() == ports.len() && ports.into_iter().all(is_free) {
            return ports;
        }
    }
}

fn host(id: u64) -> String {
    format!("127.0.0.{id}")
}

/// What the replicas of one cluster have in common.
pub(crate) struct Plan {
    ca: tempfile::TempDir,
    raft: u16,
    etcd: u16,
    mesh: u16,
}

impl Plan {
    /// For so many replicas.
    pub(crate) fn new(count: u64) -> Self {
        let hosts: Vec<String> = (1..=count).map(host).collect();
        let [raft, etcd, mesh] = free_ports(&hosts);
        Self { ca: tempfile::tempdir().expect("a folder for the CA"), raft, etcd, mesh }
    }

    /// Replicas 1, 2 and 3, together.
    pub(crate) async fn start_three(&self) -> [Server; 3] {
        let all = [1, 2, 3];
        let [first, second, third] = [1, 2, 3].map(|own| Box::pin(self.start(own, all, &[])));
        tokio::join!(first, second, third).into()
    }

    /// Replica `own` of those that it is told of.
    async fn start(&self, own: u64, replicas: [u64; 3], more: &[&str]) -> Server {
        let list = replicas.map(|id| format!("{id}={}", host(id)));
        let mut flags = vec![
            format!("--ca-dir={}", self.ca.path().display()),
            format!("--replica-id={own}"),
            format!("--replica={}", list.join(",")),
            format!("--listen-raft={}:{}", host(own), self.raft),
            format!("--listen-etcd={}:{}", host(own), self.etcd),
            format!("--listen-mesh={}:{}", host(own), self.mesh),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        Server::start_with("east", 1, flags).await
    }
}

pub(crate) async fn members(server: &Server) -> v1::GetStoreResponse {
    server.store_admin().await.get_store(v1::GetStoreRequest {}).await.expect("the store is shown").into_inner()
}

/// Puts one key after another; returns how many, and what failed.
pub(crate) async fn write(mut client: etcd_client::Client, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut written, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match client.put(format!("test/{written}"), "value", None).await {
            Ok(_) => written += 1,
            Err(error) => failures.push(error.to_string()),
        }
    }
    (written, failures)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leading_replica_is_replaced_while_every_write_succeeds() {
    let plan = Plan::new(4);
    let [first, second, third] = plan.start_three().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    writers.spawn(write(second.etcd(&second.admin_leaf()).await, Arc::clone(&stop)));

    let mut admin = second.store_admin().await;
    let request = v1::AddStoreMemberRequest { id: 4, host: host(4) };
    let added = admin.add_store_member(request.clone()).await.expect("a fourth member").into_inner().members;
    let fourth = added.iter().find(|member| member.id == 4).expect("it is one of them");
    assert_eq!((&fourth.name[..], fourth.is_learner), ("east-4", true));
    assert_eq!(fourth.peer_urls, [format!("https://127.0.0.4:{}", plan.raft)]);
    let again = admin.add_store_member(request).await.expect_err("it is there already");
    assert!(again.message().contains("member ID already exist"), "{again}");

    let fourth = plan.start(4, [2, 3, 4], &["--replica-join"]).await;
    until("a vote for the new replica", || async {
        members(&fourth).await.members.iter().any(|member| member.id == 4 && !member.is_learner).then_some(())
    })
    .await;
    let leader = members(&second).await.leader;
    let (leaving, staying) = [first, second, third]
        .into_iter()
        .partition::<Vec<_>, _>(|server| server.more_flags.contains(&format!("--replica-id={leader}")));
    let mut admin = fourth.store_admin().await;
    let request = v1::RemoveStoreMemberRequest { id: leader };
    let left = admin.remove_store_member(request).await.expect("the leader may leave").into_inner().members;
    let left: BTreeSet<u64> = left.iter().map(|member| member.id).collect();
    assert_eq!(left, (1..=4).filter(|id| *id != leader).collect());
    // The writer is a client of replica 2: it writes for as long as that one belongs to the group.
    stop.store(true, Ordering::Relaxed);
    let (written, failures) = writers.join_next().await.expect("one was started").expect("the writer goes on");
    assert!(written > 0);
    assert_eq!(failures, [""; 0], "of {written} writes");
    for server in leaving {
        server.app.stop().await;
    }

    let mut client = fourth.etcd(&fourth.admin_leaf()).await;
    client.put("test/last", "value", None).await.expect("the new group takes writes");
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    let found = client.get("test/", Some(options)).await.expect("the new group reads").count();
    assert_eq!(usize::try_from(found).expect("a count"), written + 1);
    let revision = members(&fourth).await.revision;
    let mut hashes = BTreeSet::new();
    for server in staying.iter().chain([&fourth]) {
        until("the last revision", || async { (members(server).await.revision >= revision).then_some(()) }).await;
        let request = v1::CheckStoreRequest { revision };
        let hash = server.store_admin().await.check_store(request).await.expect("a hash").into_inner();
        hashes.insert(hash.hash);
    }
    assert_eq!(hashes.len(), 1, "all replicas hold the same");
    for server in staying.into_iter().chain([fourth]) {
        server.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_let_in_by_every_replica_and_by_none_after_it_is_deleted() {
    let plan = Plan::new(3);
    let replicas = plan.start_three().await;
    let ca = certs::RootCa::load(plan.ca.path(), &mesh_types::ClusterName::new("east").unwrap()).unwrap();
    let leaf = ca.issue_user("root", certs::Validity::lasting(certs::Validity::LEAF)).unwrap();
    let mut admin = replicas[0].etcd(&replicas[0].admin_leaf()).await;
    let no_password = Some(etcd_client::UserAddOptions::new().with_no_pwd());
    admin.user_add("root", "", no_password).await.expect("a user");
    admin.user_grant_role("root", "root").await.expect("a role");
    admin.auth_enable().await.expect("users count");
    // Whether the replica lets the user write.
    let may = async |replica: &Server| {
        let tls = certs::client::tonic_config(&replica.bundle(), &leaf, "localhost");
        let options = etcd_client::ConnectOptions::new().with_tls(tls);
        match etcd_client::Client::connect([format!("https://{}", replica.app.etcd)], Some(options)).await {
            Ok(mut client) => client.put("k", "v", None).await.is_ok(),
            Err(_) => false,
        }
    };
    for replica in &replicas {
        until("a write by the user", async || may(replica).await.then_some(())).await;
    }
    admin.auth_disable().await.expect("users count no more");
    admin.user_delete("root").await.expect("no user");
    for replica in &replicas {
        until("a refusal", async || (!may(replica).await).then_some(())).await;
    }
    for replica in replicas {
        replica.app.stop().await;
    }
}
