//! The eBPF programs of the datapath. One file a program; `bin/` puts them into objects.
//!
//! What a packet goes through:
//! ```text
//!   pod ─ from_pod ─┬─ next (not the mesh's: CNI and host stack)
//!                   └─ VXLAN device ─ secure device ─ to_wan ─ uplink
//!   uplink ─ secure device ─ from_tunnel ─ VXLAN device ─ from_mesh ─ to_pod ─ pod
//! ```
//! A program answers "next" for what is not the mesh's, and drops, counted, what is the mesh's and not right.
#![no_std]

pub mod clamp;
pub mod count;
pub mod flows;
pub mod from_mesh;
pub mod from_pod;
pub mod from_tunnel;
pub mod ipcache;
pub mod lb;
pub mod maps;
pub mod nat;
pub mod packet;
pub mod sock_lb;
pub mod to_pod;
pub mod to_wan;
pub mod tunnel;

/// bpf_fib_lookup and others are for GPL-compatible programs only; the kernel reads it from this section.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program from which this is reachable.
    loop {}
}
