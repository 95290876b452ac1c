//! Volumes, which nobody provisions here: a folder on each node's own disk, which stays through its power cuts.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::super::cluster::Cluster;
use super::super::node::Node;

const FOLDER: &str = "/var/lib/isthmus-volume";
/// Who writes there: the user of the image.
const OWNER: u32 = 65532;

/// So many on each node: one is used by one install, and never by a later one.
pub fn offer(cluster: &Cluster, count: usize) -> Result<()> {
    for node in &cluster.nodes {
        for n in 1..=count {
            offer_one(cluster, node, n)?;
        }
    }
    Ok(())
}

fn offer_one(cluster: &Cluster, node: &Node, n: usize) -> Result<()> {
    let path = format!("{FOLDER}-{n}");
    let folder = node.place()?.seen_from_outside(Path::new(&path));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    std::os::unix::fs::chown(&folder, Some(OWNER), Some(OWNER))
        .with_context(|| format!("give {} away", folder.display()))?;
    let here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()] });
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("state-{}-{n}", node.name()) },
        "spec": {
            "capacity": { "storage": "4Gi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": { "path": path },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } },
        },
    });
    cluster.control_plane.kubectl.apply(&volume.to_string())
}
