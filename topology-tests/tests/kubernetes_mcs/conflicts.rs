//! Cases about two exports that disagree: the oldest is right in both clusters, and both exports say that they disagree.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::hello::{PORT, port};
use crate::imports::ports_of;
use crate::world::{Side, World};

/// How the two exports were made one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// In another second, so that the clocks tell which is the older.
    BySeconds,
    /// At once: in one second, most likely, in which the name of the cluster tells.
    ByNothing,
}

struct Export<'a> {
    side: Side<'a>,
    service: Value,
    spec: Value,
}

/// Exports twice, the first one first, and waits until both say that they conflict for these reasons.
fn conflict(older: &Export<'_>, younger: &Export<'_>, apart: Apart, reasons: &str) -> Result<()> {
    for export in [older, younger] {
        export.side.serve(&export.service)?;
    }
    older.side.export_with(&older.spec)?;
    if apart == Apart::BySeconds {
        older.side.export_is_older()?;
    }
    younger.side.export_with(&younger.spec)?;
    for export in [older, younger] {
        let condition = export.side.awaits_condition("Conflict", "True")?;
        ensure!(condition["reason"] == reasons, "{condition}");
    }
    Ok(())
}

fn plain(side: Side<'_>, service: Value) -> Export<'_> {
    Export { side, service, spec: json!({}) }
}

pub(crate) fn union_of_ports(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    let more = json!({ "ports": [port("tcp", "TCP", PORT), port("stcp", "SCTP", 142)] });
    conflict(&plain(a, json!({})), &plain(b, more), Apart::BySeconds, "PortConflict")?;
    let union =
        json!({ "spec": { "ports": [port("tcp", "TCP", 42), port("udp", "UDP", 42), port("stcp", "SCTP", 142)] } });
    for side in [a, b] {
        side.awaits_import("the union of ports", |import| ports_of(import) == ports_of(&union))?;
    }
    Ok(())
}

pub(crate) fn ports(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    // The older is in the cluster whose name comes last: only time tells.
    let [old, young] = [PORT + 1, PORT].map(|number| json!({ "ports": [port("tcp", "TCP", number)] }));
    conflict(&plain(b, old), &plain(a, young), Apart::BySeconds, "PortConflict")?;
    let right = json!({ "spec": { "ports": [port("tcp", "TCP", PORT + 1)] } });
    for side in [a, b] {
        side.awaits_import("the oldest's port", |import| ports_of(import) == ports_of(&right))?;
    }
    Ok(())
}

pub(crate) fn headlessness(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    let headless = json!({ "clusterIP": "None", "sessionAffinity": "None", "sessionAffinityConfig": null });
    let affinity = json!({ "sessionAffinity": "None", "sessionAffinityConfig": null });
    conflict(&plain(a, affinity), &plain(b, headless), Apart::BySeconds, "TypeConflict")?;
    for side in [a, b] {
        side.awaits_import("the oldest's type", |import| {
            import["spec"]["type"] == "ClusterSetIP" && import["spec"]["ips"][0].is_string()
        })?;
    }
    Ok(())
}

pub(crate) fn labels_and_annotations(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    let of = |side, value: &str| Export {
        side,
        service: json!({}),
        spec: json!({ "exportedLabels": { "dummy": value }, "exportedAnnotations": { "dummy": value } }),
    };
    conflict(&of(a, "a"), &of(b, "b"), Apart::ByNothing, "AnnotationsConflict,LabelsConflict")?;
    let told = |import: &Value| ["labels", "annotations"].map(|map| import["metadata"][map]["dummy"].clone());
    for side in [a, b] {
        side.awaits_import("the oldest's labels and annotations", |import| {
            told(import) == ["a", "a"].map(Value::from)
        })?;
    }
    Ok(())
}
