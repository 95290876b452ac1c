//! A Go that is new enough for the module in this folder: the machine's own, or one that the machine's fetches as a module.
//!
//! Since 1.21 Go fetches a newer self when a module asks for it. Debian 12 has 1.19, which can be told to: the toolchain is
//! a module like any other, of which a newer Go would only set the modes of the programs and the names of the `go.mod`s.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The first that fetches what a module asks for.
const FETCHES_ITSELF: (u32, u32) = (1, 21);

#[derive(Debug)]
pub struct Go {
    program: PathBuf,
}

impl Go {
    /// `None` where there is no Go at all. `tools` is where one is put that has to be fetched.
    pub fn find(module: &Path, tools: &Path) -> Result<Option<Self>> {
        let Some(version) = answer(Command::new("go").arg("version")) else { return Ok(None) };
        if numbers(&version).is_some_and(|found| found >= FETCHES_ITSELF) {
            return Ok(Some(Self { program: "go".into() }));
        }
        let wanted = wanted(module)?;
        let root = tools.join(format!("go-{wanted}"));
        if !root.exists() {
            fetch(&wanted, &root).with_context(|| format!("fetch Go {wanted} by {}", version.trim()))?;
        }
        Ok(Some(Self { program: root.join("bin/go") }))
    }

    /// A command of this Go.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // A Go knows its own root; that of the machine's is another.
        command.env_remove("GOROOT");
        command
    }
}

/// `1.26.0` of the line `go 1.26.0`.
fn wanted(module: &Path) -> Result<String> {
    let file = module.join("go.mod");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("go "));
    Ok(line.with_context(|| format!("{} names no version of Go", file.display()))?.trim().to_owned())
}

/// `(1, 19)` of `go version go1.19.8 linux/amd64`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let version = version.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    Some((1, version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

fn fetch(version: &str, root: &Path) -> Result<()> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no Go is published for {other} under a name that is known here"),
    };
    let toolchain = format!("golang.org/toolchain@v0.0.1-go{version}.linux-{machine}");
    let mut download = Command::new("go");
    let told = answer(download.args(["mod", "download", "-json", &toolchain]).env("GOFLAGS", "-mod=mod"));
    let told = told.with_context(|| format!("go mod download {toolchain} failed"))?;
    let folder = field(&told, "Dir").with_context(|| format!("go mod download told no folder: {told}"))?;
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    copy(Path::new(folder), &partial)?;
    fs::rename(&partial, root).with_context(|| format!("name {}", root.display()))
}

/// A field of a JSON object that stands on a line of its own.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("\"{name}\": \"");
    json.lines().find_map(|line| line.trim().strip_prefix(&start)?.trim_end_matches(',').strip_suffix('"'))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&path, &to.join(&name))?;
            continue;
        }
        // A module may not hold another one, so the files that would make it one have other names in it.
        let target = to.join(if name == OsStr::new("_go.mod") { OsStr::new("go.mod") } else { &name });
        fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        let is_program = path.components().any(|part| part.as_os_str() == "bin" || part.as_os_str() == "tool");
        fs::set_permissions(&target, Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_is_known_by_its_version() {
        assert_eq!(numbers("go version go1.19.8 linux/amd64"), Some((1, 19)));
        assert_eq!(numbers("go version go1.26.0 linux/amd64"), Some((1, 26)));
        assert_eq!(numbers("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert_eq!(numbers("go version devel"), None);
        assert!(
            numbers(&format!("go version go{} x", wanted(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()))
                > Some((1, 21))
        );
    }

    #[test]
    fn the_folder_is_read_from_what_go_tells() {
        let told = "{\n\t\"Path\": \"golang.org/toolchain\",\n\t\"Dir\": \"/root/go/x\",\n\t\"Sum\": \"h1:\"\n}";
        assert_eq!(field(told, "Dir"), Some("/root/go/x"));
        assert_eq!(field(told, "Zip"), None);
    }
}
