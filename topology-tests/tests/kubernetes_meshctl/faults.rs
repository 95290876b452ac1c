//! Faults, injected into real clusters one after the other and taken back: `meshctl check` must name each, with its remedy.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::cni::FOLDER;
use topology_tests::kubernetes::node::NodePart;
use topology_tests::kubernetes::workload::{Workload, global_service, manifests};
use topology_tests::{netns, proc};

use crate::world::{CLUSTERS, NAMESPACE, World};

const A: &str = CLUSTERS[0];
const B: &str = CLUSTERS[1];
/// From a fault to the state of an object that tells of it: a kubelet says how it is every few seconds.
const SEEN: Duration = Duration::from_mins(2);
const SET: &str = "statefulset/isthmus-mesh-apiserver";
const AGENTS: &str = "daemonset/isthmus-node-agent";

/// How one is looked for.
struct Fault<'a> {
    name: &'a str,
    check: &'a str,
    text: &'a str,
    remedy: &'a str,
}

impl Fault<'_> {
    fn is_in(&self, found: &[Value]) -> bool {
        found.iter().any(|finding| {
            let has = |field: &str, text: &str| finding[field].as_str().unwrap_or_default().contains(text);
            finding["check"] == self.check
                && finding["severity"] != "pass"
                && has("text", self.text)
                && has("remedy", self.remedy)
        })
    }

    /// Waits until a check of these clusters names it.
    fn named(&self, world: &World<'_>, clusters: &[&str], more: &[&str]) {
        self.named_by(|| world.check(clusters, more));
    }

    fn named_by(&self, check: impl Fn() -> Vec<Value>) {
        wait_for(&format!("{} to be named", self.name), SEEN, || {
            let found = check();
            if self.is_in(&found) {
                return Ok(Some(()));
            }
            let other: Vec<&Value> = found.iter().filter(|finding| finding["severity"] != "pass").collect();
            anyhow::bail!("{other:#?}")
        })
        .unwrap();
        println!("named: {}", self.name);
    }
}

const fn fault<'a>(name: &'a str, check: &'a str, text: &'a str, remedy: &'a str) -> Fault<'a> {
    Fault { name, check, text, remedy }
}

/// A command on a node.
fn on(world: &World<'_>, cluster: &str, node: &str, program: &str, args: &[&str]) {
    let place = world.run.cluster(cluster).unwrap().node(node).unwrap().place().unwrap();
    let mut command = place.command(program);
    command.args(args);
    proc::output(program, command).unwrap();
}

