//! The watches of a sequence, on two streams to each server.
//!
//! etcd serves a watch that starts in the past from a loop that runs ten times a second, and answers a progress request only
//! when every watch of the stream has caught up and none starts in the future. So watches of the past have a stream where
//! progress tells that all is delivered, and the others one where a marker key tells it. Each stream watches the marker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use etcd_client::proto::{PbPutRequest, PbWatchResponse};

use crate::alike::{Answer, ask};
use crate::op::{Op, Watch};
use crate::pair::{Stop, compare};
use crate::resolve::Place;
use crate::rpc::Rpc;

mod line;

use line::{Line, MARKER};

/// How long either server may take for what it owes.
const WITHIN: Duration = Duration::from_secs(20);
/// How long to wait for progress before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const NO_SUCH_WATCH: i64 = 77;

type Step<T = ()> = Result<T, Stop>;

pub(crate) struct Watches {
    etcd: Rpc,
    isthmus: Rpc,
    past: Stream,
    present: Stream,
}

/// One stream to each server, with the same watches.
struct Stream {
    etcd: Line,
    isthmus: Line,
    /// Ids and start revisions of the watches that run.
    live: Vec<(i64, i64)>,
    markers: usize,
    /// Answers that are owed to progress requests.
    progress: usize,
    /// Events that were the same.
    compared: u64,
}

impl Stream {
    async fn open(etcd: &Rpc, isthmus: &Rpc) -> Step<Self> {
        let (etcd, isthmus) = tokio::join!(Line::open(etcd, "etcd"), Line::open(isthmus, "isthmus"));
        Ok(Self { etcd: etcd?, isthmus: isthmus?, live: Vec::new(), markers: 0, progress: 0, compared: 0 })
    }

    async fn created(&mut self) -> Step<(PbWatchResponse, PbWatchResponse)> {
        self.etcd.expect("the answer to a create request", |seen| !seen.created.is_empty()).await?;
        self.isthmus.owe("the answer to a create request", |seen| !seen.created.is_empty()).await?;
        let both = self.etcd.seen.created.pop_front().zip(self.isthmus.seen.created.pop_front());
        both.ok_or_else(|| Stop::Broken(anyhow!("both were awaited")))
    }

    async fn canceled(&mut self, id: i64) -> Step {
        self.etcd.expect("the answer to a cancel request", |seen| seen.canceled.contains_key(&id)).await?;
        self.isthmus.owe("the answer to a cancel request", |seen| seen.canceled.contains_key(&id)).await?;
        let etcd = self.etcd.seen.canceled.remove(&id).map(bare);
        let isthmus = self.isthmus.seen.canceled.remove(&id).map(bare);
        self.live.retain(|(live, _)| *live != id);
        // Of the revision of the last marker itself, one may have sent its event before the end and the other not.
        for line in [&mut self.etcd, &mut self.isthmus] {
            line.seen.events.remove(&id);
        }
        same("cancelled", &etcd, &isthmus)
    }

    /// Something that is answered in turn, so that all requests before have been handled.
    async fn fence(&mut self) -> Step {
        for line in [&self.etcd, &self.isthmus] {
            line.create(&Watch { start_revision: -1, ..nothing() });
        }
        let (etcd, isthmus) = self.created().await?;
        same("refused", &bare(etcd), &bare(isthmus))
    }

    /// Compares all events up to a revision that etcd has delivered everything of.
    async fn compare_events(&mut self, upto: i64) -> Step {
        let etcd = self.etcd.seen.take_events(upto);
        let wanted: Vec<(i64, usize)> = etcd.iter().map(|(id, events)| (*id, events.len())).collect();
        self.isthmus.owe("as many events as etcd sent", |seen| seen.has_counts(&wanted)).await?;
        let mut isthmus = self.isthmus.seen.take_events(upto);
        for (id, events) in etcd {
            self.compared += events.len() as u64;
            let ours = isthmus.remove(&id).unwrap_or_default();
            if let Some(at) = (0..events.len().max(ours.len())).find(|at| events.get(*at) != ours.get(*at)) {
                return Err(Stop::Differs(format!(
                    "  event {at} of watch {id}\n  etcd:    {:?}\n  isthmus: {:?}",
                    events.get(at),
                    ours.get(at)
                )));
            }
        }
        same("events of watches that have none at etcd", &BTreeMap::new(), &isthmus)
    }
}

impl Watches {
    pub(crate) async fn open(etcd: &Rpc, isthmus: &Rpc) -> Step<Self> {
        let past = Stream::open(etcd, isthmus).await?;
        let present = Stream::open(etcd, isthmus).await?;
        Ok(Self { etcd: etcd.clone(), isthmus: isthmus.clone(), past, present })
    }

    /// How many events have been compared.
    pub(crate) fn compared(&self) -> u64 {
        self.past.compared + self.present.compared
    }

    pub(crate) async fn create(&mut self, watch: &Watch, place: Place) -> Step {
        let is_past = (1..=place.now).contains(&watch.start_revision);
        let stream = if is_past { &mut self.past } else { &mut self.present };
        for line in [&stream.etcd, &stream.isthmus] {
            line.create(watch);
        }
        let (etcd, isthmus) = stream.created().await?;
        let (shown, ours) = (revision(&etcd), revision(&isthmus));
        // A client may resume from any revision that it was shown, so this store never shows one that it has not yet
        // delivered up to. etcd does, in this one answer.
        let expected =
            if watch.start_revision > 0 && !etcd.canceled { shown.min(watch.start_revision - 1) } else { shown };
        same("revision of the answer to a create request", &expected, &ours)?;
        let (etcd, isthmus) = (bare(etcd), bare(isthmus));
        same("created", &etcd, &isthmus)?;
        if !etcd.canceled {
            stream.live.push((etcd.watch_id, watch.start_revision));
        }
        Ok(())
    }

