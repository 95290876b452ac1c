//! Requests from pods all the while, and what became of those that began within a window. A generator runs in its pod's
//! place but is no process of the pod's container: it goes on while kubelet, runtime and API server are away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::Kubernetes;
use super::node::Node;
use crate::binaries::Binaries;
use crate::clock::monotonic_ns;
use crate::deadline::wait_for;
use crate::load::record::{Kind, Record};
use crate::load::running::Running;
use crate::load::{Plan, REQUEST_TIMEOUT, Target};

/// How long requests may take to begin.
const BEGUN: Duration = Duration::from_secs(15);

/// A pod that asks.
#[derive(Debug, Clone)]
pub struct Asker {
    pub cluster: String,
    pub node: String,
    pub pod: String,
}

/// The load of one pod.
pub struct PodLoad {
    asker: Asker,
    plan: Plan,
    program: PathBuf,
    records: PathBuf,
    running: Running,
    seen: Vec<Record>,
}

/// What became of what began within a window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: usize,
    pub failed: usize,
    /// Long-lived connections that broke, or could not be opened.
    pub broken: usize,
    /// The kinds of failure, each once.
    pub errors: Vec<String>,
}

impl PodLoad {
    /// Starts asking one address, so many times a second, each time on a new connection, beside so many long-lived ones.
    pub fn start(run: &Kubernetes, asker: &Asker, target: Target, rate: u32, long: u32) -> Result<Self> {
        let plan = Plan { targets: vec![target], rate, long, large_every: 0 };
        let program = Binaries::beside_this_one()?.find("lab-load")?;
        let name = format!("load-{}-{}-{}.jsonl", asker.pod, plan.targets[0].name, monotonic_ns());
        let records = run.logs().join(name);
        let running = begin(run, asker, &program, &plan, &records)?;
        Ok(Self { asker: asker.clone(), plan, program, records, running, seen: Vec::new() })
    }

    /// After its node was without power: the pod is another process there now.
    pub fn start_again(&mut self, run: &Kubernetes) -> Result<()> {
        self.records.set_file_name(format!("load-{}-{}.jsonl", self.asker.pod, monotonic_ns()));
        self.running = begin(run, &self.asker, &self.program, &self.plan, &self.records)?;
        Ok(())
    }

    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What happened until now. An error where the generator is gone: its silence must not count as success.
    pub fn read(&mut self) -> Result<()> {
        self.seen.extend(self.running.read_new()?);
        Ok(())
    }

    /// Of requests and connections that began, or broke, from one moment to another.
    pub fn counts(&self, from_ns: u64, to_ns: u64) -> Counts {
        count(&self.seen, from_ns, to_ns)
    }

    /// Waits until so many requests in a row were answered that began after a moment.
    pub fn wait_answered(&mut self, count: usize, since_ns: u64, within: Duration) -> Result<()> {
        let what = format!("{count} answers in a row in {} on {}", self.asker.pod, self.asker.node);
        wait_for(&what, within, || {
            self.read()?;
            let newer = self.seen.iter().rev().filter(|record| record.kind == Kind::Request);
            let mut in_a_row = 0;
            for record in newer.take_while(|record| record.start_ns >= since_ns) {
                if let Some(error) = &record.error {
                    anyhow::bail!("{in_a_row} since: {error}");
                }
                in_a_row += 1;
            }
            Ok((in_a_row >= count).then_some(()))
        })
    }
}

fn begin(
    run: &Kubernetes,
    asker: &Asker,
    program: &std::path::Path,
    plan: &Plan,
    records: &std::path::Path,
) -> Result<Running> {
    let node: &Node = run.cluster(&asker.cluster)?.node(&asker.node)?;
    let place =
        wait_for(&format!("the process of pod {}", asker.pod), BEGUN, || run.pod_place(node, &asker.pod).map(Some))?;
    Running::start(program, &asker.pod, &place, plan, records).with_context(|| format!("load in {}", asker.pod))
}

/// Lets load go on for a time, and reads it meanwhile.
pub fn go_on(loads: &mut [PodLoad], time: Duration) -> Result<()> {
    let begun = Instant::now();
    wait_for("the window to end", time + REQUEST_TIMEOUT, || {
        loads.iter_mut().try_for_each(PodLoad::read)?;
        Ok((begun.elapsed() >= time).then_some(()))
    })
}

fn count(records: &[Record], from_ns: u64, to_ns: u64) -> Counts {
    let mut counts = Counts::default();
    for record in records {
        // A connection that was open before the window and broke in it is the window's.
        let at = if record.kind == Kind::Broken { record.end_ns } else { record.start_ns };
        if !(from_ns..to_ns).contains(&at) {
            continue;
        }
        match (record.kind, &record.error) {
            (Kind::Request, error) => {
                counts.requests += 1;
                counts.failed += usize::from(error.is_some());
            }
            (Kind::Broken | Kind::Open, Some(_)) => counts.broken += 1,
            _ => {}
        }
        if let Some(error) = record.error.as_ref().filter(|error| !counts.errors.contains(error)) {
            counts.errors.push(error.clone());
        }
    }
    counts
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.broken += other.broken;
        for error in other.errors {
            if !self.errors.contains(&error) {
                self.errors.push(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Answer;

    #[test]
    fn a_request_counts_when_it_began_and_a_connection_when_it_broke() {
        let record = |kind, start_ns, end_ns, error: Option<&str>| Record {
            kind,
            target: "web".into(),
            start_ns,
            end_ns,
            bytes: 0,
            error: error.map(Into::into),
            pings: 0,
            answer: Answer::default(),
        };
        let records = [
            record(Kind::Request, 9, 11, Some("before")),
            record(Kind::Request, 10, 30, Some("late")),
            record(Kind::Request, 12, 13, None),
            record(Kind::Open, 5, 6, None),
            record(Kind::Broken, 5, 15, Some("reset")),
            record(Kind::Broken, 15, 25, Some("after")),
        ];
        let expected = Counts { requests: 2, failed: 1, broken: 1, errors: vec!["late".into(), "reset".into()] };
        assert_eq!(count(&records, 10, 20), expected);
    }
}
