//! `cargo xtask images`: the project's container images, as archives that every container program loads.
//!
//! ```text
//! programs + notices + SBOM -> one layer -> OCI layout in target/images/NAME.tar
//! ```
//! Needs neither Docker nor a registry nor root. Must never depend on the day or the machine: times are 0, owners are
//! numbers, entries are sorted, nothing is compressed; the same programs give the same digest (docs/adr/, "images").

mod archive;
mod build;
mod contents;
mod graph;
mod layer;
mod notices;
mod sbom;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use self::archive::Archive;
use self::build::Programs;
use self::contents::{IMAGES, Image};
use self::graph::Graph;
use crate::repo::Repo;

const REGISTRY: &str = "ghcr.io/isthmus-mesh";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Take the programs that tests are run with, and their libraries: for this machine, larger and slow, and made in seconds
    #[arg(long)]
    dev: bool,
    /// What stands before the images' names
    #[arg(long, value_name = "PREFIX", default_value = REGISTRY)]
    registry: String,
    /// Their tag
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Only this image; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Below the target folder.
    #[arg(skip = "images")]
    folder: &'static str,
}

impl Options {
    /// All images, as a test on this machine takes them.
    pub(crate) fn for_tests() -> Self {
        let (registry, tag) = (REGISTRY.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self { dev: true, registry, tag, only: Vec::new(), folder: "images" }
    }

    /// The same of another checkout, by another tag and in a folder of their own.
    pub(crate) fn of_another(tag: &str, folder: &'static str) -> Self {
        Self { tag: tag.to_owned(), folder, ..Self::for_tests() }
    }
}

/// One line of `target/images/images.json`.
#[derive(Debug, Serialize)]
struct Made {
    name: &'static str,
    reference: String,
    /// Of the manifest: what a registry calls the image, where it is stored as it is.
    digest: String,
    archive: PathBuf,
    bytes: u64,
    /// That its programs were built with: what is measured of them says so.
    profile: &'static str,
}

pub(crate) fn run(repo: &Repo, options: &Options) -> Result<bool> {
    if let Some(unknown) = options.only.iter().find(|name| IMAGES.iter().all(|image| image.name != **name)) {
        bail!("there is no image {unknown}: there are {}", IMAGES.map(|image| image.name).join(", "));
    }
    check_reference(&options.registry, &options.tag)?;
    let folder = repo.target().join(options.folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let wanted = |image: &&Image| options.only.is_empty() || options.only.iter().any(|name| name == image.name);
    let images: Vec<&Image> = IMAGES.iter().filter(wanted).collect();
    let programs = Programs::build(repo, &images, options.dev)?;
    let graph = Graph::read(repo)?;
    let mut made = Vec::new();
    for image in images {
        let reference = format!("{}/{}:{}", options.registry, image.name, options.tag);
        let sbom = sbom::write(&graph, image, &reference)?;
        let layer = image.layer(repo, &programs, &graph, &sbom)?;
        let archive = Archive::new(image, &reference, &layer)?;
        let path = folder.join(format!("{}.tar", image.name));
        archive.write(&path)?;
        let beside = folder.join(format!("{}.cdx.json", image.name));
        std::fs::write(&beside, &sbom).with_context(|| format!("cannot write {}", beside.display()))?;
        let bytes = archive.layer_bytes();
        let profile = if options.dev { "dev" } else { "release" };
        made.push(Made { name: image.name, reference, digest: archive.digest, archive: path, bytes, profile });
    }
    let list = folder.join("images.json");
    std::fs::write(&list, serde_json::to_string_pretty(&made)?).with_context(|| list.display().to_string())?;
    print(&made);
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "the table is what the command gives")]
fn print(made: &[Made]) {
    for image in made {
        let tenths = image.bytes / 100_000;
        println!("{}  {}.{} MB  {}", image.reference, tenths / 10, tenths % 10, image.digest);
        println!("    {}", image.archive.display());
    }
}

/// What no container program would take is refused before an hour of building.
fn check_reference(registry: &str, tag: &str) -> Result<()> {
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-:".contains(c);
        !part.is_empty() && part.chars().all(plain)
    };
    if !registry.split('/').all(is_part) {
        bail!("--registry {registry:?} is no prefix of image names: use for example registry.example.org/isthmus");
    }
    let is_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(is_tag) {
        bail!("--tag {tag:?} is no tag: letters, digits, '.', '_' and '-', at most 128");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_no_registry_takes_are_refused() {
        assert!(check_reference("ghcr.io/isthmus-mesh", "0.1.0").is_ok());
        assert!(check_reference("localhost:5000", "dev").is_ok());
        for (registry, tag) in [("Ghcr.io", "1"), ("a//b", "1"), ("", "1"), ("a", ""), ("a", "-x"), ("a", "a b")] {
            assert!(check_reference(registry, tag).is_err(), "{registry} {tag}");
        }
    }
}
