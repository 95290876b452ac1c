//! `lab-load`: the client of the lab, started inside a pod. `run` sends load until it is told to end; `check` asks each
//! target once and prints a line of JSON for each.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use futures::StreamExt as _;
use futures::stream;
use topology_tests::load::check::{Question, ask};
use topology_tests::load::{Plan, Target, generator};

#[derive(Parser)]
enum Verb {
    /// Send load until SIGTERM.
    Run(Run),
    /// Ask each target once, or as often as said. Exits 1 when one did not answer.
    Check(Check),
}

#[derive(clap::Args)]
struct Run {
    /// name=address:port, several times.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// New requests per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Long-lived connections.
    #[arg(long, default_value_t = 0)]
    long: u32,
    /// One request of so many to each target carries 1 MiB.
    #[arg(long, default_value_t = 0)]
    large_every: u32,
    /// Where to write a line of JSON per request.
    #[arg(long)]
    records: PathBuf,
}

#[derive(clap::Args)]
struct Check {
    /// http|grpc|tcp|udp://address:port
    #[arg(required = true)]
    questions: Vec<Question>,
    /// Size of the body that is echoed.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Ask each so many times.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// So many of the questions at once.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
}

fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match verb {
            Verb::Run(Run { targets, rate, long, large_every, records }) => {
                let plan = Plan { targets, rate, long, large_every };
                generator::run(&plan, &records).await.map(|()| ExitCode::SUCCESS)
            }
            Verb::Check(check) => check_all(&check).await,
        }
    })
}

async fn check_all(check: &Check) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let questions = check.questions.iter().flat_map(|question| std::iter::repeat_n(*question, check.times));
    let mut answers = stream::iter(questions).map(|question| ask(question, check.bytes)).buffered(check.at_once);
    while let Some(checked) = answers.next().await {
        if checked.error.is_some() {
            code = ExitCode::FAILURE;
        }
        let line = serde_json::to_string(&checked).context("encode an answer")?;
        writeln!(std::io::stdout(), "{line}").context("print an answer")?;
    }
    Ok(code)
}
