//! South asks for what is not its own, in every way that etcd's API has.

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, WatchOptions};
use tonic::Code;

use super::reader::{Reader, leaf};
use super::{ADDRESS, Mesh};
use crate::harness::PATIENCE;

const DENIED: &str = "etcdserver: permission denied";

/// Start and end of ranges that no remote cluster may ask for.
const RANGES: [(&str, &str); 13] = [
    ("isthmus/v1/audience/", "isthmus/v1/audience0"),
    ("isthmus/v1/audience/west/", "isthmus/v1/audience/west0"),
    ("isthmus/v1/audience/west/cilium/state/ip/v1/default/10.1.0.9", ""),
    // Not even its own audience by that name.
    ("isthmus/v1/audience/south/", "isthmus/v1/audience/south0"),
    ("isthmus/v1/exchange", ""),
    // From what it may read into what it may not.
    ("cilium/state/", "isthmus/v1/audience/west0"),
    ("cilium/state/ip/", "cilium/synced/"),
    ("cilium/state", "cilium/state0"),
    ("isthmus/v1/audience/west/cilium/state/", "isthmus/v1/export0"),
    // Everything from there on, and everything.
    ("cilium/state/", "\0"),
    ("\0", "\0"),
    ("\0", "zzz"),
    ("isthmus/v1/audience/west/\0", "\0"),
];

fn code(error: etcd_client::Error) -> (Code, String) {
    let etcd_client::Error::GRpcStatus(status) = error else { panic!("{error}") };
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_the_admin_can_name_where_an_audiences_keys_are_kept() {
    let mesh = Mesh::start("west").await;
    let mut south = Reader::of(&mesh.south, &mesh.east).await;
    for (from, end) in RANGES {
        for options in [GetOptions::new(), GetOptions::new().with_count_only(), GetOptions::new().with_serializable()] {
            let refused = south.client.get(from, Some(options.with_range(end))).await.unwrap_err();
            assert_eq!(code(refused), (Code::PermissionDenied, DENIED.to_owned()), "{from:?} to {end:?}");
        }
        let options = WatchOptions::new().with_range(end).with_start_revision(1).with_prev_key();
        let mut watch = south.client.watch(from, Some(options)).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
        assert_eq!((answer.canceled(), answer.cancel_reason()), (true, DENIED), "{from:?} to {end:?}");
        let read = Txn::new().and_then([TxnOp::get(from, Some(GetOptions::new().with_range(end)))]);
        let refused = south.client.txn(read).await.unwrap_err();
        assert_eq!(code(refused).0, Code::PermissionDenied, "{from:?} to {end:?}");
    }
    // Ranges that hold nothing, at the edges of what it may read.
    let edges = ["cilium/state/\u{7f}", "cilium/stat\u{7f}"].map(|from| (from, "cilium/state0"));
    for (from, end) in edges.into_iter().chain([("cilium/state/z", "cilium/state/a"), (ADDRESS, "")]) {
        let answer = south.get(from, GetOptions::new().with_range(end)).await;
        assert_eq!((answer.count(), answer.kvs().len(), answer.more()), (0, 0, false), "{from:?} to {end:?}");
    }
    let mut admin = mesh.east.etcd(&mesh.east.admin_leaf()).await;
    let kept = admin.get(format!("isthmus/v1/audience/west/{ADDRESS}"), None).await.unwrap();
    assert_eq!(kept.count(), 1, "it is there to be found");
    south.list().await;
    south.assert_saw_nothing_hidden();
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_snapshots_and_compactions_are_no_way_around() {
    let mesh = Mesh::start("west").await;
    let mut south = Reader::of(&mesh.south, &mesh.east).await;
    let value_of = |key: &str| Compare::value(key, CompareOp::NotEqual, "x");
    let probes = [
        // Whether a branch was taken would tell what is there.
        Txn::new().when([value_of(ADDRESS)]),
        Txn::new().when([Compare::version(ADDRESS, CompareOp::Greater, 0)]),
        Txn::new().and_then([TxnOp::get("cilium/state/", Some(GetOptions::new().with_prefix()))]),
        Txn::new().and_then([TxnOp::txn(Txn::new().or_else([TxnOp::get(ADDRESS, None)]))]),
    ];
    for probe in probes {
        let (code, text) = code(south.client.txn(probe).await.unwrap_err());
        assert_eq!(code, Code::Unimplemented, "{text}");
        assert!(text.contains("Range and Watch show them"), "{text}");
    }
    let audience = format!("isthmus/v1/audience/west/{ADDRESS}");
    let compare = Txn::new().when([Compare::version(audience, CompareOp::Greater, 0)]);
    assert_eq!(code(south.client.txn(compare).await.unwrap_err()).0, Code::PermissionDenied);
    let refusals = [
        south.client.compact(2, None).await.map(drop),
        south.client.put("isthmus/v1/audience/south/cilium/state/x", "", None).await.map(drop),
        south.client.put("cilium/state/x", "", None).await.map(drop),
        south.client.delete("cilium/state/x", None).await.map(drop),
        south.client.lease_grant(60, None).await.map(drop),
        south.client.leases().await.map(drop),
        south.client.hash_kv(0).await.map(drop),
    ];
    for refused in refusals {
        assert_eq!(code(refused.unwrap_err()).0, Code::PermissionDenied);
    }
    let snapshot = match south.client.snapshot().await {
        Err(error) => error,
        Ok(mut stream) => stream.message().await.unwrap_err(),
    };
    assert_eq!(code(snapshot).0, Code::PermissionDenied);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_calls_itself_remote_is_known_by_its_ca() {
    let mesh = Mesh::start("west").await;
    for (cluster, is_shown) in [(&mesh.west, true), (&mesh.south, false)] {
        let mut reader = Reader::of(cluster, &mesh.east).await;
        reader.client = mesh.east.etcd(&leaf(cluster, true)).await;
        assert_eq!(reader.list().await.contains(&ADDRESS.to_owned()), is_shown, "{}", cluster.name);
        let mut watching = reader.watch(1).await;
        mesh.mark(if is_shown { "10.1.0.3" } else { "10.1.0.4" });
        reader.follow(&mut watching, |seen| seen == "+cilium/state/ip/v1/default/10.1.0.3").await;
        if !is_shown {
            reader.assert_saw_nothing_hidden();
        }
    }
    mesh.stop().await;
}
