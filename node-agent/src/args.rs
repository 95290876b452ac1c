//! The command line. All mistakes are told together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_runtime::{Mistakes, telemetry};
use mesh_types::ClusterName;

use crate::cleanup::everywhere;
use crate::underlay::Choice;
use crate::{check, cleanup, dump, enrol};

#[derive(Debug, Parser)]
#[command(name = "node-agent", version, about = "Writes the mesh's view into this node's kernel")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(flatten)]
    pub telemetry: telemetry::Args,
    /// Where the bpf file system is mounted
    #[arg(long, env = "ISTHMUS_BPFFS", default_value = "/sys/fs/bpf", value_name = "DIR", global = true)]
    pub bpffs: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the maps of this node
    Bpf {
        #[command(subcommand)]
        command: Bpf,
    },
    /// Remove everything that the agent made on this node: programs, maps, devices, rules, routes; with --state its keys as
    /// well
    Cleanup(CleanupArgs),
    /// Print what this node has of what the mesh needs, as JSON; changes nothing. `meshctl check` runs it on each node
    Check,
    /// Wait until all nodes of a Kubernetes cluster are clean: until every pod of the DaemonSet that runs `cleanup --serve`
    /// is ready
    AwaitCleanup(AwaitCleanupArgs),
}

#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// The agent's state folder: waits until the agent has ended, and empties it
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Seconds that the agent may take to end
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u32,
    /// When all is clean, answer /readyz here until told to stop, so that others see it
    #[arg(long, value_name = "ADDRESS")]
    serve: Option<SocketAddr>,
}

impl From<CleanupArgs> for cleanup::Options {
    fn from(args: CleanupArgs) -> Self {
        Self { state_dir: args.state, patience: Duration::from_secs(args.wait.into()), serve: args.serve }
    }
}

#[derive(Debug, Args)]
pub struct AwaitCleanupArgs {
    /// Namespace of the DaemonSet
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// Name of the DaemonSet
    #[arg(long, value_name = "NAME")]
    daemonset: String,
    /// Seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    wait: u32,
    /// Host of the Kubernetes API; the kubelet sets it in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "HOST")]
    kubernetes_host: String,
    /// Its port
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", value_name = "PORT", default_value_t = 443)]
    kubernetes_port: u16,
    /// Folder with the pod's `token` and the API's `ca.crt`
    #[arg(long, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    service_account: PathBuf,
}

