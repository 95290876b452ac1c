//! Programs of the build that tests are run with, and the libraries that they are linked with on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Built, executable};
use crate::images::contents::Program;
use crate::repo::{Repo, stdout, succeeds};

/// Built beside the programs, whatever it is: with a test in it, a build of the workspace has the features of `make test`'s,
/// and neither of the two compiles anything anew for the other.
const ANY_TEST: &str = "chart";

pub(super) fn build(repo: &Repo, wanted: &[Program]) -> Result<BTreeMap<&'static str, Built>> {
    let mut command = repo.cargo_command();
    command.args(["build", "--locked", "--workspace", "--bins", "--test", ANY_TEST]);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the programs do not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = BTreeMap::new();
    for program in wanted {
        let path = executable(&messages, program.name)?;
        built.insert(program.name, read(repo, &path).with_context(|| path.display().to_string())?);
    }
    Ok(built)
}

fn read(repo: &Repo, program: &Path) -> Result<Built> {
    let mut libraries = Vec::new();
    for library in named(&stdout(Command::new("ldd").arg(program))?)? {
        let bytes = std::fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
        libraries.push((library, bytes));
    }
    // The program is left as it is for the debugger; of its lines the image needs none.
    let small = repo.target().join("stripped");
    if !succeeds(Command::new("strip").arg("--strip-debug").arg("-o").arg(&small).arg(program))? {
        bail!("strip failed");
    }
    let bytes = std::fs::read(&small).with_context(|| format!("cannot read {}", small.display()))?;
    std::fs::remove_file(&small).with_context(|| format!("cannot remove {}", small.display()))?;
    Ok(Built { bytes, libraries })
}

/// The files in what `ldd` prints: the loader and libraries, but for what the kernel brings along.
fn named(ldd: &str) -> Result<Vec<PathBuf>> {
    if let Some(line) = ldd.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", line.trim());
    }
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(ldd.lines().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_and_libraries_are_taken_and_a_missing_one_is_named() {
        let said =
            "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-x.so.2 (0x0)\n";
        assert_eq!(named(said).unwrap(), [PathBuf::from("/lib/x/libc.so.6"), PathBuf::from("/lib64/ld-x.so.2")]);
        assert_eq!(named("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert!(named("\tliby.so => not found\n").unwrap_err().to_string().contains("liby.so"));
    }
}
