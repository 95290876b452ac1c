//! Going over to another CA, on real servers: one cluster and its peer, three replicas, agents; taken back at each stage;
//! killed at each stage.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use certs::{
    CaHash, ChannelOptions, ClientTls, LiveBundle, LiveLeaf, PendingLeaf, RootCa, Trust, TrustBundle, channel,
};
use mesh_proto::v1;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_types::ClusterName;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::harness::{Server, node, subscribe, until};
use crate::members::free_ports;

mod abort;
mod replicas;

/// The stages that a rotation goes through when nobody is away.
pub(super) const ALL_THE_WAY: [&str; 5] = ["distribute", "overlap", "switch", "retire", "done"];

pub(super) async fn certificates(server: &Server) -> v1::GetCertificatesResponse {
    let request = v1::GetCertificatesRequest {};
    server.admin().await.get_certificates(request).await.expect("certificates are shown").into_inner()
}

pub(super) async fn rotation(server: &Server) -> v1::CaRotation {
    certificates(server).await.rotation.expect("there is a rotation")
}

pub(super) async fn begin(server: &Server) -> v1::CaRotation {
    let begun = server.admin().await.rotate_ca(v1::RotateCaRequest {}).await.expect("it begins");
    begun.into_inner().rotation.expect("it is shown")
}

pub(super) async fn abort(server: &Server) -> Result<v1::CaRotation, tonic::Status> {
    let aborted = server.admin().await.abort_ca_rotation(v1::AbortCaRotationRequest {}).await?;
    Ok(aborted.into_inner().rotation.expect("it is shown"))
}

