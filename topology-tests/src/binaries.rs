//! Where the lab's own programs and the product's are: beside the running one, in cargo's target folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A folder of built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// The folder of the running program; a test lies one folder below it.
    pub fn beside_this_one() -> Result<Self> {
        let exe = std::env::current_exe().context("find the running program")?;
        let dir = exe.parent().context("the running program has no folder")?;
        let dir = if dir.ends_with("deps") { dir.parent().context("deps has no parent")? } else { dir };
        Ok(Self { dir: dir.to_owned() })
    }

    /// The path of a program, or what to run to build it.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.is_file() {
            bail!("{} is not built; run `cargo build --bin {name}`", path.display());
        }
        Ok(path)
    }

    /// Whether a program is built.
    pub fn has(&self, name: &str) -> bool {
        self.dir.join(name).is_file()
    }

    /// The folder that holds them, `target/debug` for example.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Cargo's target folder.
    pub fn target_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }
}
