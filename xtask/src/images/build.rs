//! The programs of the images, from one of two builds.
//!
//! ```text
//! release: each package by itself, optimised, with the C library in it      (what is published)
//! dev:     the build that tests are run with, and its programs' libraries   (what this machine's tests load)
//! ```
//! A release's programs need no file of the image. By glibc's own archive and not by musl: the toolchain that builds everything
//! else has it, and glibc's allocator and resolver are those that the tests run with. A dev build must cost the tests nothing:
//! it is theirs, with their features, so that nothing is compiled for it; what it is linked with goes into the image.

mod elf;
mod ordinary;
mod released;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::contents::{Image, Program};
use crate::repo::Repo;

/// A program and the files that it cannot start without.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) bytes: Vec<u8>,
    /// By their absolute paths; none where the program is static.
    pub(super) libraries: Vec<(PathBuf, Vec<u8>)>,
}

/// The built programs, by name.
#[derive(Debug)]
pub(super) struct Programs(BTreeMap<&'static str, Built>);

impl Programs {
    pub(super) fn build(repo: &Repo, images: &[&Image], dev: bool) -> Result<Self> {
        let mut wanted: Vec<Program> = images.iter().flat_map(|image| image.programs).copied().collect();
        wanted.sort_by_key(|program| program.name);
        wanted.dedup_by_key(|program| program.name);
        let built = if dev { ordinary::build(repo, &wanted)? } else { released::build(repo, &wanted)? };
        Ok(Self(built))
    }

    pub(super) fn get(&self, name: &str) -> Result<&Built> {
        self.0.get(name).with_context(|| format!("{name} was not built"))
    }
}

#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Where cargo's messages say that a program is.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("not a message of cargo: {line}"))?;
        let is_it = message.reason == "compiler-artifact"
            && message.target.is_some_and(|target| target.name == name && target.kind.iter().any(|kind| kind == "bin"));
        if let Some(path) = message.executable.filter(|_| is_it) {
            return Ok(path);
        }
    }
    bail!("cargo built {name} and does not say where")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_where_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"node_agent","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"node-agent","kind":["test"]},"executable":"/t/deps/a"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"node-agent","kind":["bin"]},"executable":"/t/node-agent"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executable(messages, "node-agent").unwrap(), PathBuf::from("/t/node-agent"));
        assert!(executable(messages, "mesh-tunnel").is_err());
    }
}
