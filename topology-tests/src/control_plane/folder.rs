//! A folder of one file per object. A file appears, changes and goes by one atomic step; unchanged objects are not touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    scratch: PathBuf,
    written: BTreeMap<String, String>,
}

impl Folder {
    pub(super) fn open(path: PathBuf, scratch: PathBuf) -> Result<Self> {
        for folder in [&path, &scratch] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(Self { path, scratch, written: BTreeMap::new() })
    }

    /// Makes the folder hold exactly these objects.
    pub(super) fn write(&mut self, objects: BTreeMap<String, Value>) -> Result<()> {
        let gone: Vec<String> = self.written.keys().filter(|name| !objects.contains_key(*name)).cloned().collect();
        for (name, object) in objects {
            let text = object.to_string();
            if self.written.get(&name) == Some(&text) {
                continue;
            }
            let (half, whole) = (self.scratch.join(&name), self.path.join(&name));
            std::fs::write(&half, &text).with_context(|| format!("write {}", half.display()))?;
            std::fs::rename(&half, &whole).with_context(|| format!("publish {}", whole.display()))?;
            self.written.insert(name, text);
        }
        for name in gone {
            let path = self.path.join(&name);
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            self.written.remove(&name);
        }
        Ok(())
    }
}
