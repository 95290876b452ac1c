//! Cases about `clusterset.local`, and the change of CoreDNS's settings that makes it answer for that zone (docs/mcs.md).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::coredns;
use topology_tests::kubernetes::kubectl::Kubectl;

use crate::hello::{NAME, PORT, headless};
use crate::world::{SEEN, SERVED, Side, World};

pub(crate) const CLUSTER_SET: &str = "clusterset.local";
const CLUSTER: &str = "cluster.local";

/// What docs/mcs.md says to do: the zone in both places of the plugin's block, and the right to see imports.
pub(crate) fn serve_the_cluster_set(kubectl: &Kubectl) -> Result<()> {
    let namespace = coredns::NAMESPACE;
    let map = kubectl.get(&["configmap", "coredns", "-n", namespace])?;
    let corefile = map["data"]["Corefile"].as_str().context("a Corefile")?;
    let changed = corefile.replacen(
        &format!("kubernetes {CLUSTER} in-addr.arpa {{"),
        &format!("kubernetes {CLUSTER} {CLUSTER_SET} in-addr.arpa {{\n        multicluster {CLUSTER_SET}"),
        1,
    );
    ensure!(changed != corefile, "{corefile}");
    let patch = json!({ "data": { "Corefile": changed } }).to_string();
    kubectl.run(&["patch", "configmap", "coredns", "-n", namespace, "--type=merge", "-p", &patch])?;
    let rule =
        json!({ "apiGroups": ["multicluster.x-k8s.io"], "resources": ["serviceimports"], "verbs": ["list", "watch"] });
    let patch = json!([{ "op": "add", "path": "/rules/-", "value": rule }]).to_string();
    kubectl.run(&["patch", "clusterrole", "system:coredns", "--type=json", "-p", &patch])?;
    kubectl.run(&["rollout", "restart", coredns::WORKLOAD, "-n", namespace])?;
    kubectl.rolled_out(namespace, coredns::WORKLOAD, SERVED)
}

/// The addresses of a name, as a pod is told; none where there is no such name.
pub(crate) fn addresses(side: &Side<'_>, name: &str) -> Result<BTreeSet<String>> {
    let said = side.sh(&format!("nslookup {name}."))?;
    // The first address is the server's.
    let lines = said.lines().skip_while(|line| !line.starts_with("Name:"));
    let mut found = BTreeSet::new();
    for line in lines {
        if let Some(address) = line.strip_prefix("Address:") {
            found.insert(address.trim().to_owned());
        }
    }
    if found.is_empty() && !said.contains("NXDOMAIN") && !said.contains("can't find") && !said.contains("No answer") {
        bail!("{}: {said}", side.cluster());
    }
    Ok(found)
}

/// Ports and targets of the SRV records of a name.
fn records(side: &Side<'_>, name: &str) -> Result<BTreeSet<(u16, String)>> {
    let said = side.sh(&format!("nslookup -type=srv {name}."))?;
    let record = |line: &str| {
        let words: Vec<&str> = line.split_once("service = ")?.1.split_whitespace().collect();
        let [_, _, port, target] = words[..] else { return None };
        Some((port.parse().ok()?, target.trim_end_matches('.').to_owned()))
    };
    Ok(said.lines().filter_map(record).collect())
}

fn exported<'w>(world: &'w World<'_>, namespace: &'w str) -> Result<[Side<'w>; 2]> {
    let [a, b] = world.sides(namespace);
    a.serve(&json!({}))?;
    a.export()?;
    Ok([a, b])
}

/// Waits until DNS says what it should.
fn says<T: PartialEq + std::fmt::Debug>(
    side: &Side<'_>,
    what: &str,
    want: &T,
    ask: impl Fn() -> Result<T>,
) -> Result<()> {
    wait_for(&format!("{}: {what}", side.cluster()), SERVED, || {
        let found = ask()?;
        if found == *want { Ok(Some(())) } else { bail!("{found:?}, and not {want:?}") }
    })
}

