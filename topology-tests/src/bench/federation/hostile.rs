//! One peer misbehaves: how much later do the changes of all the others arrive?

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::agent::Agent;
use super::bootstrap::{PATIENCE, begin, follow};
use super::peers::Peers;
use super::{Plan, Results};
use crate::bench::stats::{percentile, rounded};

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
#[derive(Debug, Clone, Serialize)]
pub struct Harm {
    /// In the calm before.
    pub calm_p99_ms: f64,
    /// While it lasted.
    pub p99_ms: f64,
    /// `p99_ms / calm_p99_ms`.
    pub ratio: f64,
    /// Changes of the others that arrived while it lasted, and how many were made.
    pub seen: usize,
    pub made: usize,
}

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

/// The last cluster's behaviour, beside the calm before it, while all the others change as they do.
pub async fn harm(
    peers: &mut Peers,
    agent: &Agent,
    command: &str,
    hostile: u32,
    per_second: u32,
    lasting: Duration,
) -> Result<Harm> {
    let mut calm = others(agent, hostile, lasting / 2).await;
    peers.tell(command)?;
    let mut troubled = others(agent, hostile, lasting).await;
    peers.tell(&format!("behave {hostile} calm"))?;
    let (calm_p99, p99) = (percentile(&mut calm, 99.0), percentile(&mut troubled, 99.0));
    let made = (u128::from(per_second) * lasting.as_millis() / 1000) as usize;
    Ok(Harm {
        calm_p99_ms: rounded(calm_p99),
        p99_ms: rounded(p99),
        ratio: rounded(p99 / calm_p99),
        seen: troubled.len(),
        made,
    })
}

/// How old the changes of all but one cluster are as they come, for a time.
async fn others(agent: &Agent, but: u32, lasting: Duration) -> Vec<f64> {
    drop(agent.take_ages());
    tokio::time::sleep(lasting).await;
    let but = format!("mock-{but}");
    agent.take_ages().into_iter().filter(|(cluster, _)| *cluster != but).flat_map(|(_, ages)| ages).collect()
}
