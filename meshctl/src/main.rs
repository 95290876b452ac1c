//! meshctl: the command for people. Joins clusters, shows what is live, looks into a node.
//!
//! Owns what is printed and the exit code. Must never decide anything about the mesh: it asks each cluster's admin API
//! and shows the answer. Data goes to stdout, everything else to stderr.
//!
//! ```text
//! args -> config, kubeconfig -> contexts -> admin API of each cluster (in parallel) -> rows -> table | JSON
//! ```

mod admin;
mod age;
mod app;
mod args;
mod ask;
mod config;
mod contexts;
mod exit;
mod failure;
mod kubernetes;
mod output;
mod pair;
mod table;
mod verb;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse() {
        Ok(args) => app::run(args).into(),
        Err(exit) => exit.into(),
    }
}
