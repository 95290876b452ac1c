//! Which file holds which object, and what of it changed. Pure but for the paths it is given.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::documents::{self, Document};
use crate::objects::{Object, ObjectKey};
use crate::source::{Change, Rejection, Status};

/// # Invariants
/// An object is delivered as its owner has it: the file that held it first. Other files that hold the same object wait;
/// when the owner lets go, the next one in path order takes over.
pub(super) struct Inventory {
    folder: PathBuf,
    files: BTreeMap<PathBuf, File>,
    owners: BTreeMap<ObjectKey, PathBuf>,
    news: Vec<Rejection>,
}

#[derive(Default)]
struct File {
    objects: BTreeMap<ObjectKey, Box<Object>>,
    ignored: usize,
    rejections: Vec<Rejection>,
}

impl Inventory {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, files: BTreeMap::new(), owners: BTreeMap::new(), news: Vec::new() }
    }

    /// The file now holds this text.
    pub(super) fn replace(&mut self, path: &Path, text: &str) -> Vec<Change> {
        let shown = self.shown(path);
        let mut file = File::default();
        let is_json = path.extension().is_some_and(|e| e == "json");
        for document in documents::parse(text, is_json) {
            match document {
                Document::Ignored => file.ignored += 1,
                Document::Rejected { place, object, reason } => {
                    let object = object.map(|o| format!(": {o}")).unwrap_or_default();
                    file.rejections.push(Rejection { object: format!("{shown}, document {place}{object}"), reason });
                }
                Document::Object(object) => {
                    let key = object.key();
                    match file.objects.entry(key) {
                        Entry::Vacant(free) => {
                            free.insert(object);
                        }
                        Entry::Occupied(taken) => {
                            let reason = "the same object is earlier in this file; the first one counts".to_owned();
                            file.rejections.push(Rejection { object: format!("{shown}: {}", taken.key()), reason });
                        }
                    }
                }
            }
        }
        self.swap(path, Some(file))
    }

    /// The file is gone.
    pub(super) fn remove(&mut self, path: &Path) -> Vec<Change> {
        self.swap(path, None)
    }

    /// The file exists and cannot be read: what it held stays, since nothing says that it is gone.
    pub(super) fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let rejection = Rejection { object: self.shown(path), reason: format!("cannot be read: {error}") };
        let file = self.files.entry(path.to_owned()).or_default();
        if !file.rejections.contains(&rejection) {
            self.news.push(rejection.clone());
            file.rejections = vec![rejection];
        }
    }

    /// Rejections that appeared since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn status(&self) -> Status {
        let mut rejections: Vec<Rejection> = self.files.values().flat_map(|f| f.rejections.iter().cloned()).collect();
        for (path, file) in &self.files {
            let waiting = file.objects.keys().filter(|key| self.owners.get(*key) != Some(path));
            rejections.extend(waiting.map(|key| self.duplicate(path, key)));
        }
        Status {
            kind: "manifests",
            location: self.folder.display().to_string(),
            objects: self.owners.len(),
            ignored: self.files.values().map(|f| f.ignored).sum(),
            rejections,
            ..Status::default()
        }
    }

    fn duplicate(&self, path: &Path, key: &ObjectKey) -> Rejection {
        let owner = self.owners.get(key).map(|p| self.shown(p)).unwrap_or_default();
        let reason = format!("{owner} already holds this object and stays its owner; remove one of them");
        Rejection { object: format!("{}: {key}", self.shown(path)), reason }
    }

    fn swap(&mut self, path: &Path, file: Option<File>) -> Vec<Change> {
        let before = self.files.remove(path).unwrap_or_default();
        let after = file.unwrap_or_default();
        let known: BTreeSet<&Rejection> = before.rejections.iter().collect();
        self.news.extend(after.rejections.iter().filter(|r| !known.contains(*r)).cloned());
        let mut changes = Vec::new();
        for (key, object) in &after.objects {
            match self.owners.get(key) {
                None => {
                    self.owners.insert(key.clone(), path.to_owned());
                    changes.push(Change::Apply(object.clone()));
                }
                Some(owner) if owner != path => {
                    if !before.objects.contains_key(key) {
                        self.news.push(self.duplicate(path, key));
                    }
                }
                Some(_) if before.objects.get(key) != Some(object) => changes.push(Change::Apply(object.clone())),
                Some(_) => {}
            }
        }
        let gone: Vec<ObjectKey> = before.objects.keys().filter(|k| !after.objects.contains_key(*k)).cloned().collect();
        if !after.objects.is_empty() || !after.rejections.is_empty() || after.ignored > 0 {
            self.files.insert(path.to_owned(), after);
        }
        for key in gone {
            if self.owners.get(&key).is_some_and(|owner| owner == path) {
                changes.push(self.hand_over(key));
            }
        }
        changes
    }

    /// The owner let go of the object: the next file that holds it takes over.
    fn hand_over(&mut self, key: ObjectKey) -> Change {
        let heir = self.files.iter().find_map(|(path, f)| f.objects.get(&key).map(|o| (path.clone(), o.clone())));
        if let Some((path, object)) = heir {
            self.owners.insert(key, path);
            return Change::Apply(object);
        }
        self.owners.remove(&key);
        Change::Delete(key)
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        Inventory::new(PathBuf::from("/m"))
    }

    fn pod(name: &str) -> String {
        format!("kind: Pod\nmetadata: {{name: {name}}}\n---\n")
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes
            .iter()
            .map(|c| match c {
                Change::Apply(o) => format!("+{}", o.key().name),
                Change::Delete(k) => format!("-{}", k.name),
            })
            .collect()
    }

    #[test]
    fn a_document_that_goes_takes_its_object_along_and_an_equal_one_changes_nothing() {
        let mut inventory = inventory();
        let path = Path::new("/m/a.yaml");
        assert_eq!(shown(&inventory.replace(path, &(pod("x") + &pod("y")))), ["+x", "+y"]);
        assert_eq!(shown(&inventory.replace(path, &pod("y"))), ["-x"]);
        assert_eq!(shown(&inventory.replace(path, &pod("y"))), Vec::<String>::new());
        assert_eq!(shown(&inventory.remove(path)), ["-y"]);
        assert_eq!(inventory.status().objects, 0);
    }

    #[test]
    fn the_first_file_keeps_an_object_until_it_lets_go() {
        let mut inventory = inventory();
        let (first, second) = (Path::new("/m/b.yaml"), Path::new("/m/a.yaml"));
        inventory.replace(first, &pod("x"));
        assert!(inventory.replace(second, &pod("x")).is_empty());
        let status = inventory.status();
        assert_eq!(status.rejections[0].object, "a.yaml: Pod default/x");
        assert!(status.rejections[0].reason.starts_with("b.yaml already holds this object"));
        assert_eq!(shown(&inventory.remove(first)), ["+x"]);
        assert!(inventory.status().rejections.is_empty());
    }

    #[test]
    fn a_rejection_names_file_document_object_and_reason_and_is_news_once() {
        let mut inventory = inventory();
        let text = pod("x") + "kind: Service\nmetadata: {name: s}\nspec: {ports: none}\n";
        assert_eq!(shown(&inventory.replace(Path::new("/m/sub/a.yaml"), &text)), ["+x"]);
        let news = inventory.take_news();
        assert_eq!(news[0].object, "sub/a.yaml, document 2: Service default/s");
        assert!(news[0].reason.contains("expected a sequence"), "{}", news[0].reason);
        inventory.replace(Path::new("/m/sub/a.yaml"), &text);
        assert!(inventory.take_news().is_empty());
        assert_eq!(inventory.status().rejections.len(), 1);
    }
}
