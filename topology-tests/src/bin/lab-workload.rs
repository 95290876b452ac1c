//! `lab-workload`: the process of a pod. Everything it needs comes from the environment, as a kubelet gives it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use topology_tests::workload::{self, Identity, Port};

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
    let read = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let identity = Identity { cluster: read("CLUSTER")?, node: read("NODE")?, pod: read("POD")? };
    let ports = Port::parse_list(&read("PORTS")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, workload::serve(identity, &ports))
}
