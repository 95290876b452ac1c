//! What was measured, as tables on the screen and as a file.

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;
use topology_tests::bench::report::Report;
use topology_tests::binaries::Binaries;

use crate::restart::Restart;
use crate::usage::Window;

/// What kube-apiserver counts Kubernetes' own controllers under.
const CONTROLLERS: &str = "kube-system-service-accounts";

/// Seconds, but for what says otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// That the mesh's programs were built with.
    pub(crate) profile: String,
    pub(crate) services: usize,
    pub(crate) endpoints: usize,
    pub(crate) fake_nodes: usize,
    /// From the first object, until the last one was made, until Kubernetes' controller had written the last endpoint into a
    /// slice, and until all of them were in the map of a node of the other cluster.
    pub(crate) made: f64,
    pub(crate) in_slices: f64,
    pub(crate) in_the_other_map: f64,
    pub(crate) quiet: Window,
    pub(crate) change: Window,
    /// Of pods' readiness, in the window of change.
    pub(crate) flips: usize,
    pub(crate) restarts: Vec<Restart>,
    pub(crate) whole_test: f64,
}

impl Figures {
    pub(crate) fn print(&self) {
        let Self { made, in_slices, in_the_other_map, quiet, change, restarts, .. } = self;
        eprintln!(
            "{} Services, {} endpoints, {} fake nodes, built as {}: made after {made} s, in slices after {in_slices} s, in the \
             other cluster's map after {in_the_other_map} s",
            self.services, self.endpoints, self.fake_nodes, self.profile
        );
        let mut usage =
            table(&["process", "cluster", "quiet: % of a core", "MiB", "most", "change: % of a core", "MiB", "most"]);
        for (quiet, change) in quiet.usage.iter().zip(&change.usage) {
            let mut cells = vec![quiet.process.clone(), quiet.cluster.clone()];
            for one in [quiet, change] {
                cells.extend([one.cpu_percent, one.resident_mib, one.peak_mib].map(|figure| figure.to_string()));
            }
            usage.add_row(cells);
        }
        eprintln!("{usage}");
        let mut requests = table(&[
            "requests/s at kube-apiserver",
            "window",
            "all",
            "of the mesh",
            "of the generator",
            "of controllers",
        ]);
        for (name, window) in [("quiet", quiet), ("change", change)] {
            for one in &window.requests {
                let controllers = one.by_flow_schema.get(CONTROLLERS).copied().unwrap_or_default();
                let rates = [one.all, one.mesh, one.generator, controllers].map(|rate| rate.to_string());
                requests.add_row([vec![one.cluster.clone(), name.to_owned()], rates.to_vec()].concat());
            }
        }
        eprintln!("{requests}");
        eprintln!(
            "{} flips: {} keys written; lists and watches of the mesh: {} in {} s of quiet, {} in {} s of change",
            self.flips,
            change.keys_written,
            quiet.source_requests,
            quiet.seconds,
            change.source_requests,
            change.seconds
        );
        let mut table =
            table(&["killed", "away s", "followed after s", "requests of the mesh", "keys written", "before"]);
        for one in restarts {
            let figures = [one.away, one.followed_after, one.mesh_requests, one.keys_written, one.keys_before];
            table.add_row([vec![one.killed.to_string()], figures.map(|figure| figure.to_string()).to_vec()].concat());
        }
        eprintln!("{table}");
    }

    pub(crate) fn write(self) -> Result<()> {
        let file = Binaries::beside_this_one()?.target_dir().join("bench/kubernetes-scale.json");
        Report::new(self).write(&file)
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    table
}