/// Waits for a stage; panics with what is awaited when it does not come.
pub(super) async fn until_stage(server: &Server, stage: &str) -> v1::CaRotation {
    let started = std::time::Instant::now();
    loop {
        let rotation = rotation(server).await;
        if rotation.stage == stage {
            return rotation;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "no {stage}: {rotation:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An agent's part of a rotation, as `node-agent` does it: reports what it holds, and renews when it holds something else.
pub(super) struct Agent {
    pub(super) trust: Arc<LiveBundle>,
    pub(super) leaf: Arc<LiveLeaf>,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    /// Enrolled at `server`; asks any of `addresses`.
    pub(super) async fn start(server: &Server, name: &str, addresses: Vec<String>) -> Self {
        Self::start_with(server, name, addresses, true).await
    }

    /// One that trusts what it should and keeps its leaf: leaves cannot change hands while it is there.
    pub(super) async fn that_keeps_its_leaf(server: &Server, name: &str, addresses: Vec<String>) -> Self {
        Self::start_with(server, name, addresses, false).await
    }

    async fn start_with(server: &Server, name: &str, addresses: Vec<String>, renews: bool) -> Self {
        let trust = LiveBundle::new(server.bundle()).unwrap();
        let leaf = LiveLeaf::new(server.enroll(name).await);
        let tls = ClientTls::new(&Trust::Live(Arc::clone(&trust)), Some(&leaf), "localhost").unwrap();
        let client = AgentClient::new(channel(&addresses, &tls, &ChannelOptions::default()));
        let (held, node) = ((Arc::clone(&trust), Arc::clone(&leaf)), name.to_owned());
        #[expect(clippy::disallowed_methods, reason = "the agent of a test, ended by its guard")]
        let task = tokio::spawn(async move { live(client, held, &node, renews).await });
        Self { trust, leaf, task }
    }
}

async fn live(
    mut client: AgentClient<tonic::transport::Channel>,
    (trust, leaf): (Arc<LiveBundle>, Arc<LiveLeaf>),
    node: &str,
    renews: bool,
) {
    let mut stream = None;
    let mut leaf_epoch = 0;
    loop {
        if stream.is_none() {
            stream = client.subscribe(subscribe(0, 0)).await.ok().map(tonic::Response::into_inner);
        }
        let held = v1::Credentials {
            trusts: trust.get().hash_set().iter().map(CaHash::to_string).collect(),
            issuer: trust.get().issuer_of(&leaf.get()).map(|hash| hash.to_string()).unwrap_or_default(),
            not_after_unix_nanos: 1 << 62,
            leaf_epoch,
            ..v1::Credentials::default()
        };
        let report = v1::ReportStatusRequest { credentials: Some(held.clone()), ..Default::default() };
        if let Ok(wanted) = client.report_status(report).await.map(tonic::Response::into_inner) {
            let is_other = wanted.issuer != held.issuer || wanted.leaf_epoch > leaf_epoch;
            if wanted.trusts != held.trusts || (renews && is_other) {
                let pending = PendingLeaf::generate(node).unwrap();
                let request = v1::RenewRequest { csr_pem: pending.csr_pem().to_owned() };
                if let Ok(renewed) = client.renew(request).await.map(tonic::Response::into_inner) {
                    trust.replace(TrustBundle::from_pem(&renewed.trust_bundle_pem).unwrap()).unwrap();
                    leaf.replace(pending.complete(&renewed.certificate_pem).unwrap());
                    leaf_epoch = renewed.leaf_epoch;
                }
            }
        }
        let mut is_over = false;
        if let Some(open) = &mut stream {
            // Reads what is there, so that the end of the stream is noticed.
            while let Ok(message) = tokio::time::timeout(Duration::from_millis(50), open.message()).await {
                is_over = !matches!(message, Ok(Some(_)));
                if is_over {
                    break;
                }
            }
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if is_over {
            stream = None;
        }
    }
}

pub(super) async fn joined() -> (Server, Server) {
    // At ports that a restart finds again.
    let [_, etcd, mesh] = free_ports(&["127.0.0.1".to_owned()]);
    let ports = vec![format!("--listen-etcd=127.0.0.1:{etcd}"), format!("--listen-mesh=127.0.0.1:{mesh}")];
    let (east, west) = (Server::start_with("east", 1, ports).await, Server::start("west", 2).await);
    east.write("node.yaml", &node("e1", "192.0.1.1", "10.1.0.0/24"));
    west.write("node.yaml", &node("w1", "192.0.2.1", "10.2.0.0/24"));
    east.ready().await;
    west.ready().await;
    east.connect(&west).await.unwrap();
    for server in [&east, &west] {
        until_live(server).await;
    }
    (east, west)
}

pub(super) async fn until_live(server: &Server) {
    until("a live peer", || async {
        server.status().await.peers.iter().all(|peer| peer.state == "Live").then_some(())
    })
    .await;
}

/// The CAs that `server` trusts for its one peer.
pub(super) async fn trusted_for_peer(server: &Server) -> BTreeSet<String> {
    let rows = certificates(server).await.certificates.into_iter();
    rows.filter(|row| row.holder.starts_with("peer ")).map(|row| row.ca).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_over_to_another_ca_and_its_peer_and_agents_follow_without_a_list() {
    let (east, west) = joined().await;
    let agent = Agent::start(&east, "e1", vec![east.app.mesh.to_string()]).await;
    let old = east.bundle().hashes()[0];
    let uuid = east.status().await.uuid;
    let outstanding = east.join_token(&west).await.unwrap();
    let begun = begin(&east).await;
    assert_eq!((begun.stage.as_str(), begun.old_ca.as_str()), ("distribute", old.to_string().as_str()));
    let second = east.admin().await.rotate_ca(v1::RotateCaRequest {}).await.unwrap_err();
    assert_eq!(second.code(), Code::FailedPrecondition);
    assert!(second.message().contains("is at stage") && second.message().contains("--abort"), "{second}");
    assert_eq!(certificates(&east).await.open_tokens, 1);

    let mut seen = vec![begun.stage.clone()];
    let started = std::time::Instant::now();
    while seen.last().unwrap() != "done" {
        assert!(started.elapsed() < Duration::from_secs(40), "not done: {seen:?}");
        let stage = rotation(&east).await.stage;
        if seen.last() != Some(&stage) {
            seen.push(stage);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(seen.iter().all(|stage| ALL_THE_WAY.contains(&stage.as_str())), "{seen:?}");
    let new = [begun.new_ca.clone()];
    assert_eq!(trusted_for_peer(&west).await, new.clone().into(), "the peer trusts the new CA alone");
    assert_eq!(agent.trust.get().hash_set().iter().map(CaHash::to_string).collect::<Vec<_>>(), new);
    assert!(agent.trust.get().issuer_of(&agent.leaf.get()).is_some());
    for server in [&east, &west] {
        until_live(server).await;
        let peer = server.status().await.peers.remove(0);
        assert_eq!((peer.relists, peer.trust_refused.as_str()), (0, ""), "of {}", server.name);
        assert!(peer.reconnects <= 1, "{} connected {} times more", server.name, peer.reconnects);
    }
    assert_eq!(east.status().await.uuid, uuid);

    // The old CA is of no use any more, nor is a token that names it.
    let ca = RootCa::load(&east.state("ca"), &ClusterName::new("east").unwrap()).unwrap();
    assert_eq!(ca.hash().to_string(), new[0]);
    assert!(!east.state("ca").join("next").exists());
    let request = v1::ConnectPeerRequest { token: outstanding };
    let refused = west.admin().await.connect_peer(request).await.unwrap_err();
    assert!(refused.message().contains("before its CA was replaced"), "{refused}");
    let again = west.connect(&east).await.unwrap();
    assert!(again.already_connected, "a new token names the new CA");
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_are_renewed_on_demand_all_or_by_name_and_an_unknown_name_is_refused() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    let agent = Agent::start(&east, "e1", vec![east.app.mesh.to_string()]).await;
    let renew = async |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let renewed = east.admin().await.rotate_leaves(v1::RotateLeavesRequest { names }).await?;
        until("all leaves are renewed", || async { certificates(&east).await.leaves_awaited.is_empty().then_some(()) })
            .await;
        Ok::<_, tonic::Status>(renewed.into_inner().names)
    };
    until("the agent's report", || async {
        certificates(&east).await.certificates.iter().any(|row| row.name == "agent-e1").then_some(())
    })
    .await;
    let (admin, leaf) = (east.admin_leaf().certificate_pem(), agent.leaf.get().certificate_pem());
    assert_eq!(renew(&["admin-east"]).await.unwrap(), ["admin-east"]);
    assert_ne!(east.admin_leaf().certificate_pem(), admin);
    assert_eq!(agent.leaf.get().certificate_pem(), leaf);
    let all = renew(&[]).await.unwrap();
    assert_eq!(all, ["admin-east", "agent-e1", "mesh-apiserver", "remote-east"]);
    assert_ne!(agent.leaf.get().certificate_pem(), leaf);
    let unknown = renew(&["agent-e9"]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("there are admin-east, agent-e1,"), "{unknown}");
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_found_and_renewed_on_demand() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    let ca = RootCa::load(&east.state("ca"), &ClusterName::new("east").unwrap()).unwrap();
    let past = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let expired = certs::Validity { not_before: past(1_000_000), not_after: past(2_000_000) };
    ca.issue_admin(expired).unwrap().save(&east.state("admin.crt"), &east.state("admin.key")).unwrap();
    let admin = async || {
        let found = certificates(&east).await;
        // Its certificate and its key are two files: while they are replaced there is none.
        let row = found.certificates.into_iter().find(|row| row.name == "admin-east")?;
        Some((row.holder, row.not_after_unix_nanos, found.now_unix_nanos))
    };
    let (holder, not_after, now) = admin().await.unwrap();
    assert_eq!((holder.as_str(), not_after), ("replica 1", 2_000_000_000_000_000));
    assert!(not_after < now);
    assert_eq!(east.status().await.first_to_expire.unwrap().name, "admin-east");
    east.admin().await.rotate_leaves(v1::RotateLeavesRequest::default()).await.unwrap();
    until("a fresh one", || async {
        let (_, not_after, now) = admin().await?;
        (not_after > now).then_some(())
    })
    .await;
    east.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_folder_that_cannot_be_written_says_so_before_anything_changes() {
    let east = Server::start("east", 1).await;
    east.ready().await;
    // A file where the folder of the new CA would be: as root no mode keeps a process from writing.
    std::fs::write(east.state("ca").join("next"), "kept by another program").unwrap();
    let refused = east.admin().await.rotate_ca(v1::RotateCaRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("this version cannot rotate it"), "{refused}");
    assert!(certificates(&east).await.rotation.is_none());
    let nothing = abort(&east).await.unwrap_err();
    assert!(nothing.message().contains("no rotation of the CA is running"), "{nothing}");
    east.app.stop().await;
}
