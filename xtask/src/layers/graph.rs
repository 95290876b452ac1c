//! The dependency graph, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::repo::{self, Repo};

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_members: Vec<String>,
    resolve: Option<Resolve>,
}

#[derive(Debug, Deserialize)]
struct RawPackage {
    id: String,
    name: String,
    dependencies: Vec<RawDependency>,
}

#[derive(Debug, Deserialize)]
struct RawDependency {
    name: String,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeEdge>,
}

#[derive(Debug, Deserialize)]
struct NodeEdge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// A package of the workspace with what its manifest names.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) is_dev: bool,
}

/// Members with their direct dependencies, and the normal edges between all packages.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) members: Vec<Package>,
    ids: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    pub(super) fn read(repo: &Repo) -> Result<Self> {
        let mut command = repo.cargo_command();
        Self::parse(&repo::stdout(command.args(["metadata", "--format-version", "1"]))?)
    }

    pub(super) fn parse(json: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(json).context("cargo metadata is not what was expected")?;
        let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (p.id.clone(), p.name.clone())).collect();
        let is_member = |p: &RawPackage| metadata.workspace_members.contains(&p.id);
        let ids = metadata.packages.iter().filter(|p| is_member(p)).map(|p| (p.name.clone(), p.id.clone())).collect();
        let normal = |edge: &NodeEdge| edge.dep_kinds.iter().any(|k| k.kind.is_none());
        let nodes = metadata.resolve.context("cargo metadata has no resolve graph")?.nodes;
        let edges = nodes
            .into_iter()
            .map(|node| (node.id, node.deps.into_iter().filter(normal).map(|edge| edge.pkg).collect()))
            .collect();
        let dependency = |d: RawDependency| Dependency { is_dev: d.kind.as_deref() == Some("dev"), name: d.name };
        let members = metadata
            .packages
            .into_iter()
            .filter(|p| metadata.workspace_members.contains(&p.id))
            .map(|p| Package { name: p.name, dependencies: p.dependencies.into_iter().map(dependency).collect() })
            .collect();
        Ok(Self { members, ids, names, edges })
    }

    pub(super) fn is_member(&self, name: &str) -> bool {
        self.ids.contains_key(name)
    }

    /// Names of all crates that a member needs at run time, directly or not.
    pub(super) fn reaches(&self, member: &str) -> BTreeSet<String> {
        let mut todo: Vec<&String> = self.ids.get(member).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        seen.into_iter().map(|id| self.names.get(id).unwrap_or(id).clone()).collect()
    }
}
