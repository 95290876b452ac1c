//! The `bpf(2)` calls that aya has no typed form for: batches, link queries and exchange, tcx by device index, shared memory.
//!
//! Layouts are those of `union bpf_attr` in include/uapi/linux/bpf.h. Knows file descriptors and bytes only.
#![expect(unsafe_code, reason = "raw system calls; each passes pointers to memory that outlives the call")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;

const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;

/// `BPF_NOEXIST`: for `map_update`, only where the key is new.
pub(crate) const NO_EXIST: u64 = 1;

const RDONLY: u32 = 1 << 3;
/// `BPF_F_BEFORE` without a relative program: the first in the chain.
const BEFORE: u32 = 1 << 3;

const LINK_TYPE_CGROUP: u32 = 3;
const LINK_TYPE_TCX: u32 = 11;

/// Where a program is attached (`enum bpf_attach_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    Connect4 = 10,
    Connect6 = 11,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// What a link is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Index of the device, or 0 when the device is gone.
    Device(u32),
    Cgroup(u64),
    Other(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkFacts {
    pub(crate) program_id: u32,
    pub(crate) target: Target,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MapFacts {
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a repr(C) prefix of union bpf_attr, valid for its own size for the length of the call; pointers in
    // it are to slices that the callers borrow across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(fd: i64) -> OwnedFd {
    let fd = RawFd::try_from(fd).expect("the kernel returns file descriptors that fit an int");
    // SAFETY: the kernel has just made this descriptor for this caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn address<T>(bytes: &[T]) -> u64 {
    bytes.as_ptr() as u64
}

fn length<T>(bytes: &[T]) -> u32 {
    u32::try_from(size_of_val(bytes)).expect("a key or value is smaller than 4 GiB")
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element(map: BorrowedFd<'_>, key: u64, value: u64, flags: u64) -> Element {
    Element { map: map.as_raw_fd().cast_unsigned(), pad: 0, key, value, flags }
}

/// Whether the element exists; if so its bytes are in `value`.
pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let value = value.as_mut_ptr() as u64;
    found(bpf(MAP_LOOKUP_ELEM, &mut element(map, address(key), value, 0)))
}

pub(crate) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    bpf(MAP_UPDATE_ELEM, &mut element(map, address(key), address(value), flags)).map(drop)
}

/// Whether there was something to delete.
pub(crate) fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    found(bpf(MAP_DELETE_ELEM, &mut element(map, address(key), 0, 0)))
}

/// The key after `key`, or the first one; false at the end.
pub(crate) fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let next = next.as_mut_ptr() as u64;
    found(bpf(MAP_GET_NEXT_KEY, &mut element(map, key.map_or(0, address), next, 0)))
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

#[repr(C)]
struct Batch {
    position: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

pub(crate) fn map_update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> io::Result<()> {
    let mut attr = Batch {
        position: 0,
        next: 0,
        keys: address(keys),
        values: address(values),
        count,
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    bpf(MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Position of a walk through a hash map: opaque to us.
#[derive(Default)]
pub(crate) struct Cursor {
    position: [u64; 8],
    begun: bool,
}

/// Reads up to `count` elements; returns how many there were and whether the walk is over. `ENOSPC` asks for more room.
pub(crate) fn map_lookup_batch(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let mut after = [0_u64; 8];
    let mut attr = Batch {
        position: if cursor.begun { address(&cursor.position) } else { 0 },
        next: after.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    let more = found(bpf(MAP_LOOKUP_BATCH, &mut attr))?;
    *cursor = Cursor { position: after, begun: true };
    Ok((attr.count, !more))
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

pub(crate) fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Object { path: path.as_ptr() as u64, fd: fd.as_raw_fd().cast_unsigned(), flags: 0 };
    bpf(OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pin. Links have no read-only form.
pub(crate) fn object_get(path: &Path, read_only: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = if read_only { RDONLY } else { 0 };
    bpf(OBJ_GET, &mut Object { path: path.as_ptr() as u64, fd: 0, flags }).map(owned)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    buffer: u64,
}

fn facts(fd: BorrowedFd<'_>, buffer: &mut [u32]) -> io::Result<()> {
    let length = length(buffer);
    let mut attr = InfoByFd { fd: fd.as_raw_fd().cast_unsigned(), length, buffer: buffer.as_mut_ptr() as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// `struct bpf_link_info`: type, id, program id, padding, then a union that starts with the device index or cgroup number.
pub(crate) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    let mut words = [0_u32; 16];
    facts(link, &mut words)?;
    let [kind, _id, program_id, _pad, low, high, ..] = words;
    let target = match kind {
        LINK_TYPE_TCX => Target::Device(low),
        LINK_TYPE_CGROUP => Target::Cgroup(u64::from(high) << 32 | u64::from(low)),
        other => Target::Other(other),
    };
    Ok(LinkFacts { program_id, target })
}

/// `struct bpf_map_info`: type, id, key size, value size, entries.
pub(crate) fn map_facts(map: BorrowedFd<'_>) -> io::Result<MapFacts> {
    let mut words = [0_u32; 8];
    facts(map, &mut words)?;
    let [_kind, _id, key_size, value_size, max_entries, ..] = words;
    Ok(MapFacts { key_size, value_size, max_entries })
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    hook: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// Attaches before all other programs of the device.
pub(crate) fn link_device(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<OwnedFd> {
    link(program, ifindex, hook, BEFORE)
}

/// Attaches beside other programs of the cgroup.
pub(crate) fn link_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<OwnedFd> {
    link(program, cgroup.as_raw_fd().cast_unsigned(), hook, 0)
}

fn link(program: BorrowedFd<'_>, target: u32, hook: Hook, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd().cast_unsigned();
    let mut attr = LinkCreate { program, target, hook: hook as u32, flags, relative: 0, pad: 0, expected_revision: 0 };
    bpf(LINK_CREATE, &mut attr).map(owned)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Exchanges the program of a link: each packet sees the old or the new one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

#[repr(C)]
struct ProgramQuery {
    target: u32,
    hook: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
}

/// How many programs are attached to a device of this network namespace, or to a cgroup (its file descriptor).
pub(crate) fn program_count(target: u32, hook: Hook) -> io::Result<u32> {
    // Room for none: the kernel gives their number alone.
    let mut attr =
        ProgramQuery { target, hook: hook as u32, query_flags: 0, attach_flags: 0, programs: 0, count: 0, pad: 0 };
    bpf(PROG_QUERY, &mut attr)?;
    Ok(attr.count)
}

/// The memory of a mappable array map, shared with the programs.
pub(crate) struct SharedWords {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access goes through atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    pub(crate) fn map(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, bytes })
    }

    pub(crate) fn words(&self) -> &[std::sync::atomic::AtomicU32] {
        // SAFETY: page-aligned, mapped readable and writable for as long as self lives; only ever accessed as atomics here.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes / 4) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` mapped. It cannot fail for a whole mapping.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}

/// A value of a shared type as bytes.
pub(crate) fn bytes_of<T: aya::Pod>(value: &T) -> &[u8] {
    // SAFETY: Pod types are plain integers without padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The other way round; `bytes` holds exactly one value.
pub(crate) fn value_of<T: aya::Pod>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: length checked; every bit pattern is a value of a Pod type.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}
