//! Where the programs are kept: outside the checkout, a folder for each version of each product.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::catalogue::Program;

/// What decides how a program of the project's own comes out.
const FILES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// A folder of programs.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$ISTHMUS_TOOLS`, else `isthmus/tools` below `$XDG_CACHE_HOME` or `~/.cache`.
    ///
    /// # Errors
    /// Where none of the three is known.
    pub fn of_this_machine() -> Result<Self> {
        let root = etcd_peer::tools_of_this_machine();
        let root = root.with_context(|| format!("HOME is not set: name a folder in {}", etcd_peer::TOOLS_VARIABLE))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a program is, or will be once it is built.
    ///
    /// # Errors
    /// Where its version cannot be told.
    pub fn path(&self, program: &Program) -> Result<PathBuf> {
        Ok(self.folder(program)?.join(program.name))
    }

    pub(crate) fn folder(&self, program: &Program) -> Result<PathBuf> {
        let version = program.version()?;
        let name = format!("{}-{version}", program.product);
        Ok(self.root.join(if program.is_own {
            format!("{name}-{:08x}", checksum(&program.source.folder())?)
        } else {
            name
        }))
    }
}

fn checksum(module: &Path) -> Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    for file in FILES.map(|name| module.join(name)) {
        sum.update(&std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::PROGRAMS;

    #[test]
    fn a_program_of_the_projects_own_moves_when_its_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        for name in FILES {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let before = checksum(folder.path()).unwrap();
        std::fs::write(folder.path().join("main.go"), "package main").unwrap();
        assert_ne!(checksum(folder.path()).unwrap(), before);
    }

    #[test]
    fn programs_of_one_version_of_a_product_lie_together() {
        let cache = Cache { root: "/c".into() };
        let of = |name: &str| cache.path(PROGRAMS.iter().find(|program| program.name == name).unwrap()).unwrap();
        assert_eq!(of("kubelet").parent(), of("kubectl").parent());
        assert_ne!(of("kubelet").parent(), of("helm").parent());
        assert!(of("coredns").starts_with("/c"));
    }
}
