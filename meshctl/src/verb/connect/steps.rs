//! Progress of a verb with several steps, on stderr, each with its time.

use std::time::Instant;

use crate::failure::Failure;
use crate::output;

/// Counts the steps and prints one line for each.
pub(super) struct Steps {
    total: usize,
    done: usize,
}

impl Steps {
    pub(super) fn new(total: usize) -> Self {
        Self { total, done: 0 }
    }

    /// Runs one step and prints how it ended. The failure itself is printed by the caller's caller.
    pub(super) async fn run<T>(
        &mut self,
        what: &str,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let result = step.await;
        let end = if result.is_ok() { "ok" } else { "failed" };
        self.line(what, &format!("{end}, {} ms", start.elapsed().as_millis()));
        result
    }

    /// A step that took no time.
    pub(super) fn done(&mut self, what: &str, is_ok: bool) {
        self.line(what, if is_ok { "ok" } else { "failed" });
    }

    pub(super) fn skip(&mut self, what: &str, why: &str) {
        self.line(what, &format!("not needed: {why}"));
    }

    fn line(&mut self, what: &str, end: &str) {
        self.done += 1;
        output::note(format!("[{}/{}] {what}: {end}", self.done, self.total));
    }
}