impl From<AwaitCleanupArgs> for everywhere::Options {
    fn from(args: AwaitCleanupArgs) -> Self {
        let (host, port) = (args.kubernetes_host, args.kubernetes_port);
        Self {
            namespace: args.namespace,
            daemonset: args.daemonset,
            api: if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            account: args.service_account,
            patience: Duration::from_secs(args.wait.into()),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Bpf {
    /// Print a map
    Dump {
        map: dump::Map,
        #[arg(short, long, default_value = "table", value_name = "FORMAT")]
        output: dump::Format,
    },
}

/// Text as given; [`AgentArgs::check`] reads it.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Name of this node, as its cluster knows it
    #[arg(long, env = "ISTHMUS_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Name of this node's cluster
    #[arg(long, env = "ISTHMUS_CLUSTER_NAME", value_name = "NAME")]
    cluster_name: Option<String>,
    /// Mesh API servers; repeat it, or part them by commas
    #[arg(long = "apiserver", env = "ISTHMUS_APISERVER", value_name = "HOST:PORT", value_delimiter = ',')]
    apiservers: Vec<String>,
    /// File with the token by which this node enrols; needed once
    #[arg(long, env = "ISTHMUS_ENROL_TOKEN_FILE", value_name = "FILE")]
    enrol_token_file: Option<String>,
    /// File with the token of the ServiceAccount of the agent's pod, of audience `isthmus`: by which it enrols in Kubernetes
    #[arg(long, env = "ISTHMUS_ENROL_SERVICE_ACCOUNT_TOKEN_FILE", value_name = "FILE")]
    enrol_service_account_token_file: Option<String>,
    /// With --enrol-service-account-token-file: the CAs of this cluster, by which its API servers are verified
    #[arg(long, env = "ISTHMUS_TRUST_BUNDLE_FILE", value_name = "FILE")]
    trust_bundle_file: Option<String>,
    /// Folder for the agent's keys
    #[arg(long, env = "ISTHMUS_STATE_DIR", value_name = "DIR", default_value = "/var/lib/isthmus/node-agent")]
    state_dir: PathBuf,
    /// The cgroup (v2) under which this node's pods are; of several, parted by commas, the first that exists
    #[arg(long, env = "ISTHMUS_CGROUP_ROOT", value_name = "DIR", value_delimiter = ',')]
    cgroup_root: Vec<PathBuf>,
    /// Leave Services of the own cluster that are not global to whoever translates them anyway: kube-proxy, in Kubernetes
    #[arg(long, env = "ISTHMUS_LEAVE_OWN_SERVICES")]
    leave_own_services: bool,
    /// Address by which other nodes reach this one; the uplink's where absent
    #[arg(long, env = "ISTHMUS_NODE_IP", value_name = "ADDRESS")]
    node_ip: Option<String>,
    /// Device that leads to the other nodes; the default route's where absent
    #[arg(long, env = "ISTHMUS_UPLINK", value_name = "DEVICE")]
    uplink: Option<String>,
    /// Which WireGuard: the kernel's, mesh-tunnel's, or the kernel's if it has one
    #[arg(long, env = "ISTHMUS_WIREGUARD", value_name = "KIND", default_value = "auto")]
    wireguard: String,
    /// Metrics and health; shows no secret
    #[arg(long, env = "ISTHMUS_LISTEN_METRICS", value_name = "ADDRESS", default_value = "0.0.0.0:9974")]
    listen_metrics: String,
    /// UDP port of the mesh's VXLAN
    #[arg(long, env = "ISTHMUS_VXLAN_PORT", value_name = "PORT", default_value = "8473")]
    vxlan_port: String,
    /// UDP port of WireGuard
    #[arg(long, env = "ISTHMUS_WIREGUARD_PORT", value_name = "PORT", default_value = "51881")]
    wireguard_port: String,
    /// UDP port of the path probe
    #[arg(long, env = "ISTHMUS_PROBE_PORT", value_name = "PORT", default_value = "4250")]
    probe_port: String,
}

/// What the agent runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub identity: enrol::Options,
    pub cgroup_root: PathBuf,
    pub leaves_own_services: bool,
    pub node_ip: Option<Ipv4Addr>,
    pub uplink: Option<String>,
    pub wireguard: Choice,
    pub listen_metrics: SocketAddr,
    pub vxlan_port: u16,
    pub wireguard_port: u16,
    pub probe_port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wireguard {
    Auto,
    Kernel,
    Userspace,
}

impl AgentArgs {
    /// Where `node-agent check` looks. What is malformed is left to the agent to refuse.
    pub fn looked_at(&self, bpffs: PathBuf) -> check::Options {
        let ports = [&self.vxlan_port, &self.wireguard_port, &self.probe_port];
        check::Options {
            bpffs,
            cgroups: self.cgroup_root.clone(),
            uplink: self.uplink.clone(),
            node_ip: self.node_ip.as_ref().and_then(|text| text.parse().ok()),
            ports: ports.iter().filter_map(|text| port(text).ok()).collect(),
        }
    }

    pub fn check(self) -> Result<Settings, Mistakes> {
        let mut mistakes = Mistakes::default();
        let node = mistakes.check("--node-name", self.node_name.ok_or("missing: the node's name in its cluster"));
        let cluster = self.cluster_name.ok_or_else(|| "missing: the name of this node's cluster".to_owned());
        let cluster = cluster.and_then(|name| ClusterName::new(name).map_err(|e| e.to_string()));
        let cluster = mistakes.check("--cluster-name", cluster);
        if self.apiservers.is_empty() {
            mistakes.add("--apiserver", "missing: HOST:PORT of a mesh API server (port 2382)");
        }
        for address in &self.apiservers {
            mistakes.check("--apiserver", host_and_port(address));
        }
        let means =
            means(&mut mistakes, self.enrol_token_file, self.enrol_service_account_token_file, self.trust_bundle_file);
        let cgroup_root = mistakes.check("--cgroup-root", cgroup_root(self.cgroup_root));
        let node_ip = self.node_ip.map(|text| match text.parse() {
            Ok(IpAddr::V4(address)) => Ok(address),
            Ok(IpAddr::V6(address)) => Err(format!("{address} is IPv6, which is not supported yet")),
            Err(_) => Err(format!("{text:?} is not an address")),
        });
        let node_ip = node_ip.and_then(|address| mistakes.check("--node-ip", address));
        let wireguard = match Wireguard::from_str(&self.wireguard, true) {
            Ok(Wireguard::Auto) => Choice::Auto,
            Ok(Wireguard::Kernel) => Choice::Kernel,
            Ok(Wireguard::Userspace) => Choice::Userspace,
            Err(_) => {
                mistakes.add("--wireguard", format!("{:?}: use auto, kernel or userspace", self.wireguard));
                Choice::Auto
            }
        };
        let listen: Result<SocketAddr, _> = self.listen_metrics.parse();
        let listen = listen.map_err(|_says_no_more| format!("{:?} is not ADDRESS:PORT", self.listen_metrics));
        let listen_metrics = mistakes.check("--listen-metrics", listen);
        let vxlan_port = mistakes.check("--vxlan-port", port(&self.vxlan_port));
        let wireguard_port = mistakes.check("--wireguard-port", port(&self.wireguard_port));
        let probe_port = mistakes.check("--probe-port", port(&self.probe_port));
        if let (Some(vxlan), Some(wireguard), Some(probe)) = (vxlan_port, wireguard_port, probe_port)
            && (vxlan == wireguard || wireguard == probe || probe == vxlan)
        {
            mistakes.add("--vxlan-port, --wireguard-port, --probe-port", "must differ from each other");
        }
        let complete = (|| {
            Some(Settings {
                identity: enrol::Options {
                    node: node?,
                    cluster: cluster?.to_string(),
                    apiservers: self.apiservers,
                    means,
                    state_dir: self.state_dir,
                },
                cgroup_root: cgroup_root?,
                leaves_own_services: self.leave_own_services,
                node_ip,
                uplink: self.uplink,
                wireguard,
                listen_metrics: listen_metrics?,
                vxlan_port: vxlan_port?,
                wireguard_port: wireguard_port?,
                probe_port: probe_port?,
            })
        })();
        match complete {
            Some(settings) if mistakes.is_empty() => Ok(settings),
            _ => Err(mistakes),
        }
    }
}

/// An empty variable of the environment is none.
fn means(
    mistakes: &mut Mistakes,
    token: Option<String>,
    account: Option<String>,
    trust: Option<String>,
) -> enrol::Means {
    let path = |text: Option<String>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
    let [token, account, trust] = [token, account, trust].map(path);
    match (token, account, trust) {
        (None, None, None) => enrol::Means::Nothing,
        (Some(file), None, None) => enrol::Means::Token(file),
        (None, Some(token_file), Some(trust_bundle_file)) => {
            enrol::Means::ServiceAccount { token_file, trust_bundle_file }
        }
        (token, account, trust) => {
            if token.is_some() && account.is_some() {
                mistakes.add(
                    "--enrol-service-account-token-file",
                    "is in the way of --enrol-token-file: an agent enrols by one of the two",
                );
            }
            if account.is_some() && trust.is_none() {
                mistakes.add(
                    "--trust-bundle-file",
                    "missing: the token is shown to nobody whom the cluster's CAs do not vouch for",
                );
            }
            if account.is_none() && trust.is_some() {
                mistakes.add("--trust-bundle-file", "goes with --enrol-service-account-token-file only");
            }
            enrol::Means::Nothing
        }
    }
}

/// One alone is taken as it is: whoever attaches to it says what is wrong with it.
fn cgroup_root(mut candidates: Vec<PathBuf>) -> Result<PathBuf, String> {
    if candidates.len() > 1 {
        let all: Vec<String> = candidates.iter().map(|folder| folder.display().to_string()).collect();
        let none = || format!("none of {} exists: name the folder that the kubelet keeps pods in", all.join(", "));
        return candidates.into_iter().find(|folder| folder.is_dir()).ok_or_else(none);
    }
    candidates.pop().ok_or_else(|| "missing: the cgroup of the pods".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{text:?} is not a port (1 to 65535)"))
}

fn host_and_port(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let (host, number) = text.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() {
        return Err(wrong());
    }
    port(number).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Settings, Mistakes> {
        let words = std::iter::once("node-agent").chain(args.iter().copied());
        Cli::try_parse_from(words).unwrap().agent.check()
    }

    #[test]
    fn the_labs_command_line_is_understood() {
        let settings = check(&[
            "--node-name",
            "a1",
            "--cluster-name",
            "cluster-a",
            "--apiserver",
            "172.30.1.11:2382",
            "--cgroup-root",
            "/c",
            "--node-ip",
            "172.30.1.11",
            "--uplink",
            "eth0",
            "--bpffs",
            "/sys/fs/bpf",
            "--wireguard",
            "auto",
        ]);
        let settings = settings.unwrap();
        assert_eq!((settings.vxlan_port, settings.wireguard_port, settings.probe_port), (8473, 51881, 4250));
        assert_eq!(settings.wireguard, Choice::Auto);
    }

    #[test]
    fn an_agent_enrols_by_one_means_and_whole_ones() {
        let of = |flags: &[&str]| {
            let usual = ["--node-name=a1", "--cluster-name=a", "--apiserver=h:2382", "--cgroup-root=/c"];
            check(&[&usual, flags].concat()).map(|settings| settings.identity.means).map_err(|e| e.to_string())
        };
        let [token, account, trust] =
            ["--enrol-token-file=/t", "--enrol-service-account-token-file=/s", "--trust-bundle-file=/b"];
        assert_eq!(of(&[]).unwrap(), enrol::Means::Nothing);
        assert_eq!(of(&[token, "--trust-bundle-file="]).unwrap(), enrol::Means::Token("/t".into()));
        let means = enrol::Means::ServiceAccount { token_file: "/s".into(), trust_bundle_file: "/b".into() };
        assert_eq!(of(&[account, trust]).unwrap(), means);
        assert!(of(&[account]).unwrap_err().contains("--trust-bundle-file: missing"));
        assert!(of(&[trust]).unwrap_err().contains("goes with --enrol-service-account-token-file only"));
        assert!(of(&[token, account, trust]).unwrap_err().contains("an agent enrols by one of the two"));
    }

    #[test]
    fn of_several_cgroups_the_first_that_exists_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let list = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
        assert_eq!(cgroup_root(list(&["alone"])), Ok(at("alone")));
        assert!(cgroup_root(list(&["kubepods.slice", "kubepods"])).unwrap_err().contains("kubepods.slice"));
        std::fs::create_dir(at("kubepods")).unwrap();
        assert_eq!(cgroup_root(list(&["kubepods.slice", "kubepods"])), Ok(at("kubepods")));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = check(&[
            "--cluster-name",
            "Not Good",
            "--apiserver",
            "nowhere",
            "--node-ip",
            "fd00::1",
            "--wireguard",
            "ipsec",
            "--vxlan-port",
            "0",
            "--listen-metrics",
            "x",
        ]);
        let text = text.unwrap_err().to_string();
        for setting in [
            "--node-name",
            "--cluster-name",
            "--apiserver",
            "--cgroup-root",
            "--node-ip",
            "--wireguard",
            "--vxlan-port",
            "--listen-metrics",
        ] {
            assert!(text.contains(&format!("\n  {setting}: ")), "{setting} is not in {text}");
        }
    }
}
