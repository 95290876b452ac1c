//! Programs that need no file of the system they run on: linked with the C library in them.
//!
//! By glibc's own archive and not by musl: the toolchain that builds everything else has it, nothing is built twice (only the
//! programs' last step differs), and glibc's allocator and resolver are those that the tests run with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::contents::{Image, Program};
use crate::repo::Repo;

const TYPE_INTERPRETER: u32 = 3;

/// The built programs, by name.
#[derive(Debug)]
pub(super) struct Programs(BTreeMap<&'static str, Vec<u8>>);

impl Programs {
    pub(super) fn build(repo: &Repo, images: &[&Image], dev: bool) -> Result<Self> {
        let mut built = BTreeMap::new();
        for program in images.iter().flat_map(|image| image.programs) {
            if built.contains_key(program.name) {
                continue;
            }
            let path = build(repo, *program, dev)?;
            // At once: the next ordinary build puts another program there.
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if asks_for_an_interpreter(&bytes).with_context(|| path.display().to_string())? {
                bail!(
                    "{} is not static: does this toolchain have the C library's archive (libc6-dev)?",
                    path.display()
                );
            }
            built.insert(program.name, bytes);
        }
        Ok(Self(built))
    }

    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.0.get(name).cloned().with_context(|| format!("{name} was not built"))
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
}

fn build(repo: &Repo, program: Program, dev: bool) -> Result<PathBuf> {
    let mut command = repo.cargo_command();
    command.args(["rustc", "--locked", "--package", program.package, "--bin", program.name]);
    command.arg("--message-format=json-render-diagnostics");
    if !dev {
        // Code that is divided otherwise for the next build is another program. What dev builds do is left to them.
        command.arg("--release").env("CARGO_INCREMENTAL", "0");
    }
    // Names of functions stay, for backtraces; lines would be most of the image.
    command.args(["--", "-C", "target-feature=+crt-static", "-C", "strip=debuginfo"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} does not build", program.name);
    }
    executable(&String::from_utf8_lossy(&output.stdout), program.name)
}

fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("not a message of cargo: {line}"))?;
        if message.reason == "compiler-artifact" && message.target.is_some_and(|target| target.name == name) {
            if let Some(path) = message.executable {
                return Ok(path);
            }
        }
    }
    bail!("cargo built {name} and does not say where")
}

/// Whether the kernel would look for a dynamic loader: a program header of that type (ELF-64, little endian; elf(5)).
fn asks_for_an_interpreter(elf: &[u8]) -> Result<bool> {
    let number = |at: usize, bytes: usize| -> Result<u64> {
        let field = elf.get(at..at + bytes).context("the file ends in the middle of its headers")?;
        Ok(field.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("no 64-bit ELF program");
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        let at = usize::try_from(start + n * size).context("headers beyond the file")?;
        if number(at, 4)? == u64::from(TYPE_INTERPRETER) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(asks_for_an_interpreter(&own).unwrap());
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(!asks_for_an_interpreter(&elf).unwrap());
        elf[56] = 1;
        assert!(asks_for_an_interpreter(&elf[..40]).is_err());
        assert!(asks_for_an_interpreter(b"#!/bin/sh").is_err());
    }

    #[test]
    fn the_program_is_where_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"node_agent"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"node-agent"},"executable":"/t/node-agent"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executable(messages, "node-agent").unwrap(), PathBuf::from("/t/node-agent"));
        assert!(executable(messages, "mesh-tunnel").is_err());
    }
}
