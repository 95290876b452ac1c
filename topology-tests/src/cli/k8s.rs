//! `lab k8s`: real Kubernetes clusters that stay until they are taken down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{attach, interrupt};
use crate::binaries::Binaries;
use crate::deadline::wait_for;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::cni::Cni;
use crate::kubernetes::kube_proxy::ProxyMode;
use crate::lab::owner;
use crate::names::LabName;
use crate::provider::{ClusterOptions, Plan};

const READY: Duration = Duration::from_mins(5);
const LISTING: &str = "clusters.json";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Bring clusters up, leave them running in the background, and print each one's kubeconfig
    Up(Up),
    /// Take them down and say what remains; exits 1 when something does
    Down(Named),
    /// The background process of `up`
    #[command(hide = true)]
    Supervise(Up),
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The run's name
    #[arg(long, default_value = "k8s", env = "ISTHMUS_K8S")]
    name: LabName,
}

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    #[command(flatten)]
    run: Named,
    /// The network of each cluster: one cluster for each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "bridge,ptp")]
    cni: Vec<Cni>,
    /// The mode of kube-proxy: one for all, or one for each cluster
    #[arg(long, value_enum, value_delimiter = ',', default_value = "nftables")]
    proxy: Vec<ProxyMode>,
    /// Nodes of each cluster
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Pods keep their own address for whoever is not in their network
    #[arg(long)]
    no_masquerade: bool,
}

/// What `up` reads of what its background process has made.
#[derive(Debug, Serialize, Deserialize)]
struct Listing {
    /// By cluster.
    kubeconfigs: BTreeMap<String, PathBuf>,
    kubectl: PathBuf,
    logs: PathBuf,
}

pub(super) fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(up) => bring_up(up),
        Verb::Down(named) => attach::down(&named.name),
        Verb::Supervise(up) => supervise(up),
    }
}

fn bring_up(up: &Up) -> Result<ExitCode> {
    let (start, name) = (Instant::now(), &up.run.name);
    plan(up)?.topology()?;
    if let Some(pid) = owner(&name.state_dir()) {
        bail!("{name} is running already (process {pid}); take it down first: lab k8s down --name {name}");
    }
    let logs = Binaries::beside_this_one()?.target_dir().join("lab-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let log = logs.join(format!("{name}.supervisor.log"));
    let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let err = out.try_clone().context("share the log")?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["k8s", "supervise", "--name", name.as_str(), "--nodes", &up.nodes.to_string()]);
    command.args(["--cni", &names(&up.cni), "--proxy", &names(&up.proxy)]);
    if up.no_masquerade {
        command.arg("--no-masquerade");
    }
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("start the supervisor")?;
    let listing = wait_for(&format!("the clusters of {name} to be ready"), READY, || {
        if child.try_wait()?.is_some() {
            return Ok(Some(None));
        }
        // A listing of an earlier run is gone before this one writes its own.
        let is_its_own = owner(&name.state_dir()) == Some(child.id());
        Ok(read(name).ok().filter(|_| is_its_own).map(Some))
    })?;
    let Some(listing) = listing else { bail!("{}", std::fs::read_to_string(&log).unwrap_or_default().trim()) };
    eprintln!("{name} is up after {:.1} s; its logs: {}", start.elapsed().as_secs_f32(), listing.logs.display());
    let line = |(cluster, path): (&String, &PathBuf)| format!("{cluster}\t{}\n", path.display());
    let text: String = listing.kubeconfigs.iter().map(line).collect();
    std::io::stdout().write_all(text.as_bytes()).context("print the kubeconfigs")?;
    if let Some(first) = listing.kubeconfigs.values().next() {
        eprintln!("try: {} --kubeconfig {} get pods -A", listing.kubectl.display(), first.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Owns the clusters until a signal ends it.
fn supervise(up: &Up) -> Result<ExitCode> {
    nix::unistd::setsid().context("start a session")?;
    interrupt::takes_down(&up.run.name, 0)?;
    let run = Kubernetes::up(&plan(up)?)?;
    let kubeconfigs = run
        .clusters
        .iter()
        .map(|cluster| (cluster.plan.name.clone(), cluster.control_plane.kubeconfig.clone()))
        .collect();
    let listing = Listing { kubeconfigs, kubectl: run.tools.program("kubectl")?, logs: run.logs().to_owned() };
    let (file, half) = (listing_file(&run.name), run.name.state_dir().join("half-written"));
    std::fs::write(&half, serde_json::to_vec(&listing)?).with_context(|| format!("write {}", half.display()))?;
    std::fs::rename(&half, &file).with_context(|| format!("publish {}", file.display()))?;
    loop {
        std::thread::park();
    }
}

fn plan(up: &Up) -> Result<Plan> {
    if up.proxy.len() != 1 && up.proxy.len() != up.cni.len() {
        bail!(
            "{} modes of kube-proxy for {} clusters: name one for all, or one for each",
            up.proxy.len(),
            up.cni.len()
        );
    }
    let masquerade = !up.no_masquerade;
    let proxies = up.proxy.iter().copied().cycle();
    let clusters = up.cni.iter().copied().zip(proxies).map(|(cni, proxy)| ClusterOptions { cni, proxy, masquerade });
    Ok(Plan { name: up.run.name.clone(), clusters: clusters.collect(), nodes: up.nodes })
}

fn names<T: clap::ValueEnum>(values: &[T]) -> String {
    let names = values.iter().filter_map(T::to_possible_value).map(|value| value.get_name().to_owned());
    names.collect::<Vec<_>>().join(",")
}

fn listing_file(name: &LabName) -> PathBuf {
    Path::new(&name.state_dir()).join(LISTING)
}

fn read(name: &LabName) -> Result<Listing> {
    let file = listing_file(name);
    let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}
