//! The file: a gzipped tar that is written as it is gathered, readable for its owner alone, and put in place when it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use super::scrub;

/// Everything goes through [`scrub`] on its way in.
pub(super) struct Archive {
    tar: tar::Builder<GzEncoder<File>>,
    path: PathBuf,
    unfinished: PathBuf,
    /// Folder that all lies in.
    root: String,
    seconds: u64,
    pub(super) files: usize,
}

impl Archive {
    pub(super) fn create(path: &Path, root: &str, seconds: u64) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let unfinished = path.with_file_name(name);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { tar, path: path.to_owned(), unfinished, root: root.to_owned(), seconds, files: 0 })
    }

    pub(super) fn json(&mut self, name: &str, mut value: Value) -> io::Result<()> {
        match &mut value {
            Value::Array(items) => items.iter_mut().for_each(scrub::object),
            other => scrub::object(other),
        }
        let text = serde_json::to_string_pretty(&value).map_err(io::Error::other)?;
        self.add(name, text.as_bytes())
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.add(name, scrub::text(text).as_bytes())
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        self.tar.append_data(&mut header, Path::new(&self.root).join(name), bytes)?;
        self.files += 1;
        Ok(())
    }

    /// Until here there is no file of that name, or the one that was there before.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        let file = self.tar.into_inner()?.finish()?;
        file.sync_all()?;
        std::fs::rename(&self.unfinished, &self.path)?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_goes_in_is_scrubbed_and_the_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.tar.gz");
        let mut archive = Archive::create(&path, "dump", 1).unwrap();
        archive.text("kind-a/logs/x.log", "password=hunter2").unwrap();
        archive.json("kind-a/pods.json", serde_json::json!([{ "token": "hunter2", "name": "p" }])).unwrap();
        assert!(!path.exists());
        let written = archive.finish().unwrap();
        assert_eq!(std::fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o600);
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(File::open(written).unwrap()));
        let mut names = Vec::new();
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert_eq!(names, ["dump/kind-a/logs/x.log", "dump/kind-a/pods.json"]);
    }
}