/// Gives how many were named.
pub(crate) fn before_install(world: &World<'_>) -> usize {
    let cgroup = topology_tests::names::cgroup_mount();
    let cgroup = cgroup.to_str().unwrap();
    let image = world.agent_image.as_str();
    let here = ["--image", image, "--cgroup", cgroup];
    let well = world.check(&CLUSTERS, &here);
    let faults: Vec<&Value> = well.iter().filter(|finding| finding["severity"] == "fail").collect();
    assert!(faults.is_empty(), "before an install: {faults:#?}");
    let mut named = 0;
    let mut one = |fault: &Fault<'_>, more: &[&str]| {
        fault.named(world, &[A], more);
        named += 1;
    };
    one(&fault("WireGuard missing", "wireguard", "no WireGuard in its kernel", "tunnel.enabled=true"), &here);
    // The machine's older hierarchy is mounted there: a folder that is no cgroup of version 2.
    one(
        &fault("cgroup2 missing", "cgroup2", "is no cgroup of version 2", "systemd.unified_cgroup_hierarchy=1"),
        &["--image", image, "--cgroup", "/sys/fs/cgroup"],
    );
    one(
        &fault("image missing", "probe", "could not be looked into", "--image"),
        &["--image", "localhost/no-such-image:1", "--cgroup", cgroup, "--probe-timeout", "10"],
    );
    on(world, A, "a1", "umount", &["-l", "/sys/fs/bpf"]);
    one(&fault("bpffs missing", "bpffs", "is no bpf file system", "mount -t bpf"), &here);
    on(world, A, "a1", "mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"]);
    let held = netns::within(&world.run.name.netns("a1"), || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 51881))?));
    one(&fault("port taken", "ports", "somebody else has 51881/udp", "ss -ulnp"), &here);
    drop(held.unwrap());
    on(world, A, "a1", "ip", &["link", "set", "eth0", "mtu", "1300"]);
    one(&fault("wrong MTU", "mtu", "carries packets of 1300 bytes", "mtu 1500"), &here);
    on(world, A, "a1", "ip", &["link", "set", "eth0", "mtu", "1500"]);
    on(world, A, "a1", "sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
    one(&fault("no forwarding", "forwarding", "forwards no packets", "net.ipv4.ip_forward=1"), &here);
    on(world, A, "a1", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    let node = world.run.cluster(A).unwrap().node("a2").unwrap();
    node.kill(NodePart::KubeProxy).unwrap();
    one(&fault("kube-proxy away", "kube-proxy", "no kube-proxy answers on a2", "kubectl"), &here);
    node.start_again(NodePart::KubeProxy).unwrap();
    named + credentials(world) + cni(world)
}

/// A kubeconfig with another user, or another server.
fn kubeconfig(world: &World<'_>, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let text = std::fs::read(&world.meshctl.kubeconfig).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    change(&mut config);
    let path = world.folder.path().join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

fn credentials(world: &World<'_>) -> usize {
    let by = |path: &Path, fault: &Fault<'_>| {
        let meshctl = world.meshctl.with_kubeconfig(path);
        let said = || meshctl.run(&["check", "-o", "json", "--context", A, "--no-probe"]);
        fault.named_by(|| said().json().as_array().unwrap().clone());
        assert_eq!(said().code, 2);
    };
    let claims = URL_SAFE_NO_PAD.encode(json!({ "exp": 1_700_000_000, "sub": "somebody" }).to_string());
    let expired = format!("{}.{claims}.c2ln", URL_SAFE_NO_PAD.encode("{}"));
    let path = kubeconfig(world, "expired", |config| config["users"][0]["user"] = json!({ "token": expired }));
    by(&path, &fault("expired token", "credentials", "token has expired", "log in again"));
    let away =
        kubeconfig(world, "away", |config| config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into());
    by(&away, &fault("API server away", "api", "cannot be reached", "kubectl --context"));
    // Somebody who may look at nodes, and do nothing else.
    let kubectl = world.kubectl(A);
    kubectl.run(&["create", "serviceaccount", "limited", "-n", "default"]).unwrap();
    kubectl.run(&["create", "clusterrole", "limited", "--verb=list", "--resource=nodes"]).unwrap();
    kubectl
        .run(&["create", "clusterrolebinding", "limited", "--clusterrole=limited", "--serviceaccount=default:limited"])
        .unwrap();
    let token = kubectl.run(&["create", "token", "limited", "-n", "default"]).unwrap();
    let path = kubeconfig(world, "limited", |config| config["users"][0]["user"] = json!({ "token": token.trim() }));
    by(&path, &fault("RBAC cut", "rbac", "may not update clusterpeerings.mesh.isthmus.io", "bound to you"));
    3
}

fn cni(world: &World<'_>) -> usize {
    let place = world.run.cluster(A).unwrap().node("a2").unwrap().place().unwrap();
    let folder = place.seen_from_outside(Path::new(FOLDER));
    let file = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).next().unwrap();
    let text = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    fault("CNI not ready", "cni", "node a2 has no network for pods", "CNI plugin").named(world, &[A], &["--no-probe"]);
    std::fs::write(&file, text).unwrap();
    world.kubectl(A).wait_nodes_ready(2, SEEN).unwrap();
    1
}

/// A definition of a kind, as small as Kubernetes takes one.
fn definition(group: &str, plural: &str, kind: &str) -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}"), "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/mcs-api",
        } },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "plural": plural, "kind": kind },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            } } }],
        },
    })
    .to_string()
}

/// An object as it can be made again after it was deleted.
fn anew(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    object.as_object_mut().unwrap().remove("status");
    object
}

