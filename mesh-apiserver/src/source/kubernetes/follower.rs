//! One resource: its lists and watches, asked again and again until nobody wants to know.
//!
//! Every way in which a request can end leads to the next one; a failure is noted in the inventory and waited out.

use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt as _, StreamExt as _};
use kube::Client;
use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use mesh_runtime::{Backoff, ErrorChain, clock};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::failure::{Asked, Failure};
use super::inventory::Inventory;
use super::progress::{Ask, Progress};
use super::resource::Resource;
use super::wire::{self, Event};
use super::{Access, Error};
use crate::source::{Batch, Change};

/// Objects of a page: as many as kubectl and controllers ask for.
const PAGE: u32 = 500;
/// For a page, and for a watch to begin.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// A watch ends by itself after this many seconds, as those of other clients do, and is asked for again.
const WATCH_SECONDS: u32 = 290;
/// A watch that shows nothing for longer is asked for again: a peer that vanished is only noticed by asking. API servers
/// send a bookmark about once a minute.
const SILENCE: Duration = Duration::from_secs(90);
/// How soon after its CRD was installed a resource is found.
const ABSENT_RETRY: Duration = Duration::from_secs(10);
/// An API server that has just started may not know its CRDs for a moment: asked again after this, it does.
const ABSENT_AGAIN: Duration = Duration::from_secs(1);
/// An API server that is back is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A watch that lasted so long was no failure.
const LASTING: Duration = Duration::from_secs(5);
/// After so many failures in a row a first scan is late: about three seconds, where they come at once.
const LATE_AFTER: u32 = 4;

pub(super) struct Follower<'a> {
    resource: &'a Resource,
    access: &'a Access,
    inventory: &'a Mutex<Inventory>,
    out: &'a mpsc::Sender<Batch>,
    progress: Progress,
    backoff: Backoff,
    /// Which version of the resource is asked for.
    turn: usize,
    /// Answers in a row that the API server does not have the resource.
    absences: usize,
}

