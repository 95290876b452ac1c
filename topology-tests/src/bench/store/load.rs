//! A closed loop: so many clients, each with one call outstanding, over one HTTP/2 connection per ten clients, which are
//! spread over all members.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Compare, CompareOp, Error, GetOptions, KvClient, Txn, TxnOp};
use rand::{Rng as _, RngCore as _};
use tokio::task::JoinSet;

use super::figures::Figures;
use super::group::Group;

/// Keys repeat within so many.
pub(super) const KEYS: u32 = 10_000;
const VALUE_BYTES: usize = 256;
const CLIENTS_PER_CONNECTION: usize = 10;

#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Put,
    /// Puts one key of a pair or the other, by what exists.
    Txn,
    /// So many consecutive keys.
    Range {
        keys: u32,
        serializable: bool,
    },
}

/// What one round led to.
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) latencies_ms: Vec<f64>,
    pub(super) figures: Figures,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
    pub(super) fn calls(&self) -> f64 {
        self.latencies_ms.len() as f64
    }

    pub(super) fn per_second(&self) -> f64 {
        self.calls() / self.seconds
    }
}

/// `first` is the member that the first connection goes to: with few clients each round has other ones.
pub(super) async fn run(group: &Group, call: Call, clients: usize, time: Duration, first: usize) -> Result<Round> {
    let connections = group.connections(clients.div_ceil(CLIENTS_PER_CONNECTION), first).await?;
    let before = group.figures().await?;
    let started = Instant::now();
    let until = started + time;
    let mut tasks = JoinSet::new();
    for n in 0..clients {
        let mut client = connections[n % connections.len()].kv_client();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let sent = Instant::now();
                call.make(&mut client).await?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, Error>(latencies)
        });
    }
    let mut latencies_ms = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies_ms.extend(done.context("a client task ended")?.with_context(|| format!("{call:?}"))?);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Round { seconds, latencies_ms, figures: group.figures().await?.since(&before) })
}

impl Call {
    async fn make(self, client: &mut KvClient) -> Result<(), Error> {
        match self {
            Self::Put => client.put(some_key(KEYS), value(), None).await.map(drop),
            Self::Txn => {
                let (one, other) = (some_key(KEYS), some_key(KEYS));
                let txn = Txn::new()
                    .when([Compare::create_revision(one.clone(), CompareOp::Greater, 0)])
                    .and_then([TxnOp::put(one, value(), None)])
                    .or_else([TxnOp::put(other, value(), None)]);
                client.txn(txn).await.map(drop)
            }
            Self::Range { keys, serializable } => {
                let mut options = GetOptions::new();
                if keys > 1 {
                    options = options.with_range(key(KEYS)).with_limit(i64::from(keys));
                }
                if serializable {
                    options = options.with_serializable();
                }
                client.get(some_key(KEYS - keys + 1), Some(options)).await.map(drop)
            }
        }
    }
}

pub(super) fn key(number: u32) -> String {
    format!("bench/{number:08}")
}

fn some_key(below: u32) -> String {
    key(rand::rng().random_range(0..below))
}

/// Random, so that nothing can make it smaller.
pub(super) fn value() -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    rand::rng().fill_bytes(&mut value);
    value
}

/// A value that many share.
pub(super) fn shared_value() -> Arc<[u8]> {
    value().into()
}