    pub(crate) async fn cancel(&mut self, nth: Option<usize>, place: &mut Place) -> Step {
        // What is on its way when a watch is cancelled may or may not arrive.
        self.settle(place).await?;
        let all = self.past.live.len() + self.present.live.len();
        let Some(nth) = nth.filter(|_| all > 0).map(|nth| nth % all) else {
            for line in [&self.present.etcd, &self.present.isthmus] {
                line.cancel(NO_SUCH_WATCH);
            }
            return self.present.fence().await;
        };
        let (stream, at) = match nth.checked_sub(self.past.live.len()) {
            None => (&mut self.past, nth),
            Some(at) => (&mut self.present, at),
        };
        let (id, _) = stream.live[at];
        for line in [&stream.etcd, &stream.isthmus] {
            line.cancel(id);
        }
        stream.canceled(id).await
    }

    pub(crate) async fn ask_progress(&mut self, place: Place) -> Step {
        let stream = &mut self.present;
        for line in [&stream.etcd, &stream.isthmus] {
            line.ask_progress();
        }
        stream.fence().await?;
        stream.progress += usize::from(stream.live.iter().all(|(_, start)| *start <= place.now));
        Ok(())
    }

    /// Waits until every watch has delivered all there is, and compares it.
    pub(crate) async fn settle(&mut self, place: &mut Place) -> Step {
        self.settle_present(place).await?;
        self.settle_past(place).await
    }

    async fn settle_present(&mut self, place: &mut Place) -> Step {
        // Of one revision, the marker's event may be sent before that of a range that holds it: hence two.
        for _ in 0..2 {
            let put = Op::Put(PbPutRequest { key: MARKER.to_vec(), ..PbPutRequest::default() });
            let (etcd, isthmus) = tokio::join!(ask(&self.etcd, &put), ask(&self.isthmus, &put));
            let (etcd, isthmus) = etcd.zip(isthmus).ok_or_else(|| anyhow!("a put has an answer"))?;
            let Some(Answer::Put(answer)) = compare(&put, etcd, isthmus)? else {
                return Err(Stop::Broken(anyhow!("the marker cannot be put")));
            };
            place.now = answer.header.map_or(place.now, |header| header.revision);
            self.present.markers += 1;
        }
        let Stream { etcd, isthmus, markers, progress, .. } = &mut self.present;
        etcd.expect("the marker", |seen| seen.markers >= *markers).await?;
        isthmus.owe("the marker", |seen| seen.markers >= *markers && seen.progress.len() >= *progress).await?;
        if etcd.seen.progress.len() > *progress || isthmus.seen.progress.len() > *progress {
            return Err(Stop::Differs(format!(
                "  {progress} progress answers expected\n  etcd:    {:?}\n  isthmus: {:?}",
                etcd.seen.progress, isthmus.seen.progress
            )));
        }
        etcd.seen.progress.clear();
        isthmus.seen.progress.clear();
        *progress = 0;
        self.present.compare_events(place.now - 1).await
    }

    async fn settle_past(&mut self, place: &Place) -> Step {
        let stream = &mut self.past;
        let now = place.now;
        let deadline = Instant::now() + WITHIN;
        loop {
            stream.etcd.ask_progress();
            stream
                .etcd
                .wait(ASK_AGAIN, |seen| seen.progress.iter().any(|at| *at >= now) || !seen.canceled.is_empty())
                .await?;
            let compacted: Vec<i64> = stream.etcd.seen.canceled.keys().copied().collect();
            for id in compacted {
                // The watch lagged behind a compaction; etcd forgets it only when the client cancels it too.
                stream.isthmus.owe("the end of a compacted watch", |seen| seen.canceled.contains_key(&id)).await?;
                let (etcd, isthmus) = (stream.etcd.seen.canceled.remove(&id), stream.isthmus.seen.canceled.remove(&id));
                same("end of a compacted watch", &etcd.map(bare), &isthmus.map(bare))?;
                for line in [&stream.etcd, &stream.isthmus] {
                    line.cancel(id);
                }
                stream.canceled(id).await?;
            }
            if stream.etcd.seen.progress.iter().any(|at| *at >= now) {
                break;
            }
            if Instant::now() > deadline {
                return Err(Stop::Broken(anyhow!("etcd's watches have not caught up within {WITHIN:?}")));
            }
        }
        stream.isthmus.ask_progress();
        stream.isthmus.owe("progress", |seen| seen.progress.iter().any(|at| *at >= now)).await?;
        stream.etcd.seen.progress.clear();
        stream.isthmus.seen.progress.clear();
        stream.compare_events(now).await
    }
}

fn nothing() -> Watch {
    Watch {
        key: Vec::new(),
        range_end: Vec::new(),
        start_revision: 0,
        filters: Vec::new(),
        prev_kv: false,
        fragment: false,
        id: 0,
    }
}

fn revision(response: &PbWatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Without the header, whose revision has rules of its own.
fn bare(response: PbWatchResponse) -> PbWatchResponse {
    PbWatchResponse { header: None, ..response }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, etcd: &T, isthmus: &T) -> Step {
    if etcd == isthmus {
        return Ok(());
    }
    Err(Stop::Differs(format!("  {what}\n  etcd:    {etcd:?}\n  isthmus: {isthmus:?}")))
}
