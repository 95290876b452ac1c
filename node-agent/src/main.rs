use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use mesh_runtime::{ErrorChain, Shutdown, TaskSet, exit, telemetry};
use node_agent::args::{Bpf, Cli, Command};
use node_agent::{app, check, cleanup, dump, tunnel};

fn main() -> ExitCode {
    tunnel::wireguard::disarm_spawning();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing else can be said when the terminal is gone.
            error.print().ok();
            return exit::code(code);
        }
    };
    if let Err(error) = telemetry::init(&cli.telemetry) {
        eprintln!("node-agent: {}", ErrorChain(&error));
        return exit::code(exit::USAGE);
    }
    match cli.command {
        Some(Command::Bpf { command: Bpf::Dump { map, output } }) => ended(dump::run(&cli.bpffs, map, output)),
        Some(Command::Cleanup(args)) => with_runtime(async { ended(cleanup::run(&cli.bpffs, &args.into()).await) }),
        Some(Command::Check) => with_runtime(async {
            let tasks = TaskSet::new(Shutdown::new());
            let facts = check::facts(&cli.agent.looked_at(cli.bpffs), &tasks).await;
            // Nobody is left to be told when standard output is gone.
            match writeln!(std::io::stdout(), "{facts}") {
                Ok(()) => exit::code(exit::OK),
                Err(_gone) => exit::code(exit::FAILURE),
            }
        }),
        Some(Command::AwaitCleanup(args)) => {
            with_runtime(async { ended(cleanup::everywhere::run(&args.into()).await) })
        }
        None => {
            let settings = match cli.agent.check() {
                Ok(settings) => settings,
                Err(mistakes) => {
                    eprintln!("node-agent: {mistakes}");
                    return mistakes.exit_code();
                }
            };
            let shutdown = Shutdown::new();
            with_runtime(async {
                match app::run(settings, &cli.bpffs, shutdown.clone()).await {
                    Ok(()) => shutdown.exit_code(),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "cannot go on");
                        eprintln!("node-agent: {error:#}");
                        exit::code(exit::FAILURE)
                    }
                }
            })
        }
    }
}

fn with_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("node-agent: cannot start: {error}");
            exit::code(exit::FAILURE)
        }
    }
}

fn ended<E: std::error::Error + 'static>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => exit::code(exit::OK),
        Err(error) => {
            eprintln!("node-agent: {}", ErrorChain(&error));
            exit::code(exit::FAILURE)
        }
    }
}
