//! The load that goes on through all faults, the windows that belong to each, and the table of them.
//!
//! Two streams of requests on new connections and of long-lived connections: of the mesh (pods of cluster-b, servers of
//! cluster-a), and of Kubernetes alone (pods of cluster-a, the same servers by a Service that the mesh has no part in). A
//! window ends where the next begins, so that no request is left out.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use serde::Serialize;
use topology_tests::bench::report::Report;
use topology_tests::bench::stats::rounded;
use topology_tests::binaries::Binaries;
use topology_tests::clock::monotonic_ns;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::load::{Asker, Counts, PodLoad, go_on};
use topology_tests::load::{REQUEST_TIMEOUT, Target};

/// New connections a second from each pod, and long-lived ones.
const RATE: u32 = 20;
const LONG: u32 = 2;
/// When so many requests in a row were answered everywhere, a fault is over.
const ANSWERS: usize = 40;
const OVER: Duration = Duration::from_mins(1);

/// What one fault cost.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: String,
    seconds: f64,
    pub(crate) mesh: Counts,
    pub(crate) kubernetes: Counts,
    /// Why a request may fail here at all.
    pub(crate) note: &'static str,
}

#[derive(Serialize)]
struct Rows<'a> {
    rows: &'a [Row],
}

struct Window {
    fault: String,
    note: &'static str,
    from_ns: u64,
    took: Duration,
    /// The node whose own clients are not asked: they have no power either.
    without: Option<String>,
}

pub(crate) struct Recorder<'a> {
    run: &'a Kubernetes,
    /// Those of the mesh first.
    loads: Vec<PodLoad>,
    of_the_mesh: usize,
    windows: Vec<Window>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn start(
        run: &'a Kubernetes,
        mesh: &[Asker],
        web: &Target,
        own: &[Asker],
        plain: &Target,
    ) -> Result<Self> {
        let mut loads = Vec::new();
        for (askers, target) in [(mesh, web), (own, plain)] {
            for asker in askers {
                loads.push(PodLoad::start(run, asker, target.clone(), RATE, LONG)?);
            }
        }
        let mut recorder = Self { run, loads, of_the_mesh: mesh.len(), windows: Vec::new() };
        recorder.all_answered()?;
        Ok(recorder)
    }

    /// One fault, from before it begins until requests are answered again as before.
    pub(crate) fn fault(
        &mut self,
        fault: &str,
        note: &'static str,
        hit: impl FnOnce(&mut Hit<'_>) -> Result<()>,
    ) -> Result<()> {
        let (from_ns, begun) = (monotonic_ns(), Instant::now());
        let mut hit_by = Hit { loads: &mut self.loads, out: Vec::new(), without: None };
        let done = hit(&mut hit_by).with_context(|| format!("{fault}: the fault"));
        let (out, without) = (std::mem::take(&mut hit_by.out), hit_by.without.take());
        for (at, mut load) in out.into_iter().rev() {
            if done.is_ok() {
                load.start_again(self.run)?;
            }
            self.loads.insert(at, load);
        }
        done?;
        self.all_answered().with_context(|| format!("{fault}: after it"))?;
        let took = begun.elapsed();
        eprintln!("{fault}: {:.1} s", took.as_secs_f64());
        self.windows.push(Window { fault: fault.to_owned(), note, from_ns, took, without });
        Ok(())
    }

    fn all_answered(&mut self) -> Result<()> {
        let since = monotonic_ns();
        self.loads.iter_mut().try_for_each(|load| load.wait_answered(ANSWERS, since, OVER))
    }

    /// The table: printed, written, and given.
    pub(crate) fn end(mut self) -> Result<Vec<Row>> {
        let end_ns = monotonic_ns();
        // What began a moment ago is not over yet.
        go_on(&mut self.loads, REQUEST_TIMEOUT)?;
        let mut rows = Vec::new();
        for (n, window) in self.windows.iter().enumerate() {
            let to_ns = self.windows.get(n + 1).map_or(end_ns, |next| next.from_ns);
            let sum = |loads: &[PodLoad]| {
                let mut sum = Counts::default();
                let counted = loads.iter().filter(|load| window.without.as_ref() != Some(&load.asker().node));
                counted.for_each(|load| sum += load.counts(window.from_ns, to_ns));
                sum
            };
            let (mesh, kubernetes) = self.loads.split_at(self.of_the_mesh);
            rows.push(Row {
                fault: window.fault.clone(),
                seconds: rounded(window.took.as_secs_f64()),
                mesh: sum(mesh),
                kubernetes: sum(kubernetes),
                note: window.note,
            });
        }
        Ok(rows)
    }
}

/// What a fault may do with the load.
pub(crate) struct Hit<'l> {
    loads: &'l mut Vec<PodLoad>,
    out: Vec<(usize, PodLoad)>,
    without: Option<String>,
}

impl Hit<'_> {
    /// Lets the load go on while something is down.
    pub(crate) fn go_on(&mut self, time: Duration) -> Result<()> {
        go_on(self.loads, time)
    }

    /// Clients of this node lose their power now, and are started again after the fault.
    pub(crate) fn without(&mut self, node: &str) {
        self.without = Some(node.to_owned());
        while let Some(at) = self.loads.iter().position(|load| load.asker().node == node) {
            let load = self.loads.remove(at);
            self.out.push((at, load));
        }
    }
}

pub(crate) fn write(name: &str, rows: &[Row]) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "fault",
        "s",
        "mesh: requests",
        "failed",
        "broken",
        "Kubernetes: requests",
        "failed",
        "broken",
        "why",
    ]);
    for row in rows {
        let Row { fault, seconds, mesh, kubernetes, note } = row;
        let mut cells = vec![fault.clone(), seconds.to_string()];
        for counts in [mesh, kubernetes] {
            cells.extend([counts.requests, counts.failed, counts.broken].map(|count| count.to_string()));
        }
        let errors = mesh.errors.join("; ");
        cells.push([*note, errors.as_str()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": "));
        table.add_row(cells);
    }
    eprintln!("{table}");
    let file = Binaries::beside_this_one()?.target_dir().join("bench").join(name);
    Report::new(Rows { rows }).write(&file)
}
