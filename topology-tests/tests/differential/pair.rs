//! An etcd and a store of ours that have been asked the same things since they were empty.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use etcd_client::proto::{PbDeleteRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest};
use topology_tests::bench::etcd_peer::EtcdPeer;

use crate::alike::{Answer, ask, level};
use crate::op::Op;
use crate::resolve::Place;
use crate::rpc::Answered;
use crate::servers::{Etcd, Isthmus};
use crate::watches::Watches;

/// Why a sequence ends early.
pub(crate) enum Stop {
    /// The servers differ: what the test is for.
    Differs(String),
    /// The test itself cannot go on.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

pub(crate) struct Pair {
    etcd: Etcd,
    isthmus: Isthmus,
    place: Place,
    /// Revisions that may have deleted a key and made it again. Compacted at just such a one, etcd loses the key's new
    /// version and dies ("range failed to find revision pair") when it is read.
    fragile: BTreeSet<i64>,
    /// Every revision that was compacted at.
    compacted: BTreeSet<i64>,
    pub(crate) tally: Tally,
}

/// What was compared, so that a test that compares nothing is noticed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Refusals by their text.
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) events: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        for (text, count) in other.refusals {
            *self.refusals.entry(text).or_default() += count;
        }
    }
}

impl Pair {
    pub(crate) async fn start(peer: &EtcdPeer) -> Result<Self> {
        let (etcd, isthmus) = tokio::join!(Etcd::start(peer), Isthmus::start());
        Ok(Self {
            etcd: etcd?,
            isthmus: isthmus?,
            place: Place { now: 1, floor: -1 },
            fragile: BTreeSet::new(),
            compacted: BTreeSet::new(),
            tally: Tally::default(),
        })
    }

    pub(crate) async fn stop(self) {
        self.isthmus.stop().await;
    }

    /// Runs a sequence and leaves both stores without keys and leases. The inner error says how they differ.
    pub(crate) async fn run(&mut self, ops: &[Op]) -> Result<std::result::Result<(), String>> {
        match self.sequence(ops).await {
            Ok(()) => Ok(Ok(())),
            Err(Stop::Differs(how)) => match self.etcd.last_words() {
                Some(words) => bail!("{words}\n{how}"),
                None => Ok(Err(how)),
            },
            Err(Stop::Broken(error)) => Err(error)
                .with_context(|| self.etcd.last_words().unwrap_or_else(|| "the sequence broke off".to_owned())),
        }
    }

    async fn sequence(&mut self, ops: &[Op]) -> std::result::Result<(), Stop> {
        let mut watches = Watches::open(&self.etcd.rpc, &self.isthmus.rpc).await?;
        for (n, op) in ops.iter().enumerate() {
            let op = resolved(op, self.place);
            self.step(&op, &mut watches).await.map_err(|stop| match stop {
                Stop::Differs(how) => Stop::Differs(format!("operation {n}, {op:?}\n{how}")),
                broken @ Stop::Broken(_) => broken,
            })?;
        }
        watches.settle(&mut self.place).await?;
        self.tally.events += watches.compared();
        self.compare_everything().await?;
        self.clean().await
    }

    async fn step(&mut self, op: &Op, watches: &mut Watches) -> std::result::Result<(), Stop> {
        match op {
            Op::Watch(watch) => watches.create(watch, self.place).await,
            Op::Cancel { nth } => watches.cancel(*nth, &mut self.place).await,
            Op::Progress => watches.ask_progress(self.place).await,
            Op::Compact(revision) if self.fragile.contains(revision) => Ok(()),
            Op::Compact(revision) => {
                // etcd looks the previous value of an event up when it sends it, and cancels a watch that still lags.
                watches.settle(&mut self.place).await?;
                if self.both(op).await?.is_some() {
                    self.place.floor = *revision;
                    self.compacted.insert(*revision);
                }
                Ok(())
            }
            // etcd remembers the hashes of the revisions that it was compacted at, as they were then; 0 may be one of them.
            Op::HashKv(revision) if self.compacted.contains(revision) => Ok(()),
            Op::Txn(request) => {
                if self.both(op).await?.is_some() && has_open_deletion(request) {
                    self.fragile.insert(self.place.now);
                }
                Ok(())
            }
            _ => self.both(op).await.map(drop),
        }
    }

    /// Asks both and compares; the answer when it was none of refusal.
    async fn both(&mut self, op: &Op) -> std::result::Result<Option<Answer>, Stop> {
        let (etcd, isthmus) = tokio::join!(ask(&self.etcd.rpc, op), ask(&self.isthmus.rpc, op));
        let (etcd, isthmus) = etcd.zip(isthmus).context("every other operation has one answer")?;
        if let Err(refusal) = &etcd {
            *self.tally.refusals.entry(refusal.text.clone()).or_default() += 1;
        }
        let answer = compare(op, etcd, isthmus)?;
        Ok(answer.map(|mut answer| {
            self.place.now = self.place.now.max(answer.revision().unwrap_or(0));
            answer
        }))
    }

    async fn compare_everything(&mut self) -> std::result::Result<(), Stop> {
        for revision in [0, self.place.floor, self.place.now - 10, self.place.now - 50] {
            let request = PbRangeRequest { revision, ..everything() };
            self.both(&Op::Range(request)).await?;
        }
        self.both(&Op::Leases).await.map(drop)
    }

    async fn clean(&mut self) -> std::result::Result<(), Stop> {
        if let Some(Answer::Leases(answer)) = self.both(&Op::Leases).await? {
            for lease in answer.leases {
                self.both(&Op::Revoke { id: lease.id }).await?;
            }
        }
        let PbRangeRequest { key, range_end, .. } = everything();
        self.both(&Op::Delete(PbDeleteRequest { key, range_end, prev_kv: true })).await.map(drop)
    }
}

fn has_open_deletion(request: &PbTxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(PbTxnOpRequest::RequestDeleteRange(delete)) => delete.range_end == [0],
        Some(PbTxnOpRequest::RequestTxn(txn)) => has_open_deletion(txn),
        _ => false,
    })
}

fn everything() -> PbRangeRequest {
    PbRangeRequest { key: vec![0], range_end: vec![0], ..PbRangeRequest::default() }
}

fn resolved(op: &Op, place: Place) -> Op {
    match op.clone() {
        Op::Range(request) => Op::Range(place.range(request)),
        Op::Txn(request) => Op::Txn(place.txn(request)),
        Op::Compact(revision) => Op::Compact(place.revision(revision)),
        Op::HashKv(revision) => Op::HashKv(place.revision(revision)),
        Op::Watch(mut watch) => {
            watch.start_revision = place.revision(watch.start_revision);
            Op::Watch(watch)
        }
        other => other,
    }
}

/// The answer that both gave, or how the two differ.
pub(crate) fn compare(
    op: &Op,
    etcd: Answered<Answer>,
    isthmus: Answered<Answer>,
) -> std::result::Result<Option<Answer>, Stop> {
    let (mut etcd, mut isthmus) = (etcd, isthmus);
    if let (Ok(etcd), Ok(isthmus)) = (&mut etcd, &mut isthmus) {
        level(op, etcd, isthmus);
    }
    if etcd == isthmus {
        return Ok(etcd.ok());
    }
    Err(Stop::Differs(format!("  etcd:    {etcd:?}\n  isthmus: {isthmus:?}")))
}
