//! One connection, from its first request to its end: which watches are asked for, what must be read first, and what
//! goes into which batch.
//!
//! ```text
//!  resume point has a revision --> watch from the one after it            (no read at all)
//!  it has none                 --> list, compare with the mirror, write the difference, then watch
//!  resources without one       --> the same, once their canary is there
//! ```
//! The resume point moves with the batch that carries the facts, so whatever ends a connection, the next one goes on from
//! what is written.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use certs::TrustBundle;
use mesh_store::mvcc::KeyRange;
use tokio::time::Instant;

use super::Session;
use super::error::Error;
use super::link::{Link, Listing};
use super::watches::{Change, Message, Update, Watches};
use crate::contract::{ClusterConfig, ExportClock, Layout, Resource, keys, stamp};
use crate::mirror::{Batch, Watched};
use crate::state::Phase;

mod trust;

/// How often a connected session looks whether its withdrawn peer is let back in.
const RETURN_CHECK: Duration = Duration::from_millis(50);
/// The clock of a Txn arrives in another message than its facts: how long facts wait for it, so that they are dated right.
const CLOCK_WAIT: Duration = Duration::from_millis(20);
/// A batch of a long replay is cut here.
const MAX_EVENTS: usize = 4096;
/// Progress without facts is written at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Connection<'a> {
    session: &'a mut Session,
    link: Link,
    /// The CAs by which the peer was verified.
    bundle: TrustBundle,
    /// What the peer says of its CAs, and is not looked at yet.
    trust_said: Option<Bytes>,
    /// When it may be looked at.
    trust_at: Instant,
    /// The newest revision at which that was read by itself: what a watch tells of before is old.
    trust_revision: i64,
    watches: Option<Watches>,
    /// Watches that were asked for.
    asked: BTreeSet<Watched>,
    /// Watches that the peer confirmed.
    standing: BTreeSet<Watched>,
    config: Option<ClusterConfig>,
    /// Keys of the canaries seen.
    canaries: BTreeSet<String>,
    batch: Batch,
    /// Newest revision of a fact in the batch.
    facts_revision: i64,
    /// Newest revision of the source's clock; `None` for a source without one.
    clock_revision: Option<i64>,
    /// The batch is written then, with or without its clock.
    flush_at: Option<Instant>,
    written_at: Instant,
    since: Instant,
}

impl<'a> Connection<'a> {
    pub(super) fn new(session: &'a mut Session, link: Link, bundle: TrustBundle) -> Self {
        let now = Instant::now();
        Self {
            session,
            link,
            bundle,
            trust_said: None,
            trust_at: now,
            trust_revision: 0,
            watches: None,
            asked: BTreeSet::new(),
            standing: BTreeSet::new(),
            config: None,
            canaries: BTreeSet::new(),
            batch: Batch::default(),
            facts_revision: 0,
            clock_revision: None,
            flush_at: None,
            written_at: now,
            since: now,
        }
    }

    /// Runs until the connection fails. What was received until then is kept.
    pub(super) async fn run(mut self) -> Error {
        let Err(error) = self.follow().await;
        if error.is_local() {
            return error;
        }
        self.flush().await.err().unwrap_or(error)
    }

    async fn follow(&mut self) -> Result<Infallible, Error> {
        self.recall().await?;
        for watched in [Watched::Config, Watched::Canaries, Watched::Heartbeat] {
            self.start(watched).await?;
        }
        self.start_ready().await?;
        self.read_trust().await?;
        self.start(Watched::Export).await?;
        self.flush().await?;
        loop {
            self.follow_trust().await?;
            self.show_phase();
            let silent_at = self.silent_at();
            let flush_at = self.flush_at;
            let watches = self.watches.as_mut().expect("opened by the first `start`");
            let trust_at = self.trust_said.is_some().then_some(self.trust_at);
            let trust = &mut self.session.trust;
            let is_withdrawn = self.session.mirror.record().withdrawn_since_unix_nanos.is_some();
            tokio::select! {
                message = watches.next() => self.apply(message?).await?,
                () = tokio::time::sleep_until(trust_at.unwrap_or(silent_at)), if trust_at.is_some() => continue,
                // The sender goes with the session itself.
                Ok(()) = trust.changed() => {
                    self.check_trust()?;
                    continue;
                }
                () = tokio::time::sleep_until(flush_at.unwrap_or(silent_at)), if flush_at.is_some() => {
                    self.flush().await?;
                    continue;
                }
                // The judge lets a withdrawn peer back in beside this loop: its return must not wait for the next fact.
                () = tokio::time::sleep(RETURN_CHECK), if is_withdrawn => {}
                () = tokio::time::sleep_until(silent_at) => {
                    return Err(Error::HeartbeatLost { silence: self.session.board.silence() });
                }
            }
            self.drain().await?;
            self.start_ready().await?;
            self.flush_when_dated().await?;
        }
    }

