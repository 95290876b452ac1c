//! Federation as one component: a session per joined cluster, started and stopped as records come and go, and the
//! judgement over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::LiveLeaf;
use mesh_runtime::{Backoff, Cause, ErrorChain, Shutdown, TaskSet, clock};
use mesh_store::Store;
use mesh_store::backend::{WatchRequest, WatchUpdate};
use mesh_store::mvcc::RangeRequest;
use mesh_types::ClusterName;
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, watch};

use crate::contract::keys;
use crate::health::{self, Verdicts};
use crate::imports;
use crate::liveness::{Judge, OwnSide, Rules, Settings};
use crate::metrics::Metrics;
use crate::mirror;
use crate::outlook::Outlook;
use crate::peer::PeerRecord;
use crate::session::{Board, Session, Shared, WRITING_LISTINGS};
use crate::state::{Signs, State};

mod handle;
mod parting;
mod partings;

pub use handle::Handle;
use partings::Partings;

/// How often silence is looked at; steps of a session are judged at once.
const JUDGE_EVERY: Duration = Duration::from_millis(100);
/// What `status` says of a loss of all clusters together.
const LOST_TOGETHER: &str = "all clusters were lost at the same moment: the fault seems to be on the own side";
/// As Cilium's KVStoreMesh does (`drainGracePeriod`).
pub const DISCONNECT_GRACE: Duration = Duration::from_mins(3);
/// A session has nothing to finish that takes longer.
const STOP_WITHIN: Duration = Duration::from_secs(5);

pub struct Options {
    /// The own cluster.
    pub cluster: ClusterName,
    pub store: Arc<dyn Store>,
    /// The own cluster's leaf `remote-<own>`.
    pub leaf: Arc<LiveLeaf>,
    /// May change while it runs.
    pub tuning: watch::Receiver<Tuning>,
    pub metrics: Metrics,
    /// What the own agents see, and what the own Services ask for.
    pub outlook: watch::Receiver<Outlook>,
}

/// Settings that may change while sessions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    pub liveness: Settings,
    /// How long the facts of a cluster that was parted stay behind its configuration, for those who read the mirror. Counts
    /// for those that are parted from then on.
    pub disconnect_grace: Duration,
}

/// Why federation cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the peers from the store")]
    Store(#[source] mesh_store::backend::Error),
    #[error("what was mirrored of the former cluster {former} cannot be removed yet, whose id {joined} has now")]
    SameId { former: ClusterName, joined: ClusterName, source: mirror::Error },
}

/// State of each joined cluster.
pub type States = Arc<BTreeMap<ClusterName, State>>;

/// Written by the service, read by handles.
type Boards = Arc<RwLock<BTreeMap<ClusterName, Board>>>;

/// Why nothing is concluded now, if so. Written by the service, read by handles.
type OwnFault = Arc<RwLock<Option<String>>>;

pub struct Service {
    shared: Shared,
    /// Where the sessions hear of the import rules.
    rules: watch::Sender<Option<Arc<imports::Known>>>,
    boards: Boards,
    states: watch::Sender<States>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    outlook: watch::Receiver<Outlook>,
    own_side: OwnSide,
    own_fault: OwnFault,
    nudge: Arc<Notify>,
    sessions: BTreeMap<ClusterName, Running>,
    partings: Partings,
}

/// Of which peers a judgement also writes the figures: those that stand still are written in their time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figures {
    All,
    OfChanges,
}

struct Running {
    peer: PeerRecord,
    judge: Judge,
    trust: watch::Sender<String>,
    board: Board,
    tasks: TaskSet,
}

impl Service {
    pub fn new(options: Options) -> (Self, Handle) {
        let Options { cluster, store, leaf, tuning, metrics, outlook } = options;
        let disconnect_grace = tuning.borrow().disconnect_grace;
        let (states, seen) = watch::channel(States::default());
        let boards = Boards::default();
        let own_fault = OwnFault::default();
        let handle = Handle::new(Arc::clone(&store), Arc::clone(&boards), Arc::clone(&own_fault), seen);
        let (rules, imports) = watch::channel(None);
        let writing = Arc::new(Semaphore::new(WRITING_LISTINGS));
        let shared = Shared { own: cluster, store, leaf, tuning, metrics, imports, writing };
        let service = Self {
            shared,
            rules,
            boards,
            states,
            verdicts: watch::Sender::default(),
            outlook,
            own_side: OwnSide::default(),
            own_fault,
            nudge: Arc::default(),
            sessions: BTreeMap::new(),
            partings: Partings::new(disconnect_grace),
        };
        (service, handle)
    }

