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

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
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
use crate::imports;
use crate::mirror::{Batch, Watched};

mod progress;
mod trust;

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
    /// Kinds whose mirror was chosen by other import rules than the present ones: they are listed again.
    unchosen: BTreeSet<Resource>,
    /// Kinds that were listed while their watch went on: what it says up to that revision is old.
    listed: BTreeMap<Watched, i64>,
    batch: Batch,
    /// Newest revision of a fact in the batch.
    facts_revision: i64,
    /// Newest revision of the source's clock; `None` for a source without one.
    clock_revision: Option<i64>,
    /// Since when the batch's newest fact waits for its clock.
    undated_since: Option<Instant>,
    /// The batch is written then, with or without its clock.
    flush_at: Option<Instant>,
    written_at: Instant,
    since: Instant,
    /// What the board was told last.
    shown: Option<progress::Progress>,
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
            unchosen: BTreeSet::new(),
            listed: BTreeMap::new(),
            batch: Batch::default(),
            facts_revision: 0,
            clock_revision: None,
            undated_since: None,
            flush_at: None,
            written_at: now,
            since: now,
            shown: None,
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
        self.choose_again();
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
            tokio::select! {
                message = watches.next() => self.apply(message?).await?,
                () = self.session.imports.changed() => self.choose().await?,
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
                () = tokio::time::sleep_until(silent_at) => {
                    return Err(Error::HeartbeatLost { silence: self.session.board.silence() });
                }
            }
            self.drain().await?;
            self.start_ready().await?;
            self.flush_when_due().await?;
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
        let exported = self.config.iter().flat_map(|config| config.capabilities.exported());
        let exported: Vec<Resource> = exported.collect();
        if !exported.iter().all(|r| mirror.record().is_synced(*r)) {
            mirror.forget(Watched::Canaries);
        }
        if self.config.is_some() {
            self.session.board.exported(&exported);
        }
        Ok(())
    }

    /// What the peer once exported and does so no more is not its word any longer.
    async fn drop_unexported(&mut self) -> Result<(), Error> {
        let Some(config) = &self.config else { return Ok(()) };
        let is_over = |r: &Resource| !config.capabilities.exports(*r) && self.session.mirror.record().is_synced(*r);
        let over: Vec<Resource> = Resource::ALL.into_iter().filter(is_over).collect();
        let peer = self.session.peer.declaration.name.clone();
        for resource in over.into_iter().rev() {
            tracing::info!(%peer, %resource, "exported no more: what was mirrored of it is removed");
            self.flush().await?;
            self.batch.delete_first(Layout::Cache.canary(resource, &peer));
            for rest in self.session.mirror.mirrored(resource).await?.keys() {
                self.batch.delete(&peer, resource, rest);
            }
            self.session.mirror.forget(Watched::Resource(resource));
            self.flush().await?;
        }
        Ok(())
    }

    /// Notes what has to be listed because the import rules are others than the mirror's.
    fn choose_again(&mut self) {
        if self.session.mirror.record().imports_revision != self.session.imports.revision() {
            let config = self.config.as_ref();
            let is_exported = |r: &Resource| config.is_none_or(|config| config.capabilities.exports(*r));
            let concerned = Resource::ALL.into_iter().filter(|resource| imports::concerns(*resource));
            self.unchosen = concerned.filter(is_exported).collect();
        }
    }

    /// Takes over changed import rules: what is not taken any more goes, what is taken now is listed.
    async fn choose(&mut self) -> Result<(), Error> {
        self.flush().await?;
        if !self.session.imports.renew() {
            if self.unchosen.is_empty() {
                self.batch.set_imports(self.session.imports.revision());
            }
            return Ok(());
        }
        tracing::info!(peer = %self.session.peer.declaration.name, "import rules have changed: choosing anew");
        self.session.withdraw_not_imported().await?;
        self.choose_again();
        for resource in self.unchosen.clone() {
            let watched = Watched::Resource(resource);
            if !self.asked.contains(&watched) {
                continue;
            }
            let Some(listing) = self.link.list(watched, &self.range(watched)).await? else { continue };
            self.heard(listing.cluster_id)?;
            self.listed.insert(watched, listing.revision);
            self.listed(watched, listing).await?;
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
        let is_chosen = match watched {
            Watched::Resource(resource) => !self.unchosen.contains(&resource),
            Watched::Config => !self.session.is_config_refused,
            Watched::Canaries | Watched::Heartbeat | Watched::Export => true,
        };
        let reached = match self.session.mirror.record().revision(watched).filter(|_| is_chosen) {
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
        self.drop_unexported().await?;
        let Some(config) = &self.config else { return Ok(()) };
        let has_canaries = config.capabilities.synced_canaries;
        // Called with every message: once all is asked for there is nothing to make.
        let is_missing = |r: &Resource| config.capabilities.exports(*r) && !self.asked.contains(&Watched::Resource(*r));
        let missing: Vec<Resource> = Resource::ALL.into_iter().filter(is_missing).collect();
        for resource in missing {
            let canary = self.layout().canary(resource, &self.session.peer.declaration.name);
            let is_ready =
                !has_canaries || self.canaries.contains(&canary) || self.session.mirror.record().is_synced(resource);
            if is_ready {
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
        // Nobody closes it, so there is a turn for everyone.
        let _turn = Arc::clone(&self.session.writing).acquire_owned().await.ok();
        self.flush().await?;
        let peer = self.session.peer.declaration.name.clone();
        let mut gone = self.session.mirror.mirrored(resource).await?;
        let is_of_rules = self.unchosen.remove(&resource);
        if !gone.is_empty() && !is_of_rules {
            self.session.board.update(|known| known.relists += 1);
            self.session.metrics.relisted(&peer, resource);
        }
        let prefix = self.layout().prefix(resource, &peer);
        for (key, value) in listing.kvs {
            let rest = rest_of(&key, &prefix);
            if !self.session.takes(resource, &rest, &value) {
                continue;
            }
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
        if self.unchosen.is_empty() {
            self.batch.set_imports(self.session.imports.revision());
        }
        self.flush().await?;
        self.session.board.synced(resource, true);
        Ok(())
    }

    /// Takes what is here already, so that one Txn carries it all. A full batch is written before more is taken: a peer
    /// that fills it faster than it may be written is slowed by its own stream.
    async fn drain(&mut self) -> Result<(), Error> {
        while self.batch.events() < MAX_EVENTS {
            let watches = self.watches.as_mut().expect("opened by the first `start`");
            match watches.try_next()? {
                Some(message) => self.apply(message).await?,
                None => return Ok(()),
            }
        }
        tokio::time::sleep_until(self.session.pace.earliest(self.batch.events(), Instant::now())).await;
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
        let mirrored = self.session.mirror.record().revision(watched).unwrap_or(0);
        let listed = self.listed.get(&watched).copied().unwrap_or_default();
        for change in changes.into_iter().filter(|change| change.revision > listed) {
            let revision = change.revision;
            // A store does not tell its past again: what does must not undo what has come since.
            if revision < mirrored {
                continue;
            }
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
                let is_taken = value.as_ref().is_none_or(|value| self.session.takes(resource, &rest, value));
                if !is_taken && imports::go_by_key(resource) {
                    return Ok(());
                }
                // What may have been taken before it changed counts as gone.
                let value = value.filter(|_| is_taken);
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
        self.session.is_config_refused = checked.is_err();
        let config = checked.map_err(Error::Config)?;
        let layout = if config.capabilities.cached { Layout::Cache } else { Layout::State };
        if layout != self.layout() {
            for resource in Resource::ALL {
                self.session.mirror.forget(Watched::Resource(resource));
            }
            self.session.mirror.set_layout(layout);
            if self.asked.iter().any(|w| matches!(w, Watched::Resource(_))) {
                return Err(Error::Ended { reason: "the peer moved its facts to other keys".to_owned() });
            }
        }
        let copy = config.clone().into_cached().encode();
        self.batch.put_first(keys::cluster_config(&self.session.peer.declaration.name), copy);
        let exported: Vec<Resource> = config.capabilities.exported().collect();
        self.session.board.exported(&exported);
        self.unchosen.retain(|resource| exported.contains(resource));
        self.config = Some(config);
        let is_over = |w: &Watched| matches!(w, Watched::Resource(resource) if !exported.contains(resource));
        if self.asked.iter().any(is_over) {
            return Err(Error::Ended { reason: "the peer exports other kinds than before".to_owned() });
        }
        Ok(())
    }

    /// Writes the batch at once when the clock of its newest fact is known and the peer keeps to its pace, else in a moment.
    async fn flush_when_due(&mut self) -> Result<(), Error> {
        if !self.batch.has_writes() {
            return Ok(());
        }
        let now = Instant::now();
        let dated_at = if self.clock_revision.is_none_or(|clock| clock >= self.facts_revision) {
            self.undated_since = None;
            now
        } else {
            *self.undated_since.get_or_insert(now) + CLOCK_WAIT
        };
        let due = dated_at.max(self.session.pace.earliest(self.batch.events(), now));
        if due <= now {
            return self.flush().await;
        }
        self.flush_at = Some(due);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        (self.undated_since, self.flush_at) = (None, None);
        let session = &mut *self.session;
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let events = batch.events();
        session.mirror.write(batch).await?;
        session.pace.wrote(events, Instant::now());
        session.metrics.mirrored(&session.peer.declaration.name, events);
        let revision = session.mirror.record().newest_revision();
        session.board.update(|known| known.mirrored_revision = revision);
        self.written_at = Instant::now();
        Ok(())
    }

    /// When the connection is given up for want of a heartbeat.
    fn silent_at(&self) -> Instant {
        let settings = self.session.tuning.borrow().liveness;
        let limit = settings.scaled(self.session.peer.heartbeat_interval()).stale_after;
        let heard = Instant::now().checked_sub(self.session.board.silence()).unwrap_or(self.since);
        heard.max(self.since) + limit
    }
}

fn rest_of(key: &[u8], prefix: &str) -> String {
    String::from_utf8_lossy(key.strip_prefix(prefix.as_bytes()).unwrap_or(key)).into_owned()
}
