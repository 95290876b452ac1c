//! All records of the demo's load, and the windows in which failures are expected. Pure but for reading the records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::{monotonic_ns, ms_between};
use crate::deadline::wait_until;
use crate::load::record::{Kind, Record};
use crate::load::running::Running;

/// A time in which failures of a target are the fault's, not the mesh's.
#[derive(Debug, Clone)]
struct Window {
    target: String,
    start_ns: u64,
    end_ns: u64,
}

/// A record and the client that wrote it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) client: String,
    pub(super) record: Record,
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    loads: Vec<Running>,
    pub(super) seen: Vec<Seen>,
    windows: Vec<Window>,
    pub(super) zero_ns: u64,
}

impl Traffic {
    /// `zero_ns` is when the story began.
    pub(super) fn new(zero_ns: u64) -> Self {
        Self { zero_ns, ..Self::default() }
    }

    pub(super) fn add(&mut self, load: Running) {
        self.loads.push(load);
    }

    /// Takes over what was written down since the last time.
    pub(super) fn read_new(&mut self) -> Result<()> {
        for load in &mut self.loads {
            let client = load.client.clone();
            let new = load.read_new()?;
            self.seen.extend(new.into_iter().map(|record| Seen { client: client.clone(), record }));
        }
        Ok(())
    }

    /// Lets the load run for a while.
    pub(super) fn observe(&mut self, time: Duration) -> Result<()> {
        let end = monotonic_ns() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        wait_until("time to pass", time + Duration::from_secs(1), || monotonic_ns() >= end)?;
        self.read_new()
    }

    /// Lets the load run until something is seen in it.
    pub(super) fn until(&mut self, what: &str, within: Duration, fact: impl Fn(&Self) -> bool) -> Result<()> {
        let start = monotonic_ns();
        loop {
            self.read_new()?;
            if fact(self) {
                return Ok(());
            }
            if Duration::from_nanos(monotonic_ns() - start) > within {
                bail!("{what} was not seen within {within:?}; {}", self.last_failures());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// From here to there, failures of this target are expected.
    pub(super) fn excuse(&mut self, target: &str, start_ns: u64, end_ns: u64) {
        self.windows.push(Window { target: target.to_owned(), start_ns, end_ns });
    }

    /// The loads that run: they are read no more.
    pub(super) fn take_loads(&mut self) -> Vec<Running> {
        std::mem::take(&mut self.loads)
    }

    /// Ends loads that were taken, and takes over what they wrote until their end.
    pub(super) fn stop(&mut self, loads: Vec<Running>) -> Result<()> {
        for load in loads {
            let client = load.client.clone();
            let rest = load.stop()?;
            self.seen.extend(rest.into_iter().map(|record| Seen { client: client.clone(), record }));
        }
        Ok(())
    }

    /// Requests that were answered, begun at or after `since`.
    pub(super) fn answered(&self, since: u64) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| {
            seen.record.kind == Kind::Request && !seen.record.is_failure() && seen.record.start_ns >= since
        })
    }

    /// Whether each of these clients had an answer from each of these targets, begun at or after `since`.
    pub(super) fn all_answered(&self, clients: &[String], targets: &[&str], since: u64) -> bool {
        let pairs: BTreeSet<(&str, &str)> =
            self.answered(since).map(|seen| (seen.client.as_str(), seen.record.target.as_str())).collect();
        clients.iter().all(|client| targets.iter().all(|target| pairs.contains(&(client.as_str(), *target))))
    }

    /// Failures of a target that ended between two times: requests, connections that broke, connections that did not open.
    pub(super) fn failures<'a>(&'a self, target: &'a str, start: u64, end: u64) -> impl Iterator<Item = &'a Seen> {
        self.seen.iter().filter(move |seen| {
            let record = &seen.record;
            record.is_failure() && record.target == target && (start..=end).contains(&record.end_ns)
        })
    }

    /// From `start` to the end of the last failure of a target, ms; 0 without one.
    pub(super) fn last_failure_ms(&self, target: &str, start: u64) -> u64 {
        let ends = self.failures(target, start, u64::MAX).map(|seen| seen.record.end_ns);
        ends.max().map_or(0, |end| ms_between(start, end))
    }

    /// All failures, those outside every window first.
    pub(super) fn judge(&self) -> (Vec<&Seen>, Vec<&Seen>) {
        let failures = self.seen.iter().filter(|seen| seen.record.is_failure());
        failures.partition(|seen| !self.windows.iter().any(|window| window.covers(&seen.record)))
    }

    pub(super) fn answers_by_cluster(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seen in self.answered(0) {
            *counts.entry(seen.record.answer.cluster.clone()).or_default() += 1;
        }
        counts
    }

    fn last_failures(&self) -> String {
        let failures = self.seen.iter().rev().filter(|seen| seen.record.is_failure()).take(3);
        let lines: Vec<String> = failures.map(|seen| seen.line(self.zero_ns)).collect();
        if lines.is_empty() { "nothing failed".into() } else { format!("the last failures: {}", lines.join("; ")) }
    }
}

impl Window {
    /// A request belongs to a window when any part of it does.
    fn covers(&self, record: &Record) -> bool {
        let start = if record.kind == Kind::Broken { record.end_ns } else { record.start_ns };
        record.target == self.target && record.end_ns >= self.start_ns && start <= self.end_ns
    }
}

impl Seen {
    /// One line for people; `zero_ns` is when the story began.
    pub(super) fn line(&self, zero_ns: u64) -> String {
        let Record { kind, target, error, bytes, answer, .. } = &self.record;
        let ms = ms_between(self.record.start_ns, self.record.end_ns);
        let error = error.as_deref().unwrap_or("ok");
        let whom = if answer.pod.is_empty() { String::new() } else { format!(" at {}/{}", answer.cluster, answer.pod) };
        let began = Duration::from_nanos(self.record.start_ns.saturating_sub(zero_ns)).as_secs_f64();
        format!("[{began:7.3} s] {kind:?} {} -> {target}{whom}: {error} after {ms} ms ({bytes} bytes)", self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Answer;

    fn seen(target: &str, start_ns: u64, end_ns: u64, error: Option<&str>) -> Seen {
        let (kind, answer) = (Kind::Request, Answer { cluster: "cluster-b".into(), ..Answer::default() });
        let error = error.map(str::to_owned);
        let record = Record { kind, target: target.into(), start_ns, end_ns, bytes: 100, error, pings: 0, answer };
        Seen { client: "frontend-0".into(), record }
    }

    #[test]
    fn a_failure_is_excused_only_by_a_window_of_its_target_that_it_touches() {
        let mut traffic = Traffic {
            seen: vec![
                seen("ledger", 50, 150, Some("timeout")),
                seen("ledger", 300, 310, Some("timeout")),
                seen("catalog", 120, 130, Some("timeout")),
                seen("catalog", 140, 150, None),
            ],
            ..Traffic::default()
        };
        traffic.excuse("ledger", 100, 200);
        let (errors, excused) = traffic.judge();
        assert_eq!((errors.len(), excused.len()), (2, 1));
        assert_eq!(excused[0].record.start_ns, 50);
        assert_eq!(traffic.answers_by_cluster(), [("cluster-b".to_owned(), 1)].into());
    }

    #[test]
    fn the_last_failure_is_measured_from_the_fault() {
        let traffic = Traffic { seen: vec![seen("catalog", 0, 9_000_000, Some("reset"))], ..Traffic::default() };
        assert_eq!(traffic.last_failure_ms("catalog", 2_000_000), 7);
        assert_eq!(traffic.last_failure_ms("ledger", 2_000_000), 0);
    }
}
