//! The steps of the demo as they are printed: when each began, what came of it, how long it took.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock::monotonic_ns;

#[derive(Debug)]
pub(super) struct Timeline {
    start: Instant,
    zero_ns: u64,
}

impl Timeline {
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), zero_ns: monotonic_ns() }
    }

    /// The start, on the clock of records.
    pub(super) fn zero_ns(&self) -> u64 {
        self.zero_ns
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs a step and prints a line for it; a failed one carries the step's name.
    pub(super) fn step<T>(&mut self, what: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        let begun = self.elapsed();
        match work() {
            Ok((value, came_of_it)) => {
                let took = self.elapsed().saturating_sub(begun);
                print(&format!("[{:7.3} s] {what}: {came_of_it} ({} ms)", begun.as_secs_f64(), took.as_millis()));
                Ok(value)
            }
            Err(error) => {
                print(&format!("[{:7.3} s] {what}: FAILED", begun.as_secs_f64()));
                Err(error).with_context(|| what.to_owned())
            }
        }
    }

    #[expect(clippy::unused_self, reason = "what is printed belongs to the timeline")]
    pub(super) fn note(&self, text: &str) {
        print(text);
    }
}

/// A reader that went away (`| head`) is no reason to stop in the middle of a fault.
fn print(text: &str) {
    let mut out = std::io::stdout();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}
