//! Ports for servers that must be told theirs.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// Below the range that the kernel takes ports for outgoing connections from, so that nobody is given one of these by chance:
/// a server that was killed finds its own free again.
const PORTS: Range<u16> = 20_000..32_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Ports that are free on every address. A process is never given one twice before all have had their turn, and processes
/// begin at different places.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

pub(crate) fn free_port() -> Result<u16> {
    // Neighbouring processes start a few hundred ports from each other.
    const APART: u32 = 389;
    let first = std::process::id().wrapping_mul(APART);
    for _ in PORTS {
        let turn = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(turn)?;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("none of the ports {PORTS:?} is free on all addresses");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_on_any_address_is_passed_over_and_none_comes_twice() {
        let [first] = free_ports().unwrap();
        let next = if first + 1 == PORTS.end { PORTS.start } else { first + 1 };
        // Whoever has it, it is taken now.
        let _held = TcpListener::bind(("127.0.0.9", next));
        let ports: [u16; 3] = free_ports().unwrap();
        assert!(!ports.contains(&next) && !ports.contains(&first), "{first}, {next}, {ports:?}");
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
    }
}
