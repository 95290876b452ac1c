//! The process that owns a lab, in the background (`up`) or in the foreground (`demo`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::snapshot::{Phase, Snapshot};
use super::{Demo, Example, Up, interrupt};
use crate::components::{Encryption, Periods, Store};
use crate::demo;
use crate::lab::{self, Lab};
use crate::manifest::Manifests;
use crate::mesh::{self, Mesh};
use crate::topology::Topology;

const PODS_READY: Duration = Duration::from_secs(30);
const SNAPSHOT_PERIOD: Duration = Duration::from_millis(200);

/// Builds the lab, then keeps its snapshot until a signal ends it.
pub(super) fn run(up: &Up) -> Result<ExitCode> {
    nix::unistd::setsid().context("start a session")?;
    interrupt::takes_down(&up.lab.name, 0)?;
    let topology = Topology::pair();
    let manifests = load(up, &topology)?;
    let lab = Lab::up(lab::Options { name: up.lab.name.clone(), topology, manifests })?;
    Snapshot::of(&lab, None, Phase::Starting).write()?;
    let mesh = if up.no_mesh { None } else { Some(start_mesh(&lab, up.encryption)?) };
    lab.wait_pods_ready(PODS_READY)?;
    if let (Some(mesh), true) = (&mesh, up.connect) {
        let names: Vec<&str> = lab.topology.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        mesh.meshctl(&lab, &[&["connect"], names.as_slice()].concat())?;
    }
    keep(&lab, mesh.as_ref())
}

/// Runs the demo; with `--keep` the lab stays until Ctrl-C.
pub(super) fn demo(args: &Demo) -> Result<ExitCode> {
    let name = "demo".parse()?;
    interrupt::takes_down(&name, 130)?;
    let topology = Topology::trio();
    let manifests = load_folder(&example_folder(Example::Shop), &topology)?;
    let lab = lab::Options { name, topology, manifests };
    demo::run(
        lab,
        &demo::Options { encryption: args.encryption, store: args.store, out: args.out.clone(), keep: args.keep },
        |lab, mesh| keep(lab, Some(mesh)).map(drop),
    )
}

fn start_mesh(lab: &Lab, encryption: Encryption) -> Result<Mesh> {
    Mesh::start(lab, mesh::Options { encryption, periods: Periods::default(), store: Store::default() })
}

/// Writes the snapshot over and over; only a signal ends it.
fn keep(lab: &Lab, mesh: Option<&Mesh>) -> Result<ExitCode> {
    loop {
        Snapshot::of(lab, mesh, Phase::Ready).write()?;
        std::thread::sleep(SNAPSHOT_PERIOD);
    }
}

fn load(up: &Up, topology: &Topology) -> Result<BTreeMap<String, Manifests>> {
    let folder = up.manifests.clone().unwrap_or_else(|| example_folder(up.example));
    load_folder(&folder, topology)
}

fn load_folder(folder: &Path, topology: &Topology) -> Result<BTreeMap<String, Manifests>> {
    let mut all = BTreeMap::new();
    for cluster in &topology.clusters {
        let folder = folder.join(&cluster.name);
        all.insert(cluster.name.clone(), Manifests::load(&folder)?);
    }
    Ok(all)
}

fn example_folder(example: Example) -> PathBuf {
    let Example::Shop = example;
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/shop")
}
