//! The one token that stops the process, and the signals that pull it.
//!
//! `Shutdown` says *that* and *why* to stop; waiting for tasks and forcing them is `tasks`' work.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit;

/// A cloneable stop token. Children stop with their parent and can be stopped alone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// Written once by whoever triggers first, read when the process decides on its exit code.
    cause: Arc<OnceLock<Cause>>,
}

/// Why the process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// Asked for from inside, as a normal end.
    Requested(String),
    /// A task that must not end has ended, or start-up failed.
    Failure(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => f.write_str(name),
            Self::Requested(why) | Self::Failure(why) => f.write_str(why),
        }
    }
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops everything that listens to this token or a child of it. The first cause counts.
    pub fn trigger(&self, cause: Cause) {
        if self.token.is_cancelled() {
            return;
        }
        let text = cause.to_string();
        if self.cause.set(cause).is_ok() {
            tracing::info!(cause = text, "stopping");
        }
        self.token.cancel();
    }

    /// A token that stops with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), cause: Arc::new(OnceLock::new()) }
    }

    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once stopping was asked for. Safe to drop and call again in `select!`.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// The same as a future that borrows nothing, as servers want it.
    pub fn requested_owned(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    /// Runs `work` until it ends or stopping is asked for; `None` then.
    pub async fn unless_requested<F: Future>(&self, work: F) -> Option<F::Output> {
        self.token.run_until_cancelled(work).await
    }

    /// Why, once it was asked for; of this token itself, not of its parent.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.get()
    }

    /// What `main` returns after a full stop: failure only when a failure was the cause.
    pub fn exit_code(&self) -> std::process::ExitCode {
        exit::code(match self.cause() {
            Some(Cause::Failure(_)) => exit::FAILURE,
            _ => exit::OK,
        })
    }

    /// Listens to SIGTERM and SIGINT: the first stops orderly, a second exits at once, so keep the guard until the end.
    pub fn listen_to_signals(&self) -> io::Result<SignalGuard> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        #[expect(clippy::disallowed_methods, reason = "its handle is the guard; a TaskSet would wait for it")]
        let listener = tokio::spawn(async move {
            let mut stopping = false;
            loop {
                let name = tokio::select! {
                    Some(()) = terminate.recv() => "SIGTERM",
                    Some(()) = interrupt.recv() => "SIGINT",
                    else => return,
                };
                if stopping {
                    tracing::warn!(signal = name, "second signal: leaving without waiting for tasks");
                    std::process::exit(exit::INTERRUPTED.into());
                }
                stopping = true;
                shutdown.trigger(Cause::Signal(name));
            }
        });
        Ok(SignalGuard { listener })
    }
}

/// Stops listening to signals when dropped.
#[must_use = "signals are listened to only while the guard lives"]
#[derive(Debug)]
pub struct SignalGuard {
    listener: JoinHandle<()>,
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn children_stop_with_their_parent_but_not_the_other_way_round() {
        let root = Shutdown::new();
        let (one, two) = (root.child(), root.child());
        one.trigger(Cause::Requested("done".into()));
        assert!(one.is_requested() && !root.is_requested() && !two.is_requested());
        root.trigger(Cause::Failure("task died".into()));
        two.requested().await;
        root.trigger(Cause::Signal("SIGTERM"));
        assert_eq!(root.cause(), Some(&Cause::Failure("task died".into())));
    }

    #[tokio::test]
    async fn work_is_given_up_when_stopping() {
        let root = Shutdown::new();
        assert_eq!(root.unless_requested(async { 1 }).await, Some(1));
        root.trigger(Cause::Requested("enough".into()));
        assert_eq!(root.unless_requested(std::future::pending::<()>()).await, None);
    }
}
