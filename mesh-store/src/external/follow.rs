//! A watch on an external etcd that outlives its stream: after a break it is opened again from the revision it has
//! reached, on whichever member answers, so its consumer sees every event once.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbWatchResponse;
use etcd_client::{WatchClient, WatchOptions, WatchRequestSender, WatchResponseStream};
use futures::stream::{self, StreamExt as _};
use mesh_store_mvcc::{Event, KeyRange};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::overlay::Overlaid;
use super::{External, Seen, convert, errors};
use crate::backend::{Error, Result, WatchBatch, WatchControl, WatchRequest, WatchUpdate, Watcher};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(20);
pub(super) const RETRY_MOST: Duration = Duration::from_secs(1);
/// etcd does not answer a question for progress while it still has events for the watch: so it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Following {
    client: WatchClient,
    seen: Arc<Seen>,
    endpoints: Arc<str>,
    range: KeyRange,
    /// Everything below has been delivered.
    next: i64,
    /// Of the store that `next` is a revision of.
    cluster_id: u64,
    open: Option<(WatchRequestSender, WatchResponseStream)>,
    /// Found while opening; delivered first.
    ended: Option<WatchUpdate>,
    asked: Arc<Notify>,
    /// Somebody waits for the progress.
    owed: bool,
    report_at: Instant,
    progress_interval: Duration,
    retry: Duration,
    stop: CancellationToken,
}

impl External {
    /// Opens the watch; `start` (at least 1) is the first revision of interest. Returns the store's revision then.
    pub(super) async fn follow(&self, range: KeyRange, start: i64, interval: Duration) -> Result<(Following, i64)> {
        let mut following = Following {
            client: self.watch.clone(),
            seen: Arc::clone(&self.seen),
            endpoints: Arc::clone(&self.endpoints),
            range,
            next: start,
            cluster_id: self.seen.identity().cluster_id,
            open: None,
            ended: None,
            asked: Arc::default(),
            owed: false,
            report_at: Instant::now() + interval,
            progress_interval: interval,
            retry: RETRY_FIRST,
            stop: self.stop.clone(),
        };
        let revision = following.connect().await?;
        Ok((following, revision))
    }

    pub(super) async fn start_watch(&self, request: WatchRequest) -> Result<Watcher> {
        let interval = request.progress_interval.unwrap_or(self.progress_interval);
        // "From the next change on" means after what this caller has seen acknowledged, which the member that serves the
        // watch may not have applied yet.
        let (start, current) = if request.start_revision > 0 {
            (request.start_revision, None)
        } else {
            let current = self.current_revision().await?;
            (current + 1, Some(current))
        };
        let overlay = request.overlay.filter(|overlay| overlay.part(&request.range).is_some());
        let watched = overlay.as_ref().map_or_else(|| request.range.clone(), |overlay| overlay.cover(&request.range));
        let (following, shown) = self.follow(watched, start, interval).await?;
        let control = following.control();
        let source = match overlay {
            None => Source::Plain(Box::new(following)),
            Some(overlay) => {
                Source::Overlaid(Box::new(Overlaid::new(self.clone(), following, request.range, overlay, interval)))
            }
        };
        let updates = stream::unfold(Some(source), |source| async move {
            let mut source = source?;
            let update = match &mut source {
                Source::Plain(following) => following.next().await?,
                Source::Overlaid(overlaid) => overlaid.next().await?,
            };
            let ended = matches!(update, WatchUpdate::Compacted { .. });
            Some((update, (!ended).then_some(source)))
        });
        // The member may be behind what this caller has seen.
        let created = current.unwrap_or_else(|| shown.max(self.seen.revision()));
        Ok(Watcher::new(created, control, updates.boxed()))
    }

    /// The oldest revision that can be read, 0 while nothing was compacted. etcd tells it to watches only.
    pub(super) async fn compact_revision(&self) -> Result<i64> {
        let never_there = KeyRange::single("\0");
        let (mut following, _) = self.follow(never_there, 1, self.progress_interval).await?;
        following.control().ask_progress();
        match tokio::time::timeout(ANSWER_WITHIN, following.next()).await {
            Ok(Some(WatchUpdate::Compacted { compact_revision })) => Ok(compact_revision),
            Ok(Some(_)) => Ok(0),
            Ok(None) => Err(Error::Stopped),
            Err(_elapsed) => Err(Error::TimedOut),
        }
    }
}

/// Where the updates of a watch come from.
enum Source {
    Plain(Box<Following>),
    Overlaid(Box<Overlaid>),
}

