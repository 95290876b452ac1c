//! What a node has of everything that a node-agent makes: devices, routes, rules, pins, programs, files. Looks only.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use agent_ebpf::links::{count_at_cgroup, count_at_device};
use anyhow::{Context as _, Result};
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::node::Node;
use topology_tests::place::Place;
use topology_tests::{netns, proc};

/// Facts, one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trace(BTreeSet<String>);

impl Trace {
    /// Of a node, as it is now.
    pub(crate) fn of(run: &Kubernetes, node: &Node) -> Result<Self> {
        let place = node.place()?;
        let mut facts = BTreeSet::new();
        let devices: serde_json::Value = serde_json::from_str(&ip(&place, &["-j", "-d", "link", "show"])?)?;
        for device in devices.as_array().context("ip lists devices")? {
            let kind = device.pointer("/linkinfo/info_kind").unwrap_or_default();
            facts.insert(format!("device {} {kind} mtu {}", device["ifname"], device["mtu"]));
        }
        for (what, args) in [
            ("route", ["-4", "route", "show", "table", "all"].as_slice()),
            ("rule", &["-4", "rule", "show"]),
            ("rule6", &["-6", "rule", "show"]),
        ] {
            facts.extend(ip(&place, args)?.lines().map(|line| format!("{what} {}", line.trim())));
        }
        for folder in ["/sys/fs/bpf", "/var/lib/isthmus", "/run/isthmus"] {
            let seen = place.seen_from_outside(Path::new(folder));
            files(&seen, &mut |file| {
                facts.insert(format!("file {folder}/{}", file.strip_prefix(&seen).unwrap_or(file).display()));
            });
        }
        for (device, count) in netns::within(&run.name.netns(node.name()), at_devices)? {
            facts.insert(format!("programs at device {device}: {count}"));
        }
        let cgroup = run.name.cgroup().join(node.name());
        let cgroup = File::open(&cgroup).with_context(|| format!("open {}", cgroup.display()))?;
        facts.insert(format!("programs at the pods' cgroup: {}", count_at_cgroup(cgroup.as_fd())?));
        Ok(Self(facts))
    }

    /// What one has and the other has not, both ways; empty when they are equal.
    pub(crate) fn differences(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|fact| format!("- {fact}"));
        let new = later.0.difference(&self.0).map(|fact| format!("+ {fact}"));
        gone.chain(new).collect()
    }
}

fn ip(place: &Place, args: &[&str]) -> Result<String> {
    let mut command = place.command("ip");
    command.args(args);
    proc::output("ip", command)
}

/// Devices of the calling thread's network namespace and how many programs each has.
fn at_devices() -> Result<Vec<(String, u32)>> {
    let devices = nix::net::if_::if_nameindex().context("list devices")?;
    let count = |device: &nix::net::if_::Interface| {
        let name = device.name().to_string_lossy().into_owned();
        let count = count_at_device(device.index()).with_context(|| format!("programs of {name}"))?;
        Ok((name, count))
    };
    devices.iter().map(count).collect()
}

fn files(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) { files(&path, found) } else { found(&path) }
    }
}
