//! Readiness by guards: the process is ready when nothing is awaited any more.
//!
//! Whoever must finish something before traffic may come takes a guard and drops it when done. Must be told of all that
//! is awaited before the admin server starts: without guards the process is ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is awaited. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    awaited: BTreeMap<u64, (String, Instant)>,
    next_id: u64,
    draining: bool,
}

/// Holds readiness back until dropped.
#[must_use = "dropping the guard says that the thing awaited has happened"]
#[derive(Debug)]
pub struct ReadyGuard {
    id: u64,
    state: Arc<Mutex<State>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Ready,
    /// What is still awaited, and for how long already.
    Waiting(Vec<(String, Duration)>),
    /// Asked to stop: finishes what it has, wants nothing new.
    Draining,
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the guard is dropped. `what` completes the sentence "waiting for ...".
    pub fn await_for(&self, what: impl Into<String>) -> ReadyGuard {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.awaited.insert(id, (what.into(), Instant::now()));
        ReadyGuard { id, state: Arc::clone(&self.state) }
    }

    /// From now on not ready, whatever the guards say: the process is stopping.
    pub fn drain(&self) {
        self.state.lock().draining = true;
    }

    pub fn status(&self) -> Status {
        let state = self.state.lock();
        if state.draining {
            Status::Draining
        } else if state.awaited.is_empty() {
            Status::Ready
        } else {
            Status::Waiting(state.awaited.values().map(|(what, since)| (what.clone(), since.elapsed())).collect())
        }
    }

    pub fn is_ready(&self) -> bool {
        self.status() == Status::Ready
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What was awaited did not happen.
            return;
        }
        let mut state = self.state.lock();
        let Some((what, since)) = state.awaited.remove(&self.id) else { return };
        let took_ms = since.elapsed().as_millis();
        if state.awaited.is_empty() {
            tracing::info!(%what, took_ms, "ready: the last thing awaited has happened");
        } else {
            let rest: Vec<&str> = state.awaited.values().map(|(what, _)| what.as_str()).collect();
            tracing::info!(%what, took_ms, still_waiting_for = rest.join(", "), "done");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_is_dropped() {
        let readiness = Readiness::new();
        let (store, sync) = (readiness.await_for("store"), readiness.await_for("first sync"));
        drop(store);
        let Status::Waiting(awaited) = readiness.status() else { panic!("ready too early") };
        assert_eq!(awaited.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["first sync"]);
        drop(sync);
        assert!(readiness.is_ready());
        readiness.drain();
        assert_eq!(readiness.status(), Status::Draining);
    }

    #[test]
    fn a_panic_does_not_make_ready() {
        let readiness = Readiness::new();
        let guard = readiness.await_for("what fails");
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = guard;
            panic!("before it happened");
        }));
        assert!(unwound.is_err() && !readiness.is_ready());
    }
}
