//! Many keys on one lease: how fast they are attached, and how long the lease takes to go with all of them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_client::GetOptions;

use super::pair::Pair;
use super::row::Row;
use super::{Scale, fill};

/// Seconds; longer than any run.
const TTL: i64 = 3600;

struct Times {
    attach: f64,
    revoke: f64,
}

pub(super) async fn run(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let keys = scale.lease_keys;
    let what = format!("lease: {keys} keys");
    let times = pair.alternate(&what, scale.rounds, async |group, round| {
        let mut client = group.connect(round % super::group::REPLICAS).await?;
        let lease = client.lease_grant(TTL, None).await.context("grant")?.id();
        let started = Instant::now();
        fill::run(group, keys, lease).await?;
        let attach = started.elapsed().as_secs_f64();
        let started = Instant::now();
        client.lease_revoke(lease).await.context("revoke")?;
        let revoke = started.elapsed().as_secs_f64() * 1e3;
        let options = GetOptions::new().with_prefix().with_count_only();
        let left = client.get("bench/", Some(options)).await.context("count")?.count();
        ensure!(left == 0, "{left} keys are left of a revoked lease");
        Ok(Times { attach, revoke })
    });
    let times = times.await?;
    #[expect(clippy::cast_precision_loss, reason = "a hundred thousand")]
    let per_second = times.map(|times| keys as f64 / times.attach);
    Ok(vec![
        Row::new("lease-attach-in-txns-of-100", keys, "keys/s", per_second),
        Row::new("lease-revoke", keys, "ms", times.map(|times| times.revoke)),
    ])
}