    /// What earlier connections left: the configuration, and what must be asked for again to finish a first sync.
    async fn recall(&mut self) -> Result<(), Error> {
        let mirror = &mut self.session.mirror;
        if mirror.record().revision(Watched::Config).is_some() {
            self.config = mirror.config().await?;
        }
        if self.config.is_none() {
            mirror.forget(Watched::Config);
        }
        if !Resource::MIRRORED.into_iter().all(|r| mirror.record().is_synced(r)) {
            mirror.forget(Watched::Canaries);
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        if self.session.mirror.record().is_cached { Layout::Cache } else { Layout::State }
    }

    fn range(&self, watched: Watched) -> KeyRange {
        let peer = &self.session.peer.declaration.name;
        match watched {
            Watched::Config => KeyRange::single(keys::cluster_config(peer)),
            Watched::Canaries => KeyRange::prefix(keys::canaries(peer)),
            Watched::Heartbeat => KeyRange::prefix(keys::HEARTBEAT),
            Watched::Export => KeyRange::prefix(keys::EXPORT),
            Watched::Resource(resource) => KeyRange::prefix(self.layout().prefix(resource, peer)),
        }
    }

    /// Begins a watch where the resume point says, or after a listing where it says nothing.
    async fn start(&mut self, watched: Watched) -> Result<(), Error> {
        self.asked.insert(watched);
        let range = self.range(watched);
        let reached = match self.session.mirror.record().revision(watched) {
            Some(revision) => revision,
            None => match self.link.list(watched, &range).await? {
                Some(listing) => {
                    self.heard(listing.cluster_id)?;
                    let revision = listing.revision;
                    self.listed(watched, listing).await?;
                    revision
                }
                None => return Ok(()),
            },
        };
        if let Some(watches) = &mut self.watches {
            return watches.add(watched, &range, reached + 1).await;
        }
        self.watches = Some(self.link.watches(watched, &range, reached + 1).await?);
        Ok(())
    }

    /// Begins every resource that may be read now.
    async fn start_ready(&mut self) -> Result<(), Error> {
        let Some(config) = &self.config else { return Ok(()) };
        let has_canaries = config.capabilities.synced_canaries;
        for resource in Resource::MIRRORED {
            let canary = self.layout().canary(resource, &self.session.peer.declaration.name);
            let is_ready =
                !has_canaries || self.canaries.contains(&canary) || self.session.mirror.record().is_synced(resource);
            if is_ready && !self.asked.contains(&Watched::Resource(resource)) {
                self.show_phase();
                self.start(Watched::Resource(resource)).await?;
            }
        }
        Ok(())
    }

    /// Every answer says which store it is from.
    fn heard(&mut self, cluster_id: u64) -> Result<(), Error> {
        let mirror = &mut self.session.mirror;
        let known = mirror.record().source_cluster_id;
        if known != 0 && known != cluster_id {
            mirror.restart(cluster_id);
            self.batch = Batch::default();
            return Err(Error::SourceChanged { known, found: cluster_id });
        }
        if known == 0 {
            mirror.restart(cluster_id);
        }
        if !self.session.is_connected {
            self.session.is_connected = true;
            self.session.board.update(|known| known.connections += 1);
        }
        Ok(())
    }

    async fn listed(&mut self, watched: Watched, listing: Listing) -> Result<(), Error> {
        let revision = listing.revision;
        if let Watched::Resource(resource) = watched {
            return self.compare(resource, listing).await;
        }
        for (key, value) in listing.kvs {
            self.said(watched, Change { key, value: Some(value), revision }, false)?;
        }
        self.batch.advance(watched, revision);
        Ok(())
    }

    /// Writes the difference between a listing and the mirror: what did not change is not touched.
    async fn compare(&mut self, resource: Resource, listing: Listing) -> Result<(), Error> {
        self.flush().await?;
        let peer = self.session.peer.declaration.name.clone();
        let mut gone = self.session.mirror.mirrored(resource).await?;
        if !gone.is_empty() {
            self.session.board.update(|known| known.relists += 1);
            self.session.metrics.relisted(&peer, resource);
        }
        let prefix = self.layout().prefix(resource, &peer);
        for (key, value) in listing.kvs {
            let rest = rest_of(&key, &prefix);
            match self.session.rules.check(resource, &rest, &value) {
                Ok(()) if gone.get(&rest) == Some(&value) => drop(gone.remove(&rest)),
                Ok(()) => {
                    gone.remove(&rest);
                    self.batch.put(&peer, resource, &rest, value);
                }
                Err(rejection) => self.session.reject(resource, rejection),
            }
        }
        for rest in gone.keys() {
            self.batch.delete(&peer, resource, rest);
        }
        let canary = Layout::Cache.canary(resource, &peer);
        self.batch.put_last(canary, stamp::rfc3339(jiff::Timestamp::now()));
        self.batch.advance(Watched::Resource(resource), listing.revision);
        self.flush().await?;
        self.session.board.synced(resource, true);
        Ok(())
    }

    /// Takes what is here already, so that one Txn carries it all.
    async fn drain(&mut self) -> Result<(), Error> {
        while self.batch.events() < MAX_EVENTS {
            let watches = self.watches.as_mut().expect("opened by the first `start`");
            match watches.try_next()? {
                Some(message) => self.apply(message).await?,
                None => return Ok(()),
            }
        }
        self.flush().await
    }

    async fn apply(&mut self, message: Message) -> Result<(), Error> {
        self.heard(message.cluster_id)?;
        match message.update {
            Update::Created(watched) => {
                self.standing.insert(watched);
                Ok(())
            }
            Update::Refused { watched, .. } if watched.is_optional() => Ok(()),
            Update::Refused { watched, reason } => Err(Error::Refused { watched, reason }),
            Update::Canceled { watched, reason } => {
                Err(Error::Ended { reason: format!("the watch of {watched} was cancelled: {reason}") })
            }
            Update::Compacted(watched) => {
                tracing::info!(peer = %self.session.peer.declaration.name, %watched, "history is gone, reading again");
                self.flush().await?;
                self.session.mirror.forget(watched);
                self.start(watched).await
            }
            Update::Progress(watched, revision) => {
                let all = self.standing.iter().copied().filter(|standing| watched.is_none_or(|w| w == *standing));
                for watched in all {
                    self.batch.advance(watched, revision);
                }
                if watched.is_none_or(|w| w == Watched::Export) {
                    self.clock_revision = self.clock_revision.map(|known| known.max(revision));
                }
                Ok(())
            }
            Update::Changes(watched, changes) => self.changed(watched, changes).await,
        }
    }

    async fn changed(&mut self, watched: Watched, changes: Vec<Change>) -> Result<(), Error> {
        for change in changes {
            let revision = change.revision;
            self.said(watched, change, true)?;
            self.batch.advance(watched, revision);
        }
        if watched != Watched::Heartbeat {
            return Ok(());
        }
        let watches = self.watches.as_mut().expect("opened by the first `start`");
        watches.request_progress().await?;
        if self.written_at.elapsed() >= PROGRESS_EVERY { self.flush().await } else { Ok(()) }
    }

    /// Takes in one fact. `is_live`: it has just happened, and is not read from a listing.
    fn said(&mut self, watched: Watched, change: Change, is_live: bool) -> Result<(), Error> {
        let Change { key, value, revision } = change;
        match (watched, value) {
            (Watched::Config, Some(value)) => self.configured(&value),
            (Watched::Config, None) => {
                tracing::warn!(peer = %self.session.peer.declaration.name, "its cluster-config was deleted: kept as it was");
                Ok(())
            }
            (Watched::Canaries, Some(_)) => {
                self.canaries.insert(String::from_utf8_lossy(&key).into_owned());
                Ok(())
            }
            (Watched::Heartbeat, Some(_)) if is_live => {
                self.session.board.heartbeat();
                Ok(())
            }
            (Watched::Export, Some(value)) if key == keys::EXPORT_CLOCK.as_bytes() => {
                if let Ok(ExportClock { unix_nanos }) = ExportClock::decode(&value) {
                    self.batch.set_clock(unix_nanos);
                    self.clock_revision = Some(revision);
                    if is_live {
                        self.session.board.source_clock(unix_nanos);
                    }
                }
                Ok(())
            }
            (Watched::Export, value) if key.starts_with(keys::EXPORT_TRUST.as_bytes()) => {
                if revision > self.trust_revision {
                    self.said_of_trust(&key, value);
                }
                Ok(())
            }
            (Watched::Resource(resource), value) => {
                self.facts_revision = self.facts_revision.max(revision);
                let peer = &self.session.peer.declaration.name;
                let rest = rest_of(&key, &self.layout().prefix(resource, peer));
                let checked = value.map(|value| self.session.rules.check(resource, &rest, &value).map(|()| value));
                match checked.transpose() {
                    Ok(Some(value)) => self.batch.put(peer, resource, &rest, value),
                    Ok(None) => self.batch.delete(peer, resource, &rest),
                    // The key's former value is not what the peer says any more either.
                    Err(rejection) => {
                        self.batch.delete(peer, resource, &rest);
                        self.session.reject(resource, rejection);
                    }
                }
                Ok(())
            }
            (Watched::Canaries | Watched::Heartbeat | Watched::Export, _) => Ok(()),
        }
    }

    fn configured(&mut self, value: &[u8]) -> Result<(), Error> {
        let checked = self.session.rules.check_config(value);
        self.session.board.update(|known| known.config_rejection = checked.as_ref().err().cloned());
        let config = checked.map_err(Error::Config)?;
        let layout = if config.capabilities.cached { Layout::Cache } else { Layout::State };
        if layout != self.layout() {
            for resource in Resource::MIRRORED {
                self.session.mirror.forget(Watched::Resource(resource));
            }
            self.session.mirror.set_layout(layout);
            if self.asked.iter().any(|w| matches!(w, Watched::Resource(_))) {
                return Err(Error::Ended { reason: "the peer moved its facts to other keys".to_owned() });
            }
        }
        let copy = config.clone().into_cached().encode();
        self.batch.put_first(keys::cluster_config(&self.session.peer.declaration.name), copy);
        self.config = Some(config);
        Ok(())
    }

    /// Writes the batch at once when the clock of its newest fact is known, else in a moment.
    async fn flush_when_dated(&mut self) -> Result<(), Error> {
        let remembered = self.session.mirror.record().withdrawn_since_unix_nanos;
        if remembered != self.session.board.withdrawn_since() {
            return self.flush().await;
        }
        if !self.batch.has_writes() {
            return Ok(());
        }
        if self.clock_revision.is_none_or(|clock| clock >= self.facts_revision) {
            return self.flush().await;
        }
        self.flush_at.get_or_insert_with(|| Instant::now() + CLOCK_WAIT);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.flush_at = None;
        let session = &mut *self.session;
        let is_news = session.mirror.set_withdrawn(session.board.withdrawn_since());
        if self.batch.is_empty() && !is_news {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let events = batch.events();
        session.mirror.write(batch).await?;
        session.metrics.mirrored(&session.peer.declaration.name, events);
        let revision = session.mirror.record().newest_revision();
        session.board.update(|known| known.mirrored_revision = revision);
        self.written_at = Instant::now();
        Ok(())
    }

    /// When the connection is given up for want of a heartbeat.
    fn silent_at(&self) -> Instant {
        let limit = self.session.liveness.scaled(self.session.peer.heartbeat_interval()).stale_after;
        let heard = Instant::now().checked_sub(self.session.board.silence()).unwrap_or(self.since);
        heard.max(self.since) + limit
    }

    fn show_phase(&self) {
        let missing = |set: &BTreeSet<Watched>| {
            let missing = Watched::ALL.into_iter().filter(|w| !w.is_optional() && !set.contains(w));
            missing.map(Watched::name).collect::<Vec<_>>().join(", ")
        };
        let (phase, reason) = if !self.session.is_connected {
            (Phase::Connecting, "awaiting its first answer".to_owned())
        } else if self.config.is_none() {
            (Phase::Configuring, "awaiting its cluster-config".to_owned())
        } else if !missing(&self.asked).is_empty() {
            (Phase::Syncing, format!("awaiting its canaries: {}", missing(&self.asked)))
        } else if !missing(&self.standing).is_empty() {
            (Phase::Syncing, format!("awaiting the watches of {}", missing(&self.standing)))
        } else {
            (Phase::Following, "all watches stand".to_owned())
        };
        self.session.board.phase(phase, reason);
    }
}

fn rest_of(key: &[u8], prefix: &str) -> String {
    String::from_utf8_lossy(key.strip_prefix(prefix.as_bytes()).unwrap_or(key)).into_owned()
}
