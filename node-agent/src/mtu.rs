//! Sizes that follow from the path, so that nobody has to set them.

/// IPv6 header, UDP header, WireGuard's data header and tag: what its outer packet adds at most.
const WIREGUARD: u32 = 40 + 8 + 32;
/// Outer IPv4 and UDP headers, VXLAN header, inner Ethernet header.
const VXLAN: u32 = 20 + 8 + 8 + 14;
/// IPv4 and TCP headers without options.
const TCP: u32 = 40;

/// Sizes of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the secure device; `None` without encryption.
    pub tunnel: Option<u32>,
    /// Largest inner packet; also the VXLAN device's.
    pub inner: u32,
    /// What SYNs are clamped to.
    pub mss: u32,
}

impl Sizes {
    /// From the uplink's MTU.
    pub fn of(path: u32, is_encrypted: bool) -> Self {
        let tunnel = is_encrypted.then(|| path.saturating_sub(WIREGUARD));
        let inner = tunnel.unwrap_or(path).saturating_sub(VXLAN);
        Self { tunnel, inner, mss: inner.saturating_sub(TCP) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_were_measured() {
        assert_eq!(Sizes::of(1500, true), Sizes { tunnel: Some(1420), inner: 1370, mss: 1330 });
        assert_eq!(Sizes::of(1500, false), Sizes { tunnel: None, inner: 1450, mss: 1410 });
        assert_eq!(Sizes::of(9001, true).inner, 8871);
    }
}
