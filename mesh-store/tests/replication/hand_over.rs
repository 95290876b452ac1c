//! Leadership changes hands on purpose: when asked, before a shutdown, and when that goes wrong.

use std::time::{Duration, Instant};

use mesh_store::Store as _;
use mesh_store::backend::{Error, MemberError};
use mesh_store::mvcc::{self, PutRequest};

use super::FAIL_OVER;
use super::group::{Group, mod_revision, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_request_and_before_the_end() {
    let mut group = Group::of(3, |_| {}).await;
    let leader = group.leader().await;
    let [to, other] = group.ids().into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else { panic!() };
    assert!(matches!(group.store(other).move_leader(9).await, Err(Error::Member(MemberError::BadTransferee))));
    // Asked of a replica that does not lead.
    group.store(other).move_leader(to).await.unwrap();
    assert_eq!(group.leader().await, to);
    let writer = group.store(other);
    put(&writer, "k", "1").await;
    let writing = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        for n in 0..200 {
            let begun = Instant::now();
            put(&writer, format!("k/{n}"), "v").await;
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest
    });
    group.stop(to).await;
    let slowest = writing.await.unwrap();
    println!("a shutdown stopped writes for {slowest:?}");
    assert!(slowest < FAIL_OVER, "{slowest:?}");
    group.kill_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_is_given_up_half_way_leaves_the_leader_at_work() {
    let group = Group::of(3, |_| {}).await;
    let leader = group.leader().await;
    let to = group.follower().await;
    let store = group.store(leader);
    group.isolate(to);
    // The successor lacks this, so the hand-over waits for it with the writes held back.
    put(&store, "k", "1").await;
    let given_up = tokio::time::timeout(Duration::from_millis(200), store.move_leader(to)).await;
    assert!(given_up.is_err(), "{given_up:?}");
    put(&store, "k", "2").await;
    group.kill_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_said_to_be_gone_when_its_end_is_agreed_on_and_not_before() {
    let group = Group::of(3, |_| {}).await;
    let leader = group.leader().await;
    let to = group.follower().await;
    let store = group.store(leader);
    let lease = store.lease_grant(0, 2).await.unwrap().id;
    let granted = Instant::now();
    store.put(PutRequest { lease, ..PutRequest::new("leased", "") }).await.unwrap();
    group.isolate(to);
    put(&store, "k", "1").await;
    // While it lasts, from a second before the lease's end to one after, nothing gets into the log.
    let handing_over = async {
        tokio::time::sleep_until((granted + Duration::from_secs(1)).into()).await;
        store.move_leader(to).await
    };
    let asking = async {
        tokio::time::sleep_until((granted + Duration::from_millis(2100)).into()).await;
        let kept = store.lease_keep_alive(lease).await;
        assert!(matches!(kept, Err(Error::Refused(mvcc::Error::LeaseNotFound))), "{kept:?}");
        assert_eq!(mod_revision(&store, "leased").await, 0, "it was said to be gone, but lives");
        granted.elapsed()
    };
    let (handed, told_after) = tokio::join!(handing_over, asking);
    assert!(handed.is_err(), "the successor cannot be reached");
    println!("a lease of 2 s was said to be gone after {told_after:?}");
    group.kill_all();
}
