//! The same churn among few and many clusters: what a change costs must not grow with how many there are.

use std::time::Duration;

use anyhow::Result;

use super::bootstrap::{PATIENCE, begin, churn, follow};
use super::figures;
use super::{Plan, Results};
use crate::bench::stats::{median, percentile, rounded};

/// How long the server is looked at while nothing changes.
const IDLE: Duration = Duration::from_secs(10);

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    let scale = &plan.scale;
    let most = scale.steps.iter().copied().max().unwrap_or(1);
    let (server, mut peers) = begin(plan, "clusters", 1, most, scale.shape)?;
    let agent = follow(&server, "bench-0").await?;
    let records = peers.records()?;
    let each = (1 + scale.shape.nodes + scale.shape.identities + scale.shape.endpoints) as usize;
    let mut joined = 0;
    for step in &scale.steps {
        let count = *step as usize;
        server.join(&records[joined..count]).await?;
        joined = count;
        agent.until("view of the clusters", PATIENCE, |seen| seen.keys.len() > count * each).await?;
        server.wait_until_live(0, count, PATIENCE).await?;
        let pid = server.pid(0)?;
        let start = figures::cpu_seconds(pid)?;
        tokio::time::sleep(IDLE.min(scale.churn)).await;
        let idle = (figures::cpu_seconds(pid)? - start) / IDLE.min(scale.churn).as_secs_f64();
        let start = figures::cpu_seconds(pid)?;
        let mut ages = churn(&mut peers, &agent, scale.churn_per_second, *step, scale.churn).await?;
        let took = scale.churn.mul_f64(1.1).as_secs_f64();
        let busy = figures::cpu_seconds(pid)? - start - idle * took;
        let changes = f64::from(scale.churn_per_second) * took;
        results.cpu_us_per_change_by_clusters.insert(*step, rounded(busy / changes * 1e6));
        results.change_p50_ms_by_clusters.insert(*step, rounded(median(&mut ages)));
        results.change_p99_ms_by_clusters.insert(*step, rounded(percentile(&mut ages, 99.0)));
    }
    drop(peers);
    server.end()
}
