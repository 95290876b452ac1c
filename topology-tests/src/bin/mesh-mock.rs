//! `mesh-mock`: many clusters in one process, for a real mesh-apiserver to be joined with.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::Runtime;
use topology_tests::mock::{Mock, Reader, Shape};

/// Serves the contract of N clusters on loopback. When all are served, their records are in --records and a first line is
/// printed; then commands are read from standard input (`churn`, `burst`, `backend`, `behave`; a wrong one is answered with
/// its usage), each answered with a line of JSON. Ends with its input.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Args {
    /// How many clusters, named mock-1, mock-2, ...
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
    clusters: u32,
    #[command(flatten)]
    shape: Shape,
    /// Name of the cluster that may read them
    #[arg(long)]
    reader: String,
    /// That cluster's CA, PEM
    #[arg(long, value_name = "FILE")]
    reader_ca: PathBuf,
    /// Where the clusters' peer records are written: a JSON list, to be stored under isthmus/v1/peers/
    #[arg(long, value_name = "FILE")]
    records: PathBuf,
    /// Threads that serve
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build();
    match runtime.context("start a runtime").and_then(|runtime| run(&args, &runtime)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-mock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, runtime: &Runtime) -> Result<()> {
    let reader = Reader::load(&args.reader, &args.reader_ca)?;
    let mock = runtime.block_on(Mock::start(args.clusters, args.shape, &reader))?;
    let _served = runtime.enter();
    let records = serde_json::to_vec(&mock.records()).context("encode the records")?;
    std::fs::write(&args.records, records).with_context(|| format!("write {}", args.records.display()))?;
    say(&format!("{{\"serving\":{}}}", args.clusters))?;
    for line in std::io::stdin().lines() {
        let answer = mock.obey(&line.context("read a command")?);
        say(&serde_json::to_string(&answer).context("encode an answer")?)?;
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("answer")
}
