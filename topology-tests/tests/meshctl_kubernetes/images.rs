//! The project's images, as `cargo xtask images` left them. Builds none.

use std::path::PathBuf;

use serde::Deserialize;
use topology_tests::binaries::Binaries;

const BUILD: &str = "cargo xtask images --dev";
/// Those that the chart starts.
const NEEDED: [&str; 2] = ["mesh-apiserver", "node-agent"];

/// A line of `target/images/images.json`.
#[derive(Debug, Deserialize)]
struct Built {
    name: String,
    reference: String,
    archive: PathBuf,
}

/// What is to be loaded on the nodes, and what the chart calls it.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) registry: String,
    pub(crate) tag: String,
}

impl Images {
    /// Why there are none, in one line, where they are not built.
    pub(crate) fn find() -> Result<Self, String> {
        let binaries = Binaries::beside_this_one().map_err(|error| format!("{error:#}"))?;
        let list = binaries.target_dir().join("images/images.json");
        let text = std::fs::read(&list).map_err(|_absent| format!("no {}: build with `{BUILD}`", list.display()))?;
        let all: Vec<Built> = serde_json::from_slice(&text)
            .map_err(|error| format!("{} is no list of images: {error}", list.display()))?;
        let mut archives = Vec::new();
        let mut prefix = None;
        for name in NEEDED {
            let built = all.iter().find(|image| image.name == name && image.archive.is_file());
            let built = built.ok_or_else(|| format!("no image {name} in {}: build with `{BUILD}`", list.display()))?;
            archives.push(built.archive.clone());
            prefix = built.reference.split_once(&format!("/{name}:"));
        }
        let (registry, tag) = prefix.ok_or_else(|| format!("{} names images in no registry", list.display()))?;
        Ok(Self { archives, registry: registry.to_owned(), tag: tag.to_owned() })
    }
}
