//! Three replicas with one CA folder.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::members::{Plan, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_go_over_together_while_every_write_succeeds() {
    let plan = Plan::new(3);
    let replicas = plan.start_three().await;
    let old = replicas[1].bundle().hashes()[0];
    let agent = Agent::that_keeps_its_leaf(&replicas[0], "e1", vec![replicas[0].app.mesh.to_string()]).await;
    // A client goes on by its leaf for as long as that is trusted, and by a fresh one from the switch on.
    let by_old = Writer::start(&replicas[1]).await;
    begin(&replicas[2]).await;
    let new = until_stage(&replicas[0], "switch").await.new_ca;
    until("a leaf of the new CA", || async {
        let issuer = replicas[1].bundle().issuer_of(&replicas[1].admin_leaf())?;
        (issuer != old && issuer.to_string() == new).then_some(())
    })
    .await;
    until("the agent alone is awaited", || async {
        let awaited = rotation(&replicas[0]).await.awaited;
        matches!(&awaited[..], [one] if one.party == "agent e1" && one.what.contains("still presents")).then_some(())
    })
    .await;
    let by_new = Writer::start(&replicas[1]).await;
    by_old.written_without_failure().await;
    drop(agent);
    until_stage(&replicas[0], "done").await;
    by_new.written_without_failure().await;
    let mut admin = replicas[0].etcd(&replicas[0].admin_leaf()).await;
    admin.put("after", "value", None).await.expect("the store takes writes by the new CA's leaves");
    for replica in &replicas {
        let held = certificates(replica).await;
        assert!(held.silent.is_empty(), "{held:?}");
        let leaves = held.certificates.iter().filter(|row| !row.is_ca);
        assert_eq!(leaves.clone().count(), 9, "three of each replica");
        assert!(leaves.clone().all(|row| row.ca == new), "{held:?}");
    }
    for replica in replicas {
        replica.app.stop().await;
    }
}

/// A client of one replica that writes until it is asked.
struct Writer {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(usize, Vec<String>)>,
}

impl Writer {
    /// By the administrator's leaf as it is now.
    async fn start(replica: &Server) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        tasks.spawn(write(replica.etcd(&replica.admin_leaf()).await, Arc::clone(&stop)));
        Self { stop, tasks }
    }

    async fn written_without_failure(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (written, failures) = self.tasks.join_next().await.expect("one was started").expect("it goes on");
        assert!(written > 0);
        assert_eq!(failures, [""; 0], "of {written} writes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_away_holds_the_rotation_and_is_named_until_it_is_back() {
    let plan = Plan::new(3);
    let [first, second, third] = plan.start_three().await;
    let Server { name, id, dir, app, more_flags } = third;
    app.stop().await;
    until("replica 3 is missed", || async {
        certificates(&first).await.silent.iter().any(|party| party.party == "replica 3").then_some(())
    })
    .await;
    begin(&first).await;
    until("replica 3 alone is awaited", || async {
        let rotation = rotation(&second).await;
        let is_awaited = matches!(&rotation.awaited[..], [one] if one.party == "replica 3");
        (rotation.stage == "distribute" && is_awaited).then_some(())
    })
    .await;
    let third = Server::start_at(name, id, dir, more_flags).await;
    until_stage(&first, "done").await;
    for server in [first, second, third] {
        server.app.stop().await;
    }
}
