//! The WAN between the clusters: cuts, restores and drops (nftables in the WAN's namespace), and counts what crosses it.
//! The counters sit before every fault, so that a packet that a fault drops is seen as well.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use crate::names::LabName;
use crate::netns;
use crate::topology::Topology;
use crate::wiring;

/// UDP ports of tunnels and probes that must never be seen outside WireGuard: Isthmus' VXLAN, Cilium's and flannel's, the
/// registered one, and the path probe.
const CLEAR_PORTS: [u16; 4] = [8473, 8472, 4789, 4250];
const WIREGUARD_PORT: u16 = 51881;
const TABLE: &str = "inet isthmus_wan";

/// What stands in a cluster's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes, either way.
    Cut,
    /// Nothing leaves the cluster.
    Outbound,
    /// Nothing reaches the cluster.
    Inbound,
    /// No tunnel passes, either way; the control plane does.
    Tunnels,
    /// This many of 100 packets are lost, each way.
    Loss(u8),
}

/// Packets that arrived at the WAN since the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// With a pod or service address, or a tunnel's port.
    pub clear: u64,
    pub wireguard: u64,
    /// The control plane's, and everything else.
    pub others: u64,
}

#[derive(Debug)]
pub struct Wan {
    netns: String,
    links: BTreeMap<String, String>,
    faults: Mutex<BTreeMap<String, Fault>>,
}

impl Wan {
    /// Installs the counters in the WAN's namespace.
    pub fn start(lab: &LabName, topology: &Topology) -> Result<Self> {
        let wan = Self::of(lab, topology);
        let inside: Vec<Ipv4Net> = topology.clusters.iter().flat_map(|c| [c.pod_cidr, c.service_cidr]).collect();
        wan.nft(&counting_rules(&inside))?;
        Ok(wan)
    }

    /// The WAN of a lab that runs already, maybe in another process.
    pub fn of(lab: &LabName, topology: &Topology) -> Self {
        let links = topology.clusters.iter().map(|c| (c.name.clone(), c.wan_link())).collect();
        Self { netns: lab.netns(wiring::WAN), links, faults: Mutex::new(BTreeMap::new()) }
    }

    /// Puts a fault between a cluster and the rest, in place of the one that was there.
    pub fn set_fault(&self, cluster: &str, fault: Fault) -> Result<()> {
        if !self.links.contains_key(cluster) {
            bail!("there is no cluster {cluster}");
        }
        let mut faults = self.faults.lock();
        faults.insert(cluster.to_owned(), fault);
        self.apply(&faults)
    }

    pub fn cut(&self, cluster: &str) -> Result<()> {
        self.set_fault(cluster, Fault::Cut)
    }

    /// Takes a cluster's fault away.
    pub fn restore(&self, cluster: &str) -> Result<()> {
        let mut faults = self.faults.lock();
        faults.remove(cluster);
        self.apply(&faults)
    }

    /// Sets all counters to zero, and forgets which clear packets were seen.
    pub fn reset_counters(&self) -> Result<()> {
        self.nft(&format!("reset counters table {TABLE}\nflush set {TABLE} seen\n"))
    }

    pub fn counters(&self) -> Result<Counters> {
        let listed = self.list(&["counters", "table"], &[])?;
        let packets = |name: &str| {
            let counters = listed.iter().filter_map(|entry| entry.get("counter"));
            let found = counters.into_iter().find(|counter| counter["name"] == name);
            found.and_then(|counter| counter["packets"].as_u64()).with_context(|| format!("no counter {name}"))
        };
        Ok(Counters { clear: packets("clear")?, wireguard: packets("wireguard")?, others: packets("others")? })
    }

    /// Which clear packets were seen: `source destination protocol port`, up to 1,000 different ones. To find a leak's cause.
    pub fn clear_seen(&self) -> Result<Vec<String>> {
        let listed = self.list(&["set"], &["seen"])?;
        let elements = listed.iter().find_map(|entry| entry["set"]["elem"].as_array());
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let line = |element: &Value| {
            let concat = element.get("elem").map_or(element, |inner| &inner["val"])["concat"].as_array();
            concat.map(|parts| parts.iter().map(word).collect::<Vec<_>>().join(" ")).unwrap_or_default()
        };
        Ok(elements.map(|elements| elements.iter().map(line).collect()).unwrap_or_default())
    }

    fn apply(&self, faults: &BTreeMap<String, Fault>) -> Result<()> {
        let mut lines = vec![format!("flush chain {TABLE} faults")];
        for (cluster, fault) in faults {
            let link = &self.links[cluster];
            let (into, out_of) = (format!("oifname \"{link}\""), format!("iifname \"{link}\""));
            let rules = match fault {
                Fault::Cut => vec![format!("{into} drop"), format!("{out_of} drop")],
                Fault::Tunnels => [&into, &out_of].map(|side| format!("{side} udp dport {WIREGUARD_PORT} drop")).into(),
                Fault::Inbound => vec![format!("{into} drop")],
                Fault::Outbound => vec![format!("{out_of} drop")],
                Fault::Loss(percent) => {
                    let lose = format!("numgen random mod 100 < {percent} drop");
                    vec![format!("{into} {lose}"), format!("{out_of} {lose}")]
                }
            };
            lines.extend(rules.iter().map(|rule| format!("add rule {TABLE} faults {rule}")));
        }
        self.nft(&(lines.join("\n") + "\n"))
    }

    fn list(&self, what: &[&str], name: &[&str]) -> Result<Vec<Value>> {
        let table: Vec<&str> = TABLE.split(' ').collect();
        let text = self.run(&[&["-j", "list"], what, &table, name].concat(), "")?;
        let read: Value = serde_json::from_str(&text).context("read what nft lists")?;
        read["nftables"].as_array().cloned().ok_or_else(|| anyhow!("nft listed nothing"))
    }

    /// Runs a script in one transaction.
    fn nft(&self, script: &str) -> Result<()> {
        self.run(&["-f", "-"], script).map(drop)
    }

    fn run(&self, args: &[&str], script: &str) -> Result<String> {
        netns::within(&self.netns, || {
            let mut child = Command::new("nft")
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("run nft")?;
            let mut input = child.stdin.take().context("nft has no standard input")?;
            input.write_all(script.as_bytes()).context("write to nft")?;
            drop(input);
            let output = child.wait_with_output().context("wait for nft")?;
            if !output.status.success() {
                bail!("nft {}: {}\n{script}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }
}

/// A packet is counted once: WireGuard by its port, then whatever shows an inside address or a tunnel's port.
fn counting_rules(inside: &[Ipv4Net]) -> String {
    let ranges = inside.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let ports = CLEAR_PORTS.map(|port| port.to_string()).join(", ");
    format!(
        "table {TABLE} {{
            set inside {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {ranges} }}; }}
            set seen {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic; size 1000; }}
            counter clear {{ }}
            counter wireguard {{ }}
            counter others {{ }}
            chain noted {{
                counter name clear
                add @seen {{ ip saddr . ip daddr . ip protocol . th dport }}
            }}
            chain count {{
                type filter hook prerouting priority raw; policy accept;
                udp dport {WIREGUARD_PORT} counter name wireguard return
                udp sport {WIREGUARD_PORT} counter name wireguard return
                ip saddr @inside goto noted
                ip daddr @inside goto noted
                udp dport {{ {ports} }} goto noted
                udp sport {{ {ports} }} goto noted
                counter name others
            }}
            chain faults {{ type filter hook forward priority filter; policy accept; }}
        }}\n"
    )
}
