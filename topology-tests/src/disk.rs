//! A disk of a replica's own: an ext4 image on a loop device, mounted in its node's mount namespace only, so that it goes
//! with the node. It can be full, and it can be slow: by the kernel's own throttle, nothing in the product knows of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::lab::Lab;
use crate::mesh::apiservers::state_dir;
use crate::proc;
use crate::throttle::Throttle;

/// What fills it.
const BALLAST: &str = "ballast";
/// Ballast is laid in steps of so many bytes, halved while they do not fit.
const LARGEST_STEP: i64 = 64 << 20;
const SMALLEST_STEP: i64 = 1 << 10;

#[derive(Debug)]
pub struct Disk {
    /// Its root, as the machine sees it.
    root: PathBuf,
    throttle: Option<Throttle>,
}

/// A disk for the store of every replica of a lab. The processes must not have been started yet.
pub(crate) fn for_stores(lab: &Lab, mib: u32) -> Result<BTreeMap<u64, Disk>> {
    let mut disks = BTreeMap::new();
    for cluster in &lab.topology.clusters {
        for replica in &cluster.replicas {
            let at = state_dir(lab, &cluster.name, replica.id).join("store");
            disks.insert(replica.id, Disk::mount(lab, &replica.node, &at, mib)?);
        }
    }
    Ok(disks)
}

impl Disk {
    fn mount(lab: &Lab, node: &str, at: &Path, mib: u32) -> Result<Self> {
        let place = &lab.node(node)?.place;
        std::fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
        let image = at.with_extension("image");
        let file = File::create(&image).with_context(|| format!("create {}", image.display()))?;
        file.set_len(u64::from(mib) << 20).context("give the image its size")?;
        let mut mkfs = Command::new("mkfs.ext4");
        // All of it usable, also by others than root, and nothing written later in the background.
        mkfs.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image);
        proc::output("mkfs.ext4 (of e2fsprogs)", mkfs)?;
        let mut mount = place.command("mount");
        mount.args(["-o", "loop"]).arg(&image).arg(at);
        proc::output("mount of an image on a loop device", mount)?;
        let root = place.seen_from_outside(at);
        std::fs::remove_dir(root.join("lost+found")).context("empty the new disk")?;
        let device = std::fs::metadata(&root).context("look at the new disk")?.dev();
        let throttle = Throttle::of(&lab.name, node, device)?;
        Ok(Self { root, throttle })
    }

    /// Takes all the space that is left, to the last block.
    pub fn fill(&self) -> Result<()> {
        let path = self.root.join(BALLAST);
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let (mut at, mut step) = (0, LARGEST_STEP);
        while step >= SMALLEST_STEP {
            match fallocate(&file, FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(Errno::ENOSPC) => step /= 2,
                Err(error) => return Err(error).with_context(|| format!("grow {}", path.display())),
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    pub fn make_room(&self) -> Result<()> {
        let path = self.root.join(BALLAST);
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// From now on a process's reads and writes of this disk are few a second: a sync waits for two or three of them. False
    /// where the kernel has no throttle.
    pub fn slow_down(&self, pid: u32, per_second: u32) -> Result<bool> {
        let Some(throttle) = &self.throttle else { return Ok(false) };
        throttle.set(pid, per_second)?;
        Ok(true)
    }

    pub fn speed_up(&self) -> Result<()> {
        self.throttle.as_ref().map_or(Ok(()), Throttle::lift)
    }
}
