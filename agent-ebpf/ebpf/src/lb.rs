//! From a service to a backend.

use agent_ebpf_common::service::{SLAB_LINE, vips};
use agent_ebpf_common::{Addr, Backend, Service, ServiceKey, flow};

use crate::maps::{BACKENDS, MAGLEV, SERVICES, VIPS};

/// Whether the address may be a service's. False is certain.
#[inline(always)]
pub fn may_be_service(addr: &Addr) -> bool {
    let (line, word, mask) = vips::place(vips::bit(addr));
    let Some(words) = VIPS.get_ptr(line) else { return false };
    // SAFETY: the pointer is valid for the run, and the index is below the line's length. Volatile: the agent writes it.
    unsafe { words.cast::<u32>().add(word).read_volatile() & mask != 0 }
}

#[inline(always)]
pub fn service(addr: Addr, port_be: u16, proto: u8) -> Option<&'static Service> {
    let [a, b, c, d] = addr.0;
    // SAFETY: ServiceKey is repr(C): four words, then port, protocol and padding in one word on this little-endian target.
    // Whole words for the same reason as in a flow's key. Entries are freed after a grace period (BPF_F_NO_PREALLOC).
    unsafe {
        let key: ServiceKey = core::mem::transmute([a, b, c, d, port_be as u32 | (proto as u32) << 16]);
        SERVICES.get(&key)
    }
}

/// The backend for a hash, with its number. `None` without backends.
#[inline(always)]
pub fn choose(service: &Service, hash: u32) -> Option<(u32, &'static Backend)> {
    let number = if service.table_len == 0 {
        service.backend
    } else {
        let entry = service.table_offset.wrapping_add(flow::index(hash, service.table_len));
        let line = MAGLEV.get_ptr(entry / SLAB_LINE)?;
        // SAFETY: the pointer is valid for the run, and the index is below the line's length. Volatile: the agent writes it.
        unsafe { line.cast::<u32>().add((entry % SLAB_LINE) as usize).read_volatile() }
    };
    let backend = live(number)?;
    Some((number, backend))
}

/// The backend of a number in use.
#[inline(always)]
pub fn live(number: u32) -> Option<&'static Backend> {
    let backend = BACKENDS.get(number)?;
    if backend.is_live() { Some(backend) } else { None }
}
