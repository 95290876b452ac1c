//! Killed and started again on many keys: the time from the start of the processes until they answer linearizable reads.
//!
//! The page cache stays warm in both. One member of a group that goes on, and all of a group at once. And the memory of all
//! their processes, when the keys have just been put and when they have been read from disk.

use std::time::Instant;

use anyhow::Result;

use super::group::REPLICAS;
use super::load::{key, value};
use super::pair::Pair;
use super::row::Row;
use super::{Scale, fill};

/// Seconds within which a group with a million keys is to serve.
const AIM: f64 = 5.0;

/// What the processes of a group may take for so many keys: 1.5 times the bytes that were put, and 100 a key.
#[expect(clippy::cast_precision_loss, reason = "a million, and small numbers")]
fn allowed_mib(keys: usize) -> f64 {
    let a_key = 1.5 * (key(0).len() + value().len()) as f64 + 100.0;
    (REPLICAS * keys) as f64 * a_key / f64::from(1 << 20)
}

pub(super) async fn run(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let keys = scale.restart_keys;
    let what = format!("restart: put {keys} keys");
    let filled = pair.alternate(&what, 1, async |group, _| {
        let started = Instant::now();
        fill::run(group, keys, 0).await?;
        #[expect(clippy::cast_precision_loss, reason = "a million")]
        let per_second = keys as f64 / started.elapsed().as_secs_f64();
        Ok((per_second, group.resident_mib()?))
    });
    let filled = filled.await?;
    let one = pair.alternate("restart: one member", scale.rounds, async |group, _| {
        let member = (group.leader().await? + 1) % REPLICAS;
        group.kill(member)?;
        let started = Instant::now();
        group.spawn(member)?;
        group.wait_until_member_serves(member).await?;
        Ok(started.elapsed().as_secs_f64())
    });
    let one = one.await?;
    let all = pair.alternate("restart: all members", scale.rounds, async |group, _| {
        (0..REPLICAS).try_for_each(|member| group.kill(member))?;
        let started = Instant::now();
        (0..REPLICAS).try_for_each(|member| group.spawn(member))?;
        group.wait_until_serving().await?;
        Ok((started.elapsed().as_secs_f64(), group.resident_mib()?))
    });
    let all = all.await?;
    let allowed = allowed_mib(keys).floor();
    let small = |row: Row| row.aiming(format!("isthmus <= {allowed} MiB"), |row| row.isthmus <= allowed);
    let aiming = |row: Row| row.aiming(format!("isthmus <= {AIM} s"), |row| row.isthmus <= AIM);
    Ok(vec![
        Row::new("fill-in-txns-of-100", keys, "keys/s", filled.map(|(per_second, _)| *per_second)),
        small(Row::new("memory-of-all-members", keys, "MiB", filled.map(|(_, mib)| *mib))),
        small(Row::new("memory-after-restart", keys, "MiB", all.map(|(_, mib)| *mib))),
        aiming(Row::new("restart-one-member", keys, "s", one)),
        aiming(Row::new("restart-all-members", keys, "s", all.map(|(seconds, _)| *seconds))),
    ])
}