impl Following {
    pub(super) fn control(&self) -> WatchControl {
        let asked = Arc::clone(&self.asked);
        WatchControl::new(move || asked.notify_one())
    }

    /// Whether somebody waits for the progress, to whom what was just delivered says it.
    pub(super) fn take_owed(&mut self) -> bool {
        std::mem::take(&mut self.owed)
    }

    /// Opens the stream from `next` on and waits until etcd has made the watch.
    async fn connect(&mut self) -> Result<i64> {
        let options =
            WatchOptions::new().with_range(self.range.range_end.clone()).with_start_revision(self.next).with_prev_key();
        let key = self.range.key.clone();
        let mut client = self.client.clone();
        let opening = async {
            let (ask, mut answers) = client.watch(key, Some(options)).await?.split();
            let created = answers.message().await?;
            Ok::<_, etcd_client::Error>((ask, answers, created))
        };
        let opened = tokio::time::timeout(ANSWER_WITHIN, opening).await.map_err(|_elapsed| Error::TimedOut)?;
        let (ask, answers, created) = opened.map_err(|error| errors::of(&error, &self.endpoints))?;
        let Some(created) = created else {
            let reason = "it closed the watch at once".to_owned();
            return Err(Error::External { endpoints: Arc::clone(&self.endpoints), reason });
        };
        let header = created.0.header.as_ref();
        let revision = self.seen.note(header);
        if header.is_some_and(|header| header.cluster_id != self.cluster_id) {
            self.ended = Some(WatchUpdate::Compacted { compact_revision: revision });
        } else if created.compact_revision() > 0 {
            self.ended = Some(WatchUpdate::Compacted { compact_revision: created.compact_revision() });
        } else if created.canceled() {
            let reason = created.cancel_reason().to_owned();
            return Err(Error::External { endpoints: Arc::clone(&self.endpoints), reason });
        }
        self.open = Some((ask, answers));
        self.retry = RETRY_FIRST;
        Ok(revision)
    }

    pub(super) async fn next(&mut self) -> Option<WatchUpdate> {
        loop {
            if let Some(ended) = self.ended.take() {
                return Some(ended);
            }
            let Some((ask, answers)) = &mut self.open else {
                self.reconnect().await?;
                continue;
            };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => if let Some(update) = self.take(answer.0) {
                        self.report_at = Instant::now() + self.progress_interval;
                        return Some(update);
                    },
                    Ok(None) => self.open = None,
                    Err(error) => {
                        tracing::debug!(endpoints = &*self.endpoints, %error, "a watch was broken off");
                        self.open = None;
                    }
                },
                () = self.asked.notified() => {
                    self.owed = true;
                    self.report_at = Instant::now();
                }
                () = tokio::time::sleep_until(self.report_at) => {
                    if ask.request_progress().await.is_err() {
                        self.open = None;
                    }
                    self.report_at = Instant::now() + if self.owed { ASK_AGAIN } else { self.progress_interval };
                }
            }
        }
    }

    /// One attempt, after a pause; `None` when the store stops meanwhile.
    async fn reconnect(&mut self) -> Option<()> {
        tokio::select! {
            () = self.stop.cancelled() => return None,
            () = tokio::time::sleep(self.retry) => {}
        }
        self.retry = (self.retry * 2).min(RETRY_MOST);
        if let Err(error) = self.connect().await {
            tracing::warn!(%error, "a watch cannot be opened again yet");
        }
        Some(())
    }

    fn take(&mut self, answer: PbWatchResponse) -> Option<WatchUpdate> {
        let revision = self.seen.note(answer.header.as_ref());
        if answer.canceled {
            if answer.compact_revision > 0 {
                return Some(WatchUpdate::Compacted { compact_revision: answer.compact_revision });
            }
            tracing::warn!(endpoints = &*self.endpoints, reason = answer.cancel_reason, "etcd ended a watch");
            self.open = None;
            return None;
        }
        let events: Vec<Event> = answer.events.into_iter().filter_map(convert::event).collect();
        // The header may be ahead of what is still to come: what was delivered is what the events say.
        if let Some(last) = events.last() {
            let revision = last.kv.mod_revision;
            self.next = revision + 1;
            return Some(WatchUpdate::Events(WatchBatch { revision, events }));
        }
        if answer.created || revision + 1 < self.next {
            return None;
        }
        self.owed = false;
        self.next = revision + 1;
        Some(WatchUpdate::Progress { revision })
    }
}
