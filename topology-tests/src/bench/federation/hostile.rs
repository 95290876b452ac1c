//! One peer misbehaves: how much later do the changes of all the others arrive?

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::agent::Agent;
use super::bootstrap::{PATIENCE, begin, follow};
use super::peers::Peers;
use super::{Plan, Results};
use crate::bench::stats::{median, percentile, rounded};

/// A behaviour, as `mesh-mock` is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "lowercase")]
pub enum Trouble {
    Garbage,
    Flood,
    Stall,
    Replay,
}

/// What one did to the others.
///
/// A p99 is the median of those of the windows: what lasts is in most of them, while a disk that stalls once, in the calm or
/// in the trouble, decides neither.
#[derive(Debug, Clone, Serialize)]
pub struct Harm {
    /// In the calm, half of it before and half of it after.
    pub calm_p99_ms: f64,
    /// While it lasted.
    pub p99_ms: f64,
    /// `p99_ms / calm_p99_ms`.
    pub ratio: f64,
    /// Of all changes at once, in the calm and while it lasted.
    pub calm_p99_of_all_ms: f64,
    pub p99_of_all_ms: f64,
    /// Changes of the others that arrived while it lasted, and how many were made.
    pub seen: usize,
    pub made: usize,
}

/// Windows in the whole time, and in the calm.
const WINDOWS: u32 = 6;

impl Trouble {
    /// The command that begins it.
    pub fn command(self, cluster: u32, per_second: u32) -> String {
        match self {
            Self::Garbage | Self::Flood => format!("behave {cluster} {self} {per_second}"),
            Self::Stall | Self::Replay => format!("behave {cluster} {self}"),
        }
    }
}

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    use strum::IntoEnumIterator as _;
    let scale = &plan.scale;
    let clusters = scale.hostile_clusters;
    let (server, mut peers) = begin(plan, "hostile", 1, clusters, scale.shape)?;
    let agent = follow(&server, "bench-0").await?;
    server.join(&peers.records()?).await?;
    server.wait_until_live(0, clusters as usize, PATIENCE).await?;
    peers.tell(&format!("churn {} {}", scale.churn_per_second, clusters - 1))?;
    for trouble in Trouble::iter() {
        let command = trouble.command(clusters, scale.hostile_per_second);
        let harm = harm(&mut peers, &agent, &command, clusters, scale.churn_per_second, scale.hostile).await?;
        results.hostile.insert(trouble.to_string(), harm);
        server.wait_until_live(0, clusters as usize, PATIENCE).await?;
    }
    drop(peers);
    server.end()
}

/// The last cluster's behaviour, beside the calm before and after it, while all the others change as they do.
pub async fn harm(
    peers: &mut Peers,
    agent: &Agent,
    command: &str,
    hostile: u32,
    per_second: u32,
    lasting: Duration,
) -> Result<Harm> {
    let window = lasting / WINDOWS;
    let mut calm = Windows::default();
    calm.watch(agent, hostile, window, WINDOWS / 2).await;
    peers.tell(command)?;
    let mut troubled = Windows::default();
    troubled.watch(agent, hostile, window, WINDOWS).await;
    peers.tell(&format!("behave {hostile} calm"))?;
    // What is still on its way belongs to neither.
    drop(others(agent, hostile, window / 2).await);
    calm.watch(agent, hostile, window, WINDOWS / 2).await;
    let (calm_p99, p99) = (calm.p99(), troubled.p99());
    let made = (u128::from(per_second) * lasting.as_millis() / 1000) as usize;
    Ok(Harm {
        calm_p99_ms: rounded(calm_p99),
        p99_ms: rounded(p99),
        ratio: rounded(p99 / calm_p99),
        calm_p99_of_all_ms: rounded(calm.p99_of_all()),
        p99_of_all_ms: rounded(troubled.p99_of_all()),
        seen: troubled.0.iter().map(Vec::len).sum(),
        made,
    })
}

/// Ages of changes, by the window in which they came.
#[derive(Default)]
struct Windows(Vec<Vec<f64>>);

impl Windows {
    async fn watch(&mut self, agent: &Agent, but: u32, window: Duration, times: u32) {
        for _ in 0..times {
            self.0.push(others(agent, but, window).await);
        }
    }

    fn p99(&mut self) -> f64 {
        let mut each: Vec<f64> = self.0.iter_mut().map(|window| percentile(window, 99.0)).collect();
        median(&mut each)
    }

    fn p99_of_all(&self) -> f64 {
        percentile(&mut self.0.concat(), 99.0)
    }
}

/// How old the changes of all but one cluster are as they come, for a time.
async fn others(agent: &Agent, but: u32, lasting: Duration) -> Vec<f64> {
    drop(agent.take_ages());
    tokio::time::sleep(lasting).await;
    let but = format!("mock-{but}");
    agent.take_ages().into_iter().filter(|(cluster, _)| *cluster != but).flat_map(|(_, ages)| ages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_window_in_which_the_disk_stalled_does_not_decide_and_all_of_them_do() {
        let with = |stalled: usize| {
            let windows = (0..6).map(|n| vec![if n < stalled { 50.0 } else { 5.0 }; 100]);
            let mut windows = Windows(windows.collect());
            (windows.p99(), windows.p99_of_all())
        };
        assert_eq!(with(1), (5.0, 50.0));
        assert_eq!(with(4), (50.0, 50.0));
    }
}
