//! Cases about imports of one export.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::hello::headless;
use crate::world::{SEEN, Side, World};
use topology_tests::deadline::wait_for;

/// How long what must not happen is watched for.
const WHILE: Duration = Duration::from_secs(5);

/// The Service in the first cluster, exported.
fn exported<'w>(world: &'w World<'_>, namespace: &'w str, changes: &Value) -> Result<[Side<'w>; 2]> {
    let [a, b] = world.sides(namespace);
    a.serve(changes)?;
    a.export()?;
    Ok([a, b])
}

pub(crate) fn only_while_exported(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = exported(world, namespace, &json!({}))?;
    a.awaits_import("an import", |_| true)?;
    b.serve(&json!({}))?;
    b.export()?;
    let clusters =
        |count| move |import: &Value| import["status"]["clusters"].as_array().is_some_and(|c| c.len() == count);
    a.awaits_import("an import of both", clusters(2))?;
    a.unexport()?;
    for side in [a, b] {
        side.awaits_import("an import of the other", clusters(1))?;
        side.stays(WHILE / 5, "the import of what one exports", |import| import.is_some())?;
    }
    b.unexport()?;
    [a, b].iter().try_for_each(Side::awaits_no_import)
}

pub(crate) fn of_a_cluster_ip(world: &World<'_>, namespace: &str) -> Result<()> {
    of_type(world, namespace, &json!({}), "ClusterSetIP")
}

pub(crate) fn of_a_headless(world: &World<'_>, namespace: &str) -> Result<()> {
    of_type(world, namespace, &headless(), "Headless")
}

fn of_type(world: &World<'_>, namespace: &str, changes: &Value, kind: &str) -> Result<()> {
    let [a, b] = exported(world, namespace, changes)?;
    a.awaits_condition("Valid", "True")?;
    for side in [a, b] {
        side.awaits_import("an import", |import| import["spec"]["type"] == kind)?;
    }
    a.unexport()?;
    [a, b].iter().try_for_each(Side::awaits_no_import)
}

/// A field of the Service's spec is that of both imports.
fn same(world: &World<'_>, namespace: &str, changes: &Value, fields: &[&str]) -> Result<()> {
    let [a, b] = exported(world, namespace, changes)?;
    let service = a.find("service", crate::hello::NAME)?.unwrap_or_default();
    for side in [a, b] {
        side.awaits_import(&format!("{fields:?} of the Service"), |import| {
            fields.iter().all(|field| import["spec"][field] == service["spec"][field])
        })?;
    }
    for field in fields {
        ensure!(!service["spec"][field].is_null(), "the Service has no {field}");
    }
    Ok(())
}

pub(crate) fn session_affinity(world: &World<'_>, namespace: &str) -> Result<()> {
    same(world, namespace, &json!({}), &["sessionAffinity", "sessionAffinityConfig"])
}

pub(crate) fn internal_traffic_policy(world: &World<'_>, namespace: &str) -> Result<()> {
    same(world, namespace, &json!({ "internalTrafficPolicy": "Local" }), &["internalTrafficPolicy"])
}

pub(crate) fn traffic_distribution(world: &World<'_>, namespace: &str) -> Result<()> {
    same(world, namespace, &json!({ "trafficDistribution": "PreferClose" }), &["trafficDistribution"])
}

pub(crate) fn addresses(world: &World<'_>, namespace: &str) -> Result<()> {
    for side in exported(world, namespace, &json!({}))? {
        let import = side.awaits_import("an address", |import| import["spec"]["ips"][0].is_string())?;
        let list = |field: &str| import["spec"][field].as_array().cloned().unwrap_or_default();
        let (ips, families) = (list("ips"), list("ipFamilies"));
        ensure!(ips.len() == families.len(), "{ips:?} and {families:?}");
        for (ip, family) in ips.iter().zip(&families) {
            let ip: std::net::IpAddr = ip.as_str().unwrap_or_default().parse()?;
            ensure!(*family == if ip.is_ipv4() { "IPv4" } else { "IPv6" }, "{ips:?} and {families:?}");
        }
        // An address of the importing cluster, which stays with the import.
        side.stays(WHILE / 5, "the same address", |now| {
            now.is_some_and(|now| now["spec"]["ips"] == import["spec"]["ips"])
        })?;
    }
    Ok(())
}

