//! `lab`: builds clusters on this machine, looks into them, runs the demo, and takes everything away again.

use std::process::ExitCode;

fn main() -> ExitCode {
    topology_tests::cli::main()
}
