//! The project's own commands: what `make`, CI and people run.
//!
//! Owns how the project is built, checked and demonstrated. Must build before anything else does (no protoc, no BPF
//! toolchain), hence its few small dependencies; it knows no mesh word.

mod bootstrap;
mod chaos;
mod deny;
mod fuzz;
mod images;
mod k8s;
mod lab;
mod layers;
mod orphans;
mod plant;
mod repo;
mod rust_source;
mod size;
mod suite;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::repo::Repo;

/// Builds, checks and shows the project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what is missing (Debian 12 as root), then show what the kernel offers
    Bootstrap,
    /// Build the eBPF objects
    Ebpf,
    /// Two clusters, joined, under load and faults; passes its arguments on
    #[command(disable_help_flag = true)]
    Demo(Rest),
    /// up | status | exec | down: the lab by hand; passes its arguments on
    #[command(disable_help_flag = true)]
    Lab(Rest),
    /// Measure, into target/bench; passes its arguments on
    #[command(disable_help_flag = true)]
    Bench(Rest),
    /// Every check and test, as CI runs them
    Test(suite::Options),
    /// Inputs that nobody meant for what the store reads: libFuzzer, for a minute each
    Fuzz(fuzz::Options),
    /// Build a real kube-apiserver into target/tools, for the test that runs one (once; 15 minutes, 5 GB of Go's caches)
    KubeApiserver,
    /// Build the programs of real Kubernetes clusters (etcd, kubelet, helm and so on) into a folder outside the checkout
    /// (once a machine; half an hour, 12 GB of Go's caches), and say where each is
    K8sTools,
    /// up | down: real Kubernetes clusters by hand; passes its arguments on
    #[command(disable_help_flag = true)]
    K8s(Rest),
    /// The tests on real Kubernetes clusters, after building what they need
    TestK8s(k8s::Options),
    /// Write the chart's CustomResourceDefinitions anew from the Rust types
    Crds,
    /// The test of an upgrade from an earlier commit's chart and images to this one's, and back
    TestK8sUpgrade(upgrade::Options),
    /// The container images as archives in target/images, without Docker or a registry
    Images(images::Options),
    /// The store as real processes under load, while processes, lines and disks fail
    Chaos(chaos::Options),
    /// Break the store on purpose, fault by fault, and see that the checks notice
    Plant(plant::Options),
    /// The checks of `test` that need no run: format, layers, orphans, sizes, clippy, licences
    Lint,
    /// Direction of dependencies, and which files may name which crates
    CheckLayers,
    /// Source files that no crate reaches
    CheckOrphans,
    /// Source files that are too long
    CheckSize,
}

#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<bool> {
    let repo = Repo::find()?;
    match verb {
        Verb::Bootstrap => bootstrap::run(),
        Verb::Ebpf => repo.cargo(["build", "--package", "agent-ebpf"]),
        Verb::Demo(rest) => lab::demo(&repo, &rest.args),
        Verb::Lab(rest) => lab::lab(&repo, &rest.args),
        Verb::Bench(rest) => lab::bench(&repo, &rest.args),
        Verb::Test(options) => Ok(suite::test(&repo, &options)),
        Verb::Fuzz(options) => fuzz::run(&repo, &options),
        Verb::KubeApiserver => {
            repo.cargo(["run", "--locked", "--quiet", "--package", "etcd-peer", "--bin", "build-kube-apiserver"])
        }
        Verb::K8sTools => k8s::tools(&repo),
        Verb::K8s(rest) => k8s::by_hand(&repo, rest.args),
        Verb::TestK8s(options) => k8s::test(&repo, &options),
        Verb::Crds => crds(&repo),
        Verb::TestK8sUpgrade(options) => upgrade::test(&repo, &options),
        Verb::Images(options) => images::run(&repo, &options),
        Verb::Chaos(options) => chaos::run(&repo, &options),
        Verb::Plant(options) => plant::run(&repo, &options),
        Verb::Lint => Ok(suite::lint(&repo)),
        Verb::CheckLayers => Ok(repo::report("check-layers", &layers::check(&repo)?)),
        Verb::CheckOrphans => Ok(repo::report("check-orphans", &orphans::check(&repo)?)),
        Verb::CheckSize => Ok(repo::report("check-size", &size::check(&repo)?)),
    }
}

/// The test that compares them writes them when it is asked to.
fn crds(repo: &Repo) -> Result<bool> {
    let test = "kubernetes::crd::render::tests::the_charts_definitions_are_those_of_the_types";
    let mut cargo = repo.cargo_command();
    cargo.env("ISTHMUS_CRDS", "write");
    repo::succeeds(cargo.args([
        "test",
        "--locked",
        "--quiet",
        "--package",
        "mesh-apiserver",
        "--lib",
        "--",
        "--exact",
        test,
    ]))
}
