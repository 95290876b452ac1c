//! Every fault, injected into the facts of a cluster that is well: it is named, and its remedy with it.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::verb::check::facts::{Admin, Mesh, Node, PodState, Probe, Service, Uplink, Workload};
use crate::verb::preflight::Severity;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

const NOW: i64 = 1_800_000_000;

/// Two nodes, the mesh installed, and nothing wrong.
fn well() -> Facts {
    let node = |name: &str, prefix: &str| Node {
        name: name.to_owned(),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        kernel: "6.12.3-1-amd64".to_owned(),
        is_ready: true,
        pod_cidrs: vec![prefix.parse().unwrap()],
        probe: Some(Ok(Probe {
            uplink: Some(Uplink { name: "eth0".to_owned(), mtu: 1500 }),
            tun: true,
            forwarding: true,
            kube_proxy: Some("nftables".to_owned()),
            ..Probe::default()
        })),
        ..Node::default()
    };
    let pod = |name: &str, node: &str| PodState {
        name: name.to_owned(),
        node: node.to_owned(),
        is_ready: true,
        trouble: None,
        image: "r/x:1".to_owned(),
    };
    let workload = |name: &str, pods: Vec<PodState>| {
        let count = i32::try_from(pods.len()).unwrap();
        Workload { name: name.to_owned(), exists: true, wanted: count, ready: count, version: "0.1.0".to_owned(), pods }
    };
    let mesh = Mesh {
        namespace: "isthmus".to_owned(),
        cluster: "a".to_owned(),
        id: Some(1),
        service_cidrs: vec!["10.101.0.0/16".parse().unwrap()],
        pod_security: Some("privileged".to_owned()),
        servers: workload("s", vec![pod("s-1", "a1")]),
        agents: workload("n", vec![pod("n-1", "a1"), pod("n-2", "a2")]),
        service: Some(Service { name: "s".to_owned(), is_load_balancer: false, has_address: false }),
        admin: Some(Ok(Admin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agents: vec![("a1".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
            ..Admin::default()
        })),
        ..Mesh::default()
    };
    Facts {
        context: "kind-a".to_owned(),
        kubernetes: Some((1, 37)),
        skew: Some(Skew { by: Duration::ZERO, is_ahead: true }),
        credentials_end: Some(("client certificate", at(NOW + 90 * 86_400))),
        rights: vec![right(true)],
        nodes: Asked::Known(vec![node("a1", "10.1.1.0/24"), node("a2", "10.1.2.0/24")]),
        service_cidrs: Asked::Known(vec!["10.101.0.0/16".parse().unwrap()]),
        crds: Asked::Known([PEERINGS, EXPORTS, IMPORTS].map(str::to_owned).to_vec()),
        corefile: Asked::Known(
            "kubernetes cluster.local clusterset.local {\n  multicluster clusterset.local\n}".to_owned(),
        ),
        has_default_storage: Asked::Known(true),
        mesh: Some(mesh),
        ..Facts::default()
    }
}

fn right(is_given: bool) -> Right {
    Right {
        verb: "create",
        group: "",
        resource: "pods/portforward",
        namespace: Some("isthmus".to_owned()),
        is_given,
        wanted_for: "reaching mesh-apiserver",
    }
}

fn nodes(facts: &mut Facts) -> &mut Vec<Node> {
    let Asked::Known(nodes) = &mut facts.nodes else { panic!("known") };
    nodes
}

fn probe(facts: &mut Facts) -> &mut Probe {
    let Some(Ok(probe)) = &mut nodes(facts)[0].probe else { panic!("it was looked into") };
    probe
}

fn mesh(facts: &mut Facts) -> &mut Mesh {
    facts.mesh.as_mut().unwrap()
}

fn admin(facts: &mut Facts) -> &mut Admin {
    let Some(Ok(admin)) = &mut mesh(facts).admin else { panic!("it answers") };
    admin
}

fn not_running(facts: &mut Facts, reason: &str, message: &str) {
    let pod = &mut mesh(facts).servers.pods[0];
    pod.is_ready = false;
    pod.trouble = Some((reason.to_owned(), message.to_owned()));
}

/// A change, the check that names it, words of the text.
type Case = (fn(&mut Facts), &'static str, &'static str);

/// Name of the check, how severe, words of the text, words of the remedy.
type Row = (&'static str, fn(&mut Facts), &'static str, Severity, &'static str, &'static str);

const FAULTS: &[Row] = {
    use Severity::{Fail, Warn};
    &[
        (
            "API server away",
            |f| f.unreachable = Some(("cannot be reached".into(), "kubectl version".into())),
            "api",
            Fail,
            "cannot be reached",
            "kubectl version",
        ),
        (
            "old Kubernetes",
            |f| f.kubernetes = Some((1, 28)),
            "api",
            Fail,
            "1.28 is older than 1.29",
            "upgrade the cluster",
        ),
        (
            "expired certificate",
            |f| f.credentials_end = Some(("client certificate", at(NOW - 1))),
            "credentials",
            Fail,
            "client certificate has expired",
            "log in again",
        ),
        (
            "expired token",
            |f| f.credentials_end = Some(("token", at(NOW - 1))),
            "credentials",
            Fail,
            "token has expired",
            "log in again",
        ),
        (
            "certificate ends soon",
            |f| f.credentials_end = Some(("client certificate", at(NOW + 7200))),
            "credentials",
            Warn,
            "ends in 2 h",
            "log in again",
        ),
        (
            "clock of the API server",
            |f| f.skew = Some(Skew { by: Duration::from_mins(2), is_ahead: false }),
            "clock",
            Fail,
            "the API server is 120 s behind",
            "NTP",
        ),
        (
            "clock of a node",
            |f| nodes(f)[1].skew = Some(Skew { by: Duration::from_secs(45), is_ahead: true }),
            "clock",
            Warn,
            "node a2 is 45 s ahead",
            "NTP",
        ),
        (
            "RBAC cut",
            |f| f.rights = vec![right(false)],
            "rbac",
            Fail,
            "may not create pods/portforward in isthmus",
            "bound to you",
        ),
        (
            "CNI not ready",
            |f| {
                nodes(f)[0].is_ready = false;
                nodes(f)[0].ready_message =
                    "container runtime network not ready: NetworkPluginNotReady message:Network plugin returns error"
                        .into();
            },
            "cni",
            Fail,
            "node a1 has no network for pods",
            "repair the CNI plugin",
        ),
        (
            "kubelet away",
            |f| {
                nodes(f)[0].is_ready = false;
                nodes(f)[0].ready_message = "Kubelet stopped posting node status.".into();
            },
            "nodes",
            Fail,
            "node a1 is not ready: Kubelet stopped",
            "journalctl -u kubelet",
        ),
        ("no node", |f| nodes(f).clear(), "nodes", Fail, "has no node", "add nodes"),
        ("old kernel", |f| nodes(f)[0].kernel = "5.15.0-91".into(), "kernel", Fail, "5.15.0-91", "6.6 or newer"),
        (
            "strange architecture",
            |f| nodes(f)[0].architecture = "s390x".into(),
            "nodes",
            Fail,
            "s390x",
            "amd64 or arm64",
        ),
        (
            "no cgroup2",
            |f| probe(f).cgroup = Some("/host/cgroup/kubepods is no cgroup of version 2".into()),
            "cgroup2",
            Fail,
            "node a1: /host/cgroup/kubepods",
            "systemd.unified_cgroup_hierarchy=1",
        ),
        (
            "no bpffs",
            |f| probe(f).bpffs = Some("/sys/fs/bpf is no bpf file system".into()),
            "bpffs",
            Fail,
            "no bpf file system",
            "mount -t bpf",
        ),
        (
            "BPF kept back",
            |f| probe(f).bpf_missing = vec!["programs of type sched_cls: Operation not permitted".into()],
            "bpf",
            Fail,
            "Operation not permitted",
            "CAP_BPF",
        ),
        (
            "no WireGuard",
            |f| probe(f).wireguard = Some("not supported".into()),
            "wireguard",
            Fail,
            "no WireGuard in its kernel",
            "tunnel.enabled=true",
        ),
        (
            "no WireGuard, no tun",
            |f| {
                probe(f).wireguard = Some("not supported".into());
                probe(f).tun = false;
            },
            "wireguard",
            Fail,
            "no /dev/net/tun",
            "modprobe",
        ),
        (
            "no uplink",
            |f| {
                probe(f).uplink = None;
                probe(f).uplink_error = Some("no default route names a device".into());
            },
            "uplink",
            Fail,
            "no default route",
            "agent.uplink",
        ),
        (
            "wrong MTU",
            |f| probe(f).uplink = Some(Uplink { name: "eth0".into(), mtu: 1300 }),
            "mtu",
            Fail,
            "eth0 carries packets of 1300 bytes",
            "mtu 1500",
        ),
        (
            "two MTUs",
            |f| probe(f).uplink = Some(Uplink { name: "eth0".into(), mtu: 9000 }),
            "mtu",
            Warn,
            "node a1 of up to 9000",
            "one MTU",
        ),
        (
            "port taken",
            |f| {
                probe(f).ports_in_use = vec![51881];
                mesh(f).agents.pods.remove(0);
            },
            "ports",
            Fail,
            "somebody else has 51881/udp",
            "ss -ulnp",
        ),
        (
            "no forwarding",
            |f| probe(f).forwarding = false,
            "forwarding",
            Fail,
            "forwards no packets",
            "net.ipv4.ip_forward=1",
        ),
        (
            "no kube-proxy",
            |f| probe(f).kube_proxy = None,
            "kube-proxy",
            Warn,
            "no kube-proxy answers on a1",
            "kubectl -n kube-system",
        ),
        (
            "pod that looks does not run",
            |f| nodes(f)[0].probe = Some(Err("ErrImageNeverPull: x".into())),
            "probe",
            Fail,
            "node a1 could not be looked into: ErrImageNeverPull",
            "--image",
        ),
        (
            "no pod prefix",
            |f| nodes(f)[0].pod_cidrs.clear(),
            "pod-cidrs",
            Warn,
            "no pod prefix is known of a1",
            "cluster.podCIDRs",
        ),
        (
            "CRD missing",
            |f| f.crds = Asked::Known(vec![EXPORTS.into(), IMPORTS.into()]),
            "crd",
            Fail,
            "clusterpeerings.mesh.isthmus.io is missing",
            "meshctl upgrade",
        ),
        (
            "half of the MCS API",
            |f| f.crds = Asked::Known(vec![PEERINGS.into(), EXPORTS.into()]),
            "crd",
            Warn,
            "serviceimports.multicluster.x-k8s.io is missing",
            "apply both CRDs",
        ),
        (
            "CoreDNS without multicluster",
            |f| f.corefile = Asked::Known("kubernetes cluster.local".into()),
            "coredns",
            Warn,
            "no `multicluster`",
            "edit configmap coredns",
        ),
        (
            "pod security",
            |f| mesh(f).pod_security = Some("baseline".into()),
            "pod-security",
            Fail,
            "holds pods to baseline",
            "enforce=privileged",
        ),
        (
            "image not there",
            |f| not_running(f, "ErrImageNeverPull", "r/x:1 is not present"),
            "mesh-apiserver",
            Fail,
            "pod s-1 on a1: ErrImageNeverPull",
            "push or load r/x:1",
        ),
        (
            "crash loop",
            |f| not_running(f, "CrashLoopBackOff", "back-off 10s"),
            "mesh-apiserver",
            Fail,
            "CrashLoopBackOff",
            "logs -n isthmus s-1 --previous",
        ),
        (
            "no volume",
            |f| not_running(f, "Unschedulable", "pod has unbound immediate PersistentVolumeClaims"),
            "mesh-apiserver",
            Fail,
            "unbound",
            "StorageClass",
        ),
        (
            "agent that is not enrolled",
            |f| mesh(f).agents.pods[1].is_ready = false,
            "agents",
            Fail,
            "pod n-2 on a2 is not ready",
            "not enrolled yet",
        ),
        (
            "pods not made",
            |f| mesh(f).agents.wanted = 3,
            "agents",
            Fail,
            "1 of 3 pods of n were not made",
            "get events",
        ),
        (
            "node without agent",
            |f| {
                mesh(f).agents.pods.remove(1);
                mesh(f).agents.wanted = 1;
            },
            "agents",
            Warn,
            "no agent is on a2",
            "agent.tolerations",
        ),
        ("agents deleted", |f| mesh(f).agents.exists = false, "agents", Fail, "has none", "meshctl upgrade"),
        (
            "load balancer without address",
            |f| mesh(f).service = Some(Service { name: "s".into(), is_load_balancer: true, has_address: false }),
            "service",
            Fail,
            "has no address",
            "service.type=NodePort",
        ),
        ("Service deleted", |f| mesh(f).service = None, "service", Fail, "no Service", "meshctl upgrade"),
        (
            "no Service prefixes",
            |f| mesh(f).service_cidrs.clear(),
            "service-cidrs",
            Fail,
            "cluster.serviceCIDRs is empty",
            "{10.101.0.0/16}",
        ),
        (
            "wrong Service prefixes",
            |f| mesh(f).service_cidrs = vec!["10.9.0.0/16".parse().unwrap()],
            "service-cidrs",
            Fail,
            "have addresses of 10.101.0.0/16",
            "cluster.serviceCIDRs",
        ),
        (
            "old server",
            |f| admin(f).version = "0.0.9".into(),
            "versions",
            Fail,
            "mesh-apiserver is of version 0.0.9",
            "meshctl upgrade",
        ),
        (
            "other patch of an agent",
            |f| admin(f).agents[0].1 = "0.1.99".into(),
            "versions",
            Warn,
            "the agent on a1 is of version 0.1.99",
            "meshctl upgrade",
        ),
        (
            "admin API away",
            |f| mesh(f).admin = Some(Err(("nobody answers".into(), "look".into()))),
            "admin",
            Fail,
            "nobody answers",
            "look",
        ),
        (
            "source without rights",
            |f| admin(f).problems = vec![("source".into(), "not followed for 5s: may not watch pods".into())],
            "source",
            Fail,
            "may not watch pods",
            "meshctl upgrade",
        ),
        (
            "certificate expired",
            |f| admin(f).problems = vec![("certificates".into(), "server of replica 1 expired".into())],
            "certificates",
            Fail,
            "expired",
            "certs rotate",
        ),
        (
            "blocked port between nodes",
            |f| admin(f).problems = vec![("agent a1".into(), "path to b/b1 (172.30.2.11) is down for 9s".into())],
            "agents",
            Fail,
            "path to b/b1",
            "51881/udp must be open",
        ),
        (
            "peer stale",
            |f| admin(f).problems = vec![("peer b".into(), "Stale for 20s".into())],
            "peers",
            Fail,
            "Stale",
            "meshctl troubleshoot b",
        ),
        (
            "malformed object",
            |f| admin(f).problems = vec![("Service x/y".into(), "left out: port".into())],
            "objects",
            Warn,
            "Service x/y: left out",
            "correct the object",
        ),
        (
            "tunnel down",
            |f| admin(f).problems = vec![("agent a1".into(), "its tunnel is down: packets".into())],
            "agents",
            Fail,
            "tunnel is down",
            "modprobe wireguard",
        ),
    ]
};

#[test]
fn a_cluster_that_is_well_has_no_line_that_is_not_a_pass() {
    let found = judge(&well(), at(NOW));
    let other: Vec<_> = found.iter().filter(|finding| finding.severity != Severity::Pass).collect();
    assert!(other.is_empty(), "{other:#?}");
    for check in ["api", "rbac", "cgroup2", "bpffs", "bpf", "mtu", "kube-proxy", "coredns", "service-cidrs", "versions"]
    {
        assert!(found.iter().any(|finding| finding.check == check), "{check} is not looked at");
    }
}

#[test]
fn each_fault_alone_is_named_with_its_remedy() {
    for (fault, inject, check, severity, text, remedy) in FAULTS {
        let mut facts = well();
        inject(&mut facts);
        let found = judge(&facts, at(NOW));
        let named = found.iter().any(|finding| {
            finding.check == *check
                && finding.severity == *severity
                && finding.text.contains(text)
                && finding.remedy.contains(remedy)
        });
        let other: Vec<_> = found.iter().filter(|finding| finding.severity != Severity::Pass).collect();
        assert!(named, "{fault}: {other:#?}");
        assert!(other.iter().all(|finding| !finding.remedy.is_empty()), "{fault} has no remedy: {other:#?}");
    }
}

#[test]
fn before_an_install_what_would_be_missing_is_said() {
    let mut facts = well();
    facts.mesh = None;
    facts.has_default_storage = Asked::Known(false);
    probe(&mut facts).wireguard = Some("not supported".to_owned());
    let found = judge(&facts, at(NOW));
    let warned: Vec<&str> = found
        .iter()
        .filter(|finding| finding.severity == Severity::Warn)
        .map(|finding| finding.check.as_str())
        .collect();
    assert_eq!(warned, ["wireguard", "storage"]);
    assert!(found.iter().all(|finding| finding.severity != Severity::Fail), "{found:#?}");
    facts.plans_userspace_tunnel = true;
    let found = judge(&facts, at(NOW));
    assert!(
        found.iter().all(|finding| finding.check != "wireguard" || finding.severity == Severity::Pass),
        "{found:#?}"
    );
}

#[test]
fn what_two_clusters_must_not_share_is_named() {
    let other = |change: fn(&mut Facts)| {
        let mut facts = well();
        facts.context = "kind-b".to_owned();
        mesh(&mut facts).cluster = "b".to_owned();
        mesh(&mut facts).id = Some(2);
        nodes(&mut facts)[0].pod_cidrs = vec!["10.2.1.0/24".parse().unwrap()];
        nodes(&mut facts)[1].pod_cidrs = vec!["10.2.2.0/24".parse().unwrap()];
        facts.service_cidrs = Asked::Known(vec!["10.102.0.0/16".parse().unwrap()]);
        change(&mut facts);
        across(&[well(), facts]).into_iter().filter(|finding| finding.severity != Severity::Pass).collect::<Vec<_>>()
    };
    assert_eq!(other(|_| {}), []);
    let cases: [Case; 4] = [
        (|f| mesh(f).id = Some(1), "id", "kind-a and kind-b have the id 1"),
        (|f| mesh(f).cluster = "a".to_owned(), "name", "have the name \"a\""),
        (|f| nodes(f)[0].pod_cidrs = vec!["10.1.0.0/16".parse().unwrap()], "pod-cidrs", "10.1.0.0/16 of kind-b"),
        (|f| f.service_cidrs = Asked::Known(vec!["10.101.0.0/24".parse().unwrap()]), "service-cidrs", "in common"),
    ];
    for (change, check, text) in cases {
        let found = other(change);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].check == check && found[0].text.contains(text) && !found[0].remedy.is_empty(), "{found:#?}");
    }
}
