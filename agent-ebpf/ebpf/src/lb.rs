//! From a service to a backend.

use agent_ebpf_common::service::SLAB_LINE;
use agent_ebpf_common::{Addr, Backend, Service, ServiceKey, flow};

use crate::maps::{BACKENDS, MAGLEV, SERVICES};

#[inline(always)]
pub fn service(addr: Addr, port_be: u16, proto: u8) -> Option<&'static Service> {
    // SAFETY: entries are freed after a grace period (BPF_F_NO_PREALLOC).
    unsafe { SERVICES.get(&ServiceKey { addr, port_be, proto, pad: 0 }) }
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
