//! etcd's users and roles, beside a real etcd: the same calls by the same certificates to both, and equal answers.
//!
//! Both take the same CA, so a user is the same certificate here and there.

mod both;
mod random;

use std::time::Duration;

use certs::Validity;
use etcd_client::{WatchOptions, WatchResponse, WatchStream};

use self::both::{Both, Op};
use crate::harness::{PATIENCE, Server, until};

fn day() -> Validity {
    Validity::lasting(Duration::from_hours(24))
}

/// What Cilium's `etcdinit --cluster-name=east` sends, and then its API server with `--cluster-users-enabled` for the
/// peer west (`cilium-wire-contract.md`, 3.4).
fn ciliums_users() -> Vec<Op> {
    use Op::{Enable, GrantRead, GrantRole, RoleAdd, UserAdd};
    vec![
        UserAdd("root"),
        GrantRole("root", "root"),
        UserAdd("admin-east"),
        GrantRole("admin-east", "root"),
        RoleAdd("local"),
        GrantRead("local", "cilium/.heartbeat", "cilium/.heartbeau"),
        GrantRead("local", "cilium/cache/", "cilium/cache0"),
        GrantRead("local", "cilium/cluster-config/", "cilium/cluster-config0"),
        GrantRead("local", "cilium/synced/", "cilium/synced0"),
        UserAdd("local-east"),
        GrantRole("local-east", "local"),
        RoleAdd("remote"),
        GrantRead("remote", "cilium/.heartbeat", "cilium/.heartbeau"),
        GrantRead("remote", "cilium/state/", "cilium/state0"),
        GrantRead("remote", "cilium/cluster-config/east", ""),
        GrantRead("remote", "cilium/synced/east/", "cilium/synced/east0"),
        UserAdd("remote"),
        GrantRole("remote", "remote"),
        Enable,
        UserAdd("remote-west"),
        GrantRole("remote-west", "remote"),
        UserAdd("remote-west"),
        GrantRole("remote-west", "remote"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ciliums_users_and_an_applications_may_do_here_what_they_may_in_etcd() {
    use Op::{
        Authenticate, Delete, Get, Grant, GrantRole, KeepAlive, LeaseGrant, LeaseKeys, Put, PutOn, Range, Revoke,
        RoleAdd, RoleGet, TxnPut, UserAdd, UserGet, UserList,
    };
    let both = Both::start().await;
    for op in ciliums_users() {
        both.alike("root", &op).await;
    }
    for op in [
        RoleAdd("app"),
        Grant("app", 2, "app/", "app0"),
        RoleAdd("more"),
        Grant("more", 0, "app0", "apq"),
        UserAdd("app"),
        GrantRole("app", "app"),
        GrantRole("app", "more"),
        Put("other/k", "v"),
    ] {
        both.alike("root", &op).await;
    }
    let requests = [
        Range("cilium/.heartbeat", "cilium/.heartbeau"),
        Range("cilium/state/", "cilium/state0"),
        Range("cilium/state/ip/", "cilium/state/ip0"),
        Range("cilium/cache/", "cilium/cache0"),
        Get("cilium/cluster-config/none"),
        Range("cilium/cluster-config/", "cilium/cluster-config0"),
        Range("cilium/synced/east/", "cilium/synced/east0"),
        Put("cilium/state/x", "v"),
        Put("app/k", "v"),
        Get("app/k"),
        TxnPut("app/k", "w"),
        TxnPut("other/k", "w"),
        // Two roles permit one half each.
        Range("app/", "apq"),
        Range("app/", "b"),
        Delete("app/k"),
        UserGet("app"),
        UserGet("remote"),
        RoleGet("app"),
        RoleGet("local"),
        UserList,
        Authenticate("app"),
        Authenticate("none"),
    ];
    for who in ["root", "local-east", "remote", "remote-west", "app"] {
        for op in &requests {
            both.alike(who, op).await;
        }
    }
    // A lease whose keys one may not write is not one's to end, nor to add to.
    for (who, op) in [
        ("app", LeaseGrant(71)),
        ("app", PutOn("app/leased", 71)),
        ("app", KeepAlive(71)),
        ("app", LeaseKeys(71)),
        ("app", PutOn("app/leased", 72)),
        ("root", PutOn("other/leased", 71)),
        ("app", PutOn("app/more", 71)),
        ("app", LeaseKeys(71)),
        ("app", Revoke(71)),
        ("root", Delete("other/leased")),
        ("app", Revoke(71)),
        ("app", Get("app/leased")),
    ] {
        both.alike(who, &op).await;
    }
    // What only this store keeps for itself.
    let refusal = both.ours("root", &Grant("app", 0, "isthmus/v1/tokens/", "isthmus/v1/tokens0")).await;
    assert!(refusal.contains("which the mesh keeps for itself"), "{refusal}");
    let refusal = both.ours("root", &Op::UserAddWithPassword("eve", "secret")).await;
    assert!(refusal.contains("add it with --no-password") && !refusal.contains("secret"), "{refusal}");
    println!("{} calls answered alike", both.calls());
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_changes_of_users_and_roles_go_as_in_etcd() {
    let both = Both::start().await;
    let seed = 20_261_128;
    for op in random::operations(seed, 1_500) {
        both.alike("root", &op).await;
    }
    assert_eq!(both.status().await, both.etcds_status(), "seed {seed}");
    let refusals = both.refusals();
    let missing: Vec<_> = random::REFUSALS.iter().filter(|text| !refusals.contains(**text)).collect();
    assert!(missing.is_empty(), "never the answer: {missing:?}");
    println!("{} calls answered alike, {} kinds of refusal", both.calls(), refusals.len());
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_user_is_not_let_in_and_who_loses_a_right_is_cut_off() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let ca = certs::RootCa::load(&server.state("ca"), &mesh_types::ClusterName::new("east").unwrap()).unwrap();
    let leaf = ca.issue_user("app", day()).unwrap();
    assert!(refused(&server, &leaf).await, "not a user yet");

    let mut admin = server.etcd(&server.admin_leaf()).await;
    for op in [
        Op::UserAdd("root"),
        Op::GrantRole("root", "root"),
        Op::RoleAdd("app"),
        Op::GrantRead("app", "app/", "app0"),
        Op::UserAdd("app"),
        Op::GrantRole("app", "app"),
        Op::Enable,
    ] {
        assert_eq!(op.run(&mut admin).await, "ok", "{op:?}");
    }
    until("the new user's first answer", || async { (!refused(&server, &leaf).await).then_some(()) }).await;
    let mut app = server.etcd(&leaf).await;
    // Only over the etcd API.
    let channel = server.mesh_channel(Some(leaf.clone()));
    let status = mesh_proto::v1::admin_client::AdminClient::new(channel);
    let denied = status.clone().get_status(mesh_proto::v1::GetStatusRequest {}).await.unwrap_err();
    assert!(denied.message().contains("may not use the admin API"), "{denied}");

    let mut watch = app.watch("app/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    admin.put("app/k", "v", None).await.unwrap();
    while next(&mut watch).await.expect("an event").events().is_empty() {}
    assert_eq!(Op::RevokePermission("app", "app/", "app0").run(&mut admin).await, "ok");
    // What its user may read no more it must not go on with.
    while next(&mut watch).await.is_some() {}
    until("a refusal by name", || {
        let mut app = app.clone();
        async move { Op::Get("app/k").run(&mut app).await.contains("permission denied").then_some(()) }
    })
    .await;

    assert_eq!(Op::UserDelete("app").run(&mut admin).await, "ok");
    until("the deleted user's refusal", || async { refused(&server, &leaf).await.then_some(()) }).await;
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_none_is_named_and_takes_nobodys_rights() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let ca = certs::RootCa::load(&server.state("ca"), &mesh_types::ClusterName::new("east").unwrap()).unwrap();
    let mut admin = server.etcd(&server.admin_leaf()).await;
    for op in [Op::UserAdd("root"), Op::GrantRole("root", "root"), Op::Enable] {
        assert_eq!(op.run(&mut admin).await, "ok", "{op:?}");
    }
    let leaf = ca.issue_user("root", day()).unwrap();
    until("root", || async { (!refused(&server, &leaf).await).then_some(()) }).await;
    let mut root = server.etcd(&leaf).await;
    assert_eq!(Op::Put("isthmus/v1/auth", "junk").run(&mut admin).await, "ok");
    let refusal = Op::UserAdd("eve").run(&mut admin).await;
    assert!(
        refusal.starts_with("FailedPrecondition: isthmus: isthmus/v1/auth in the store is not a record"),
        "{refusal}"
    );
    assert!(refusal.contains("`etcdctl del isthmus/v1/auth`") && refusal.contains("expected value"), "{refusal}");
    assert_eq!(Op::Put("k", "v").run(&mut root).await, "ok", "what root had before");
    // The way out that the refusal names.
    assert_eq!(Op::Delete("isthmus/v1/auth").run(&mut admin).await, "ok 1");
    until("nobody", || async { refused(&server, &leaf).await.then_some(()) }).await;
    assert_eq!(Op::UserList.run(&mut admin).await, "ok []");
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_outlive_a_restart() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let ca = certs::RootCa::load(&server.state("ca"), &mesh_types::ClusterName::new("east").unwrap()).unwrap();
    let root = ca.issue_user("root", day()).unwrap();
    let mut admin = server.etcd(&server.admin_leaf()).await;
    for op in [Op::UserAdd("root"), Op::GrantRole("root", "root"), Op::Enable] {
        assert_eq!(op.run(&mut admin).await, "ok", "{op:?}");
    }
    let server = server.restart().await;
    until("root", || async { (!refused(&server, &root).await).then_some(()) }).await;
    let mut root = server.etcd(&root).await;
    assert_eq!(Op::Put("k", "v").run(&mut root).await, "ok");
    assert_eq!(Op::UserList.run(&mut root).await, "ok [\"root\"]");
    server.app.stop().await;
}

/// The watch's next message; `None` when it has ended.
async fn next(watch: &mut WatchStream) -> Option<WatchResponse> {
    tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").ok().flatten()
}

/// True when the handshake fails, or nothing may be read.
async fn refused(server: &Server, leaf: &certs::Leaf) -> bool {
    let tls = certs::client::tonic_config(&server.bundle(), leaf, "localhost");
    let options = etcd_client::ConnectOptions::new().with_tls(tls);
    let Ok(mut client) = etcd_client::Client::connect([format!("https://{}", server.app.etcd)], Some(options)).await
    else {
        return true;
    };
    client.get("app/k", None).await.is_err()
}
