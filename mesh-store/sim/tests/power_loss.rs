//! Three replicas lose power at once under load: nothing that was acknowledged is lost.
//!
//! kill -9 keeps the page cache; here everything is thrown away that the last completed sync did not cover.
//! `ISTHMUS_POWER_ROUNDS=100` runs more rounds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test an unwrap is an assertion, also outside the test function"
)]

use mesh_store_sim::power;

/// What one CI run does.
const ROUNDS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_replicas_lose_power_at_once_and_nothing_acknowledged_is_lost() {
    let rounds = std::env::var("ISTHMUS_POWER_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let report = power::run(rounds, 1).await.unwrap();
    println!("power loss: {report:?}");
    assert!(report.acknowledged > 10 * rounds as usize, "hardly anything was written");
    assert!(report.lost_bytes > 0, "there was never anything to lose, so nothing was tried");
}
