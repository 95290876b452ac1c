//! From a sequence that differs to the shortest part of it that still does.

use std::time::{Duration, Instant};

use anyhow::Result;
use topology_tests::bench::etcd_peer::EtcdPeer;

use crate::op::Op;
use crate::pair::Pair;

/// When it takes longer, what has been found by then is shown.
const SHRINK_FOR: Duration = Duration::from_secs(150);

/// The smallest sequence found and how it differs; `None` when the whole one does not differ on a new pair.
pub(crate) async fn smallest(etcd: &EtcdPeer, ops: &[Op]) -> Result<Option<(Vec<Op>, String)>> {
    let started = Instant::now();
    let Some(mut difference) = differs(etcd, ops).await? else { return Ok(None) };
    let mut ops = ops.to_vec();
    let mut chunk = ops.len().div_ceil(2);
    while chunk > 0 && started.elapsed() < SHRINK_FOR {
        let mut at = 0;
        let mut shorter = false;
        while at < ops.len() && started.elapsed() < SHRINK_FOR {
            let without: Vec<Op> = ops
                .iter()
                .enumerate()
                .filter(|(place, _)| !(at..at + chunk).contains(place))
                .map(|(_, op)| op.clone())
                .collect();
            if let Some(found) = differs(etcd, &without).await? {
                (ops, difference, shorter) = (without, found, true);
            } else {
                at += chunk;
            }
        }
        if !shorter || chunk > 1 {
            chunk /= 2;
        }
    }
    Ok(Some((ops, difference)))
}

async fn differs(etcd: &EtcdPeer, ops: &[Op]) -> Result<Option<String>> {
    let mut pair = Pair::start(etcd).await?;
    let outcome = pair.run(ops).await;
    pair.stop().await;
    Ok(outcome?.err())
}
