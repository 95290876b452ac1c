//! One backend of a large Service comes and goes: bytes on an agent's stream, and how long it takes.

use anyhow::Result;
use mesh_types::view::Key;

use super::bootstrap::{PATIENCE, begin, follow};
use super::{Plan, Results};
use crate::bench::stats::{median, rounded};
use crate::mock::Shape;

pub(super) async fn measure(plan: &Plan, results: &mut Results) -> Result<()> {
    let scale = &plan.scale;
    let shape = Shape { nodes: 100, identities: 1, endpoints: 1, backends: scale.backends, cached: false };
    let (server, mut peers) = begin(plan, "backends", 1, 1, shape)?;
    let agent = follow(&server, "bench-0").await?;
    server.join(&peers.records()?).await?;
    let all = scale.backends as usize;
    let backends = |seen: &super::Seen| seen.keys.iter().filter(|key| matches!(key, Key::Backend { .. })).count();
    agent.until("backends", PATIENCE, |seen| backends(seen) == all).await?;
    let whole = agent.look(|seen| seen.keys.len());
    let before = agent.look(|seen| seen.bytes);
    let mut took = Vec::new();
    for n in 0..scale.backend_changes {
        let written = peers.tell("backend 1")?;
        // Gone, there again, gone, ...
        let want = if n % 2 == 0 { whole - 1 } else { whole };
        agent.until("change of a backend", PATIENCE, |seen| seen.keys.len() == want).await?;
        let nanos = agent.look(|seen| seen.moved_unix_nanos).saturating_sub(written);
        took.push(f64::from(u32::try_from(nanos).unwrap_or(u32::MAX)) / 1e6);
    }
    let bytes = u32::try_from(agent.look(|seen| seen.bytes) - before)?;
    results.bytes_per_backend_change = Some(rounded(f64::from(bytes) / f64::from(scale.backend_changes)));
    results.backend_change_p50_ms = Some(rounded(median(&mut took)));
    drop(peers);
    server.end()
}
