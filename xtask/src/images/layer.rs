//! The files of an image as one tar, the same bytes whenever and wherever it is made.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Files and folders by path, without a leading `/`.
#[derive(Debug, Default)]
pub(super) struct Layer(BTreeMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    mode: u32,
    owner: u32,
    /// `None`: a folder.
    bytes: Option<Vec<u8>>,
}

impl Layer {
    /// A file of root's, with the folders that lead to it.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry { mode, owner: 0, bytes: Some(bytes) });
    }

    pub(super) fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry { mode, owner, bytes: None });
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry { mode: 0o755, owner: 0, bytes: None });
        }
    }

    /// Sorted by path, so that a folder stands before what is in it.
    pub(super) fn tar(&self) -> Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let kind = if entry.bytes.is_some() { EntryType::Regular } else { EntryType::Directory };
            let path = if entry.bytes.is_some() { path.clone() } else { format!("{path}/") };
            let bytes = entry.bytes.as_deref().unwrap_or_default();
            append(&mut builder, &path, kind, entry.mode, entry.owner, bytes)?;
        }
        builder.into_inner().context("end the layer")
    }
}

/// Time 0, owner and group by the same number, no names.
pub(super) fn append(
    builder: &mut Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    owner: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(0);
    header.set_size(bytes.len().try_into().context("a file too large for an archive")?);
    header.set_path(path).with_context(|| format!("{path} does not fit into an archive"))?;
    header.set_cksum();
    builder.append(&header, bytes).with_context(|| format!("add {path}"))
}

/// `sha256:...`, as manifests name what they hold.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_adding_changes_nothing() {
        let mut one = Layer::default();
        one.file("usr/bin/a", 0o755, b"a".to_vec());
        one.folder("var/lib/x", 0o700, 65532);
        let mut other = Layer::default();
        other.folder("var/lib/x", 0o700, 65532);
        other.file("usr/bin/a", 0o755, b"a".to_vec());
        assert_eq!(digest(&one.tar().unwrap()), digest(&other.tar().unwrap()));
    }

    #[test]
    fn folders_stand_before_their_files_and_nothing_tells_of_the_day() {
        let mut layer = Layer::default();
        layer.file("usr/bin/a", 0o755, b"abc".to_vec());
        layer.folder("var/lib/x", 0o700, 65532);
        let bytes = layer.tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 0);
            seen.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.uid().unwrap()));
        }
        let seen: Vec<_> = seen.iter().map(|(path, mode, uid)| (path.as_str(), *mode, *uid)).collect();
        assert_eq!(
            seen,
            [
                ("usr/", 0o755, 0),
                ("usr/bin/", 0o755, 0),
                ("usr/bin/a", 0o755, 0),
                ("var/", 0o755, 0),
                ("var/lib/", 0o755, 0),
                ("var/lib/x/", 0o700, 65532)
            ]
        );
    }

    #[test]
    fn a_digest_is_that_of_sha256() {
        assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
