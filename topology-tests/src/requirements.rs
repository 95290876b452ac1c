//! What the machine must offer before a lab can be made. Looks only.

use std::path::Path;

use crate::cni::PLUGIN_DIR;
use crate::names::cgroup_mount;

const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("iptables", "iptables")];
const PLUGINS: [&str; 4] = ["loopback", "ptp", "bridge", "host-local"];

/// Why no lab can be made here, in one line; `None` when it can.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root: namespaces and eBPF need it".into());
    }
    for plugin in PLUGINS {
        if !Path::new(PLUGIN_DIR).join(plugin).exists() {
            return Some(format!("no CNI plugin {plugin} in {PLUGIN_DIR}: install containernetworking-plugins"));
        }
    }
    for (program, package) in PROGRAMS {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
        if !places.iter().any(|place| Path::new(place).join(program).exists()) {
            return Some(format!("no program {program}: install {package}"));
        }
    }
    if !cgroup_mount().join("cgroup.controllers").exists() {
        return Some("no cgroup v2 hierarchy is mounted".into());
    }
    None
}
