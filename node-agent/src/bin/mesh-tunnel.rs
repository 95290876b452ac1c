//! Userspace WireGuard for one node: `mesh-tunnel --device isthmus_wg`.

use std::process::ExitCode;

use clap::Parser;
use mesh_runtime::{ErrorChain, Shutdown, exit, telemetry};
use node_agent::names::TUNNEL_DEVICE;
use node_agent::tunnel::userspace::{self, Options};

#[derive(Debug, Parser)]
#[command(name = "mesh-tunnel", version, about = "Userspace WireGuard device of a node")]
struct Cli {
    /// Name of the device
    #[arg(long, env = "ISTHMUS_TUNNEL_DEVICE", default_value = TUNNEL_DEVICE, value_name = "NAME")]
    device: String,
    /// Threads that encrypt and decrypt
    #[arg(long, env = "ISTHMUS_TUNNEL_WORKERS", default_value_t = 2, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    #[command(flatten)]
    telemetry: telemetry::Args,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing is left to do when standard error is closed.
            error.print().ok();
            return exit::code(code);
        }
    };
    let mut telemetry = cli.telemetry;
    if telemetry.filter == "info" {
        // gotatun tells of every connection of the agent, which is one every few seconds.
        "info,gotatun=warn".clone_into(&mut telemetry.filter);
    }
    if let Err(error) = telemetry::init(&telemetry) {
        return failed(&error);
    }
    // Both sockets can hand out the private key: for their owner only, from the moment they exist.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cli.workers.into())
        .thread_name("mesh-tunnel")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let options = Options { device: cli.device };
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        let _signals = match shutdown.listen_to_signals() {
            Ok(guard) => guard,
            Err(error) => return failed(&error),
        };
        match userspace::run(&options, &shutdown).await {
            Ok(()) => shutdown.exit_code(),
            Err(error) => failed(&error),
        }
    })
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("mesh-tunnel: {}", ErrorChain(error));
    exit::code(exit::FAILURE)
}
