//! The cluster's CA in a Secret, and what agents are to trust in a ConfigMap.

use std::collections::BTreeSet;

use certs::{CaHash, RootCa, TrustBundle};
use futures::future::join_all;
use mesh_apiserver::kubernetes::{CaSecret, Client};
use mesh_apiserver::source::kubernetes::{Access, Options};
use mesh_runtime::Shutdown;
use mesh_types::ClusterName;
use serde_json::{Value, json};

use super::accounts::{CA_SECRET, SYSTEM, TRUST, system, trust_flags};
use super::apiserver::{Apiserver, Kube};
use super::objects::grant;
use super::{ONE_AT_A_TIME, flags};
use crate::harness::{Server, until};
use crate::members::free_ports;
use crate::rotation::{ALL_THE_WAY, Agent, begin, until_stage};

async fn get(server: &Apiserver, path: &str) -> Option<Value> {
    let (code, text) = server.api.try_get(path).await.expect("an answer");
    (code == 200).then(|| serde_json::from_str(&text).expect("JSON"))
}

/// The CAs that agents learn of.
async fn told(server: &Apiserver) -> Option<BTreeSet<CaHash>> {
    let map = get(server, TRUST).await?;
    Some(TrustBundle::from_pem(map["data"]["ca.crt"].as_str()?).expect("a bundle").hash_set())
}

async fn secret_keys(server: &Apiserver) -> Vec<String> {
    let secret = get(server, CA_SECRET).await.expect("a Secret");
    secret["data"].as_object().expect("data").keys().cloned().collect()
}

