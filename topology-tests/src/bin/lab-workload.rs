//! `lab-workload`: the process of a pod. Everything it needs comes from the environment, as a kubelet gives it.
//! `lab-workload ask-udp ADDRESS:PORT` asks such a process over UDP once and prints who answered: no shell's program can.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use topology_tests::traffic::udp;
use topology_tests::workload::{self, Identity, Port};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        None => serve(),
        Some("ask-udp") => ask_udp(&words.next().context("ask-udp needs ADDRESS:PORT")?),
        Some(other) => bail!("there is no {other}: use ask-udp ADDRESS:PORT, or nothing to serve"),
    }
}

fn ask_udp(target: &str) -> Result<()> {
    let target = target.parse().with_context(|| format!("{target} is no ADDRESS:PORT"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let answer = runtime.block_on(udp::echo(target, b"who is there", ANSWER_WITHIN));
    let answer = answer.with_context(|| format!("ask {target} over UDP"))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&answer)?).context("print the answer")
}

fn serve() -> Result<()> {
    let read = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let identity = Identity { cluster: read("CLUSTER")?, node: read("NODE")?, pod: read("POD")? };
    let ports = Port::parse_list(&read("PORTS")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, workload::serve(identity, &ports))
}
