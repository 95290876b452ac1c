//! Taken back at each stage, and restarted at each stage.

use super::*;

/// Waits until only the CA of before is trusted, by the peer too, and presented by all.
async fn until_as_before(east: &Server, west: &Server, old: &str) {
    let aborted = until_stage(east, "aborted").await;
    assert_eq!(aborted.old_ca, old);
    let old = BTreeSet::from([old.to_owned()]);
    until("the peer drops the new CA", || async { (trusted_for_peer(west).await == old).then_some(()) }).await;
    let rows = certificates(east).await.certificates;
    let own = rows.iter().filter(|row| !row.holder.starts_with("peer "));
    let cas: BTreeSet<String> = own.map(|row| row.ca.clone()).collect();
    assert_eq!(cas, old, "{rows:?}");
    for server in [east, west] {
        until_live(server).await;
        assert_eq!(server.status().await.peers[0].relists, 0);
    }
    assert!(!east.state("ca").join("next").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_taken_back_from_each_stage_before_the_last() {
    let (east, west) = joined().await;
    let old = east.bundle().hashes()[0].to_string();
    // A node whose agent is away holds the first stage.
    let agent = Agent::start(&east, "e1", vec![east.app.mesh.to_string()]).await;
    let request = v1::RegisterRequest { wireguard_key: vec![1; 32].into(), ..Default::default() };
    east.agent(agent.leaf.get()).register(request).await.unwrap();
    drop(agent);
    until("the agent is away", || async { (!certificates(&east).await.silent.is_empty()).then_some(()) }).await;
    let begun = begin(&east).await;
    until("the agent alone is awaited", || async {
        let awaited = rotation(&east).await.awaited;
        matches!(&awaited[..], [one] if one.party == "agent e1" && one.what.contains("is not connected")).then_some(())
    })
    .await;
    assert_eq!(abort(&east).await.unwrap().stage, "aborted");
    until_as_before(&east, &west, &old).await;

    // With the agent there it goes on; a new key each time.
    let agent = Agent::start(&east, "e1", vec![east.app.mesh.to_string()]).await;
    let mut keys = BTreeSet::from([begun.new_ca]);
    for stage in ["overlap", "switch"] {
        assert!(keys.insert(begin(&east).await.new_ca));
        until_stage(&east, stage).await;
        let aborted = abort(&east).await.unwrap();
        assert_eq!(aborted.stage, if stage == "switch" { "revert" } else { "aborted" });
        until_as_before(&east, &west, &old).await;
        until("the agent drops the new CA", || async { (agent.trust.get().len() == 1).then_some(()) }).await;
    }
    // And the last one goes through.
    begin(&east).await;
    until_stage(&east, "done").await;
    let late = abort(&east).await.unwrap_err();
    assert!(late.message().contains("there is nothing to abort"), "{late}");
    east.app.stop().await;
    west.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_at_each_stage_finishes_the_rotation() {
    let (mut east, west) = joined().await;
    let new = begin(&east).await.new_ca;
    for stage in ["distribute", "overlap", "switch", "retire"] {
        // Some pass before they are seen.
        let started = std::time::Instant::now();
        while rotation(&east).await.stage != stage && started.elapsed() < Duration::from_secs(12) {
            if rotation(&east).await.is_over {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        east = east.restart().await;
        east.ready().await;
    }
    until_stage(&east, "done").await;
    for server in [&east, &west] {
        until_live(server).await;
        assert_eq!(server.status().await.peers[0].relists, 0);
    }
    // A server that starts exports for a moment the CAs of the stage before, which the peer takes over and drops again.
    let new = BTreeSet::from([new]);
    until("the peer trusts the new CA alone", || async { (trusted_for_peer(&west).await == new).then_some(()) }).await;
    east.app.stop().await;
    west.app.stop().await;
}