async fn ca_secret(kube: &Kube, server: &Apiserver) -> (CaSecret, CaHash) {
    let options = Options { kubeconfig: Some(kube.kubeconfig(server.port)), context: None };
    let client = Client::new(Access::open(options).await.expect("a kubeconfig"));
    let (name, cluster) = ("isthmus-system/isthmus-ca".parse().unwrap(), ClusterName::new("east").unwrap());
    let opened = CaSecret::open(client, name, cluster, None, &Shutdown::new()).await;
    let (secret, cas) = opened.unwrap_or_else(|error| panic!("{}", mesh_runtime::ErrorChain(&error)));
    (secret, cas.current.hash())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_end_with_one_ca_and_change_it_one_after_the_other() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    system(&apiserver).await;
    let (kube, apiserver) = (&kube, &apiserver);
    let race = || async {
        let opened = join_all((0..8).map(|_| ca_secret(kube, apiserver))).await;
        let hashes: BTreeSet<CaHash> = opened.iter().map(|(_, hash)| *hash).collect();
        assert_eq!(hashes.len(), 1, "{hashes:?}");
        opened
    };
    race().await;
    // The same for a name that a chart has reserved.
    apiserver.api.delete(CA_SECRET).await;
    let reserved = json!({"metadata": {"name": "isthmus-ca", "labels": {"helm": "made-it"}}, "data": {"ca.crt": ""}});
    apiserver.api.create(&format!("/api/v1/namespaces/{SYSTEM}/secrets"), &reserved).await;
    let opened = race().await;
    let first = opened[0].1;
    let label = get(apiserver, CA_SECRET).await.unwrap()["metadata"]["labels"]["helm"].clone();
    assert_eq!(label, "made-it", "what others wrote stays");

    // Who makes the next CA last has made it; all see the same.
    let made = join_all(opened.iter().map(|(secret, _)| secret.make_next())).await;
    let made: BTreeSet<CaHash> = made.into_iter().map(|next| next.unwrap().hash()).collect();
    assert_eq!(made.len(), 8);
    let next = opened[0].0.read().await.unwrap().next.unwrap().hash();
    assert!(made.contains(&next));
    let promoted = join_all(opened.iter().map(|(secret, _)| secret.promote(&next))).await;
    assert!(promoted.iter().all(Result::is_ok), "{promoted:?}");
    for (secret, _) in &opened {
        assert_eq!(secret.read().await.unwrap().hashes().collect::<Vec<_>>(), [next]);
    }
    assert_eq!(secret_keys(apiserver).await, ["ca.crt", "ca.key"]);
    let text = opened[0].0.promote(&first).await.unwrap_err().to_string();
    assert!(text.contains(&first.to_string()) && text.contains("Secret isthmus-system/isthmus-ca"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_go_over_to_another_ca_in_their_secret_and_agents_are_told_at_each_stage() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    grant(&apiserver).await;
    system(&apiserver).await;
    let host = |id: u64| format!("127.0.0.{id}");
    let hosts = [1, 2, 3].map(host);
    let [raft, etcd, mesh] = free_ports(&hosts);
    let replica = |own: u64| {
        let list = [1, 2, 3].map(|id| format!("{id}={}", host(id))).join(",");
        let of_replica = vec![
            format!("--replica-id={own}"),
            format!("--replica={list}"),
            format!("--listen-raft={}:{raft}", host(own)),
            format!("--listen-etcd={}:{etcd}", host(own)),
            format!("--listen-mesh={}:{mesh}", host(own)),
        ];
        let all = [flags(&kube, &apiserver), trust_flags(), of_replica].concat();
        Box::pin(Server::start_with("east", 1, all))
    };
    let (first, second, third) = tokio::join!(replica(1), replica(2), replica(3));
    let servers = [first, second, third];
    for server in &servers {
        server.ready().await;
    }
    let old = servers[0].bundle().hash_set();
    assert_eq!(old.len(), 1);
    for server in &servers {
        assert_eq!(server.bundle().hash_set(), old);
        assert!(!server.dir.path().join("state/ca").exists(), "no key is on disk");
    }
    until("the trust bundle", || async { told(&apiserver).await.filter(|told| *told == old) }).await;

    let addresses = hosts.iter().map(|host| format!("{host}:{mesh}")).collect();
    let _agent = Agent::start(&servers[0], "n1", addresses).await;
    let begun = begin(&servers[0]).await;
    let both: BTreeSet<CaHash> = [begun.old_ca.parse().unwrap(), begun.new_ca.parse().unwrap()].into();
    until("both CAs in the trust bundle", || async { told(&apiserver).await.filter(|told| *told == both) }).await;
    assert_eq!(secret_keys(&apiserver).await, ["ca.crt", "ca.key", "next.crt", "next.key"]);
    until_stage(&servers[1], ALL_THE_WAY[4]).await;
    let new: BTreeSet<CaHash> = [begun.new_ca.parse().unwrap()].into();
    until("the new CA alone", || async { told(&apiserver).await.filter(|told| *told == new) }).await;
    until("an end of the old key", || async { (secret_keys(&apiserver).await == ["ca.crt", "ca.key"]).then_some(()) })
        .await;
    for server in &servers {
        until("the new CA on each replica", || async { (server.bundle().hash_set() == new).then_some(()) }).await;
    }

    // Somebody removes the ConfigMap, and a replica starts anew: the Secret says which CA there is.
    apiserver.api.delete(TRUST).await;
    let [first, second, third] = servers;
    let first = first.restart().await;
    first.ready().await;
    assert_eq!(first.bundle().hash_set(), new);
    until("the trust bundle again", || async { told(&apiserver).await.filter(|told| *told == new) }).await;
    for server in [first, second, third] {
        server.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_ca_was_in_a_folder_goes_over_to_the_secret_with_it() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    grant(&apiserver).await;
    system(&apiserver).await;
    let server = Server::start_with("east", 1, flags(&kube, &apiserver)).await;
    server.ready().await;
    let ca = server.bundle().hash_set();
    let Server { name, id, dir, app, .. } = server;
    app.stop().await;
    let server = Server::start_at(name, id, dir, [flags(&kube, &apiserver), trust_flags()].concat()).await;
    server.ready().await;
    assert_eq!(server.bundle().hash_set(), ca, "agents and peers know it");
    until("the trust bundle", || async { told(&apiserver).await.filter(|told| *told == ca) }).await;

    // What is left in the folder is nobody's once the Secret holds another, and a lost Secret does not bring it back.
    assert!(server.state("ca/ca.key").exists(), "a former version of this server would start again");
    let (secret, first) = ca_secret(&kube, &apiserver).await;
    let next = secret.make_next().await.unwrap().hash();
    secret.promote(&next).await.unwrap();
    assert!(ca.contains(&first));
    let server = server.restart().await;
    server.ready().await;
    assert_eq!(server.bundle().hash_set(), BTreeSet::from([next]));
    let Server { name, id, dir, app, more_flags } = server;
    app.stop().await;
    apiserver.api.delete(CA_SECRET).await;
    let said = crate::harness::refused_start(&name, id, dir.path(), &more_flags).await;
    assert!(
        said.contains("the CA in Secret isthmus-system/isthmus-ca (uuid ") && said.contains("from the same backup"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_used_is_named_and_nothing_is_made_in_its_place() {
    let Some(kube) = Kube::find() else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let apiserver = kube.start().await;
    system(&apiserver).await;
    let options = Options { kubeconfig: Some(kube.kubeconfig(apiserver.port)), context: None };
    let access = Access::open(options).await.expect("a kubeconfig");
    let open = |name: &'static str, cluster: &'static str| {
        let client = Client::new(access.clone());
        async move {
            let cluster = ClusterName::new(cluster).unwrap();
            let opened = CaSecret::open(client, name.parse().unwrap(), cluster, None, &Shutdown::new()).await;
            mesh_runtime::ErrorChain(&opened.map(drop).unwrap_err()).to_string()
        }
    };
    let text = open("isthmus-system/another", "east").await;
    assert!(text.starts_with("may not get Secret isthmus-system/another: "), "{text}");
    assert!(text.contains("Bind the roles of docs/kubernetes/trust-rbac.yaml"), "{text}");

    let west = RootCa::generate(&ClusterName::new("west").unwrap()).unwrap();
    let secret = json!({
        "metadata": {"name": "isthmus-ca"},
        "stringData": {"ca.crt": west.certificate_pem(), "ca.key": west.key_pem().as_str()},
    });
    apiserver.api.create(&format!("/api/v1/namespaces/{SYSTEM}/secrets"), &secret).await;
    let text = open("isthmus-system/isthmus-ca", "east").await;
    assert!(text.contains("Secret isthmus-system/isthmus-ca: ca.crt is the CA of cluster \"west\""), "{text}");
    apiserver.api.patch(CA_SECRET, &json!({"data": {"ca.key": null}})).await;
    let text = open("isthmus-system/isthmus-ca", "west").await;
    assert!(text.contains("Secret isthmus-system/isthmus-ca holds no ca.key"), "{text}");
    assert_eq!(secret_keys(&apiserver).await, ["ca.crt"]);
}
