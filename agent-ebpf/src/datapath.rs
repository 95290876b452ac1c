//! Loading the programs and attaching them.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::links::{self, Attached};
use crate::maps::{self, Access, Maps};
use crate::pins::{self, Pins, map, program};
use crate::sizes::Sizes;
use crate::sys::{self, Hook};

/// The object that holds every program and map of the datapath.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath"));

/// Why the datapath could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Pins(#[from] pins::Error),
    #[error(transparent)]
    Links(#[from] links::Error),
    #[error(transparent)]
    Maps(#[from] maps::Error),
    #[error("load the eBPF object")]
    Object(#[source] EbpfError),
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    #[error("load the program {name}")]
    Program { name: &'static str, source: ProgramError },
    #[error("pin the program {name} at {}", path.display())]
    PinProgram { name: &'static str, path: PathBuf, source: io::Error },
    #[error("open the cgroup {}", path.display())]
    Cgroup { path: PathBuf, source: io::Error },
}

/// The loaded programs and the pinned maps of this node. Dropping it changes nothing: all that matters is pinned.
pub struct Datapath {
    pins: Pins,
    programs: Ebpf,
    pub maps: Maps,
}

impl Datapath {
    /// Loads this build's programs onto the maps under `bpffs` (made where absent, adopted with their content where not),
    /// and exchanges them in all attachments that an earlier agent left.
    ///
    /// A device's attachments are per network namespace: call it inside the node's.
    pub fn load_or_adopt(bpffs: &Path, sizes: Sizes) -> Result<Self, Error> {
        let pins = Pins::under(bpffs);
        pins.create()?;
        let mut loader = EbpfLoader::new();
        for name in map::ALL {
            loader.map_pin_path(name, pins.map(name));
            if let Some(entries) = sizes.of(name) {
                loader.map_max_entries(name, entries);
            }
        }
        let mut programs = loader.load(OBJECT).map_err(Error::Object)?;
        let maps = Maps::open(&pins, Access::ReadWrite)?;
        for name in program::PACKETS.into_iter().chain(program::SOCKETS) {
            load(&mut programs, name)?;
        }
        let datapath = Self { pins, programs, maps };
        for name in program::PACKETS.into_iter().chain(program::SOCKETS) {
            datapath.repin(name)?;
        }
        datapath.adopt_links()?;
        Ok(datapath)
    }

    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// A pod's host-side device: `from_pod` on what comes from the pod, `to_pod` on what goes to it.
    pub fn attach_pod(&self, ifindex: u32) -> Result<Attached, Error> {
        // Replies must be turned back from the first translated packet on, so this one first.
        self.attach(program::TO_POD, ifindex, Hook::TcxEgress)?;
        self.attach(program::FROM_POD, ifindex, Hook::TcxIngress)
    }

    /// The external VXLAN device.
    pub fn attach_vxlan(&self, ifindex: u32) -> Result<Attached, Error> {
        self.attach(program::FROM_MESH, ifindex, Hook::TcxIngress)
    }

    /// The secure device (WireGuard): a device without link header.
    pub fn attach_tunnel(&self, ifindex: u32) -> Result<Attached, Error> {
        self.attach(program::FROM_TUNNEL, ifindex, Hook::TcxIngress)
    }

    /// An uplink.
    pub fn attach_wan(&self, ifindex: u32) -> Result<Attached, Error> {
        self.attach(program::TO_WAN, ifindex, Hook::TcxEgress)
    }

    /// The cgroup under which the node's pods are.
    pub fn attach_cgroup(&self, folder: &Path) -> Result<Attached, Error> {
        let failed = |source| Error::Cgroup { path: folder.to_owned(), source };
        let cgroup = File::open(folder).map_err(failed)?;
        let id = cgroup.metadata().map_err(failed)?.ino();
        let hooks = [
            (program::GETPEERNAME4, Hook::GetPeerName4),
            (program::GETPEERNAME6, Hook::GetPeerName6),
            (program::CONNECT4, Hook::Connect4),
            (program::CONNECT6, Hook::Connect6),
        ];
        let mut done = Attached::Kept;
        for (name, hook) in hooks {
            let fd = self.fd(name)?;
            done = links::attach_cgroup(&self.pins, (name, fd), (folder, id, cgroup.as_fd()), hook)?;
        }
        Ok(done)
    }

    /// Takes every program off a device; absent is fine.
    pub fn detach_device(&self, ifindex: u32) -> Result<(), Error> {
        for name in program::PACKETS {
            links::detach(&self.pins, name, ifindex.into())?;
        }
        Ok(())
    }

    /// Takes the socket programs off a cgroup; absent is fine.
    pub fn detach_cgroup(&self, folder: &Path) -> Result<(), Error> {
        let failed = |source| Error::Cgroup { path: folder.to_owned(), source };
        let id = fs::metadata(folder).map_err(failed)?.ino();
        for name in program::SOCKETS {
            links::detach(&self.pins, name, id)?;
        }
        Ok(())
    }

    /// All attachments, those of vanished devices included.
    pub fn links(&self) -> Result<Vec<links::Link>, Error> {
        links::list(&self.pins).map_err(Error::from)
    }

    /// Removes the pins of vanished devices; returns how many there were.
    pub fn prune_links(&self) -> Result<usize, Error> {
        let dead: Vec<_> = self.links()?.into_iter().filter(|link| !link.is_alive()).collect();
        for link in &dead {
            pins::remove(&self.pins.links().join(&link.name))?;
        }
        Ok(dead.len())
    }

    /// Detaches and removes everything: for uninstalling, never at an agent's stop.
    pub fn remove(self) -> Result<(), Error> {
        self.pins.remove_all().map_err(Error::from)
    }

    /// Instructions that the verifier walked through, by program.
    pub fn verified_instructions(&self) -> Result<Vec<(&'static str, u32)>, Error> {
        let names = program::PACKETS.into_iter().chain(program::SOCKETS);
        names.map(|name| Ok((name, verified(&self.programs, name)?))).collect()
    }

    pub(crate) fn programs(&mut self) -> &mut Ebpf {
        &mut self.programs
    }

    fn attach(&self, name: &'static str, ifindex: u32, hook: Hook) -> Result<Attached, Error> {
        links::attach_device(&self.pins, (name, self.fd(name)?), ifindex, hook).map_err(Error::from)
    }

    fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, Error> {
        let program = self.programs.program(name).ok_or(Error::NoProgram(name))?;
        let fd = program.fd().map_err(|source| Error::Program { name, source })?;
        Ok(fd.as_fd())
    }

    /// The pin must follow the program: whoever attaches from an old pin brings the old code back.
    fn repin(&self, name: &'static str) -> Result<(), Error> {
        let path = self.pins.program(name);
        // A bpf file system reserves names with a dot.
        let fresh = self.pins.program(&format!("{name}-new"));
        pins::remove(&fresh)?;
        let pinned = sys::object_pin(self.fd(name)?, &fresh).and_then(|()| fs::rename(&fresh, &path));
        pinned.map_err(|source| Error::PinProgram { name, path, source })
    }

    fn adopt_links(&self) -> Result<(), Error> {
        self.prune_links()?;
        for link in self.links()? {
            let known = program::PACKETS.into_iter().chain(program::SOCKETS).find(|name| *name == link.program);
            // A program that this version no longer has.
            let Some(name) = known else {
                pins::remove(&self.pins.links().join(&link.name))?;
                continue;
            };
            links::exchange(&self.pins.links().join(&link.name), self.fd(name)?)?;
        }
        Ok(())
    }
}

/// Loads one program of an object; a classifier or a cgroup socket program.
pub(crate) fn load(object: &mut Ebpf, name: &'static str) -> Result<(), Error> {
    let program = object.program_mut(name).ok_or(Error::NoProgram(name))?;
    let loaded = match program {
        Program::SchedClassifier(program) => SchedClassifier::load(program),
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        _ => return Err(Error::NoProgram(name)),
    };
    loaded.map_err(|source| Error::Program { name, source })
}

pub(crate) fn verified(object: &Ebpf, name: &'static str) -> Result<u32, Error> {
    let program = object.program(name).ok_or(Error::NoProgram(name))?;
    let facts = program.info().map_err(|source| Error::Program { name, source })?;
    Ok(facts.verified_instruction_count().unwrap_or(0))
}
