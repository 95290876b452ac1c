//! `lab-bench`: the benchmarks that run whole processes. Writes `target/bench/<area>.json` and prints a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use topology_tests::bench::{convergence, etcd_peer::EtcdPeer, report::Report, store};
use topology_tests::binaries::Binaries;
use topology_tests::components::{Encryption, Periods};
use topology_tests::{lab, mesh, topology::Topology};

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
    /// Durable puts per second beside real etcd
    Store {
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of one round
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long, value_delimiter = ',', default_value = "1,100")]
        clients: Vec<usize>,
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
        Area::Store { rounds, seconds, clients } => store_area(&args.out, *rounds, *seconds, clients),
        Area::Convergence { samples } => convergence_area(&args.out, *samples),
    }
}

fn store_area(out: &Path, rounds: usize, seconds: u64, clients: &[usize]) -> Result<Table> {
    let binaries = Binaries::beside_this_one()?;
    let workspace = binaries.target_dir().parent().context("the target folder lies in the workspace")?;
    let peer = EtcdPeer::obtain(workspace)?;
    let plan = store::Plan {
        rounds,
        seconds,
        clients: clients.to_vec(),
        folder: binaries.target_dir().join("bench-store-data"),
        apiserver: binaries.find("mesh-apiserver")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let report = Report::new(runtime.block_on(store::run(&plan, &peer))?);
    report.write(&out.join("store.json"))?;
    std::fs::remove_dir_all(&plan.folder).context("remove the servers' data")?;
    let mut table = table(&[
        "workload",
        "clients",
        "isthmus/s",
        "etcd/s",
        "ratio",
        "p99 ms",
        "etcd p99 ms",
        "fdatasync/put",
        "etcd",
    ]);
    for row in &report.results.rows {
        table.add_row([
            row.workload.clone(),
            row.clients.to_string(),
            row.isthmus.to_string(),
            row.etcd.to_string(),
            row.ratio.to_string(),
            row.isthmus_p99_ms.to_string(),
            row.etcd_p99_ms.to_string(),
            row.isthmus_fdatasync_per_put.to_string(),
            row.etcd_fdatasync_per_put.to_string(),
        ]);
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
    let mesh =
        mesh::Mesh::start(&lab, mesh::Options { encryption: Encryption::Wireguard, periods: Periods::default() })?;
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
