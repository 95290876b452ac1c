//! What the running kernel offers. Looks, or tries in a namespace of its own; changes nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A feature and whether it is there, in words.
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) state: String,
}

pub(super) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

pub(super) fn features() -> Vec<Feature> {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let symbol = |name: &str| symbols.lines().any(|line| line.split_whitespace().nth(2) == Some(name));
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let cgroup2 =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).and_then(|l| l.split(' ').nth(1));
    let mut all = vec![
        feature("bpf system call", symbol("__sys_bpf"), "", "no eBPF: only builds and unit tests work"),
        feature(
            "BTF",
            Path::new("/sys/kernel/btf/vmlinux").exists(),
            "",
            "programs that need kernel types do not load",
        ),
        feature("tcx (6.6 or later)", symbol("tcx_prog_attach"), "", "programs cannot be attached to devices"),
        feature(
            "bpffs",
            file_systems.lines().any(|l| l.trim_start_matches("nodev").trim() == "bpf"),
            "",
            "no pins: a restart would drop connections",
        ),
        feature(
            "cgroup v2 mounted",
            cgroup2.is_some(),
            cgroup2.unwrap_or_default(),
            "socket load balancing has no place to attach to",
        ),
        feature("/dev/net/tun", Path::new("/dev/net/tun").exists(), "", "no userspace WireGuard"),
        feature("network namespace", in_namespace(&["true"]), "", "no lab (root is needed)"),
        feature("mount namespace", succeeds("unshare", &["--mount", "true"]), "", "no lab (root is needed)"),
    ];
    for kind in ["veth", "bridge"] {
        let is_there = in_namespace(&["ip", "link", "add", "probe0", "type", kind]);
        all.push(feature(kind, is_there, "", "no lab"));
    }
    let vxlan = ["ip", "link", "add", "probe0", "type", "vxlan", "external", "dstport", "8473"];
    all.push(feature("vxlan, external", in_namespace(&vxlan), "", "no tunnel between nodes"));
    let wireguard = in_namespace(&["ip", "link", "add", "probe0", "type", "wireguard"]);
    all.push(feature("wireguard", wireguard, "", "mesh-tunnel encrypts in user space instead"));
    all.push(feature(
        "iptables nat",
        in_namespace(&["iptables", "-t", "nat", "-S"]),
        "",
        "the CNI plugins cannot masquerade",
    ));
    all.push(feature(
        "nftables",
        in_namespace(&["nft", "list", "tables"]),
        "",
        "no faults and no counters on the lab's WAN",
    ));
    all
}

fn feature(name: &'static str, is_there: bool, detail: &str, without: &str) -> Feature {
    let state = if is_there { format!("yes {detail}").trim_end().to_owned() } else { format!("no: {without}") };
    Feature { name, state }
}

/// Runs the command in a network namespace that ends with it.
fn in_namespace(command: &[&str]) -> bool {
    succeeds("unshare", &[&["--net"], command].concat())
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