/// Gives how many were named.
pub(crate) fn of_an_installed_mesh(world: &World<'_>) -> usize {
    let kubectl = world.kubectl(A);
    let mut named = 0;
    let mut one = |fault: &Fault<'_>, clusters: &[&str]| {
        fault.named(world, clusters, &["--no-probe"]);
        named += 1;
    };
    let own = |args: &[&str]| kubectl.run(&[&["-n", NAMESPACE], args].concat()).unwrap();

    own(&["label", "namespace", NAMESPACE, "--overwrite", "pod-security.kubernetes.io/enforce=baseline"]);
    one(&fault("pod security", "pod-security", "holds pods to baseline", "enforce=privileged"), &[A]);
    own(&["label", "namespace", NAMESPACE, "--overwrite", "pod-security.kubernetes.io/enforce=privileged"]);

    let peerings = "customresourcedefinition/clusterpeerings.mesh.isthmus.io";
    let definition_of_ours = kubectl.get(&[peerings]).unwrap();
    own(&["delete", peerings]);
    one(&fault("own CRD missing", "crd", "clusterpeerings.mesh.isthmus.io is missing", "meshctl upgrade"), &[A]);
    kubectl.apply(&anew(definition_of_ours).to_string()).unwrap();

    let crd = "multicluster.x-k8s.io";
    kubectl.apply(&definition(crd, "serviceexports", "ServiceExport")).unwrap();
    one(&fault("CRD missing", "crd", "serviceimports.multicluster.x-k8s.io is missing", "apply both CRDs"), &[A]);
    kubectl.apply(&definition(crd, "serviceimports", "ServiceImport")).unwrap();
    one(&fault("CoreDNS without multicluster", "coredns", "no `multicluster`", "configmap coredns"), &[A]);
    own(&["delete", "crd", "serviceexports.multicluster.x-k8s.io", "serviceimports.multicluster.x-k8s.io"]);

    own(&["patch", "service", "isthmus-mesh-apiserver", "-p", r#"{"spec":{"type":"LoadBalancer"}}"#]);
    one(&fault("load balancer without address", "service", "has no address", "NodePort"), &[A]);
    own(&["patch", "service", "isthmus-mesh-apiserver", "-p", r#"{"spec":{"type":"NodePort"}}"#]);

    // Its pods stay as they are: only what the release says changes.
    let b = world.kubectl(B);
    let of_b = |args: &[&str]| b.run(&[&["-n", NAMESPACE], args].concat()).unwrap();
    of_b(&[
        "patch",
        SET,
        "--type=merge",
        "-p",
        r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}"#,
    ]);
    of_b(&["set", "env", SET, "ISTHMUS_CLUSTER_ID=1"]);
    one(&fault("duplicate id", "id", "have the id 1", "another cluster.id"), &CLUSTERS);
    of_b(&["set", "env", SET, "ISTHMUS_CLUSTER_ID=2", "ISTHMUS_SERVICE_CIDR=10.9.0.0/16"]);
    one(
        &fault("wrong Service prefixes", "service-cidrs", "cluster.serviceCIDRs is 10.9.0.0/16", "meshctl upgrade"),
        &[B],
    );

    own(&["set", "image", AGENTS, "node-agent=localhost/no-such-image:1"]);
    one(&fault("image not there", "agents", "ErrImageNeverPull", "push or load"), &[A]);
    own(&["rollout", "undo", AGENTS]);
    kubectl.rolled_out(NAMESPACE, AGENTS, SEEN).unwrap();

    // Agents look at the paths to nodes that are in use.
    let web = global_service("web", &[("http", "TCP", 80, 8080)]);
    let pods = Workload { kind: "Deployment", name: "web", cluster: B, ports: "8080/TCP", replicas: 2 };
    kubectl.apply(&manifests([&web])).unwrap();
    b.apply(&manifests([&web, &pods.spread()])).unwrap();
    b.rolled_out("default", "deployment/web", SEEN).unwrap();
    let place = world.run.name.netns("cluster-a");
    let router = |action: &str| {
        let mut command = std::process::Command::new("ip");
        command.args([
            "netns", "exec", &place, "iptables", action, "FORWARD", "-p", "udp", "--dport", "51881", "-j", "DROP",
        ]);
        proc::output("iptables", command).unwrap();
    };
    router("-I");
    one(&fault("blocked port between nodes", "agents", "path to cluster-b/", "51881/udp must be open"), &[A]);
    let said = world.meshctl.run(&["connectivity", "test", A, B, "--wait", "1", "--answer-timeout", "1", "-o", "json"]);
    let rows = said.json()["rows"].as_array().unwrap().clone();
    let told = rows.iter().filter(|row| row["next"].as_str().unwrap_or_default().contains("open 51881/udp")).count();
    assert!(told > 0 && said.code == 2, "{rows:#?}");
    println!("named by the connectivity test: blocked port between nodes ({told} ways)");
    router("-D");
    named
}
