//! Nodes: what Kubernetes says of each, and what a pod on it found.

use crate::verb::check::facts::{Facts, Node, Probe};
use crate::verb::check::finding::Findings;

/// What the datapath's programs need of the kernel.
const KERNEL: (u32, u32) = (6, 6);
/// Of the uplink: what is left inside the tunnel is IPv6's smallest then.
const MTU: u32 = 1280 + 80 + 50;
/// Words by which a kubelet says that it has no network for pods.
const NO_NETWORK: [&str; 3] = ["NetworkPluginNotReady", "cni plugin not initialized", "network plugin is not ready"];

pub(super) fn judge(facts: &Facts, found: &mut Findings) {
    let Some(nodes) = facts.nodes.known() else {
        found.warn("nodes", super::refused(&facts.nodes), "ask for the right to list nodes");
        return;
    };
    if nodes.is_empty() {
        found.fail("nodes", "the cluster has no node", "add nodes: pods have nowhere to run");
        return;
    }
    for node in nodes {
        of_kubernetes(node, found);
        match &node.probe {
            Some(Ok(probe)) => {
                super::skew("clock", &format!("node {}", node.name), node.skew, found);
                of_probe(facts, node, probe, found);
            }
            Some(Err(why)) => found.fail(
                "probe",
                format!("node {} could not be looked into: {why}", node.name),
                "see `kubectl describe node` and its kubelet; --image names the image of node-agent, --no-probe leaves this out",
            ),
            None => {}
        }
    }
    prefixes(facts, nodes, found);
    let count = nodes.len();
    if nodes.iter().all(|node| node.is_ready) {
        found.well_unless_said("nodes", format!("{count} are ready, with Linux {}.{} or newer", KERNEL.0, KERNEL.1));
    }
    found.well_unless_said("cni", "every node has a network for pods");
    if nodes.iter().any(|node| matches!(node.probe, Some(Ok(_)))) {
        alike(nodes, found);
        for (check, text) in [
            ("cgroup2", "pods are in a cgroup of version 2"),
            ("bpffs", "a bpf file system is mounted"),
            ("bpf", "programs and maps of all kinds are taken"),
            ("wireguard", "packets between clusters can be encrypted"),
            ("uplink", "each node's device to the others is known"),
            ("mtu", "packets of the mesh fit"),
            ("ports", "the mesh's ports are free, or its own"),
            ("forwarding", "nodes forward packets"),
        ] {
            found.well_unless_said(check, text);
        }
    }
}

fn of_kubernetes(node: &Node, found: &mut Findings) {
    let name = &node.name;
    if !node.is_ready {
        let message = &node.ready_message;
        if NO_NETWORK.iter().any(|word| message.contains(word)) {
            found.fail(
                "cni",
                format!("node {name} has no network for pods: {message}"),
                "install or repair the CNI plugin (its DaemonSet, /etc/cni/net.d on the node): the mesh adds to a CNI and is none",
            );
        } else {
            found.fail(
                "nodes",
                format!("node {name} is not ready: {message}"),
                format!("kubectl describe node {name}; on it: journalctl -u kubelet"),
            );
        }
    }
    if node.os != "linux" {
        found.warn("nodes", format!("node {name} runs {}: no agent runs there", node.os), "keep meshed pods off it");
        return;
    }
    if !["amd64", "arm64"].contains(&node.architecture.as_str()) {
        found.fail(
            "nodes",
            format!("node {name} is {}: there are no images for it", node.architecture),
            "use amd64 or arm64 nodes, or build images for it (docs/guide/install.md)",
        );
    }
    let kernel = version(&node.kernel);
    if kernel.is_none_or(|kernel| kernel < KERNEL) {
        found.fail(
            "kernel",
            format!("node {name} has Linux {:?}, which is older than {}.{}", node.kernel, KERNEL.0, KERNEL.1),
            format!("give it a kernel of {}.{} or newer", KERNEL.0, KERNEL.1),
        );
    }
}

