//! The networks between pods that a cluster can have: two of Debian's CNI plugins, or flannel. A plugin is configured by one
//! file, of which the container runtime takes notice by itself.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use strum::{Display, EnumString};

use super::component::Component;
use crate::place::Place;
use crate::topology::MTU;

/// Where the runtime looks, in each node's own `/etc`.
pub const FOLDER: &str = "/etc/cni/net.d";
const FILE: &str = "10-isthmus-test.conflist";
const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const FLANNEL_READY: Duration = Duration::from_mins(1);

/// What attaches the pods of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, clap::ValueEnum)]
#[strum(serialize_all = "lowercase")]
pub enum Cni {
    /// Ports of the node's bridge `cni0`; the routes between nodes are the underlay's.
    Bridge,
    /// A veth pair routed by the node; the routes between nodes are the underlay's.
    Ptp,
    /// flanneld with VXLAN between nodes, `bridge` on them.
    Flannel,
}

/// A node's part of the network.
#[derive(Debug, Clone)]
pub struct Network {
    pub cni: Cni,
    /// What leaves to elsewhere than the pods' own network has the node's address.
    pub masquerade: bool,
    pub cluster: Ipv4Net,
    pub node: Ipv4Net,
}

impl Network {
    /// The configuration of the plugins `bridge` and `ptp`.
    fn plugins(&self, subnet: Ipv4Net, mtu: u32, masquerade: bool) -> Value {
        let kind = if self.cni == Cni::Ptp { "ptp" } else { "bridge" };
        let mut main = json!({
            "type": kind,
            "mtu": mtu,
            "ipMasq": masquerade,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": subnet }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        if kind == "bridge" {
            main["bridge"] = "cni0".into();
            main["isGateway"] = true.into();
            main["hairpinMode"] = true.into();
        }
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        json!({ "cniVersion": "1.0.0", "name": self.cni.to_string(), "plugins": [main, portmap] })
    }

    /// Configures the plugins of a node, which has its network from then on. With flannel its daemon is started, and the file
    /// is written of what the daemon says.
    pub fn start(&self, place: &Place, flannel: &Flannel, logs: &Path) -> Result<Option<Component>> {
        if self.cni != Cni::Flannel {
            write(place, &self.plugins(self.node, MTU, self.masquerade))?;
            return Ok(None);
        }
        let daemon = flannel.start(place, self, logs)?;
        let lease = place.seen_from_outside(Path::new(SUBNET_FILE));
        daemon.wait_ready("flannel to have a subnet", FLANNEL_READY, || lease.exists())?;
        let text = std::fs::read_to_string(&lease).context("read flannel's subnet")?;
        let (subnet, mtu) = (variable(&text, "FLANNEL_SUBNET")?, variable(&text, "FLANNEL_MTU")?);
        let gateway: Ipv4Net = subnet.parse().with_context(|| format!("{subnet} is no subnet"))?;
        let mtu = mtu.parse().with_context(|| format!("{mtu} is no MTU"))?;
        // flanneld masquerades itself, between clusters of nodes only; the plugin would between nodes, too.
        write(place, &self.plugins(gateway.trunc(), mtu, false))?;
        Ok(Some(daemon))
    }
}

fn write(place: &Place, config: &Value) -> Result<()> {
    let folder = place.seen_from_outside(Path::new(FOLDER));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    // The runtime reads whatever has the right ending as soon as it is there: whole, or not at all.
    let (half, file) = (folder.join("half"), folder.join(FILE));
    std::fs::write(&half, config.to_string()).with_context(|| format!("write {}", half.display()))?;
    std::fs::rename(&half, &file).with_context(|| format!("publish {}", file.display()))
}

/// What flanneld needs on a node.
pub struct Flannel {
    pub program: PathBuf,
    pub node: String,
    pub node_ip: Ipv4Addr,
    pub kubeconfig: PathBuf,
    pub folder: PathBuf,
}

impl Flannel {
    fn start(&self, place: &Place, network: &Network, logs: &Path) -> Result<Component> {
        let config = self.folder.join("net-conf.json");
        let text = json!({
            "Network": network.cluster, "EnableNFTables": true, "Backend": { "Type": "vxlan" },
        });
        std::fs::write(&config, text.to_string()).with_context(|| format!("write {}", config.display()))?;
        let (place, program, node) = (place.clone(), self.program.clone(), self.node.clone());
        let (kubeconfig, masquerade) = (self.kubeconfig.clone(), network.masquerade);
        let iface = self.node_ip.to_string();
        Component::start("flanneld", logs, move || {
            let mut command = place.command(&program);
            command.env("NODE_NAME", &node).arg("--kubeconfig-file").arg(&kubeconfig);
            command.arg("--net-config-path").arg(&config).args(["--subnet-file", SUBNET_FILE, "--iface", &iface]);
            command.arg(format!("--ip-masq={masquerade}"));
            command
        })
    }
}

/// What flanneld's user may do.
pub const FLANNEL_USER: &str = "flannel";
pub fn flannel_rights() -> String {
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": { "name": FLANNEL_USER },
                "rules": [
                    { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] },
                    { "apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"] },
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": { "name": FLANNEL_USER },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": FLANNEL_USER },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": FLANNEL_USER }],
            },
        ],
    })
    .to_string()
}

fn variable<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.with_context(|| format!("flannel's subnet file has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_is_configured_as_asked() {
        let network = |cni, masquerade| Network {
            cni,
            masquerade,
            cluster: "10.1.0.0/16".parse().unwrap(),
            node: "10.1.2.0/24".parse().unwrap(),
        };
        let ptp = network(Cni::Ptp, true);
        let config = ptp.plugins(ptp.node, MTU, ptp.masquerade);
        assert_eq!(config["plugins"][0]["type"], "ptp");
        assert_eq!(config["plugins"][0]["ipMasq"], true);
        assert_eq!(config["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.1.2.0/24");
        let bridge = network(Cni::Bridge, false);
        let config = bridge.plugins(bridge.node, MTU, bridge.masquerade);
        assert_eq!((&config["plugins"][0]["bridge"], &config["plugins"][0]["ipMasq"]), (&json!("cni0"), &json!(false)));
    }

    #[test]
    fn flannels_answer_is_read_by_name() {
        let text = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.2.1/24\nFLANNEL_MTU=1450\n";
        assert_eq!(variable(text, "FLANNEL_SUBNET").unwrap(), "10.1.2.1/24");
        assert!(variable(text, "FLANNEL_X").unwrap_err().to_string().contains("FLANNEL_X"));
    }
}
