//! What is linked into a program: the packages that cargo's lock file resolves for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::repo::{self, Repo};

/// A package of the dependency graph.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    pub(super) license_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) authors: Vec<String>,
    pub(super) manifest_path: PathBuf,
    /// `None`: part of this workspace.
    pub(super) source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    /// `None`: an ordinary dependency.
    kind: Option<String>,
}

/// A part that no lock file names: the C library and Rust's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toolchain {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) license: &'static str,
}

/// The packages, what each is linked with, and the hashes that the lock file holds.
#[derive(Debug)]
pub(super) struct Graph {
    packages: BTreeMap<String, Package>,
    uses: BTreeMap<String, Vec<String>>,
    hashes: BTreeMap<(String, String), String>,
    pub(super) toolchain: Vec<Toolchain>,
}

impl Graph {
    pub(super) fn read(repo: &Repo) -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = repo::stdout(repo.command(rustc).arg("-vV"))?;
        let of = |field: &str| version.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        let host = of("host:").context("rustc does not say for which machine it builds")?;
        let rust = of("release:").context("rustc does not say its version")?;
        let mut command = repo.cargo_command();
        command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", host]);
        let metadata = repo::stdout(&mut command)?;
        let lock = std::fs::read_to_string(repo.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        let toolchain = vec![
            Toolchain { name: "glibc", version: glibc(repo)?, license: "LGPL-2.1-or-later" },
            Toolchain { name: "rust-std", version: rust.to_owned(), license: "MIT OR Apache-2.0" },
        ];
        Self::parse(&metadata, &lock, toolchain)
    }

    pub(super) fn parse(metadata: &str, lock: &str, toolchain: Vec<Toolchain>) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata")?;
        let is_linked = |dependency: &Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let uses = metadata.resolve.nodes.into_iter().map(|node| {
            let linked = node.deps.into_iter().filter(is_linked).map(|dependency| dependency.pkg);
            (node.id, linked.collect())
        });
        Ok(Self {
            uses: uses.collect(),
            packages: metadata.packages.into_iter().map(|package| (package.id.clone(), package)).collect(),
            hashes: hashes(lock),
            toolchain,
        })
    }

    /// All packages in the programs of `roots`, sorted by name. Those that only run while others are built are left out.
    pub(super) fn linked(&self, roots: impl IntoIterator<Item = &'static str>) -> Result<Vec<&Package>> {
        let mut found = BTreeSet::new();
        let mut open = Vec::new();
        for root in roots {
            let own = self.packages.values().find(|package| package.name == root && package.source.is_none());
            open.push(&own.with_context(|| format!("there is no package {root}"))?.id);
        }
        while let Some(id) = open.pop() {
            let package = self.package(id)?;
            if !package.runs_in_compiler() && found.insert(id) {
                open.extend(self.uses(package));
            }
        }
        let mut packages = found.into_iter().map(|id| self.package(id)).collect::<Result<Vec<_>>>()?;
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(packages)
    }

    /// Ids of what a package is linked with.
    pub(super) fn uses(&self, package: &Package) -> &[String] {
        self.uses.get(&package.id).map_or(&[], Vec::as_slice)
    }

    /// SHA-256 of the package as the registry gave it, in hex.
    pub(super) fn hash(&self, package: &Package) -> Option<&str> {
        self.hashes.get(&(package.name.clone(), package.version.clone())).map(String::as_str)
    }

    fn package(&self, id: &str) -> Result<&Package> {
        self.packages.get(id).with_context(|| format!("cargo metadata names {id} and does not describe it"))
    }
}

impl Package {
    fn runs_in_compiler(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }

    /// The package URL (github.com/package-url/purl-spec).
    pub(super) fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }
}

/// `name`, `version` and `checksum` of each `[[package]]`; the file is written by cargo, one field a line.
fn hashes(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
            Some(line.trim().trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(hash)) = (field("name"), field("version"), field("checksum")) {
            found.insert((name, version), hash);
        }
    }
    found
}

/// The version of the library whose archive is linked: its headers' and its own are one package.
fn glibc(repo: &Repo) -> Result<String> {
    let said = repo::stdout(repo.command("ldd").arg("--version"))?;
    let version = said.lines().next().and_then(|line| line.split_whitespace().last());
    version.map(str::to_owned).with_context(|| format!("ldd does not say its version: {said:?}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"ab12\"\n\
                        dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";

    /// `own` is linked with `a`, `a` with nothing; `derive` runs in the compiler, `build` in a build script.
    pub(in super::super) fn example() -> Graph {
        let package = |name: &str, kind: &str, source: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","version":"1.0.0","license":"MIT","license_file":null,"authors":["A <a@b>"],
                    "manifest_path":"/r/{name}/Cargo.toml","source":{source},"targets":[{{"kind":["{kind}"]}}]}}"#
            )
        };
        let dependency = |name: &str, kind: &str| format!(r#"{{"pkg":"{name}","dep_kinds":[{{"kind":{kind}}}]}}"#);
        let packages = [
            package("own", "bin", "null"),
            package("a", "lib", "\"registry+https://r\""),
            package("derive", "proc-macro", "\"registry+https://r\""),
            package("build", "lib", "\"registry+https://r\""),
        ];
        let uses = [dependency("a", "null"), dependency("derive", "null"), dependency("build", "\"build\"")];
        let nodes = format!(
            r#"[{{"id":"own","deps":[{}]}},{{"id":"a","deps":[]}},{{"id":"derive","deps":[]}},{{"id":"build","deps":[]}}]"#,
            uses.join(",")
        );
        let metadata = format!(r#"{{"packages":[{}],"resolve":{{"nodes":{nodes}}}}}"#, packages.join(","));
        let glibc = Toolchain { name: "glibc", version: "2.36".to_owned(), license: "LGPL-2.1-or-later" };
        Graph::parse(&metadata, LOCK, vec![glibc]).unwrap()
    }

    #[test]
    fn only_what_ends_in_the_program_is_linked() {
        let graph = example();
        let names: Vec<&str> = graph.linked(["own"]).unwrap().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a", "own"]);
        assert!(graph.linked(["a"]).is_err(), "a package of the registry is no program of ours");
    }

    #[test]
    fn hashes_are_those_of_the_lock_file() {
        let graph = example();
        let linked = graph.linked(["own"]).unwrap();
        assert_eq!(graph.hash(linked[0]), Some("ab12"));
        assert_eq!(graph.hash(linked[1]), None);
    }
}
