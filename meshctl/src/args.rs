//! The command line. A wrong one ends with 64, as every process of the project does.

pub(crate) mod certs;
pub(crate) mod kubernetes;
pub(crate) mod store;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use self::certs::Certs;
use self::kubernetes::{Check, Connectivity, Install, Sysdump, Uninstall, Upgrade};
use crate::exit::{self, Exit};
use crate::output::Format;

/// Looks into and joins the clusters of a mesh.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Args {
    /// Configuration file [default: ~/.config/isthmus/meshctl.toml]
    #[arg(long, global = true, env = "MESHCTL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ask this cluster: a context of the configuration file or of the kubeconfig; may be repeated [default: all of the
    /// configuration file; without one the kubeconfig's current context]
    #[arg(long = "context", short = 'c', global = true, value_name = "NAME")]
    pub(crate) contexts: Vec<String>,
    /// Ask every context of the configuration file and of the kubeconfig
    #[arg(long, global = true, conflicts_with = "contexts")]
    pub(crate) all_contexts: bool,
    /// Kubeconfig [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Kubernetes namespace of the mesh [default: wherever mesh-apiserver is]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) mesh_namespace: Option<String>,
    /// Form of the data on stdout
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Seconds to wait for a cluster's answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) timeout: u32,
    /// No colours, even on a terminal
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Join two clusters; repeating it changes nothing
    Connect(Connect),
    /// What would keep two clusters apart, before anything is changed: names, ids, prefixes, versions, CAs, certificates, MTU, clocks, ports
    Preflight(Preflight),
    /// Where the way to a joined cluster stops, and why: name, port, TLS, role, heartbeat, configuration, every resource
    Troubleshoot(Troubleshoot),
    /// Part two clusters, on both sides
    ///
    /// Nodes drop what their pods send to the other cluster's pods for two minutes more, even where there is another way:
    /// connections that were encrypted shall end, and not go on in clear.
    Disconnect(Disconnect),
    /// In Kubernetes: what keeps the mesh from being installed or from working, each with its remedy; exit 2 when there is a fault
    Check(Check),
    /// In Kubernetes: install the mesh in a cluster, by Helm and the chart that is built in
    Install(Install),
    /// In Kubernetes: bring a cluster's mesh to this release, or change its values
    Upgrade(Upgrade),
    /// In Kubernetes: take the mesh out of a cluster and off its nodes
    Uninstall(Uninstall),
    /// In Kubernetes: do pods, nodes and Services of two clusters reach each other
    #[command(subcommand)]
    Connectivity(Connectivity),
    /// In Kubernetes: objects, states, logs, metrics and maps of each cluster in one file, without secrets
    Sysdump(Sysdump),
    /// The joined clusters, as each cluster sees them
    Peers(Peers),
    /// Clusters, sessions, sync, agents, tunnels, staleness; exit 2 when something is not well
    Status,
    /// Objects of the merged view
    Get(Get),
    /// Certificates: when each expires, renewing leaves, going over to another CA
    #[command(subcommand)]
    Certs(Certs),
    /// Tokens that let a cluster join or a node enrol
    #[command(subcommand)]
    Token(Token),
    /// Files for Cilium's own agents
    #[command(subcommand)]
    Cilium(Cilium),
    /// The store of a cluster: its replicas, its files
    #[command(subcommand)]
    Store(store::Store),
    /// The kernel's side of a node
    #[command(subcommand)]
    Bpf(Bpf),
    /// Version of meshctl and of every cluster
    Version,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Connect {
    /// Context of the cluster that redeems the token; or name it with --context
    pub(crate) a: Option<String>,
    /// Context of the cluster that gives the token; leave it out with --token-file and --cilium
    #[arg(conflicts_with_all = ["token_file", "cilium"])]
    pub(crate) b: Option<String>,
    /// The second cluster, where the first is named with --context
    #[arg(long, value_name = "NAME", conflicts_with_all = ["b", "token_file", "cilium"])]
    pub(crate) destination_context: Option<String>,
    /// A Cilium cluster, as a file says: Cilium's own clustermesh configuration with its id and prefixes; docs/cilium.md
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) cilium: Option<PathBuf>,
    /// A token made at the other cluster by `meshctl token create --peer`: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Seconds to wait until both sides, or with a file this one, are live; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) wait: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cilium {
    /// Write what Cilium reads from /var/lib/cilium/clustermesh: clusters to follow, where, and by which certificate
    Config(CiliumConfig),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CiliumConfig {
    /// Whose agents will read it
    #[arg(long = "for", value_enum)]
    pub(crate) reader: Reader,
    /// Folder to write into; files that are there and still right stay untouched
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Where the folder will be mounted at Cilium's agents: the paths in the files
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cilium/clustermesh")]
    pub(crate) mounted_at: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// Cilium of this cluster, which reads from here what is mirrored of every peer, as from its KVStoreMesh
    Local,
    /// Cilium of another cluster, which joins this one with a certificate of its own
    Remote,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Preflight {
    /// Context of one cluster; or name it with --context
    pub(crate) a: Option<String>,
    /// Context of the other
    pub(crate) b: Option<String>,
    /// The other cluster, where the first is named with --context
    #[arg(long, value_name = "NAME", conflicts_with = "b")]
    pub(crate) destination_context: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Troubleshoot {
    /// Name of a joined cluster, as `meshctl peers` shows it [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) peer: String,
    /// Show the steps that passed as well
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Disconnect {
    /// Context of one cluster; or name it with --context
    pub(crate) a: Option<String>,
    /// Context, or for a cluster without one its name, of the other
    pub(crate) b: Option<String>,
    /// The other cluster, where the first is named with --context
    #[arg(long, value_name = "NAME", conflicts_with = "b")]
    pub(crate) destination_context: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Get {
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Only this namespace
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
    /// Only objects that this cluster declares
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) cluster: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Services,
    Endpoints,
    Nodes,
    Identities,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is all that stdout gets
    Create(TokenCreate),
    /// Tokens that were made and are still known, without their secrets
    List,
    /// Make a token useless; what was done with it before stays done
    Revoke(TokenRevoke),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenRevoke {
    /// Its id, as `meshctl token list` shows it
    pub(crate) id: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) action: Option<PeersAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersAction {
    /// Trust a joined cluster no more, on this side alone: its certificates are refused and its open connections cut at once
    Revoke(PeerRevoke),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerRevoke {
    /// Name of the cluster, as `meshctl peers` shows it
    pub(crate) name: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TokenCreate {
    /// Name of the cluster that may join with it
    #[arg(long, value_name = "NAME", requires = "peer_id", required_unless_present = "node", conflicts_with = "node")]
    pub(crate) peer: Option<String>,
    /// Id of that cluster
    #[arg(long, value_name = "N", requires = "peer")]
    pub(crate) peer_id: Option<u32>,
    /// Name of the node that may enrol with it
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) ttl: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bpf {
    /// Print a map of a node, by way of node-agent
    Dump(BpfDump),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BpfDump {
    /// Name of the map, as `node-agent bpf dump --help` lists them
    pub(crate) map: String,
    /// A node of the configuration file [default: this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

/// Reads the process's arguments. Help and version are data; a mistake is not.
pub(crate) fn parse() -> Result<Args, Exit> {
    Args::try_parse().map_err(|error| {
        let exit = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
            _ => Exit::Usage,
        };
        if error.print().is_err() {
            drop(writeln!(io::stderr(), "meshctl: {}", error.kind()));
        }
        exit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_token_can_not_be_an_argument() {
        assert!(Args::try_parse_from(["meshctl", "connect", "a", "--token", "x"]).is_err());
        assert!(Args::try_parse_from(["meshctl", "connect", "a", "--token-file", "-"]).is_ok());
        assert!(Args::try_parse_from(["meshctl", "connect", "--context", "a", "--destination-context", "b"]).is_ok());
        assert!(Args::try_parse_from(["meshctl", "connect", "a", "b", "--destination-context", "c"]).is_err());
        assert!(Args::try_parse_from(["meshctl", "connect", "a", "--cilium", "c.yaml"]).is_ok());
        assert!(Args::try_parse_from(["meshctl", "connect", "a", "b", "--cilium", "c.yaml"]).is_err());
    }

    #[test]
    fn what_is_rotated_is_said() {
        let parse = |args: &[&str]| Args::try_parse_from([&["meshctl", "certs", "rotate"], args].concat());
        for good in [&["--leaf"][..], &["--leaf=agent-n1"], &["--ca"], &["--ca", "--abort"], &["--ca", "--no-wait"]] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [&[][..], &["--leaf", "--ca"], &["--abort"], &["--leaf", "--abort"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_for_a_peer_with_id_or_for_a_node() {
        let parse = |args: &[&str]| Args::try_parse_from([&["meshctl", "token", "create"], args].concat());
        assert!(parse(&["--peer", "b", "--peer-id", "2"]).is_ok());
        assert!(parse(&["--node", "a1"]).is_ok());
        assert!(parse(&["--peer", "b"]).is_err());
        assert!(parse(&["--peer", "b", "--peer-id", "2", "--node", "a1"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
