//! What the licences of linked packages want to be in an image: their texts, and the sources of those that are weak copyleft.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::contents::Image;
use super::graph::{Graph, Package};

const LGPL: &str = include_str!("texts/LGPL-2.1.txt");
const MPL: &str = include_str!("texts/MPL-2.0.txt");
/// Licences that ask for the source of the package itself.
const COPYLEFT: [&str; 3] = ["LGPL", "MPL", "GPL"];
const WIDTH: usize = 78;

/// Files by their path under the documents' folder.
pub(super) fn files(graph: &Graph, image: &Image) -> Result<Vec<(String, Vec<u8>)>> {
    let linked = graph.linked(image.packages())?;
    let foreign: Vec<&Package> = linked.into_iter().filter(|package| package.source.is_some()).collect();
    let mut files = vec![
        ("THIRD-PARTY-LICENSES".to_owned(), texts(graph, &foreign)?.into_bytes()),
        ("LGPL-2.1".to_owned(), LGPL.as_bytes().to_vec()),
        ("MPL-2.0".to_owned(), MPL.as_bytes().to_vec()),
    ];
    for package in foreign.into_iter().filter(|package| is_copyleft(package)) {
        let path = source(package)?;
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((format!("sources/{}-{}.crate", package.name, package.version), bytes));
    }
    Ok(files)
}

/// Where there is a choice, a licence without such a wish is the one that is used.
fn is_copyleft(package: &Package) -> bool {
    let license = package.license.as_deref().unwrap_or_default();
    let choices = license.split(" OR ").flat_map(|choice| choice.split('/'));
    let mut choices = choices.filter(|choice| !choice.trim().is_empty()).peekable();
    choices.peek().is_some()
        && choices.all(|choice| COPYLEFT.iter().any(|word| choice.trim_start_matches(['(', ' ']).starts_with(word)))
}

/// The package as the registry gave it, which cargo keeps beside its sources: `registry/cache/R/x.crate` and
/// `registry/src/R/x/Cargo.toml`.
fn source(package: &Package) -> Result<PathBuf> {
    let of = |package: &Package| -> Option<PathBuf> {
        let folder = package.manifest_path.parent()?;
        let (registry, base) = (folder.parent()?, folder.ancestors().nth(3)?);
        let file = format!("{}-{}.crate", package.name, package.version);
        Some(base.join("cache").join(registry.file_name()?).join(file))
    };
    match of(package).filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "the source of {} {} must be in the image ({}), and cargo has not kept it beside {}: `cargo fetch` brings it",
            package.name,
            package.version,
            package.license.as_deref().unwrap_or_default(),
            package.manifest_path.display()
        ),
    }
}

/// Each text once, with the packages that it is of.
fn texts(graph: &Graph, packages: &[&Package]) -> Result<String> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut all = String::from("What is linked into the programs of this image, and its licences.\n\n");
    for part in &graph.toolchain {
        writeln!(all, "{} {}: {}", part.name, part.version, part.license)?;
    }
    for package in packages {
        let license = package.license.as_deref().unwrap_or("see its file below");
        let label = format!("{} {}", package.name, package.version);
        write!(all, "{label}: {license}")?;
        let found = license_files(package)?;
        if found.is_empty() {
            // Its authors are all that it says about who holds the rights.
            write!(all, " (no licence file in it; authors: {})", package.authors.join(", "))?;
        }
        all.push('\n');
        for path in found {
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            by_text.entry(String::from_utf8_lossy(&bytes).trim().replace('\r', "")).or_default().push(label.clone());
        }
    }
    for (text, labels) in by_text {
        write!(all, "\n{}\n{}\n\n{text}\n", "-".repeat(WIDTH), wrapped(&labels))?;
    }
    Ok(all)
}

fn license_files(package: &Package) -> Result<Vec<PathBuf>> {
    let folder = package.manifest_path.parent().context("a manifest has a folder")?;
    let mut found: Vec<PathBuf> = package.license_file.iter().map(|file| folder.join(file)).collect();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_file() && is_license(&path) && !found.contains(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_license(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"].iter().any(|start| name.starts_with(start))
}

fn wrapped(labels: &[String]) -> String {
    let mut lines = vec![String::new()];
    for label in labels {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(label),
            Some(line) if line.len() + label.len() + 2 <= WIDTH => *line = format!("{line}, {label}"),
            _ => lines.push(label.clone()),
        }
    }
    lines.join(",\n")
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::example;
    use super::*;

    fn package(license: &str) -> Package {
        let graph = example();
        let mut package = graph.linked(["own"]).unwrap()[0].clone();
        package.license = Some(license.to_owned());
        package
    }

    #[test]
    fn the_source_of_what_gives_no_other_choice_is_shipped() {
        for (license, wanted) in [
            ("LGPL-2.1-or-later", true),
            ("MPL-2.0", true),
            ("MIT OR LGPL-2.1-or-later", false),
            ("MIT/Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", false),
        ] {
            assert_eq!(is_copyleft(&package(license)), wanted, "{license}");
        }
    }

    #[test]
    fn a_source_that_must_be_shipped_and_is_missing_is_named() {
        let text = format!("{:#}", source(&package("MPL-2.0")).unwrap_err());
        assert!(text.contains("a 1.0.0") && text.contains("cargo fetch"), "{text}");
    }

    #[test]
    fn labels_are_broken_into_lines() {
        let labels: Vec<String> = (0..20).map(|n| format!("package-{n} 1.0.0")).collect();
        let text = wrapped(&labels);
        assert!(text.lines().all(|line| line.len() <= WIDTH + 1));
        assert_eq!(text.matches("package-").count(), 20);
    }
}
