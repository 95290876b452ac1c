//! An image as one file: an OCI layout that is a `docker save` as well, so that containerd, Podman, Docker and skopeo load it.
//!
//! Layout: OCI image-spec v1.1, `image-layout.md`; `manifest.json`: Docker's image specification v1.2.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tar::{Builder, EntryType};

use super::contents::Image;
use super::layer::{Layer, append, digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Not compressed: its digest is then that of its content, whatever compressor of whatever version there is.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// A finished image.
pub(super) struct Archive {
    /// Of the manifest.
    pub(super) digest: String,
    layer_bytes: u64,
    bytes: Vec<u8>,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

impl Archive {
    pub(super) fn new(image: &Image, reference: &str, layer: Layer) -> Result<Self> {
        let layer = Blob::new(layer.tar()?);
        let config = Blob::json(&config(image, reference, &layer.digest))?;
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
            "annotations": labels(image, reference),
        }))?;
        let mut described = manifest.descriptor(MANIFEST);
        let tag = reference.rsplit(':').next().unwrap_or_default();
        described["annotations"] =
            json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag });
        described["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        });
        let docker = json!([{ "Config": config.path(), "RepoTags": [reference], "Layers": [layer.path()] }]);
        let mut files = vec![
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
            ("manifest.json".to_owned(), serde_json::to_vec(&docker)?),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        let (digest, layer_bytes) = (manifest.digest.clone(), layer.bytes.len().try_into()?);
        files.extend([manifest, config, layer].map(|blob| (blob.path(), blob.bytes)));
        files.sort();
        let mut builder = Builder::new(Vec::new());
        for folder in ["blobs/", "blobs/sha256/"] {
            append(&mut builder, folder, EntryType::Directory, 0o755, 0, &[])?;
        }
        for (path, bytes) in files {
            append(&mut builder, &path, EntryType::Regular, 0o644, 0, &bytes)?;
        }
        Ok(Self { digest, layer_bytes, bytes: builder.into_inner().context("end the archive")? })
    }

    /// What the image takes on a node.
    pub(super) fn layer_bytes(&self) -> u64 {
        self.layer_bytes
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let half = path.with_extension("tar.half");
        std::fs::write(&half, &self.bytes).with_context(|| format!("cannot write {}", half.display()))?;
        std::fs::rename(&half, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn config(image: &Image, reference: &str, layer: &str) -> Value {
    let ports: serde_json::Map<String, Value> = image.ports.iter().map(|port| ((*port).into(), json!({}))).collect();
    let first = image.programs[0].name;
    let mut config = json!({
        "User": format!("{0}:{0}", image.user),
        "Env": ["PATH=/usr/bin"],
        "Entrypoint": [format!("/usr/bin/{first}")],
        "WorkingDir": "/",
        "Labels": labels(image, reference),
    });
    if !ports.is_empty() {
        config["ExposedPorts"] = ports.into();
    }
    json!({
        "created": EPOCH,
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": EPOCH, "created_by": "cargo xtask images" }],
    })
}

fn labels(image: &Image, reference: &str) -> Value {
    json!({
        "org.opencontainers.image.title": image.title,
        "org.opencontainers.image.version": reference.rsplit(':').next(),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": "https://github.com/isthmus-mesh/isthmus",
    })
}

/// As Go names them, which all container programs do.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::super::contents::IMAGES;
    use super::*;

    fn files(archive: &Archive) -> BTreeMap<String, Vec<u8>> {
        let mut read = tar::Archive::new(archive.bytes.as_slice());
        let mut found = BTreeMap::new();
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        found
    }

    fn made() -> Archive {
        let mut layer = Layer::default();
        layer.file("usr/bin/x", 0o755, b"x".to_vec());
        Archive::new(&IMAGES[0], "r.example.org/isthmus/mesh-apiserver:1.2", layer).unwrap()
    }

    #[test]
    fn every_digest_and_size_is_that_of_what_it_names() {
        let archive = made();
        let files = files(&archive);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(super::digest(bytes), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], archive.digest);
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(docker[0]["RepoTags"][0], "r.example.org/isthmus/mesh-apiserver:1.2");
        assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()));
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()));
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        assert_eq!(made().bytes, made().bytes);
    }
}
