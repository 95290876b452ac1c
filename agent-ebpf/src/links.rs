//! Pinned attachments: a program at a device's or a cgroup's hook. They hold without any process.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::pins::{self, Pins};
use crate::sys::{self, Hook, Target};

/// Why an attachment failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("attach {program} to {place}")]
    Attach { program: &'static str, place: String, source: io::Error },
    #[error("exchange the program of {}", path.display())]
    Exchange { path: PathBuf, source: io::Error },
    #[error("pin {}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("look at {}", path.display())]
    Inspect { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Pins(#[from] pins::Error),
}

/// What an attachment call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    New,
    /// Was attached already; the program is now this agent's.
    Kept,
}

/// An attachment that is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// As pinned: `<program>-<device index or cgroup number>`.
    pub name: String,
    pub program: String,
    pub program_id: u32,
    pub place: Place,
}

/// Where it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Device {
        ifindex: u32,
    },
    Cgroup {
        id: u64,
    },
    /// The device is gone; the pin is a leftover.
    Gone,
}

impl Link {
    pub fn is_alive(&self) -> bool {
        self.place != Place::Gone
    }
}

/// All pinned attachments, dead ones included, sorted by name.
pub fn list(pins: &Pins) -> Result<Vec<Link>, Error> {
    let mut out = Vec::new();
    for path in pins::list(&pins.links())? {
        out.extend(inspect(&path)?);
    }
    out.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn inspect(path: &Path) -> Result<Option<Link>, Error> {
    let facts = match sys::object_get(path, false).and_then(|link| sys::link_facts(link.as_fd())) {
        Ok(facts) => facts,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Inspect { path: path.to_owned(), source }),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let program = name.rsplit_once('-').map_or(name.as_str(), |(program, _)| program).to_owned();
    let place = match facts.target {
        Target::Device(0) | Target::Cgroup(0) | Target::Other(_) => Place::Gone,
        Target::Device(ifindex) => Place::Device { ifindex },
        Target::Cgroup(id) => Place::Cgroup { id },
    };
    Ok(Some(Link { name, program, program_id: facts.program_id, place }))
}

/// How many programs are attached to a device of the calling thread's network namespace, whoever attached them (tcx only).
pub fn count_at_device(ifindex: u32) -> io::Result<u32> {
    count_at(ifindex, &[Hook::TcxIngress, Hook::TcxEgress])
}

/// How many programs of the kinds that a datapath has are attached to a cgroup itself, whoever attached them.
pub fn count_at_cgroup(cgroup: BorrowedFd<'_>) -> io::Result<u32> {
    let hooks = [Hook::Connect4, Hook::Connect6, Hook::GetPeerName4, Hook::GetPeerName6];
    count_at(cgroup.as_raw_fd().cast_unsigned(), &hooks)
}

fn count_at(target: u32, hooks: &[Hook]) -> io::Result<u32> {
    hooks.iter().map(|hook| sys::program_count(target, *hook)).sum()
}

/// Attaches first in the device's chain, or exchanges the program where this device has the link already. A pin of a device
/// that had this index before and is gone is replaced.
pub(crate) fn attach_device(
    pins: &Pins,
    program: (&'static str, BorrowedFd<'_>),
    ifindex: u32,
    hook: Hook,
) -> Result<Attached, Error> {
    let (name, fd) = program;
    let path = pins.link(name, ifindex.into());
    if inspect(&path)?.is_some_and(|link| link.place == Place::Device { ifindex }) {
        exchange(&path, fd)?;
        return Ok(Attached::Kept);
    }
    pins::remove(&path)?;
    let place = || format!("device {ifindex}");
    let link = sys::link_device(fd, ifindex, hook).map_err(|source| Error::Attach {
        program: name,
        place: place(),
        source,
    })?;
    sys::object_pin(link.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
    Ok(Attached::New)
}

/// The same for a cgroup, whose number names the pin.
pub(crate) fn attach_cgroup(
    pins: &Pins,
    program: (&'static str, BorrowedFd<'_>),
    cgroup: (&Path, u64, BorrowedFd<'_>),
    hook: Hook,
) -> Result<Attached, Error> {
    let (name, fd) = program;
    let (folder, id, cgroup) = cgroup;
    let path = pins.link(name, id);
    if inspect(&path)?.is_some_and(|link| link.place == Place::Cgroup { id }) {
        exchange(&path, fd)?;
        return Ok(Attached::Kept);
    }
    pins::remove(&path)?;
    let place = || folder.display().to_string();
    let link =
        sys::link_cgroup(fd, cgroup, hook).map_err(|source| Error::Attach { program: name, place: place(), source })?;
    sys::object_pin(link.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
    Ok(Attached::New)
}

/// Every packet sees the old or the new program, none goes without.
pub(crate) fn exchange(path: &Path, program: BorrowedFd<'_>) -> Result<(), Error> {
    let link = sys::object_get(path, false).map_err(|source| Error::Inspect { path: path.to_owned(), source })?;
    sys::link_update(link.as_fd(), program).map_err(|source| Error::Exchange { path: path.to_owned(), source })
}

/// Detaches by removing the pin; absent is fine.
pub(crate) fn detach(pins: &Pins, program: &str, at: u64) -> Result<(), Error> {
    pins::remove(&pins.link(program, at)).map_err(Error::from)
}
