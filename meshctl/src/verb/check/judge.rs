//! What facts mean: each fault by its name, with what to do. Pure: facts in, findings out.

use crate::verb::check::facts::{Asked, Facts, Right, Skew};
use crate::verb::check::finding::{Finding, Findings};

mod across;
mod mesh;
mod nodes;

#[cfg(test)]
mod tests;

pub(crate) use across::across;

/// The oldest that the chart's objects are of.
const KUBERNETES: (u32, u32) = (1, 29);
/// As the servers judge certificates and tokens.
const MAX_SKEW_SECONDS: u64 = 60;
const ENDS_SOON_HOURS: i64 = 24;

pub(crate) const PEERINGS: &str = "clusterpeerings.mesh.isthmus.io";
pub(crate) const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";
pub(crate) const IMPORTS: &str = "serviceimports.multicluster.x-k8s.io";

/// All that is to be said of one cluster, at this time.
pub(crate) fn judge(facts: &Facts, now: jiff::Timestamp) -> Vec<Finding> {
    let mut found = Findings::of(&facts.context);
    credentials(facts, now, &mut found);
    if let Some((why, remedy)) = &facts.unreachable {
        found.fail("api", why.clone(), remedy.clone());
        return found.all;
    }
    api(facts, &mut found);
    skew("clock", "the API server", facts.skew, &mut found);
    rights(&facts.rights, &mut found);
    nodes::judge(facts, &mut found);
    cluster(facts, &mut found);
    match &facts.mesh {
        Some(mesh) => mesh::judge(facts, mesh, &mut found),
        None => found.pass("mesh", "not installed yet: `meshctl install` does that"),
    }
    found.all
}

fn credentials(facts: &Facts, now: jiff::Timestamp, found: &mut Findings) {
    let Some((what, end)) = facts.credentials_end else { return };
    let left = end.duration_since(now).as_hours();
    let remedy =
        "log in again, or have it renewed (kubeadm certs renew, kind export kubeconfig, your provider's login)";
    if end <= now {
        found.fail("credentials", format!("the kubeconfig's {what} has expired at {end}"), remedy);
    } else if left < ENDS_SOON_HOURS && what == "client certificate" {
        found.warn("credentials", format!("the kubeconfig's {what} ends in {left} h, at {end}"), remedy);
    } else {
        found.pass("credentials", format!("the kubeconfig's {what} lasts until {end}"));
    }
}

fn api(facts: &Facts, found: &mut Findings) {
    match facts.kubernetes {
        Some((major, minor)) if (major, minor) < KUBERNETES => found.fail(
            "api",
            format!("Kubernetes {major}.{minor} is older than {}.{}", KUBERNETES.0, KUBERNETES.1),
            format!("upgrade the cluster to {}.{} or newer", KUBERNETES.0, KUBERNETES.1),
        ),
        Some((major, minor)) => found.pass("api", format!("Kubernetes {major}.{minor} answers")),
        None => found.warn("api", "the API server does not tell its version", "ask `kubectl version`"),
    }
}

/// The difference of a clock to this machine's.
pub(super) fn skew(check: &str, whose: &str, skew: Option<Skew>, found: &mut Findings) {
    let Some(skew) = skew else { return };
    let way = if skew.is_ahead { "ahead of" } else { "behind" };
    let text = format!("the clock of {whose} is {} s {way} this machine's", skew.by.as_secs());
    let remedy =
        "synchronise both with NTP (chronyc tracking, timedatectl): certificates and tokens are judged by the clock";
    match skew.by.as_secs() {
        seconds if seconds > MAX_SKEW_SECONDS => found.fail(check, text, remedy),
        seconds if seconds > MAX_SKEW_SECONDS / 2 => found.warn(check, text, remedy),
        _ => found.well_unless_said(check, "clocks agree"),
    }
}

fn rights(rights: &[Right], found: &mut Findings) {
    for right in rights.iter().filter(|right| !right.is_given) {
        let resource = match right.group {
            "" => right.resource.to_owned(),
            group => match right.resource.split_once('/') {
                Some((resource, sub)) => format!("{resource}.{group}/{sub}"),
                None => format!("{}.{group}", right.resource),
            },
        };
        let place = right.namespace.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
        found.fail(
            "rbac",
            format!("you may not {} {resource}{place}, which {} takes", right.verb, right.wanted_for),
            format!("have a role with {} on {resource}{place} bound to you (docs/meshctl-kubernetes.md)", right.verb),
        );
    }
    found.well_unless_said("rbac", "you may do all that meshctl does");
}

/// What is the whole cluster's and no part of the mesh.
fn cluster(facts: &Facts, found: &mut Findings) {
    if let Asked::Known(false) = facts.has_default_storage
        && facts.mesh.is_none()
    {
        found.warn(
            "storage",
            "there is no default StorageClass: mesh-apiserver would wait for its volume",
            "name one (apiserver.persistence.storageClass), or for a trial --set apiserver.persistence.enabled=false",
        );
    }
    let Some(crds) = facts.crds.known() else {
        found.warn("crd", refused(&facts.crds), "ask for the right to list customresourcedefinitions");
        return;
    };
    let has = |name: &str| crds.iter().any(|crd| crd == name);
    if facts.mesh.is_some() && !has(PEERINGS) {
        found.fail(
            "crd",
            format!("{PEERINGS} is missing: peerings that are objects count no more, and the next upgrade fails"),
            "`meshctl upgrade` makes it again (crds.install=true); where somebody else installs definitions: helm template \
             isthmus helm/isthmus -s templates/crds/clusterpeerings.yaml ... | kubectl apply -f -",
        );
    }
    match (has(EXPORTS), has(IMPORTS)) {
        (true, true) => multicluster_dns(facts, found),
        (false, false) => {}
        (exports, _) => found.warn(
            "crd",
            format!(
                "{} is missing, and the other half of the MCS API is there",
                if exports { IMPORTS } else { EXPORTS }
            ),
            "apply both CRDs of the MCS API (sigs.k8s.io/mcs-api)",
        ),
    }
    found.well_unless_said("crd", "definitions of objects are there, as far as they are used");
}

/// `clusterset.local` needs a word in the Corefile.
fn multicluster_dns(facts: &Facts, found: &mut Findings) {
    match &facts.corefile {
        Asked::Known(text) if !has_multicluster(text) => found.warn(
            "coredns",
            "CoreDNS does not answer for clusterset.local: its Corefile has no `multicluster`",
            "kubectl -n kube-system edit configmap coredns: add clusterset.local to the zones of `kubernetes` and \
             `multicluster clusterset.local` inside (docs/services.md), and give CoreDNS list and watch on serviceimports",
        ),
        Asked::Known(_) => found.pass("coredns", "answers for clusterset.local"),
        Asked::Absent => found.warn(
            "coredns",
            "there is no ConfigMap kube-system/coredns: this cluster's DNS is another's",
            "see that it answers for clusterset.local by ServiceImports",
        ),
        Asked::Refused(why) => found.warn("coredns", why.clone(), "ask for the right to get configmaps in kube-system"),
    }
}

fn has_multicluster(corefile: &str) -> bool {
    corefile.lines().map(str::trim).any(|line| line.split_whitespace().next() == Some("multicluster"))
}

fn refused<T>(asked: &Asked<T>) -> String {
    match asked {
        Asked::Refused(why) => why.clone(),
        _ => "it could not be asked".to_owned(),
    }
}
