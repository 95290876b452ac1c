//! The mesh where it is installed: its pods, its settings, and what it says of itself.

use crate::verb::check::facts::{Admin, Facts, Mesh, PodState, Workload};
use crate::verb::check::finding::Findings;

pub(super) fn judge(facts: &Facts, mesh: &Mesh, found: &mut Findings) {
    pod_security(mesh, found);
    workload("mesh-apiserver", &mesh.namespace, &mesh.servers, found);
    workload("agents", &mesh.namespace, &mesh.agents, found);
    without_agent(facts, mesh, found);
    service(mesh, found);
    service_prefixes(facts, mesh, found);
    versions(mesh, found);
    match &mesh.admin {
        Some(Ok(admin)) => admin_says(admin, found),
        Some(Err((why, remedy))) => {
            found.fail("admin", format!("the admin API cannot be asked: {why}"), remedy.clone());
        }
        None => {}
    }
}

fn pod_security(mesh: &Mesh, found: &mut Findings) {
    match mesh.pod_security.as_deref() {
        Some(level) if level != "privileged" => found.fail(
            "pod-security",
            format!(
                "namespace {} holds pods to {level}: agents, which work on the node itself, are refused",
                mesh.namespace
            ),
            format!(
                "kubectl label namespace {} --overwrite pod-security.kubernetes.io/enforce=privileged",
                mesh.namespace
            ),
        ),
        _ => found.pass("pod-security", "agents are allowed in their namespace"),
    }
}

fn workload(check: &str, namespace: &str, workload: &Workload, found: &mut Findings) {
    if !workload.exists {
        found.fail(check, format!("{namespace} has none"), "run `meshctl upgrade`: a part of the release is missing");
        return;
    }
    let before = found.all.len();
    for pod in workload.pods.iter().filter(|pod| !pod.is_ready) {
        let (text, remedy) = trouble(namespace, pod);
        found.fail(check, text, remedy);
    }
    let missing = usize::try_from(workload.wanted).unwrap_or(0).saturating_sub(workload.pods.len());
    if missing > 0 {
        found.fail(
            check,
            format!("{missing} of {} pods of {} were not made", workload.wanted, workload.name),
            format!("kubectl get events -n {namespace} --sort-by=.lastTimestamp says why"),
        );
    }
    if found.all.len() == before {
        found.pass(check, format!("{} of {} are ready, version {}", workload.ready, workload.wanted, workload.version));
    }
}

/// Kubernetes' own words for it, as something to do.
fn trouble(namespace: &str, pod: &PodState) -> (String, String) {
    let PodState { name, node, image, .. } = pod;
    let place = if node.is_empty() { String::new() } else { format!(" on {node}") };
    let Some((reason, message)) = &pod.trouble else {
        return (
            format!("pod {name}{place} is not ready"),
            format!(
                "kubectl logs -n {namespace} {name}: `not enrolled yet` says what it waits for, `none of ... exists` wants agent.podCgroups"
            ),
        );
    };
    let text = format!("pod {name}{place}: {reason}: {message}");
    let remedy = match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            format!(
                "push or load {image} where the node can have it, or name another: image.registry, image.tag, image.pullSecrets"
            )
        }
        "CrashLoopBackOff" | "Error" | "OOMKilled" => format!("kubectl logs -n {namespace} {name} --previous"),
        "Unschedulable" if message.contains("PersistentVolumeClaim") => {
            "give the cluster a default StorageClass or name one: apiserver.persistence.storageClass".to_owned()
        }
        "Unschedulable" => format!(
            "kubectl describe pod -n {namespace} {name}: free a node, or change its nodeSelector or tolerations"
        ),
        "CreateContainerConfigError" | "FailedMount" => {
            format!("kubectl describe pod -n {namespace} {name} names the object or folder that is missing")
        }
        _ => format!("kubectl describe pod -n {namespace} {name}"),
    };
    (text, remedy)
}

fn without_agent(facts: &Facts, mesh: &Mesh, found: &mut Findings) {
    let Some(nodes) = facts.nodes.known() else { return };
    let has = |name: &str| mesh.agents.pods.iter().any(|pod| pod.node == name);
    let without: Vec<&str> = nodes
        .iter()
        .filter(|node| node.os == "linux" && node.is_ready && !has(&node.name))
        .map(|node| node.name.as_str())
        .collect();
    if mesh.agents.exists && !without.is_empty() {
        found.warn(
            "agents",
            format!("no agent is on {}: its pods reach no other cluster", without.join(", ")),
            "see agent.nodeSelector and agent.tolerations",
        );
    }
}

fn service(mesh: &Mesh, found: &mut Findings) {
    match &mesh.service {
        None => found.fail("service", "mesh-apiserver has no Service", "run `meshctl upgrade`"),
        Some(service) if service.is_load_balancer && !service.has_address => found.fail(
            "service",
            format!("Service {} of type LoadBalancer has no address: other clusters do not reach it", service.name),
            "give the cluster a load balancer, or --set apiserver.service.type=NodePort",
        ),
        Some(_) => found.pass("service", "other clusters have a way to mesh-apiserver"),
    }
}

