//! inotify on a folder tree: which files may have changed.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use futures::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use super::Error;

/// Subfolders deeper than this are not followed: a link loop must not exhaust the watches.
const MAX_DEPTH: usize = 16;

pub(super) struct Watch {
    folder: PathBuf,
    events: EventStream<Vec<u8>>,
    watches: Watches,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// Files seen so far, so that a folder that goes away takes its files along.
    files: BTreeSet<PathBuf>,
}

impl Watch {
    pub(super) fn start(folder: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Watch { path: folder.to_owned(), source };
        let inotify = Inotify::init().map_err(fail)?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; 64 * 1024]).map_err(fail)?;
        let mut watch =
            Self { folder: folder.to_owned(), events, watches, folders: HashMap::new(), files: BTreeSet::new() };
        watch.add_tree(folder, 0).map_err(fail)?;
        Ok(watch)
    }

    /// Every manifest that exists now.
    pub(super) fn scan(&mut self) -> Result<Vec<PathBuf>, Error> {
        let mut found = BTreeSet::new();
        collect(&self.folder, 0, &mut found).map_err(|source| Error::Watch { path: self.folder.clone(), source })?;
        self.files.clone_from(&found);
        Ok(found.into_iter().collect())
    }

    /// Waits for changes and returns the files to read again, each once, however many events are queued for it.
    pub(super) async fn changed(&mut self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.folder.clone();
        let fail = |source| Error::Watch { path: folder.clone(), source };
        loop {
            let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "inotify ended");
            let first = self.events.next().await.ok_or_else(ended).and_then(|e| e).map_err(fail)?;
            let mut queued = vec![first];
            while let Some(Some(event)) = self.events.next().now_or_never() {
                queued.push(event.map_err(fail)?);
            }
            let mut paths = BTreeSet::new();
            for event in queued {
                self.note(event, &mut paths)?;
            }
            if !paths.is_empty() {
                return Ok(paths.into_iter().collect());
            }
        }
    }

    fn note(&mut self, event: EventOwned, paths: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            tracing::warn!("inotify queue overflowed: reading the whole folder again");
            paths.extend(self.files.iter().cloned());
            paths.extend(self.scan()?);
            return Ok(());
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.folders.remove(&event.wd);
            return Ok(());
        }
        let Some(folder) = self.folders.get(&event.wd) else { return Ok(()) };
        let Some(name) = event.name else {
            if event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF) && *folder == self.folder {
                let source = io::Error::new(io::ErrorKind::NotFound, "the folder itself was removed");
                return Err(Error::Watch { path: self.folder.clone(), source });
            }
            return Ok(());
        };
        let path = folder.join(name);
        if event.mask.contains(EventMask::ISDIR) {
            if event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
                // Files may have been put there before the watch was.
                if let Err(error) = self.add_tree(&path, 1).and_then(|()| collect(&path, 1, paths)) {
                    tracing::warn!(path = %path.display(), %error, "a subfolder cannot be watched");
                }
                self.files.extend(paths.iter().cloned());
            } else {
                let below: Vec<PathBuf> = self.files.iter().filter(|f| f.starts_with(&path)).cloned().collect();
                for file in below {
                    self.files.remove(&file);
                    paths.insert(file);
                }
            }
        } else if is_manifest(&path) && !event.mask.contains(EventMask::CREATE) {
            self.files.insert(path.clone());
            paths.insert(path);
        }
        Ok(())
    }

    fn add_tree(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::CREATE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        let descriptor = self.watches.add(folder, mask)?;
        self.folders.insert(descriptor, folder.to_owned());
        if depth == MAX_DEPTH {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !is_hidden(&entry.path()) {
                self.add_tree(&entry.path(), depth + 1)?;
            }
        }
        Ok(())
    }
}

fn collect(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        // Follows links to files: a projected volume (ConfigMap) is made of them.
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && depth < MAX_DEPTH => collect(&path, depth + 1, found)?,
            Ok(meta) if meta.is_file() && is_manifest(&path) => {
                found.insert(path);
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))
}

/// Editors' and writers' temporary files do not have these endings.
fn is_manifest(path: &Path) -> bool {
    !is_hidden(path) && path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

/// How long tests wait for an event before they give up.
#[cfg(test)]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(watch: &mut Watch) -> Vec<String> {
        let paths = tokio::time::timeout(PATIENCE, watch.changed()).await.expect("an event").unwrap();
        paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn written_renamed_and_removed_files_are_seen_also_in_new_subfolders() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("old.yaml"), "x").unwrap();
        let mut watch = Watch::start(dir.path()).unwrap();
        assert_eq!(watch.scan().unwrap().len(), 1);
        std::fs::write(dir.path().join("a.tmp"), "x").unwrap();
        std::fs::rename(dir.path().join("a.tmp"), dir.path().join("a.yaml")).unwrap();
        assert_eq!(next(&mut watch).await, ["a.yaml"]);
        std::fs::remove_file(dir.path().join("old.yaml")).unwrap();
        assert_eq!(next(&mut watch).await, ["old.yaml"]);
        let sub = dir.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        std::fs::write(sub.join("b.json"), "{}").unwrap();
        assert_eq!(next(&mut watch).await, ["b.json"]);
        std::fs::write(sub.join("b.json"), "{ }").unwrap();
        assert_eq!(next(&mut watch).await, ["b.json"]);
        std::fs::remove_dir_all(&sub).unwrap();
        assert_eq!(next(&mut watch).await, ["b.json"]);
    }
}
