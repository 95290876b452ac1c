//! `check-orphans`: every `.rs` file is reached from a crate root. One that is not was never compiled or tested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::repo::{self, Repo};
use crate::rust_source::{Placed, Token, tokens};

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    src_path: PathBuf,
}

pub(crate) fn check(repo: &Repo) -> Result<Vec<String>> {
    let mut reached = BTreeSet::new();
    for root in crate_roots(repo)? {
        reach(&root, true, &mut reached, &read)?;
    }
    let orphans = repo.files("rs")?.into_iter().filter(|file| !reached.contains(&repo.root.join(file)));
    Ok(orphans
        .map(|file| format!("{}: no crate reaches it: name it in a `mod`, or delete it", file.display()))
        .collect())
}

/// The root files of all targets of the workspace, and of the packages that are not members of it.
fn crate_roots(repo: &Repo) -> Result<Vec<PathBuf>> {
    let mut manifests = BTreeMap::from([(repo.root.join("Cargo.toml"), false)]);
    for path in repo.files("toml")? {
        if path.file_name().is_some_and(|name| name == "Cargo.toml") {
            manifests.entry(repo.root.join(path)).or_insert(false);
        }
    }
    let mut roots = Vec::new();
    let all: Vec<PathBuf> = manifests.keys().cloned().collect();
    // The workspace's own manifest sorts first and tells of all its members at once.
    for manifest in all {
        if manifests[&manifest] {
            continue;
        }
        let mut command = repo.cargo_command();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let metadata: Metadata = serde_json::from_str(&repo::stdout(&mut command)?)
            .with_context(|| format!("cargo metadata of {}", manifest.display()))?;
        for package in metadata.packages {
            roots.extend(package.targets.into_iter().map(|t| t.src_path));
            manifests.insert(package.manifest_path, true);
        }
    }
    Ok(roots)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Adds `file` and all that its `mod` and `include!` lines name.
fn reach(
    file: &Path,
    is_root: bool,
    reached: &mut BTreeSet<PathBuf>,
    read: &impl Fn(&Path) -> Option<String>,
) -> Result<()> {
    let Some(source) = read(file) else { return Ok(()) };
    if !reached.insert(file.to_owned()) {
        return Ok(());
    }
    let folder = file.parent().context("a source file has a folder")?;
    let stem = file.file_stem().unwrap_or_default();
    let children = if is_root || stem == "mod" { folder.to_owned() } else { folder.join(stem) };
    for module in modules(&tokens(&source)) {
        match module {
            Module::Named(path) => {
                let base = children.join(path.join("/"));
                reach(&base.with_extension("rs"), false, reached, read)?;
                reach(&base.join("mod.rs"), false, reached, read)?;
            }
            Module::At(text) => {
                // A file named by path looks for its own modules beside itself, as a root does.
                reach(&normal(&folder.join(text)), true, reached, read)?;
            }
        }
    }
    Ok(())
}

/// Removes `.` and `x/..`, so that the path equals the one the walk finds.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out
}

/// A file that a source names.
#[derive(Debug, PartialEq, Eq)]
enum Module {
    /// Names of the inline modules around it, then its own.
    Named(Vec<String>),
    /// `#[path = "..."]` or `include!("...")`.
    At(String),
}

fn modules(tokens: &[Placed]) -> Vec<Module> {
    let mut found = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut path) = (0_usize, None);
    let token = |i: usize| tokens.get(i).map(|p: &Placed| &p.token);
    let ident = |i: usize| match token(i) {
        Some(Token::Ident(name)) => Some(name.as_str()),
        _ => None,
    };
    let punct = |i: usize, c: char| token(i) == Some(&Token::Punct(c));
    for (i, placed) in tokens.iter().enumerate() {
        match &placed.token {
            Token::Punct('{') => depth += 1,
            Token::Punct('}') => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|(_, at)| *at == depth);
            }
            Token::Ident(word) if word == "path" && punct(i + 1, '=') && i > 0 && punct(i - 1, '[') => {
                if let Some(Token::Text(text)) = token(i + 2) {
                    path = Some(text.clone());
                }
            }
            Token::Ident(word) if word == "include" && punct(i + 1, '!') && punct(i + 2, '(') => {
                if let Some(Token::Text(text)) = token(i + 3) {
                    found.push(Module::At(text.clone()));
                }
            }
            Token::Ident(word) if word == "mod" => {
                let Some(name) = ident(i + 1) else { continue };
                if punct(i + 2, '{') {
                    inline.push((name.to_owned(), depth));
                } else if punct(i + 2, ';') {
                    let around = inline.iter().map(|(name, _)| name.clone());
                    let named = || Module::Named(around.chain([name.to_owned()]).collect());
                    found.push(path.take().map_or_else(named, Module::At));
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(files: &[(&str, &str)], root: &str) -> Vec<String> {
        let files: BTreeMap<PathBuf, String> = files.iter().map(|(p, s)| (p.into(), (*s).to_owned())).collect();
        let mut reached = BTreeSet::new();
        reach(Path::new(root), true, &mut reached, &|path: &Path| files.get(path).cloned()).unwrap();
        reached.into_iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn modules_are_followed_as_rustc_follows_them() {
        let files = [
            ("s/lib.rs", "pub mod a; mod inline { pub(crate) mod b; } #[path = \"x/y.rs\"] mod y; // mod no;\nmod m;"),
            ("s/a.rs", "mod deep; #[cfg(test)] mod tests;"),
            ("s/a/deep.rs", ""),
            ("s/a/tests.rs", ""),
            ("s/inline/b.rs", ""),
            ("s/x/y.rs", "mod z;"),
            ("s/x/z.rs", ""),
            ("s/m/mod.rs", "mod k;"),
            ("s/m/k.rs", ""),
            ("s/no.rs", ""),
            ("s/b.rs", ""),
        ];
        assert_eq!(
            reached(&files, "s/lib.rs"),
            [
                "s/a/deep.rs",
                "s/a/tests.rs",
                "s/a.rs",
                "s/inline/b.rs",
                "s/lib.rs",
                "s/m/k.rs",
                "s/m/mod.rs",
                "s/x/y.rs",
                "s/x/z.rs"
            ]
        );
    }

    #[test]
    fn an_included_file_is_reached_and_a_string_is_not_a_module() {
        let files =
            [("s/main.rs", "include!(\"../t/x.rs\"); const S: &str = \"mod z;\";"), ("t/x.rs", ""), ("s/z.rs", "")];
        assert_eq!(reached(&files, "s/main.rs"), ["s/main.rs", "t/x.rs"]);
    }
}
