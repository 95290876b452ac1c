//! Taking turns: `Lock` and `Election`, through etcd-client.

use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions, LeaderKey, LockOptions, ProclaimOptions, ResignOptions};
use tonic::Code;

use super::{DEADLINE, Served, status};

async fn lease(client: &mut Client) -> i64 {
    client.lease_grant(60, None).await.unwrap().id()
}

fn held_by(lease: i64) -> LockOptions {
    LockOptions::new().with_lease(lease)
}

/// Waits until so many keys are below the prefix.
async fn until_queued(client: &mut Client, prefix: &str, count: i64) {
    let started = Instant::now();
    loop {
        let options = GetOptions::new().with_prefix().with_count_only();
        if client.get(prefix, Some(options)).await.unwrap().count() == count {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{count} keys below {prefix}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_passes_in_the_order_in_which_it_was_asked_for() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let first = lease(&mut client).await;
    let held = client.lock("job", Some(held_by(first))).await.unwrap();
    assert_eq!(held.key(), format!("job/{first:x}").as_bytes(), "etcd's key");
    let again = client.lock("job", Some(held_by(first))).await.unwrap();
    assert_eq!(again.key(), held.key(), "who has it has it");

    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for waiter in 0..3 {
        let mut own = client.clone();
        let (lease, tell) = (lease(&mut client).await, tell.clone());
        tokio::spawn(async move {
            let lock = own.lock("job", Some(held_by(lease))).await.unwrap();
            tell.send((waiter, lock.key().to_vec())).unwrap();
        });
        until_queued(&mut client, "job/", waiter + 2).await;
    }
    assert!(told.try_recv().is_err(), "one at a time");
    let mut key = held.key().to_vec();
    for waiter in 0..3 {
        client.unlock(key).await.unwrap();
        let (next, next_key) = tokio::time::timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
        assert_eq!(next, waiter);
        assert!(told.try_recv().is_err(), "one at a time");
        key = next_key;
    }
    // A lock that brings no lease gets one, and so goes with its client.
    client.unlock(key).await.unwrap();
    let unbound = client.lock("job", None).await.unwrap();
    let kv = client.get(unbound.key(), None).await.unwrap().kvs()[0].clone();
    assert_eq!(unbound.key(), format!("job/{:x}", kv.lease()).as_bytes());
    assert_eq!(client.lease_time_to_live(kv.lease(), None).await.unwrap().granted_ttl(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_while_waiting_leaves_the_queue() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let first = lease(&mut client).await;
    client.lock("job", Some(held_by(first))).await.unwrap();
    let (mut impatient, second) = (client.clone(), lease(&mut client).await);
    let waiting = tokio::spawn(async move { impatient.lock("job", Some(held_by(second))).await });
    until_queued(&mut client, "job/", 2).await;
    waiting.abort();
    until_queued(&mut client, "job/", 1).await;
    assert_eq!(client.lease_time_to_live(second, None).await.unwrap().granted_ttl(), 60, "its lease is its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_needs_a_lease_that_lives() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let refused = client.lock("job", Some(held_by(4711))).await.unwrap_err();
    assert_eq!(status(refused), (Code::NotFound, "etcdserver: requested lease not found".to_owned()));
    let first = lease(&mut client).await;
    let held = client.lock("job", Some(held_by(first))).await.unwrap();
    let (mut own, second) = (client.clone(), lease(&mut client).await);
    let waiting = tokio::spawn(async move { own.lock("job", Some(held_by(second))).await });
    until_queued(&mut client, "job/", 2).await;
    client.lease_revoke(second).await.unwrap();
    client.unlock(held.key()).await.unwrap();
    let expired = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(status(expired), (Code::Unknown, "mutex: session is expired".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_has_one_leader_whose_words_are_observed_in_order() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let nobody = client.leader("seat").await.unwrap_err();
    assert_eq!(status(nobody), (Code::Unknown, "election: no leader".to_owned()));
    let mut observed = client.observe("seat").await.unwrap();

    let first = lease(&mut client).await;
    let won = client.campaign("seat", "one", first).await.unwrap();
    let leader: LeaderKey = won.leader().unwrap().clone();
    assert_eq!(leader.key(), format!("seat/{first:x}").as_bytes());
    assert_eq!((leader.name(), leader.lease()), (&b"seat"[..], first));
    let shown = client.leader("seat").await.unwrap();
    assert_eq!((shown.kv().unwrap().value(), shown.kv().unwrap().create_revision()), (&b"one"[..], leader.rev()));

    let (mut own, second) = (client.clone(), lease(&mut client).await);
    let waiting = tokio::spawn(async move { own.campaign("seat", "two", second).await });
    until_queued(&mut client, "seat/", 2).await;
    let as_leader = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("one and a half", Some(as_leader.clone())).await.unwrap();
    client.resign(Some(ResignOptions::new().with_leader(leader.clone()))).await.unwrap();
    let next = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(next.leader().unwrap().key(), format!("seat/{second:x}").as_bytes());

    let mut words = Vec::new();
    while words.last().is_none_or(|word| word != "two") {
        let answer = tokio::time::timeout(DEADLINE, observed.message()).await.unwrap().unwrap().unwrap();
        words.push(answer.kv().unwrap().value_str().unwrap().to_owned());
    }
    assert_eq!(words, ["one", "one and a half", "two"]);
    let late = client.proclaim("three", Some(as_leader)).await.unwrap_err();
    assert_eq!(status(late), (Code::Unknown, "election: not leader".to_owned()));
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    let unnamed = client.proclaim("four", None).await.unwrap_err();
    assert_eq!(status(unnamed), (Code::Unknown, "\"leader\" field must be provided".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_campaign_with_the_same_lease_changes_the_word() {
    let mut served = Served::start().await;
    let mut client = served.client().await;
    let lease = lease(&mut client).await;
    let first = client.campaign("seat", "one", lease).await.unwrap();
    let second = client.campaign("seat", "two", lease).await.unwrap();
    assert_eq!(first.leader().unwrap().rev(), second.leader().unwrap().rev());
    assert_eq!(client.leader("seat").await.unwrap().kv().unwrap().value(), b"two");
}
