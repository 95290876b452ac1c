//! `lab-bench`: the benchmarks that run whole processes. Writes `target/bench/<area>.json` and prints a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use strum::IntoEnumIterator as _;
use topology_tests::bench::federation::{self, Part};
use topology_tests::bench::store::{self, Scale, Workload};
use topology_tests::bench::{convergence, etcd_peer::EtcdPeer, report::Report};
use topology_tests::binaries::Binaries;
use topology_tests::components::{Encryption, Periods, Store};
use topology_tests::{lab, mesh, netns, topology::Topology};

#[derive(Parser)]
#[command(about = "Benchmarks of whole processes, each beside its peer in the same run")]
struct Args {
    /// The folder that results go to
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(subcommand)]
    area: Area,
}

#[derive(Subcommand)]
enum Area {
    /// Three replicas of the store beside three of a real etcd
    Store {
        /// Only these; may be repeated. Their results go to a file of their own
        #[arg(long, value_name = "WORKLOAD")]
        only: Vec<Workload>,
        /// Tiny numbers, to see in seconds that everything runs: the figures mean nothing
        #[arg(long)]
        quick: bool,
        /// How often each of both is measured
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// One cluster with as many peers as a mesh may have, which are mock ones
    Federation {
        /// Only these; may be repeated. Their results go to a file of their own
        #[arg(long, value_name = "PART")]
        only: Vec<Part>,
        /// How many clusters, in place of 250
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
        clusters: Option<u32>,
        /// Tiny numbers, to see in a minute that everything runs: the figures mean nothing
        #[arg(long)]
        quick: bool,
    },
    /// From a file in one cluster to a kernel map in the other
    Convergence {
        #[arg(long, default_value_t = 600)]
        samples: usize,
    },
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lab-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Table> {
    match &args.area {
        Area::Store { only, quick, rounds } => store_area(&args.out, only, *quick, *rounds),
        Area::Federation { only, clusters, quick } => federation_area(&args.out, only, *clusters, *quick),
        Area::Convergence { samples } => convergence_area(&args.out, *samples),
    }
}

fn store_area(out: &Path, only: &[Workload], quick: bool, rounds: Option<usize>) -> Result<Table> {
    let binaries = Binaries::beside_this_one()?;
    let workspace = binaries.target_dir().parent().context("the target folder lies in the workspace")?;
    let peer = EtcdPeer::obtain(workspace)?;
    let scale = if quick { Scale::quick() } else { Scale::full() };
    let workloads: Vec<Workload> = Workload::iter().filter(|known| only.is_empty() || only.contains(known)).collect();
    let mut name = vec!["store".to_owned()];
    if !only.is_empty() {
        name.extend(workloads.iter().map(ToString::to_string));
    }
    let plan = store::Plan {
        workloads,
        scale: Scale { rounds: rounds.unwrap_or(scale.rounds), ..scale },
        folder: binaries.target_dir().join(format!("bench-store-data-{}", std::process::id())),
        apiserver: binaries.find("mesh-apiserver")?,
        etcd: peer.etcd,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = Report::new(runtime.block_on(store::run(&plan, &peer.version))?);
    report.write(&out.join(format!("{}.json", name.join("-"))))?;
    Ok(store::table(&report.results.rows))
}

fn federation_area(out: &Path, only: &[Part], clusters: Option<u32>, quick: bool) -> Result<Table> {
    let binaries = Binaries::beside_this_one()?;
    let scale = if quick { federation::Scale::quick() } else { federation::Scale::full() };
    let scale = clusters.map_or_else(|| scale.clone(), |clusters| scale.clone().with_clusters(clusters));
    let parts: Vec<Part> = Part::iter().filter(|known| only.is_empty() || only.contains(known)).collect();
    let mut name = vec!["federation".to_owned()];
    if !only.is_empty() {
        name.extend(parts.iter().map(ToString::to_string));
    }
    let name = name.join("-");
    // Before there are other threads, which would stay where they are.
    let namespace = netns::enter_own();
    if let Err(error) = &namespace {
        eprintln!("lab-bench: no namespaces of its own ({error:#}): on the machine's loopback, and without `agent`");
    }
    let plan = federation::Plan {
        is_in_own_namespace: namespace.is_ok(),
        parts,
        scale,
        folder: binaries.target_dir().join(format!("bench-federation-data-{}", std::process::id())),
        apiserver: binaries.find("mesh-apiserver")?,
        mock: binaries.find("mesh-mock")?,
        node_agent: binaries.find("node-agent")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = Report::new(runtime.block_on(federation::run(&plan))?);
    report.write(&out.join(format!("{name}.json")))?;
    if let Some(picture) = federation::plot(&report.results) {
        let path = out.join(format!("{name}.svg"));
        std::fs::write(&path, picture).with_context(|| format!("write {}", path.display()))?;
    }
    let table = federation::table(&report.results.rows);
    let failed: Vec<String> =
        report.results.failed.iter().map(|(part, why)| format!("measure {part}: {why}")).collect();
    if !failed.is_empty() {
        bail!("{table}\n{}\nlogs: {}", failed.join("\n"), plan.folder.display());
    }
    Ok(table)
}

fn convergence_area(out: &Path, samples: usize) -> Result<Table> {
    let options = lab::Options {
        name: "bench".parse().context("a fixed name")?,
        topology: Topology::pair(),
        manifests: std::collections::BTreeMap::new(),
    };
    let lab = lab::Lab::up(options)?;
    let mesh = mesh::Mesh::start(
        &lab,
        mesh::Options { encryption: Encryption::Wireguard, periods: Periods::default(), store: Store::Embedded },
    )?;
    let report = Report::new(convergence::run(&lab, &mesh, samples)?);
    drop(mesh);
    let left = lab.down()?;
    anyhow::ensure!(left.is_empty(), "the lab left behind: {}", left.join(", "));
    report.write(&out.join("convergence.json"))?;
    let r = &report.results;
    let mut table = table(&["n", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
    table.add_row([
        r.n.to_string(),
        r.p50_ms.to_string(),
        r.p90_ms.to_string(),
        r.p99_ms.to_string(),
        r.max_ms.to_string(),
    ]);
    Ok(table)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table
}
