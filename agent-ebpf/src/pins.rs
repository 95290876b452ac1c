//! Names and paths on the bpf file system.

use std::path::{Path, PathBuf};
use std::{fs, io};

use agent_ebpf_common::LAYOUT;

/// Names of the maps, as in the object and as pinned.
pub mod map {
    pub const IPCACHE: &str = "IPCACHE";
    pub const PREFIXES: &str = "PREFIXES";
    pub const NODES: &str = "NODES";
    pub const ENDPOINTS: &str = "ENDPOINTS";
    pub const VIPS: &str = "VIPS";
    pub const SERVICES: &str = "SERVICES";
    pub const BACKENDS: &str = "BACKENDS";
    pub const MAGLEV: &str = "MAGLEV";
    pub const FLOWS: &str = "FLOWS";
    pub const CT: &str = "CT";
    pub const REVNAT: &str = "REVNAT";
    pub const SOCK_REV: &str = "SOCK_REV";
    pub const COUNTERS: &str = "COUNTERS";
    pub const CONFIG: &str = "CONFIG";
    /// All of them.
    pub const ALL: [&str; 14] = [
        IPCACHE, PREFIXES, NODES, ENDPOINTS, VIPS, SERVICES, BACKENDS, MAGLEV, FLOWS, CT, REVNAT, SOCK_REV, COUNTERS,
        CONFIG,
    ];
}

/// Names of the programs, as in the object and as pinned.
pub mod program {
    pub const FROM_POD: &str = "from_pod";
    pub const TO_POD: &str = "to_pod";
    pub const FROM_MESH: &str = "from_mesh";
    pub const FROM_TUNNEL: &str = "from_tunnel";
    pub const TO_WAN: &str = "to_wan";
    pub const CONNECT4: &str = "connect4";
    pub const CONNECT6: &str = "connect6";
    pub const GETPEERNAME4: &str = "getpeername4";
    pub const GETPEERNAME6: &str = "getpeername6";
    /// Those that see packets.
    pub const PACKETS: [&str; 5] = [FROM_POD, TO_POD, FROM_MESH, FROM_TUNNEL, TO_WAN];
    /// Those that see sockets.
    pub const SOCKETS: [&str; 4] = [CONNECT4, CONNECT6, GETPEERNAME4, GETPEERNAME6];
}

/// `statfs` type of a bpf file system (`BPF_FS_MAGIC`, include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The folders under one bpf file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    root: PathBuf,
}

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is not a bpf file system; mount one: `mount -t bpf bpf {}`", .0.display(), .0.display())]
    NotBpffs(PathBuf),
    #[error("look at {}", path.display())]
    Stat { path: PathBuf, source: nix::Error },
    #[error("create {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("list {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

impl Pins {
    /// The project's folder under a mount point such as `/sys/fs/bpf`. Touches nothing.
    pub fn under(bpffs: &Path) -> Self {
        Self { root: bpffs.join("isthmus").join(LAYOUT) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// `at` is the device's index, or the cgroup's number.
    pub fn link(&self, program: &str, at: u64) -> PathBuf {
        self.links().join(format!("{program}-{at}"))
    }

    /// Makes the folders, after checking that they will be on a bpf file system.
    pub fn create(&self) -> Result<(), Error> {
        let mount = self.root.ancestors().nth(2).unwrap_or(Path::new("/"));
        let found = nix::sys::statfs::statfs(mount)
            .map_err(|source| Error::Stat { path: mount.to_owned(), source })?
            .filesystem_type();
        if found.0 != BPF_FS_MAGIC {
            return Err(Error::NotBpffs(mount.to_owned()));
        }
        for folder in ["maps", "programs", "links"] {
            let path = self.root.join(folder);
            fs::create_dir_all(&path).map_err(|source| Error::Create { path, source })?;
        }
        Ok(())
    }

    /// Removes every pin: links first, so that no program runs on while its maps go. Absent is fine.
    pub fn remove_all(&self) -> Result<(), Error> {
        for folder in ["links", "programs", "maps"] {
            let folder = self.root.join(folder);
            for path in list(&folder)? {
                remove(&path)?;
            }
            remove_folder(&folder)?;
        }
        remove_folder(&self.root)?;
        self.root.parent().map_or(Ok(()), remove_folder)
    }
}

/// The entries of a folder; none where it does not exist.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::List { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    entries.map(|entry| entry.map(|e| e.path()).map_err(failed)).collect()
}

/// Removes a pin; absent is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Remove { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Removes a folder if it is empty: another version's pins may lie beside.
fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(Error::Remove { path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}
