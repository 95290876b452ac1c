use std::process::ExitCode;

use clap::Parser;
use mesh_apiserver::{app, args};
use mesh_runtime::{ErrorChain, Shutdown, exit, telemetry};

/// What a restart reads back and frees again is given back to the kernel, by a thread that looks for it: glibc kept up to
/// 250 MiB of it in two of seven starts, depending on what lay behind it (docs/federation-benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let is_help = !error.use_stderr();
            // Nothing else can be said when the terminal is gone.
            error.print().ok();
            return exit::code(if is_help { exit::OK } else { exit::USAGE });
        }
    };
    let config = match args.check() {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("mesh-apiserver: {mistakes}");
            return mistakes.exit_code();
        }
    };
    if let Err(error) = telemetry::init(&config.telemetry) {
        eprintln!("mesh-apiserver: {}", ErrorChain(&error));
        return exit::code(exit::USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mesh-apiserver: cannot start: {error}");
            return exit::code(exit::FAILURE);
        }
    };
    let shutdown = Shutdown::new();
    match runtime.block_on(app::run(config, shutdown.clone())) {
        Ok(()) => shutdown.exit_code(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            exit::code(exit::FAILURE)
        }
    }
}