fn of_probe(facts: &Facts, node: &Node, probe: &Probe, found: &mut Findings) {
    let name = &node.name;
    if let Some(why) = &probe.cgroup {
        found.fail(
            "cgroup2",
            format!("node {name}: {why}"),
            "boot it with systemd.unified_cgroup_hierarchy=1; where its pods' cgroups are elsewhere, name them \
             (agent.hostPaths.cgroup, agent.podCgroups)",
        );
    }
    if let Some(why) = &probe.bpffs {
        found.fail(
            "bpffs",
            format!("node {name}: {why}"),
            "mount one on the node: mount -t bpf bpf /sys/fs/bpf, and in /etc/fstab: bpf /sys/fs/bpf bpf defaults 0 0",
        );
    }
    if !probe.bpf_missing.is_empty() {
        found.fail(
            "bpf",
            format!("node {name}: {}", probe.bpf_missing.join("; ")),
            "allow the agent CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (agent.privileged=true where a policy keeps them back), and \
             use a kernel with CONFIG_BPF_SYSCALL",
        );
    }
    wireguard(facts, name, probe, found);
    match (&probe.uplink, &probe.uplink_error) {
        (None, why) => found.fail(
            "uplink",
            format!("node {name}: {}", why.as_deref().unwrap_or("it has no device to other nodes")),
            "name the device that leads to the other nodes: agent.uplink",
        ),
        (Some(uplink), _) if uplink.mtu < MTU => found.fail(
            "mtu",
            format!("node {name}: {} carries packets of {} bytes, and the mesh needs {MTU}", uplink.name, uplink.mtu),
            format!("give {} an MTU of {MTU} or more (ip link set {} mtu 1500)", uplink.name, uplink.name),
        ),
        (Some(_), _) => {}
    }
    let has_agent = facts.mesh.as_ref().is_some_and(|mesh| mesh.agents.pods.iter().any(|pod| pod.node == *name));
    if !probe.ports_in_use.is_empty() && !has_agent {
        let ports: Vec<String> = probe.ports_in_use.iter().map(|port| format!("{port}/udp")).collect();
        found.fail(
            "ports",
            format!("node {name}: somebody else has {}", ports.join(", ")),
            "find who with `ss -ulnp` on the node; choose others in all clusters with agent.ports",
        );
    }
    if !probe.forwarding {
        found.fail(
            "forwarding",
            format!("node {name} forwards no packets (net.ipv4.ip_forward is 0)"),
            "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d",
        );
    }
}

fn wireguard(facts: &Facts, name: &str, probe: &Probe, found: &mut Findings) {
    let Some(why) = &probe.wireguard else { return };
    let text = format!("node {name} has no WireGuard in its kernel ({why})");
    match &facts.mesh {
        _ if !probe.tun => found.fail(
            "wireguard",
            format!("{text}, and no /dev/net/tun for one in a process"),
            "load a module: modprobe wireguard, or modprobe tun and set tunnel.enabled=true",
        ),
        Some(mesh) if mesh.has_userspace_tunnel => {}
        Some(_) => found.fail("wireguard", text, "meshctl upgrade --set tunnel.enabled=true"),
        None if facts.plans_userspace_tunnel => {}
        None => found.warn("wireguard", text, "install with --set tunnel.enabled=true"),
    }
}

/// What should be the same everywhere.
fn alike(nodes: &[Node], found: &mut Findings) {
    let probes = || nodes.iter().filter_map(|node| node.probe.as_ref()?.as_ref().ok().map(|probe| (node, probe)));
    let sizes: Vec<(&str, u32)> =
        probes().filter_map(|(node, probe)| Some((node.name.as_str(), probe.uplink.as_ref()?.mtu))).collect();
    let (least, most) = (sizes.iter().min_by_key(|(_, mtu)| *mtu), sizes.iter().max_by_key(|(_, mtu)| *mtu));
    if let (Some((small, least)), Some((large, most))) = (least, most)
        && least != most
    {
        found.warn(
            "mtu",
            format!("node {small} sends packets of up to {least} bytes and node {large} of up to {most}"),
            "give the uplinks of all nodes one MTU: large datagrams are lost between them otherwise",
        );
    }
    let silent: Vec<&str> =
        probes().filter(|(_, probe)| probe.kube_proxy.is_none()).map(|(node, _)| node.name.as_str()).collect();
    if silent.is_empty() {
        let modes: std::collections::BTreeSet<&str> =
            probes().filter_map(|(_, probe)| probe.kube_proxy.as_deref()).collect();
        let modes: Vec<&str> = modes.into_iter().collect();
        found.pass("kube-proxy", format!("mode {}", modes.join(", ")));
    } else {
        found.warn(
            "kube-proxy",
            format!("no kube-proxy answers on {}", silent.join(", ")),
            "where something else does its work, all is well; where not, Services have no backends there (kubectl -n kube-system \
             get pods)",
        );
    }
}

fn prefixes(facts: &Facts, nodes: &[Node], found: &mut Findings) {
    let named = facts.mesh.as_ref().is_some_and(|mesh| !mesh.pod_cidrs.is_empty());
    let without: Vec<&str> =
        nodes.iter().filter(|node| node.pod_cidrs.is_empty()).map(|node| node.name.as_str()).collect();
    if named || without.is_empty() {
        found.pass("pod-cidrs", "the prefixes of pods are known");
        return;
    }
    found.warn(
        "pod-cidrs",
        format!(
            "no pod prefix is known of {}: other clusters take only pods in prefixes that are declared",
            without.join(", ")
        ),
        "where the CNI takes addresses from pools of its own, name them: --set 'cluster.podCIDRs={PREFIX}'",
    );
}

/// `6.12.3-1-amd64` as its first two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
