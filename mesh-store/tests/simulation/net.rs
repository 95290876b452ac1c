//! A network that delays, loses, repeats and cuts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

pub(crate) struct Net {
    random: Mutex<StdRng>,
    receivers: Mutex<HashMap<u64, Receiver>>,
    /// Lines that swallow everything, as (from, to).
    cut: Mutex<HashSet<(u64, u64)>>,
    /// Of a thousand messages so many are lost, and as many arrive twice.
    unreliable: Mutex<u32>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            receivers: Mutex::default(),
            cut: Mutex::default(),
            unreliable: Mutex::new(0),
        })
    }

    pub(crate) fn connect(&self, id: u64, receiver: Receiver) {
        self.receivers.lock().insert(id, receiver);
    }

    pub(crate) fn disconnect(&self, id: u64) {
        self.receivers.lock().remove(&id);
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.cut.lock().insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.cut.lock().clear();
        self.set_unreliable(0);
    }

    pub(crate) fn set_unreliable(&self, per_mille: u32) {
        *self.unreliable.lock() = per_mille;
    }

    fn chance(&self) -> bool {
        let unreliable = *self.unreliable.lock();
        self.random.lock().random_range(0..1000) < unreliable
    }

    /// How long a message is under way; `None` if it never arrives.
    fn travel(&self, from: u64, to: u64) -> Option<Duration> {
        if self.cut.lock().contains(&(from, to)) || self.chance() {
            return None;
        }
        let mut random = self.random.lock();
        // Mostly a millisecond or two, now and then long enough to arrive after later ones.
        let longest = if random.random_range(0..20) == 0 { 60_000 } else { 2_000 };
        Some(Duration::from_micros(random.random_range(100..longest)))
    }
}

pub(crate) struct Wire {
    pub(crate) net: Arc<Net>,
    pub(crate) from: u64,
    pub(crate) alive: Arc<AtomicBool>,
}

impl Transport for Wire {
    fn call(&self, to: &Member, message: Bytes, _: Duration) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        let (net, from, to) = (Arc::clone(&self.net), self.from, to.id);
        let alive = Arc::clone(&self.alive);
        async move {
            if !alive.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
            if !net.receivers.lock().contains_key(&to) && !net.cut.lock().contains(&(from, to)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
                return Err(TransportError::Unreachable { id: to, reason: "nobody is there".to_owned() });
            }
            let (reply, answer) = oneshot::channel();
            let mut reply = Some(reply);
            let copies = if net.chance() { 2 } else { 1 };
            for _ in 0..copies {
                let Some(there) = net.travel(from, to) else { continue };
                let (net, message, reply) = (Arc::clone(&net), message.clone(), reply.take());
                // On its own, so that it arrives also when the caller has given up.
                tokio::spawn(async move {
                    tokio::time::sleep(there).await;
                    let receiver = net.receivers.lock().get(&to).cloned();
                    let Some(receiver) = receiver else { return };
                    let answer = receiver.receive(&message, |id| id == from).await;
                    let Some(back) = net.travel(to, from) else { return };
                    tokio::time::sleep(back).await;
                    if let Some(reply) = reply {
                        drop(reply.send(answer));
                    }
                });
            }
            drop(reply);
            match answer.await {
                Ok(answer) => Ok(answer),
                // Lost: silence, not an error.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }
}
