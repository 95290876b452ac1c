//! What the background process of a lab writes down, for other processes to find their way: one file, replaced at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::control_plane::PodRecord;
use crate::lab::Lab;
use crate::mesh::Mesh;
use crate::names::LabName;
use crate::place::Place;
use crate::topology::Topology;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Starting,
    Ready,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) name: LabName,
    pub(super) phase: Phase,
    pub(super) topology: Topology,
    pub(super) nodes: BTreeMap<String, Place>,
    pub(super) pods: Vec<PodRecord>,
    pub(super) processes: Vec<RunningProcess>,
    pub(super) meshctl_config: Option<PathBuf>,
    pub(super) logs: PathBuf,
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunningProcess {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) is_alive: bool,
}

impl Snapshot {
    pub(super) fn of(lab: &Lab, mesh: Option<&Mesh>, phase: Phase) -> Self {
        let processes = mesh.map(Mesh::processes).unwrap_or_default();
        Self {
            name: lab.name.clone(),
            phase,
            topology: lab.topology.clone(),
            nodes: lab.nodes().map(|node| (node.name().to_owned(), node.place.clone())).collect(),
            pods: lab.pods(),
            processes: processes
                .into_iter()
                .map(|(name, pid, is_alive)| RunningProcess { name, pid, is_alive })
                .collect(),
            meshctl_config: mesh.map(|mesh| mesh.config().to_owned()),
            logs: lab.logs().to_owned(),
            problems: lab.problems(),
        }
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = file(&self.name);
        let half = path.with_extension("half");
        std::fs::write(&half, serde_json::to_vec(self)?).with_context(|| format!("write {}", half.display()))?;
        std::fs::rename(&half, &path).with_context(|| format!("publish {}", path.display()))
    }

    pub(super) fn read(lab: &LabName) -> Result<Self> {
        let path = file(lab);
        let text = std::fs::read(&path).with_context(|| format!("lab {lab} is not running (no {})", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }
}

fn file(lab: &LabName) -> PathBuf {
    Path::new(&lab.state_dir()).join("snapshot.json")
}