    /// Runs until stopped. Sessions stop with it; what is mirrored stays.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let writer = health::Writer::new(Arc::clone(&self.shared.store), self.verdicts.subscribe());
        let rules = imports::follow(Arc::clone(&self.shared.store), self.rules.clone());
        tokio::select! {
            () = rules => {}
            ((), ()) = async { tokio::join!(self.follow(&shutdown), writer.run(&shutdown)) } => {}
        }
        Ok(())
    }

    async fn follow(mut self, shutdown: &Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        while !shutdown.is_requested() {
            match self.follow_peers(shutdown).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "peers cannot be followed, trying again");
                    shutdown.unless_requested(backoff.wait()).await;
                }
            }
        }
        for name in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.stop(&name).await;
        }
    }

    /// Reads all records, then follows their changes until the watch ends.
    async fn follow_peers(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let store = Arc::clone(&self.shared.store);
        let found = store.range(RangeRequest::prefix(keys::PEERS)).await.map_err(Error::Store)?;
        let wanted: BTreeMap<ClusterName, &[u8]> =
            found.kvs.iter().filter_map(|kv| Some((peer_of(&kv.key)?, &kv.value[..]))).collect();
        let gone: Vec<ClusterName> = self.sessions.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
        for name in gone {
            self.remove(&name).await;
        }
        match mirror::leftovers(&*store, |name| wanted.contains_key(name)).await {
            Ok(leftovers) => {
                for name in leftovers {
                    self.partings.add(&name, Instant::now());
                }
            }
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "leftovers of former peers cannot be read"),
        }
        // Which of them have the id of one that is joined must be known before that one's session begins.
        self.part_due().await;
        for (name, value) in wanted {
            self.start(&name, value, shutdown).await?;
        }
        let request = WatchRequest::prefix(keys::PEERS, found.revision + 1);
        let mut changes = store.watch(request).await.map_err(Error::Store)?;
        let mut judge = tokio::time::interval(JUDGE_EVERY);
        judge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let parting_at = self.partings.next();
            let parting = tokio::time::sleep_until(parting_at.unwrap_or_else(Instant::now).into());
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = parting, if parting_at.is_some() => self.part_due().await,
                _ = judge.tick() => self.judge(Figures::All),
                () = self.nudge.notified() => self.judge(Figures::OfChanges),
                // Its writer lives as long as this service's term.
                Ok(()) = self.outlook.changed() => self.judge(Figures::OfChanges),
                update = changes.next() => match update {
                    Some(WatchUpdate::Events(batch)) => {
                        for event in batch.events {
                            let Some(name) = peer_of(&event.kv.key) else { continue };
                            match event.kind {
                                mesh_store::mvcc::EventKind::Put => self.start(&name, &event.kv.value, shutdown).await?,
                                mesh_store::mvcc::EventKind::Delete => self.remove(&name).await,
                            }
                        }
                        self.judge(Figures::OfChanges);
                    }
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Compacted { .. }) | None => return Ok(()),
                },
            }
        }
    }

    async fn start(&mut self, name: &ClusterName, value: &[u8], shutdown: &Shutdown) -> Result<(), Error> {
        let peer = match PeerRecord::decode(&keys::peer(name), value) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::error!(peer = %name, error = %ErrorChain(&error), "peer left out");
                return Ok(());
            }
        };
        match self.sessions.get_mut(name) {
            Some(running) if running.peer == peer => return Ok(()),
            // Its session goes on: what was connected by a CA that is still trusted stays connected.
            Some(running) if running.peer.keeps_its_session(&peer) => {
                running.peer = peer.clone();
                running.trust.send_replace(peer.declaration.trust_bundle_pem.clone());
                running.board.update(|known| known.peer = peer);
                return Ok(());
            }
            _ => {}
        }
        self.stop(name).await;
        if self.partings.forget(name) {
            tracing::info!(peer = %name, "joined again: what is mirrored of it stays");
        }
        self.drain_former(name, peer.declaration.id).await?;
        let former = health::find(&*self.shared.store, name).await.unwrap_or_else(|error| {
            tracing::warn!(peer = %name, error = %ErrorChain(&error), "the former verdict cannot be read: judged anew");
            None
        });
        let judge = former.as_ref().map(Judge::resumed).unwrap_or_default();
        let former = former.filter(|_| judge.verdict().state != State::Connecting);
        let tasks = TaskSet::new(shutdown.child());
        let board = Board::new(peer.clone(), former.as_ref(), Arc::clone(&self.nudge));
        self.boards.write().insert(name.clone(), board.clone());
        let (shared, record, stop) = (self.shared.clone(), peer.clone(), tasks.shutdown().clone());
        let (trust, seen) = watch::channel(peer.declaration.trust_bundle_pem.clone());
        let shown = board.clone();
        tasks.spawn_restarting(format!("session {name}"), Backoff::default(), move || {
            let (shared, record, board, stop) = (shared.clone(), record.clone(), shown.clone(), stop.clone());
            let trust = seen.clone();
            async move {
                Box::pin(Session::open(record, trust, shared, board).await?.run(stop)).await;
                Ok::<(), mirror::Error>(())
            }
        });
        tracing::info!(peer = %name, id = %peer.declaration.id, "session started");
        self.sessions.insert(name.clone(), Running { peer, judge, trust, board, tasks });
        Ok(())
    }

    /// Ends the session; what it mirrored stays.
    async fn stop(&mut self, name: &ClusterName) {
        let Some(running) = self.sessions.remove(name) else { return };
        running.tasks.shutdown().trigger(Cause::Requested(format!("session to {name} ends")));
        if let Err(late) = running.tasks.join(STOP_WITHIN).await {
            tracing::warn!(peer = %name, error = %late, "session did not stop in time");
        }
    }

    /// Judges every peer, and publishes what changed.
    fn judge(&mut self, figures: Figures) {
        let now = Instant::now();
        let boards: Vec<(ClusterName, Board)> =
            self.boards.read().iter().map(|(name, board)| (name.clone(), board.clone())).collect();
        let outlook = self.outlook.borrow_and_update().clone();
        for (name, board) in &boards {
            board.see(outlook.clusters.get(name));
        }
        let judged: Vec<(State, Signs)> = boards.iter().map(|(_, board)| board.judged()).collect();
        let settings = self.shared.tuning.borrow().liveness;
        let lost_together = self.own_side.look(now, &judged, settings);
        let own_fault = outlook.own_side.or_else(|| lost_together.then(|| LOST_TOGETHER.to_owned()));
        let rules = Rules {
            settings,
            periods: &outlook.periods,
            stale_periods: &outlook.stale_periods,
            own_side: own_fault.is_some(),
        };
        let (mut states, mut verdicts) = (BTreeMap::new(), Verdicts::new());
        for ((name, board), (previous, signs)) in boards.iter().zip(judged) {
            let Some(running) = self.sessions.get_mut(name) else { continue };
            let verdict = running.judge.judge(now, &signs, rules);
            let entered = board.enter(verdict, own_fault.as_deref(), clock::unix_nanos());
            if let Some(reason) = &entered {
                tracing::info!(peer = %name, %previous, state = %verdict.state, reason, "state entered");
            }
            if entered.is_some() || figures == Figures::All {
                self.shared.metrics.show(name, &board.snapshot());
            }
            states.insert(name.clone(), verdict.state);
            verdicts.insert(name.clone(), board.health(verdict));
        }
        if *self.own_fault.read() != own_fault {
            if let Some(reason) = &own_fault {
                tracing::warn!(reason, "nothing is concluded about other clusters");
            } else {
                tracing::info!("other clusters are judged again");
            }
            *self.own_fault.write() = own_fault;
        }
        self.states.send_if_modified(|known| replace(known, states));
        self.verdicts.send_if_modified(|known| replace(known, verdicts));
    }
}

/// Whether that is news.
fn replace<T: PartialEq>(known: &mut Arc<T>, now: T) -> bool {
    let is_news = **known != now;
    if is_news {
        *known = Arc::new(now);
    }
    is_news
}

fn peer_of(key: &[u8]) -> Option<ClusterName> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix(keys::PEERS)?;
    ClusterName::new(name).ok()
}