pub(crate) fn cluster_set_address(world: &World<'_>, namespace: &str) -> Result<()> {
    for side in exported(world, namespace)? {
        let import = side.awaits_import("an address", |import| import["spec"]["ips"][0].is_string())?;
        let ips = import["spec"]["ips"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let want: BTreeSet<String> = ips.map(str::to_owned).collect();
        says(&side, "the import's addresses", &want, || addresses(&side, &side.domain(CLUSTER_SET)))?;
    }
    Ok(())
}

pub(crate) fn service_records(world: &World<'_>, namespace: &str) -> Result<()> {
    for side in exported(world, namespace)? {
        let domain = side.domain(CLUSTER_SET);
        for port in ["_tcp._tcp", "_udp._udp"] {
            let want = BTreeSet::from([(PORT, domain.clone())]);
            says(&side, "an SRV record", &want, || records(&side, &format!("{port}.{domain}")))?;
        }
    }
    Ok(())
}

pub(crate) fn cluster_local(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = exported(world, namespace)?;
    for side in [a, b] {
        side.awaits_import("an address", |import| import["spec"]["ips"][0].is_string())?;
    }
    let service = a.find("service", NAME)?.context("no Service")?;
    let own = BTreeSet::from([service["spec"]["clusterIP"].as_str().context("no address")?.to_owned()]);
    says(&a, "the Service's own address", &own, || addresses(&a, &a.domain(CLUSTER)))?;
    let found = addresses(&b, &b.domain(CLUSTER))?;
    ensure!(found.is_empty(), "{}: {found:?}", b.cluster());
    Ok(())
}

/// Names and addresses.
type Pods = Vec<(String, String)>;

/// A headless Service of so many pods in the first cluster, exported, and the addresses and names of its endpoints.
fn endpoints<'w>(world: &'w World<'_>, namespace: &'w str, kind: &str, count: u32) -> Result<([Side<'w>; 2], Pods)> {
    let [a, b] = world.sides(namespace);
    a.serve(&headless())?;
    a.run(kind, count)?;
    a.export()?;
    let pods = wait_for("the endpoints", SEEN, || {
        let pods = a.pods()?;
        Ok((pods.len() == count as usize).then_some(pods))
    })?;
    Ok(([a, b], pods))
}

pub(crate) fn headless_addresses(world: &World<'_>, namespace: &str) -> Result<()> {
    let (sides, pods) = endpoints(world, namespace, "Deployment", 2)?;
    let want: BTreeSet<String> = pods.into_iter().map(|(_, ip)| ip).collect();
    for side in sides {
        says(&side, "all endpoints", &want, || addresses(&side, &side.domain(CLUSTER_SET)))?;
    }
    Ok(())
}

pub(crate) fn headless_names(world: &World<'_>, namespace: &str) -> Result<()> {
    let (sides, pods) = endpoints(world, namespace, "StatefulSet", 2)?;
    let exporter = sides[0].cluster().to_owned();
    for side in &sides {
        for (pod, ip) in &pods {
            let name = format!("{pod}.{exporter}.{}", side.domain(CLUSTER_SET));
            let want = BTreeSet::from([ip.clone()]);
            says(side, &format!("the address of {pod}"), &want, || addresses(side, &name))?;
        }
        // A cluster alone is no name.
        let found = addresses(side, &format!("{exporter}.{}", side.domain(CLUSTER_SET)))?;
        ensure!(found.is_empty(), "{}: {found:?}", side.cluster());
    }
    Ok(())
}

pub(crate) fn headless_records(world: &World<'_>, namespace: &str) -> Result<()> {
    let (sides, pods) = endpoints(world, namespace, "Deployment", 2)?;
    let exporter = sides[0].cluster().to_owned();
    for side in sides {
        let domain = side.domain(CLUSTER_SET);
        let target = |(_, ip): &(String, String)| (PORT, format!("{}.{exporter}.{domain}", ip.replace('.', "-")));
        let want: BTreeSet<(u16, String)> = pods.iter().map(target).collect();
        for port in ["_tcp._tcp", "_udp._udp"] {
            says(&side, "a record of each endpoint", &want, || records(&side, &format!("{port}.{domain}")))?;
        }
    }
    Ok(())
}
