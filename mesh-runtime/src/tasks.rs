//! Named tasks with a policy for their end. Nothing runs detached: whoever spawns can join.
//!
//! ```text
//! spawn(name, policy, future) --ends--> Shutdown: the process stops | Log | Restart(backoff)
//! join(deadline) --late--> abort, and the names of the late ones
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::chain::ErrorChain;
use crate::shutdown::{Cause, Shutdown};

/// The boxed error of a task.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What happens when a task ends while the process is not stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// The process cannot go on without it: everything stops, and the exit code says failure.
    Shutdown,
    /// Its end is normal: a success is logged at debug level, a failure as a warning.
    Log,
}

/// Owns the tasks of a process (or of one stage of it). Clones share the set.
#[derive(Debug, Clone)]
pub struct TaskSet {
    shutdown: Shutdown,
    tracker: TaskTracker,
    /// Written at spawn and at a task's end; read by `join` to name and abort the late ones.
    running: Arc<Mutex<BTreeMap<u64, Running>>>,
}

#[derive(Debug)]
struct Running {
    name: String,
    /// `None` only between the entry's insertion and the spawn that follows it.
    abort: Option<AbortHandle>,
}

/// The tasks that had to be aborted.
#[derive(Debug, thiserror::Error)]
#[error("not stopped within {} ms, aborted: {}", deadline.as_millis(), names.join(", "))]
pub struct Late {
    pub names: Vec<String>,
    pub deadline: Duration,
}

/// What a task may return: nothing, or a result with any error.
pub trait Outcome: Send + 'static {
    fn into_result(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError> + Send + 'static> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

impl TaskSet {
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tracker: TaskTracker::new(), running: Arc::default() }
    }

    /// The token that the tasks of this set should listen to.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `future` as a task. The handle can abort it; dropping the handle does nothing.
    pub fn spawn<F>(&self, name: impl Into<String>, on_exit: OnExit, future: F) -> AbortHandle
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        let name = name.into();
        let shutdown = self.shutdown.clone();
        let span = tracing::info_span!("task", name = %name);
        self.track(name.clone(), async move {
            let result = caught(future).instrument(span).await;
            ended(&name, on_exit, &result, &shutdown);
        })
    }

    /// Runs what `start` makes, again and again, with a growing delay after each end until the process stops. A run
    /// that lasted longer than the largest delay counts as a success and starts the delays over.
    pub fn spawn_restarting<S, F>(
        &self,
        name: impl Into<String>,
        mut backoff: crate::Backoff,
        mut start: S,
    ) -> AbortHandle
    where
        S: FnMut() -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        let name = name.into();
        let shutdown = self.shutdown.clone();
        self.track(name.clone(), async move {
            loop {
                let began = Instant::now();
                let span = tracing::info_span!("task", name = %name);
                let result = caught(start()).instrument(span).await;
                if shutdown.is_requested() {
                    return ended(&name, OnExit::Log, &result, &shutdown);
                }
                if began.elapsed() > backoff.max() {
                    backoff.reset();
                }
                let delay = backoff.next_delay();
                let delay_ms = delay.as_millis();
                match result {
                    Ok(()) => tracing::warn!(task = %name, delay_ms, "task ended, restarting"),
                    Err(error) => {
                        tracing::warn!(task = %name, delay_ms, error = %ErrorChain(&*error), "task failed, restarting");
                    }
                }
                if shutdown.unless_requested(tokio::time::sleep(delay)).await.is_none() {
                    return;
                }
            }
        })
    }

    /// Names of the tasks that run, in the order they were started.
    pub fn names(&self) -> Vec<String> {
        self.running.lock().values().map(|task| task.name.clone()).collect()
    }

    /// Waits for all tasks to end, at most `deadline`; then aborts the rest and names them. Does not ask them to stop:
    /// `shutdown().trigger` does.
    pub async fn join(&self, deadline: Duration) -> Result<(), Late> {
        self.tracker.close();
        let began = Instant::now();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            tracing::debug!(took_ms = began.elapsed().as_millis(), "all tasks ended");
            return Ok(());
        }
        let late = Late { names: self.names(), deadline };
        for task in self.running.lock().values() {
            if let Some(abort) = &task.abort {
                abort.abort();
            }
        }
        self.tracker.wait().await;
        if late.names.is_empty() { Ok(()) } else { Err(late) }
    }

    /// Waits until stopping is asked for, then joins.
    pub async fn run_until_stopped(&self, deadline: Duration) -> Result<(), Late> {
        self.shutdown.requested().await;
        self.join(deadline).await
    }

    fn track(&self, name: String, body: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let entry = Entry::insert(&self.running, name);
        let id = entry.id;
        let abort = self
            .tracker
            .spawn(async move {
                let _entry = entry;
                body.await;
            })
            .abort_handle();
        if let Some(task) = self.running.lock().get_mut(&id) {
            task.abort = Some(abort.clone());
        }
        abort
    }
}

/// A task's line in the table; removes itself when the task ends, is aborted, or is never polled.
struct Entry {
    id: u64,
    running: Arc<Mutex<BTreeMap<u64, Running>>>,
}

impl Entry {
    fn insert(running: &Arc<Mutex<BTreeMap<u64, Running>>>, name: String) -> Self {
        let mut table = running.lock();
        let id = table.last_key_value().map_or(0, |(last, _)| last + 1);
        table.insert(id, Running { name, abort: None });
        Self { id, running: Arc::clone(running) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct Panicked(String);

async fn caught<F>(future: F) -> Result<(), BoxError>
where
    F: Future,
    F::Output: Outcome,
{
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(outcome) => outcome.into_result(),
        Err(payload) => Err(Panicked(panic_text(&*payload)).into()),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn ended(name: &str, on_exit: OnExit, result: &Result<(), BoxError>, shutdown: &Shutdown) {
    let stopping = shutdown.is_requested();
    let error = result.as_ref().err().map(|error| ErrorChain(&**error).to_string());
    match (on_exit, error) {
        (_, Some(error)) if stopping => tracing::warn!(task = name, error, "task failed while stopping"),
        (_, None) if stopping => tracing::debug!(task = name, "task stopped"),
        (OnExit::Shutdown, Some(error)) => {
            tracing::error!(task = name, error, "task failed");
            shutdown.trigger(Cause::Failure(format!("task {name:?} failed: {error}")));
        }
        (OnExit::Shutdown, None) => {
            tracing::error!(task = name, "task ended although it should not");
            shutdown.trigger(Cause::Failure(format!("task {name:?} ended")));
        }
        (OnExit::Log, Some(error)) => tracing::warn!(task = name, error, "task failed"),
        (OnExit::Log, None) => tracing::debug!(task = name, "task ended"),
    }
}

#[cfg(test)]
mod tests;
