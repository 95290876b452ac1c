//! The program as it runs.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::steps::Step;
use crate::harness::PATIENCE;

/// Killed when dropped, so that a failing test leaves no process.
pub(super) struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// All that was told so far.
    pub(super) told: Vec<Step>,
}

impl Peer {
    pub(super) fn start(program: &Path, flags: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines, told: Vec::new() }
    }

    /// The next step of which this is true; those before it are among what was told.
    pub(super) async fn until(&mut self, what: &str, mut is_it: impl FnMut(&Step) -> bool) -> Step {
        let search = async {
            loop {
                let step = self.next().await.expect("the program goes on");
                if is_it(&step) {
                    return step;
                }
            }
        };
        if let Ok(step) = tokio::time::timeout(PATIENCE, search).await {
            return step;
        }
        let last: Vec<_> = self.told.iter().rev().take(20).collect();
        panic!("no {what} within {PATIENCE:?}; newest first: {last:#?}")
    }

    /// Until each of these resources has had such a step: what comes by different watches comes in any order.
    pub(super) async fn until_each(&mut self, what: &str, resources: &[&str], is_it: impl Fn(&Step) -> bool) {
        let mut missing = resources.to_vec();
        self.until(what, |step| {
            if is_it(step) {
                missing.retain(|resource| *resource != step.resource);
            }
            missing.is_empty()
        })
        .await;
    }

    pub(super) async fn synced(&mut self) {
        self.until("sync", |step| step.is("synced")).await;
    }

    pub(super) fn count(&self, step: &str) -> usize {
        self.told.iter().filter(|told| told.is(step)).count()
    }

    /// The changes since `from` steps were told, but for the heartbeats.
    pub(super) fn changes(&self, from: usize) -> Vec<&Step> {
        self.told[from..].iter().filter(|told| told.is("event") && told.resource != "heartbeat").collect()
    }

    /// What costs a real Cilium another listing: re-listed resources and new connections.
    pub(super) fn setbacks(&self) -> Vec<&Step> {
        self.told.iter().filter(|told| ["relist", "reconnect", "failed"].contains(&told.name.as_str())).collect()
    }

    /// Ends it, and returns all that it told.
    pub(super) async fn end(mut self) -> Self {
        drop(self.child.stdin.take());
        let rest = async { while self.next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, rest).await.expect("it ends with its input");
        let status = self.child.wait().await.expect("it has ended");
        assert!(status.success(), "{status}");
        self
    }

    async fn next(&mut self) -> Option<Step> {
        let line = self.lines.next_line().await.expect("its output is text")?;
        let step = Step::parse(line).expect("a step");
        assert!(!step.is("violation"), "{}", step.reason);
        self.told.push(step.clone());
        Some(step)
    }
}
