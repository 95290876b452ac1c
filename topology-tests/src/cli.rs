//! The verbs of `lab`. What a verb prints on standard output is data; everything else goes to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::components::{Encryption, Store};
use crate::names::LabName;

mod attach;
mod interrupt;
mod k8s;
mod snapshot;
mod supervise;
mod up;

#[derive(Debug, Parser)]
#[command(name = "lab", version, about = "Clusters as network namespaces on one machine")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a lab and leave it running in the background
    Up(Up),
    /// What runs, where, and how it does
    Status(Status),
    /// Run a command inside a node or a pod
    Exec(Exec),
    /// Cut, restore or worsen the way between the clusters, or count what crosses it
    Wan(WanArgs),
    /// Kill a pod's process with SIGKILL
    Kill(Kill),
    /// Take a lab down and say what remains; exits 1 when something does
    Down(Named),
    /// The whole story in one run: join, load, faults, recovery, result
    Demo(Demo),
    /// Real Kubernetes clusters: real control planes and nodes, in namespaces of this machine
    #[command(subcommand)]
    K8s(k8s::Verb),
    /// The background process of `up`
    #[command(hide = true)]
    Supervise(Up),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The lab's name
    #[arg(long, default_value = "lab", env = "ISTHMUS_LAB")]
    name: LabName,
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    lab: Named,
    /// A folder with one folder of Kubernetes manifests per cluster (cluster-a, cluster-b)
    #[arg(long, value_name = "DIR", conflicts_with = "example")]
    manifests: Option<PathBuf>,
    /// An example that the project brings along
    #[arg(long, value_enum, default_value = "shop")]
    example: Example,
    #[arg(long, value_enum, default_value = "wireguard")]
    encryption: Encryption,
    /// Only clusters and pods: start no process of the mesh
    #[arg(long)]
    no_mesh: bool,
    /// Join the clusters too
    #[arg(long, conflicts_with = "no_mesh")]
    connect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Example {
    Shop,
}

#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    lab: Named,
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
struct Exec {
    #[command(flatten)]
    lab: Named,
    /// A node, or a pod as `[cluster/][namespace/]name`
    target: String,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Kill {
    #[command(flatten)]
    lab: Named,
    /// `[cluster/][namespace/]name`
    pod: String,
}

#[derive(Debug, clap::Args)]
struct WanArgs {
    #[command(flatten)]
    lab: Named,
    #[command(subcommand)]
    verb: WanVerb,
}

/// Each fault replaces all that were there.
#[derive(Debug, Subcommand)]
enum WanVerb {
    /// Nothing passes between this cluster and the rest
    Cut { cluster: String },
    /// Lose so many of 100 packets, each way
    Loss {
        cluster: String,
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
    },
    /// No fault any more
    Restore { cluster: String },
    /// Packets that crossed: clear ones, WireGuard's, others
    Counters,
    /// Count from zero
    Reset,
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Leave the lab running at the end, and say what to try by hand
    #[arg(long)]
    pub keep: bool,
    #[arg(long, value_enum, default_value = "wireguard")]
    pub encryption: Encryption,
    /// Where the API servers keep their state: in themselves, or in a real etcd of three members for each cluster
    #[arg(long, value_enum, default_value = "embedded")]
    pub store: Store,
    /// Where result.json goes [default: target/demo]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs the verb that the command line asks for.
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Args::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(up) => up::run(&up),
        Verb::Supervise(up) => supervise::run(&up),
        Verb::Status(status) => attach::status(&status.lab.name, status.output),
        Verb::Exec(exec) => attach::exec(&exec.lab.name, &exec.target, &exec.command),
        Verb::Wan(args) => attach::wan(&args.lab.name, &args.verb),
        Verb::Kill(kill) => attach::kill_pod(&kill.lab.name, &kill.pod),
        Verb::Down(named) => attach::down(&named.name),
        Verb::K8s(verb) => k8s::run(&verb),
        Verb::Demo(demo) => supervise::demo(&demo),
    }
}
