//! The project's images, as `cargo xtask images` left them. Builds none.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde::Deserialize;

use super::super::Kubernetes;
use crate::binaries::Binaries;

const BUILD: &str = "cargo xtask images --dev";
/// Those that the chart starts.
const NEEDED: [&str; 2] = ["mesh-apiserver", "node-agent"];

/// A line of `target/images/images.json`.
#[derive(Debug, Deserialize)]
struct Built {
    name: String,
    reference: String,
    archive: PathBuf,
    /// Absent where another version made the list.
    #[serde(default)]
    profile: String,
}

/// What is to be loaded on the nodes, and what the chart calls it.
#[derive(Debug)]
pub struct Images {
    pub archives: Vec<PathBuf>,
    pub registry: String,
    pub tag: String,
    /// That their programs were built with.
    pub profile: String,
}

impl Images {
    /// Why there are none, in one line, where they are not built.
    pub fn find() -> std::result::Result<Self, String> {
        Self::find_in("images", BUILD)
    }

    /// Those in a folder of the target folder, which that command makes.
    pub fn find_in(folder: &str, build: &str) -> std::result::Result<Self, String> {
        let binaries = Binaries::beside_this_one().map_err(|error| format!("{error:#}"))?;
        let list = binaries.target_dir().join(folder).join("images.json");
        let text = std::fs::read(&list).map_err(|_absent| format!("no {}: build with `{build}`", list.display()))?;
        let all: Vec<Built> = serde_json::from_slice(&text)
            .map_err(|error| format!("{} is no list of images: {error}", list.display()))?;
        let mut archives = Vec::new();
        let (mut prefix, mut profile) = (None, String::new());
        for name in NEEDED {
            let built = all.iter().find(|image| image.name == name && image.archive.is_file());
            let built = built.ok_or_else(|| format!("no image {name} in {}: build with `{build}`", list.display()))?;
            archives.push(built.archive.clone());
            profile.clone_from(&built.profile);
            prefix = built.reference.split_once(&format!("/{name}:"));
        }
        let (registry, tag) = prefix.ok_or_else(|| format!("{} names images in no registry", list.display()))?;
        Ok(Self { archives, registry: registry.to_owned(), tag: tag.to_owned(), profile })
    }

    /// Puts them on all nodes, those of different nodes at the same time.
    pub fn load(&self, run: &Kubernetes) -> Result<()> {
        std::thread::scope(|scope| {
            let nodes = run.clusters.iter().flat_map(|cluster| &cluster.nodes);
            let loads: Vec<_> = nodes
                .map(|node| scope.spawn(move || self.archives.iter().try_for_each(|archive| node.load_image(archive))))
                .collect();
            loads
                .into_iter()
                .try_for_each(|load| load.join().map_err(|_panic| anyhow!("the load of images panicked"))?)
        })
    }
}
