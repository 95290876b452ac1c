//! Sends the load: an open loop of new requests (a slow answer delays no other), and long-lived connections beside it.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::{RngCore, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::record::{Kind, Record, Writer};
use super::{LARGE_BODY, PING_PERIOD, PING_TIMEOUT, Plan, REQUEST_TIMEOUT, SMALL_BODY, Target};
use crate::clock::monotonic_ns;
use crate::traffic::raw::Conversation;
use crate::traffic::{Answer, Error, http};

/// How long a client waits after a failure before it opens a new long-lived connection.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// More requests than this in flight, and new ones are written down as failed at once: nothing grows without bound.
const MOST_IN_FLIGHT: usize = 2048;

struct Sender {
    records: Writer,
    small: Vec<u8>,
    large: Vec<u8>,
    end: CancellationToken,
}

/// Runs until SIGTERM or SIGINT, then waits for what is in flight.
pub async fn run(plan: &Plan, records: &Path) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let sender = Rc::new(Sender {
        records: Writer::create(records)?,
        small: random_bytes(SMALL_BODY),
        large: random_bytes(LARGE_BODY),
        end: CancellationToken::new(),
    });
    let mut tasks = JoinSet::new();
    for (_, target) in (0..plan.long).zip(plan.targets.iter().cycle()) {
        let (sender, target) = (Rc::clone(&sender), target.clone());
        tasks.spawn_local(async move { sender.converse(&target).await });
    }
    let mut tick = interval(Duration::from_secs(1) / plan.rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent: u32 = 0;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = tick.tick(), if plan.rate > 0 => {
                let target = plan.targets[sent as usize % plan.targets.len()].clone();
                // Counted per round, so that every target gets its share of large bodies.
                let round = sent / u32::try_from(plan.targets.len()).unwrap_or(1);
                let is_large = plan.large_every > 0 && round % plan.large_every == plan.large_every - 1;
                sent = sent.wrapping_add(1);
                if tasks.len() > MOST_IN_FLIGHT {
                    sender.note(Kind::Request, &target, monotonic_ns(), 0, Err("too many in flight".into()), 0)?;
                    continue;
                }
                let sender = Rc::clone(&sender);
                tasks.spawn_local(async move { sender.request(&target, is_large).await });
            }
            Some(task) = tasks.join_next() => task.context("a request panicked")??,
        }
    }
    sender.end.cancel();
    while let Some(task) = tasks.join_next().await {
        task.context("a request panicked")??;
    }
    Ok(())
}

impl Sender {
    async fn request(&self, target: &Target, is_large: bool) -> Result<()> {
        let body = if is_large { &self.large } else { &self.small };
        let start = monotonic_ns();
        let outcome = timeout(REQUEST_TIMEOUT, http::echo(target.address, body)).await.unwrap_or(Err(Error::Timeout));
        self.note(Kind::Request, target, start, body.len(), outcome.map_err(|error| error.to_string()), 0)
    }

    /// Keeps one connection open and talking; a failure is written down, and a new one is opened and counted.
    async fn converse(&self, target: &Target) -> Result<()> {
        while !self.end.is_cancelled() {
            let start = monotonic_ns();
            let mut conversation = match Conversation::open(target.address, PING_TIMEOUT).await {
                Ok(conversation) => {
                    self.note(Kind::Open, target, start, 0, Ok(conversation.answer.clone()), 0)?;
                    conversation
                }
                Err(error) => {
                    self.note(Kind::Open, target, start, 0, Err(error.to_string()), 0)?;
                    self.pause(REOPEN_PAUSE).await;
                    continue;
                }
            };
            let mut pings = 0;
            let failure = loop {
                if self.end.is_cancelled() {
                    break None;
                }
                if let Err(error) = conversation.ping(PING_TIMEOUT).await {
                    break Some(error);
                }
                pings += 1;
                self.pause(PING_PERIOD).await;
            };
            let answer = conversation.answer.clone();
            match failure {
                None => self.note(Kind::Lived, target, start, 0, Ok(answer), pings)?,
                Some(error) => {
                    let mut record = outcome_record(Kind::Broken, target, start, 0, Err(error.to_string()), pings);
                    // Whom it talked to is known, and says which kill broke it.
                    record.answer = answer;
                    self.records.write(&record)?;
                    self.pause(REOPEN_PAUSE).await;
                }
            }
        }
        Ok(())
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.end.cancelled() => {}
        }
    }

    fn note(
        &self,
        kind: Kind,
        target: &Target,
        start_ns: u64,
        bytes: usize,
        outcome: Result<Answer, String>,
        pings: u64,
    ) -> Result<()> {
        self.records.write(&outcome_record(kind, target, start_ns, bytes, outcome, pings))
    }
}

fn outcome_record(
    kind: Kind,
    target: &Target,
    start_ns: u64,
    bytes: usize,
    outcome: Result<Answer, String>,
    pings: u64,
) -> Record {
    let (answer, error) = match outcome {
        Ok(answer) => (answer, None),
        Err(error) => (Answer::default(), Some(error)),
    };
    Record { kind, target: target.name.clone(), start_ns, end_ns: monotonic_ns(), bytes, error, pings, answer }
}

/// The same bytes in every run, and no two alike within: a shifted or swapped packet shows in the comparison.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(length as u64).fill_bytes(&mut bytes);
    bytes
}
