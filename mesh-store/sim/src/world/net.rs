//! The network between replicas: it loses, delays, reorders and repeats calls, and its lines can be cut, each way alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store::backend::Member;
use mesh_store::{Receiver, Transport, TransportError};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::trace::Trace;

/// How the network behaves now; shares are of a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) lost: u32,
    pub(crate) repeated: u32,
    pub(crate) late: u32,
    pub(crate) latest: Duration,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { lost: 0, repeated: 10, late: 10, latest: Duration::from_millis(20) };
}

pub(crate) struct Net {
    random: Mutex<StdRng>,
    receivers: Mutex<BTreeMap<u64, Receiver>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
    weather: Mutex<Weather>,
    tasks: TaskTracker,
    pub(crate) trace: Arc<Trace>,
}

/// What will happen to one message.
struct Fate {
    delay: Duration,
    is_lost: bool,
    again_after: Option<Duration>,
}

impl Net {
    pub(crate) fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            receivers: Mutex::default(),
            cut: Mutex::default(),
            weather: Mutex::new(Weather::FAIR),
            tasks: TaskTracker::new(),
            trace,
        })
    }

    pub(crate) fn attach(&self, id: u64, receiver: Receiver) {
        self.receivers.lock().insert(id, receiver);
    }

    pub(crate) fn detach(&self, id: u64) {
        self.receivers.lock().remove(&id);
    }

    pub(crate) fn cut(&self, lines: impl IntoIterator<Item = (u64, u64)>) {
        self.cut.lock().extend(lines);
    }

    pub(crate) fn mend(&self) {
        self.cut.lock().clear();
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// Runs what nobody waits for.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    fn fate(&self) -> Fate {
        let weather = *self.weather.lock();
        let mut random = self.random.lock();
        let mut happens = |share: u32| random.random_range(0..1000) < share;
        let (is_late, is_lost, is_repeated) = (happens(weather.late), happens(weather.lost), happens(weather.repeated));
        let most = if is_late { weather.latest } else { Duration::from_millis(2) };
        let delay = random.random_range(Duration::from_micros(100)..most);
        let again_after = is_repeated.then(|| random.random_range(Duration::ZERO..Duration::from_millis(500)));
        Fate { delay, is_lost, again_after }
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.lock().contains(&(from, to))
    }

    /// Delivers a message after a while, and its answer after another. It arrives even if nobody waits for the answer.
    async fn carry(self: Arc<Self>, from: u64, to: u64, message: Bytes, answer: oneshot::Sender<Delivered>) {
        let fate = self.fate();
        tokio::time::sleep(fate.delay).await;
        if fate.is_lost || self.is_cut(from, to) {
            return silence(answer).await;
        }
        let receiver = self.receivers.lock().get(&to).cloned();
        let Some(receiver) = receiver else {
            drop(answer.send(Err(TransportError::Unreachable { id: to, reason: "nobody is there".to_owned() })));
            return;
        };
        self.trace.note(format_args!("net {from}>{to} {} bytes", message.len()));
        let told = receiver.receive(&message, |id| id == from).await;
        let back = self.fate();
        tokio::time::sleep(back.delay).await;
        let is_gone = !self.receivers.lock().contains_key(&to);
        if back.is_lost || is_gone || self.is_cut(to, from) {
            silence(answer).await;
        } else {
            drop(answer.send(Ok(told)));
        }
        if let Some(after) = fate.again_after {
            tokio::time::sleep(after).await;
            let receiver = self.receivers.lock().get(&to).cloned();
            if let Some(receiver) = receiver.filter(|_| !self.is_cut(from, to)) {
                self.trace.note(format_args!("net {from}>{to} {} bytes again", message.len()));
                drop(receiver.receive(&message, |id| id == from).await);
            }
        }
    }
}

type Delivered = Result<Bytes, TransportError>;

/// The caller hears nothing, until it gives up.
async fn silence(mut answer: oneshot::Sender<Delivered>) {
    answer.closed().await;
}

/// One run's end of the network.
pub(crate) struct Wire {
    pub(crate) net: Arc<Net>,
    pub(crate) from: u64,
    /// Set when the machine has crashed.
    pub(crate) dead: CancellationToken,
}

impl Transport for Wire {
    fn call(&self, to: &Member, message: Bytes, _: Duration) -> BoxFuture<'_, Delivered> {
        let id = to.id;
        async move {
            if self.dead.is_cancelled() {
                std::future::pending::<()>().await;
            }
            let (sender, answer) = oneshot::channel();
            self.net.tasks.spawn(Arc::clone(&self.net).carry(self.from, id, message, sender));
            let told = answer.await;
            if self.dead.is_cancelled() {
                std::future::pending::<()>().await;
            }
            told.unwrap_or_else(|_| Err(TransportError::Broken { id, reason: "the line broke".to_owned() }))
        }
        .boxed()
    }
}
