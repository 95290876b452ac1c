//! The demo: two clusters, joined, under load, through faults and back, then a third that is the last resort, with every figure measured on the way. Owns the
//! story and its result; everything that it does is done through the lab, the mesh and `meshctl`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::components::{Encryption, Periods, Store};
use crate::lab::{self, Lab};
use crate::mesh::{self, Mesh};
use result::Outcome;
use timeline::Timeline;

mod clients;
mod faults;
mod order;
pub mod result;
mod story;
mod timeline;
mod traffic;

pub struct Options {
    pub encryption: Encryption,
    pub store: Store,
    /// Where the result goes; `target/demo` when not said.
    pub out: Option<PathBuf>,
    pub keep: bool,
}

/// Runs the whole story. Exits 0 when every bound is kept. `stay` is called instead of the teardown when asked for.
pub fn run(lab: lab::Options, options: &Options, stay: impl FnOnce(&Lab, &Mesh) -> Result<()>) -> Result<ExitCode> {
    let mut timeline = Timeline::start();
    let lab = timeline.step("lab up: 3 clusters, 5 nodes, pods attached by CNI", || {
        let lab = Lab::up(lab)?;
        lab.wait_pods_ready(story::PODS_READY)?;
        let pods = lab.pods().len();
        Ok((lab, format!("{pods} pods ready")))
    })?;
    let what = match options.store {
        Store::Embedded => "start mesh-apiserver, mesh-tunnel and node-agent everywhere",
        Store::External => {
            "start three etcd for each cluster, then mesh-apiserver, mesh-tunnel and node-agent everywhere"
        }
    };
    let mesh = timeline.step(what, || {
        let (encryption, store) = (options.encryption, options.store);
        let mesh = Mesh::start(&lab, mesh::Options { encryption, store, periods: Periods::default() })?;
        let count = mesh.processes().len();
        Ok((mesh, format!("{count} processes ready")))
    })?;
    let mut outcome = Outcome::new(options.encryption, options.store);
    let told = story::tell(&lab, &mesh, &mut timeline, &mut outcome);
    let out = options.out.clone().unwrap_or_else(|| lab.binaries.target_dir().join("demo"));
    if options.keep {
        told?;
        timeline.note(&hints(&lab, &mesh));
        stay(&lab, &mesh)?;
        return Ok(ExitCode::SUCCESS);
    }
    let logs = lab.logs().to_owned();
    drop(mesh);
    let left = timeline.step("take everything down", || {
        let left = lab.down()?;
        let said = if left.is_empty() { "nothing remains".to_owned() } else { left.join("\n") };
        Ok((left, said))
    })?;
    told.with_context(|| format!("the demo did not get to its end; its logs: {}", logs.display()))?;
    outcome.teardown_leftovers = left.len() as u64;
    outcome.total_s = timeline.elapsed().as_secs();
    let broken = outcome.broken_bounds();
    outcome.write(&out)?;
    timeline.note(&outcome.table());
    for bound in &broken {
        timeline.note(&format!("NOT KEPT: {bound}"));
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What to try by hand in a lab that stays.
fn hints(lab: &Lab, mesh: &Mesh) -> String {
    let (name, config) = (&lab.name, mesh.config().display());
    let ledger = lab.cluster_ip("cluster-b", "books", "ledger").map(|ip| ip.to_string()).unwrap_or_default();
    let bin = lab.binaries.dir().display();
    format!(
        "The lab stays until Ctrl-C. From another terminal:
  {bin}/lab status --name {name}
  {bin}/meshctl --config {config} status
  {bin}/lab exec --name {name} frontend-0 -- curl -s http://{ledger}/        # a service that only cluster-b has
  {bin}/lab kill --name {name} cluster-b/catalog-0                            # it comes back after 2 s
  {bin}/lab wan --name {name} cut cluster-b                                   # and: restore cluster-b
  {bin}/lab wan --name {name} counters"
    )
}
