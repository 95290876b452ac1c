//! Many keys fast: transactions of 100 puts, several under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use etcd_client::{PutOptions, Txn, TxnOp};
use tokio::task::JoinSet;

use super::group::{Group, REPLICAS};
use super::load::{key, value};

const PUTS_PER_TXN: usize = 100;
const TXNS_UNDER_WAY: usize = 24;

/// Puts `keys` keys of the benchmarks, attached to a lease unless that is 0.
pub(super) async fn run(group: &Group, keys: usize, lease: i64) -> Result<()> {
    let connections = group.connections(REPLICAS, 0).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for n in 0..TXNS_UNDER_WAY {
        let mut client = connections[n % connections.len()].kv_client();
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            loop {
                let from = next.fetch_add(PUTS_PER_TXN, Ordering::Relaxed);
                if from >= keys {
                    return Ok::<_, anyhow::Error>(());
                }
                let mut puts = Vec::with_capacity(PUTS_PER_TXN);
                for number in from..keys.min(from + PUTS_PER_TXN) {
                    let options = (lease != 0).then(|| PutOptions::new().with_lease(lease));
                    puts.push(TxnOp::put(key(u32::try_from(number)?), value(), options));
                }
                client.txn(Txn::new().and_then(puts)).await.context("fill the store")?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a filling task ended")??;
    }
    Ok(())
}
