//! What the commands take that are about clusters of Kubernetes alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Do not look into nodes: no pod is run
    #[arg(long)]
    pub(crate) no_probe: bool,
    /// Before an install: file with the values that it is to have; may be repeated
    #[arg(long = "values", short = 'f', value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Image of node-agent to look into nodes with [default: the installed one's; before an install that of the values, else
    /// of this release]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Before an install: where the nodes have their cgroups of version 2 [default: agent.hostPaths.cgroup of the values, else
    /// /sys/fs/cgroup]
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<String>,
    /// Seconds that a node's pod may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) probe_timeout: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Connectivity {
    /// Make pods in both clusters, have them ask each other every way, say what fails and why, and remove them
    ///
    /// Ways: pod to pod, pod to Service, node to Service; TCP and UDP; both directions, and within each cluster to tell the
    /// cluster's own faults from the mesh's. A pod must be seen by its own address on the other side. Ctrl-C removes all as well.
    Test(ConnectivityTest),
    /// Remove what tests left that were killed
    Clean,
    /// In the test's pods: answer whoever asks
    #[command(hide = true)]
    Serve(Serve),
    /// In the test's pods: do nothing
    #[command(hide = true)]
    Idle,
    /// In the test's pods: ask one address
    #[command(hide = true)]
    Ask(Ask),
}

#[derive(Debug, Args)]
pub(crate) struct ConnectivityTest {
    /// Context of one cluster; or name it with --context
    pub(crate) a: Option<String>,
    /// Context of the other
    pub(crate) b: Option<String>,
    /// The other cluster, where the first is named with --context
    #[arg(long, value_name = "NAME", conflicts_with = "b")]
    pub(crate) destination_context: Option<String>,
    /// Image with /usr/bin/meshctl of this version [default: that of each cluster's mesh-apiserver]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Seconds that pods may take to run
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) pods_timeout: u32,
    /// Seconds in which each way has to give a right answer once
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) wait: u32,
    /// Seconds to wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) answer_timeout: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// What it calls its cluster
    #[arg(long, env = "MESHCTL_CLUSTER", default_value = "")]
    pub(crate) cluster: String,
    /// What it calls itself
    #[arg(long, env = "MESHCTL_POD", default_value = "")]
    pub(crate) pod: String,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[arg(value_enum)]
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    /// Milliseconds to wait for the answer
    #[arg(long, default_value_t = 3000)]
    pub(crate) within_ms: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Sysdump {
    /// File to write [default: isthmus-sysdump-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Lines of each container's log
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub(crate) log_lines: u32,
    /// Do not look into the maps of nodes
    #[arg(long)]
    pub(crate) no_maps: bool,
}

/// What a release is made of.
#[derive(Debug, Args)]
pub(crate) struct Values {
    /// File with values of the chart; may be repeated
    #[arg(long = "values", short = 'f', value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// One value of the chart, KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Another chart than the built-in one: its folder
    #[arg(long, value_name = "DIR")]
    pub(crate) chart: Option<PathBuf>,
    /// Render and have the API server check everything; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seconds to wait until all is ready; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub(crate) wait: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Name of the cluster in the mesh, which never changes (cluster.name)
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<String>,
    /// Id of the cluster in the mesh, which never changes (cluster.id)
    #[arg(long, value_name = "N")]
    pub(crate) cluster_id: Option<u32>,
    /// Namespace to install into; it is made, and allowed to have pods that work on the node
    #[arg(long, short, value_name = "NAME", default_value = "isthmus")]
    pub(crate) namespace: String,
    /// Name of Helm's release
    #[arg(long, value_name = "NAME", default_value = "isthmus")]
    pub(crate) release: String,
    /// Apply this file, which `helm template` rendered elsewhere, where there is no Helm
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "set", "chart", "cluster_name", "cluster_id"])]
    pub(crate) manifests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) values: Values,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) values: Values,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Also delete the volumes and the namespace: the cluster's CA and all its state
    #[arg(long)]
    pub(crate) delete_state: bool,
    /// Also where it is still joined to other clusters
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would be deleted; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