/// Why the client that was used is not used on.
enum Stop {
    Closed,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        resource: &'a Resource,
        access: &'a Access,
        inventory: &'a Mutex<Inventory>,
        out: &'a mpsc::Sender<Batch>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), MAX_PAUSE);
        Self { resource, access, inventory, out, progress: Progress::new(), backoff, turn: 0, absences: 0 }
    }

    pub(super) async fn run(mut self) -> Result<Infallible, Error> {
        loop {
            // Made anew after each failure: credentials and addresses may have been renewed.
            let stop = match self.access.client().await {
                Ok(client) => self.follow(&client).await,
                Err(failure) => Stop::Failed(failure),
            };
            match stop {
                Stop::Closed => return Err(Error::Closed),
                Stop::Failed(failure) => self.wait_out(&failure).await?,
            }
        }
    }

    async fn follow(&mut self, client: &Client) -> Stop {
        loop {
            let outcome = match self.progress.ask().clone() {
                Ask::Page { next } => self.read_page(client, next).await,
                Ask::Watch { from } => self.watch(client, &from).await,
            };
            if let Err(stop) = outcome {
                return stop;
            }
        }
    }

    async fn read_page(&mut self, client: &Client, next: Option<String>) -> Result<(), Stop> {
        if next.is_none() {
            self.inventory.lock().begin_list(self.resource.kind);
        }
        let asked = self.asking("list");
        let params = ListParams { limit: Some(PAGE), continue_token: next, ..ListParams::default() };
        let request = Request::new(self.resource.path(self.turn))
            .list(&params)
            .map_err(|e| asked.failed(kube::Error::BuildRequest(e)));
        let text = timeout(ANSWER_WITHIN, quietly(client.request_text(request?))).await;
        let text = text.map_err(|_late| asked.silent(ANSWER_WITHIN))?.map_err(|error| asked.failed(error))?;
        let mut page = wire::page(self.resource.kind, &text).map_err(|error| asked.unreadable(error))?;
        drop(text);
        self.absences = 0;
        self.note_recovery();
        let is_last = self.progress.read(&page);
        let changes = {
            let mut inventory = self.inventory.lock();
            page.items.drain(..).flat_map(|item| inventory.apply(item)).collect()
        };
        self.deliver(changes).await?;
        if is_last { self.end_list().await } else { Ok(()) }
    }

    async fn end_list(&mut self) -> Result<(), Stop> {
        let gone = self.inventory.lock().end_list(self.resource.kind);
        self.deliver(gone).await?;
        let is_complete = self.inventory.lock().listed(self.resource.kind);
        if is_complete {
            tracing::info!("everything that the mesh reads of the API server has been read once");
            self.send(Batch { is_complete, ..Batch::default() }).await?;
        }
        Ok(())
    }

    async fn watch(&mut self, client: &Client, from: &str) -> Result<(), Stop> {
        let asked = self.asking("watch");
        let params = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let request = Request::new(self.resource.path(self.turn))
            .watch(&params, from)
            .map_err(|e| asked.failed(kube::Error::BuildRequest(e)));
        let stream = timeout(ANSWER_WITHIN, quietly(client.request_stream(request?))).await;
        let stream = stream.map_err(|_late| asked.silent(ANSWER_WITHIN))?.map_err(|error| asked.failed(error))?;
        self.note_recovery();
        let begun = Instant::now();
        let stream = pin!(stream);
        let mut lines = stream.lines();
        let mut shown = 0_u64;
        while let Ok(Some(line)) = timeout(SILENCE, quietly(lines.next())).await {
            // A watch may break off at any time. Whether anything is wrong is seen by asking again.
            let Ok(line) = line else { break };
            let event = wire::event(self.resource.kind, &line).map_err(|error| asked.unreadable(error))?;
            shown += 1;
            self.backoff.reset();
            if !self.take(event, &asked).await? {
                return Ok(());
            }
        }
        if shown == 0 && begun.elapsed() < LASTING {
            // A server that ends watches at once must not be asked without a pause.
            self.backoff.wait().await;
        } else {
            self.backoff.reset();
        }
        Ok(())
    }

    /// False when the watch is of no more use.
    async fn take(&mut self, event: Event, asked: &Asked) -> Result<bool, Stop> {
        let (changes, version) = match event {
            Event::Applied(item) => {
                let version = item.version.clone();
                (self.inventory.lock().apply(item), version)
            }
            Event::Deleted { key, version } => (self.inventory.lock().delete(&key), version),
            Event::Bookmark { version } => (Vec::new(), version),
            Event::Error { code, message } => return Err(asked.refused(code, &message).into()),
        };
        self.deliver(changes).await?;
        let goes_on = self.progress.shown(&version);
        if !goes_on {
            tracing::warn!(resource = self.resource.name(), "the API server's history was set back: listing again");
        }
        Ok(goes_on)
    }

    async fn wait_out(&mut self, failure: &Failure) -> Result<(), Error> {
        let kind = self.resource.kind;
        self.progress.failed();
        match failure {
            Failure::Expired { .. } => {
                tracing::info!(resource = self.resource.name(), reason = %failure, "listing again");
                self.progress.start_over();
                self.backoff.wait().await;
                return Ok(());
            }
            Failure::Absent { .. } if !self.resource.comes_with_kubernetes() => return self.wait_for_crd().await,
            // What was asked can never be answered: begin where something can.
            Failure::Absent { .. } | Failure::Refused { code: 400, .. } => self.progress.start_over(),
            _ => {}
        }
        let reason = ErrorChain(failure).to_string();
        let is_news = self.inventory.lock().failed(kind, reason.clone(), clock::unix_nanos());
        if is_news {
            tracing::warn!(
                resource = self.resource.name(),
                reason,
                "the API server cannot be followed: what was exported stays, trying again"
            );
        }
        self.backoff.wait().await;
        if self.backoff.failures() >= LATE_AFTER && self.inventory.lock().delayed() {
            let batch = Batch { is_delayed: true, ..Batch::default() };
            return self.out.send(batch).await.map_err(|_closed| Error::Closed);
        }
        Ok(())
    }

    /// There are no objects of a resource that the API server does not have, now or any more.
    async fn wait_for_crd(&mut self) -> Result<(), Error> {
        self.progress.start_over();
        self.note_recovery();
        self.absences += 1;
        self.turn += 1;
        if !self.absences.is_multiple_of(self.resource.versions()) {
            return Ok(());
        }
        if self.absences == self.resource.versions() {
            tokio::time::sleep(ABSENT_AGAIN).await;
            return Ok(());
        }
        self.inventory.lock().begin_list(self.resource.kind);
        if let Err(Stop::Closed) = self.end_list().await {
            return Err(Error::Closed);
        }
        tokio::time::sleep(ABSENT_RETRY).await;
        Ok(())
    }

    fn note_recovery(&self) {
        if self.inventory.lock().recovered(self.resource.kind) {
            tracing::info!(server = self.access.location(), "the API server is followed again");
        }
    }

    fn asking(&self, verb: &'static str) -> Asked {
        self.inventory.lock().count_request();
        Asked { server: self.access.location().to_owned(), verb, resource: self.resource.name() }
    }

    async fn deliver(&self, changes: Vec<Change>) -> Result<(), Stop> {
        for rejection in self.inventory.lock().take_news() {
            tracing::warn!(object = %rejection.object, reason = %rejection.reason, "left out of the mesh");
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.send(Batch { changes, ..Batch::default() }).await
    }

    async fn send(&self, batch: Batch) -> Result<(), Stop> {
        self.out.send(batch).await.map_err(|_closed| Stop::Closed)
    }
}

/// The client logs every failed attempt as an error of its own; what is to be said of them is said once, by the follower.
async fn quietly<T>(asking: impl Future<Output = T>) -> T {
    asking.with_subscriber(NoSubscriber::default()).await
}