fn service_prefixes(facts: &Facts, mesh: &Mesh, found: &mut Findings) {
    let listed = |all: &[ipnet::IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let known = facts.service_cidrs.known().map(Vec::as_slice).unwrap_or_default();
    let known: Vec<_> = known.iter().filter(|prefix| prefix.addr().is_ipv4()).copied().collect();
    let wanted = if known.is_empty() { "PREFIX".to_owned() } else { listed(&known) };
    let remedy = format!("meshctl upgrade --set 'cluster.serviceCIDRs={{{wanted}}}', and connect anew");
    if mesh.service_cidrs.is_empty() {
        found.fail(
            "service-cidrs",
            "cluster.serviceCIDRs is empty: other clusters take none of this one's global Services",
            remedy,
        );
        return;
    }
    let outside: Vec<_> =
        known.iter().filter(|prefix| !mesh.service_cidrs.iter().any(|told| told.contains(*prefix))).copied().collect();
    if outside.is_empty() {
        found.pass("service-cidrs", format!("{} are declared", listed(&mesh.service_cidrs)));
    } else {
        found.fail(
            "service-cidrs",
            format!(
                "Services have addresses of {}, and cluster.serviceCIDRs is {}",
                listed(&outside),
                listed(&mesh.service_cidrs)
            ),
            remedy,
        );
    }
}

/// Each part's version beside meshctl's.
fn versions(mesh: &Mesh, found: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    let Some(Ok(admin)) = &mesh.admin else { return };
    let mut seen: Vec<(String, &str)> = vec![("mesh-apiserver".to_owned(), admin.version.as_str())];
    seen.extend(admin.agents.iter().map(|(node, version)| (format!("the agent on {node}"), version.as_str())));
    for (who, version) in seen {
        if version.is_empty() || version == own {
            continue;
        }
        let text = format!("{who} is of version {version}, and meshctl of {own}");
        if series(version) == series(own) {
            found.warn(
                "versions",
                text,
                "upgrade the older one: `meshctl upgrade`, or take the meshctl of the release",
            );
        } else {
            found.fail(
                "versions",
                text,
                "they do not understand each other: upgrade the older one (`meshctl upgrade`)",
            );
        }
    }
    found.well_unless_said("versions", format!("all are {own}"));
}

/// What may differ by one step only: the minor version before 1.0, the major one after.
fn series(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (Some(major), _) => major.to_owned(),
        (None, _) => String::new(),
    }
}

fn admin_says(admin: &Admin, found: &mut Findings) {
    for (object, text) in &admin.problems {
        let (check, remedy) = remedy(object, text);
        // An object that is left out takes nothing else with it.
        if text.starts_with("left out: ") {
            found.warn(check, format!("{object}: {text}"), remedy);
        } else {
            found.fail(check, format!("{object}: {text}"), remedy);
        }
    }
    found
        .well_unless_said("status", format!("mesh-apiserver finds nothing wrong; {} clusters are joined", admin.peers));
    found.well_unless_said("certificates", "none is due");
}

/// What to do about what a status says, by what it is about.
fn remedy(object: &str, text: &str) -> (&'static str, String) {
    match object {
        "certificates" => ("certificates", "meshctl certs status; meshctl certs rotate --leaf, or --ca".to_owned()),
        "source" => (
            "source",
            "it says what it may not: `meshctl upgrade` puts the chart's roles back; where the API server is away, bring it back"
                .to_owned(),
        ),
        "own side" => ("status", "this cluster's own way out is broken: look at its nodes' network first".to_owned()),
        "store" => ("store", "meshctl store status; kubectl get pods -n NAMESPACE for the replica that is away".to_owned()),
        _ if object.starts_with("peer ") => {
            let peer = &object["peer ".len()..];
            if text.contains("no path to any of its nodes") {
                ("peers", "51881/udp must be open between the nodes of both clusters (firewall, security groups)".to_owned())
            } else {
                ("peers", format!("meshctl troubleshoot {peer}"))
            }
        }
        _ if object.starts_with("agent ") => {
            let node = &object["agent ".len()..];
            let remedy = match text {
                text if text.starts_with("path to ") => {
                    "51881/udp must be open between these nodes (firewall, security groups)".to_owned()
                }
                text if text.contains("tunnel is down") => {
                    "WireGuard is missing on it: modprobe wireguard, or --set tunnel.enabled=true".to_owned()
                }
                _ => format!("kubectl logs of the agent on {node}"),
            };
            ("agents", remedy)
        }
        _ => ("objects", "correct the object; `meshctl status` has all of them".to_owned()),
    }
}