/// The ports of an import, in an order of their own, without what says how a cluster serves them.
pub(crate) fn ports_of(import: &Value) -> Vec<String> {
    let ports = import["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let mut told: Vec<String> =
        ports.iter().map(|port| format!("{} {} {}", port["name"], port["protocol"], port["port"])).collect();
    told.sort();
    told
}

pub(crate) fn ports(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = exported(world, namespace, &json!({}))?;
    let service = a.find("service", crate::hello::NAME)?.unwrap_or_default();
    for side in [a, b] {
        side.awaits_import("the Service's ports", |import| ports_of(import) == ports_of(&service))?;
    }
    Ok(())
}

pub(crate) fn headless_has_no_address(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = exported(world, namespace, &headless())?;
    for side in [a, b] {
        side.awaits_import("an import", |import| import["spec"]["type"] == "Headless")?;
    }
    let none = |import: Option<&Value>| import.is_some_and(|i| i["spec"]["ips"].as_array().is_none_or(Vec::is_empty));
    a.stays(WHILE, "no address", none)?;
    b.stays(WHILE / 5, "no address", none)
}

pub(crate) fn external_name(world: &World<'_>, namespace: &str) -> Result<()> {
    let nothing = json!({
        "type": "ExternalName", "externalName": "example.com", "ipFamilyPolicy": null, "sessionAffinity": "None",
        "sessionAffinityConfig": null,
    });
    let [a, b] = exported(world, namespace, &nothing)?;
    let condition = a.awaits_condition("Valid", "False")?;
    ensure!(condition["reason"] == "InvalidServiceType", "{condition}");
    for side in [a, b] {
        side.stays(WHILE / 2, "no import", |import| import.is_none())?;
    }
    Ok(())
}

pub(crate) fn labels_and_annotations(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    a.serve(&json!({}))?;
    a.export_with(&json!({ "exportedLabels": { "dummy": "true" }, "exportedAnnotations": { "dummy": "true" } }))?;
    for side in [a, b] {
        let import = side.awaits_import("what is exported", |import| {
            ["labels", "annotations"].iter().all(|map| import["metadata"][map]["dummy"] == "true")
        })?;
        for map in ["labels", "annotations"] {
            ensure!(import["metadata"][map].get("of").is_none(), "what the Service has itself: {}", import["metadata"]);
        }
    }
    Ok(())
}

pub(crate) fn slices(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = exported(world, namespace, &json!({}))?;
    a.run("Deployment", 1)?;
    let mut names = Vec::new();
    for side in [a, b] {
        let slice = wait_for(&format!("{}: a slice with an endpoint", side.cluster()), SEEN, || {
            Ok(side.slices()?.into_iter().find(|slice| slice["endpoints"][0]["addresses"][0].is_string()))
        })?;
        let labels = &slice["metadata"]["labels"];
        ensure!(labels["multicluster.kubernetes.io/source-cluster"] == "cluster-a", "{labels}");
        let manager = labels["endpointslice.kubernetes.io/managed-by"].as_str().unwrap_or_default();
        ensure!(!manager.is_empty() && manager != "endpointslice-controller.k8s.io", "{labels}");
        names.push(slice["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    }
    a.unexport()?;
    for (side, name) in [a, b].iter().zip(&names) {
        wait_for(&format!("{}: the slice to go", side.cluster()), SEEN, || {
            Ok(side.find("endpointslice", name)?.is_none().then_some(()))
        })?;
    }
    Ok(())
}
