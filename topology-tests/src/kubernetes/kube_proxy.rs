//! A node's kube-proxy, in the mode that a run asks for.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ipnet::Ipv4Net;
use strum::{Display, EnumString};

use super::component::Component;
use crate::place::Place;

/// How kube-proxy makes the kernel translate Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum ProxyMode {
    Nftables,
    Iptables,
    /// Where the kernel has IPVS.
    Ipvs,
}

impl ProxyMode {
    /// Refuses a mode that this kernel cannot do.
    pub fn check(self) -> Result<()> {
        if self == Self::Ipvs && !Path::new("/proc/net/ip_vs").exists() {
            bail!("this kernel has no IPVS, or its module ip_vs is not loaded: use nftables or iptables");
        }
        Ok(())
    }
}

/// What a kube-proxy is told.
pub struct Options {
    pub program: PathBuf,
    pub node: String,
    pub kubeconfig: PathBuf,
    pub mode: ProxyMode,
    /// Of all pods of the cluster: what comes from elsewhere to a Service is masqueraded.
    pub pods: Ipv4Net,
}

pub fn start(place: &Place, options: Options, logs: &Path) -> Result<Component> {
    let node = place.clone();
    Component::start("kube-proxy", logs, move || {
        let mut command = node.command(&options.program);
        command.arg("--kubeconfig").arg(&options.kubeconfig).args(["--hostname-override", &options.node]);
        command.args(["--proxy-mode", &options.mode.to_string(), "--cluster-cidr", &options.pods.to_string()]);
        command.args(["--oom-score-adj", "0"]);
        // The limits of connection tracking are the machine's, and not a namespace's to set.
        for limit in ["max-per-core", "min"] {
            command.arg(format!("--conntrack-{limit}=0"));
        }
        for timeout in ["established", "close-wait"] {
            command.arg(format!("--conntrack-tcp-timeout-{timeout}=0"));
        }
        command
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_named_as_kube_proxy_names_it() {
        assert_eq!(ProxyMode::Nftables.to_string(), "nftables");
        assert_eq!("ipvs".parse(), Ok(ProxyMode::Ipvs));
    }
}
