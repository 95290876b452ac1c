//! One watch stream to one server: requests out, and everything that comes back, sorted.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use futures::StreamExt as _;
use futures::channel::mpsc;

use super::{Step, Stop, WITHIN, nothing};
use crate::op::Watch;
use crate::rpc::{Refusal, Rpc};

/// The key that tells that everything before it has been delivered.
pub(super) const MARKER: &[u8] = b"\xff\xff\xff marker";
pub(super) const MARKER_ID: i64 = 1_000_000;
const NO_WATCH: i64 = -1;

pub(super) struct Line {
    name: &'static str,
    requests: mpsc::UnboundedSender<PbWatchRequest>,
    answers: mpsc::UnboundedReceiver<Result<PbWatchResponse, Refusal>>,
    pub(super) seen: Seen,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) created: VecDeque<PbWatchResponse>,
    pub(super) canceled: BTreeMap<i64, PbWatchResponse>,
    pub(super) events: BTreeMap<i64, Vec<PbEvent>>,
    /// Revisions of the answers to progress requests.
    pub(super) progress: Vec<i64>,
    pub(super) markers: usize,
}

impl Seen {
    /// The events up to a revision, which are the first of each watch.
    pub(super) fn take_events(&mut self, upto: i64) -> BTreeMap<i64, Vec<PbEvent>> {
        let mut taken = BTreeMap::new();
        for (id, events) in &mut self.events {
            let reached = events.partition_point(|event| event.kv.as_ref().is_none_or(|kv| kv.mod_revision <= upto));
            if reached > 0 {
                taken.insert(*id, events.drain(..reached).collect());
            }
        }
        taken
    }

    pub(super) fn has_counts(&self, wanted: &[(i64, usize)]) -> bool {
        wanted.iter().all(|(id, count)| self.events.get(id).is_some_and(|events| events.len() >= *count))
    }

    /// Sorts an answer in; complains about a header that the events contradict.
    fn take(&mut self, response: PbWatchResponse) -> Result<(), String> {
        let shown = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            self.created.push_back(response);
        } else if response.canceled {
            self.canceled.insert(response.watch_id, response);
        } else if response.events.is_empty() {
            // With another id it is progress that nobody asked for, which a server may send at any time.
            if response.watch_id == NO_WATCH {
                self.progress.push(shown);
            }
        } else {
            let last = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
            if last.is_some_and(|last| last > shown) {
                return Err(format!("the header's revision is below that of an event: {response:?}"));
            }
            if response.watch_id == MARKER_ID {
                self.markers += response.events.len();
            } else {
                self.events.entry(response.watch_id).or_default().extend(response.events);
            }
        }
        Ok(())
    }
}

#[expect(clippy::default_trait_access, reason = "the crate does not export the names of what the requests hold")]
impl Line {
    /// Opens the stream with the watch on the marker: etcd does not answer before the first request.
    pub(super) async fn open(rpc: &Rpc, name: &'static str) -> Step<Self> {
        let (requests, outgoing) = mpsc::unbounded();
        let (incoming, answers) = mpsc::unbounded();
        let line = Self { name, requests, answers, seen: Seen::default() };
        // Deletions of the marker by the sequence must not be counted.
        line.create(&Watch { key: MARKER.to_vec(), filters: vec![1], id: MARKER_ID, ..nothing() });
        let mut stream = rpc.watch(outgoing).await.map_err(|refusal| anyhow!("{name}: {refusal:?}"))?;
        // Read at once and always, because etcd treats a client that does not read differently.
        tokio::spawn(async move {
            loop {
                let answer = match stream.message().await {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => return,
                    Err(status) => Err(Refusal::from(status)),
                };
                let is_last = answer.is_err();
                if incoming.unbounded_send(answer).is_err() || is_last {
                    return;
                }
            }
        });
        let mut line = line;
        line.expect("the marker's watch", |seen| !seen.created.is_empty()).await?;
        line.seen.created.clear();
        Ok(line)
    }

    pub(super) fn create(&self, watch: &Watch) {
        let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
            create.key.clone_from(&watch.key);
            create.range_end.clone_from(&watch.range_end);
            create.start_revision = watch.start_revision;
            create.filters.clone_from(&watch.filters);
            create.prev_kv = watch.prev_kv;
            create.fragment = watch.fragment;
            create.watch_id = watch.id;
        }
        self.send(union);
    }

    pub(super) fn cancel(&self, id: i64) {
        let mut union = PbWatchRequestUnion::CancelRequest(Default::default());
        if let PbWatchRequestUnion::CancelRequest(cancel) = &mut union {
            cancel.watch_id = id;
        }
        self.send(union);
    }

    pub(super) fn ask_progress(&self) {
        self.send(PbWatchRequestUnion::ProgressRequest(Default::default()));
    }

    /// When the stream has ended, waiting for the answer says so.
    fn send(&self, union: PbWatchRequestUnion) {
        drop(self.requests.unbounded_send(PbWatchRequest { request_union: Some(union) }));
    }

    /// Waits for what the oracle must send.
    pub(super) async fn expect(&mut self, what: &str, done: impl Fn(&Seen) -> bool) -> Step {
        if self.wait(WITHIN, done).await? {
            return Ok(());
        }
        Err(Stop::Broken(anyhow!("{} has not sent {what} within {WITHIN:?}", self.name)))
    }

    /// Waits for what etcd has sent already.
    pub(super) async fn owe(&mut self, what: &str, done: impl Fn(&Seen) -> bool) -> Step {
        if self.wait(WITHIN, done).await? {
            return Ok(());
        }
        Err(Stop::Differs(format!("  {} has not sent {what} within {WITHIN:?}", self.name)))
    }

    /// False when the time is over first.
    pub(super) async fn wait(&mut self, within: Duration, done: impl Fn(&Seen) -> bool) -> Step<bool> {
        let deadline = Instant::now() + within;
        while !done(&self.seen) {
            let next = tokio::time::timeout_at(deadline.into(), self.answers.next()).await;
            let Ok(next) = next else { return Ok(false) };
            let Some(answer) = next else { return Err(Stop::Differs(format!("  {} ended the stream", self.name))) };
            let answer = answer.map_err(|refusal| Stop::Differs(format!("  {} broke off: {refusal:?}", self.name)))?;
            self.seen.take(answer).map_err(|wrong| Stop::Differs(format!("  {}: {wrong}", self.name)))?;
        }
        Ok(true)
    }
}
