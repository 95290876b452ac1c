//! The one entry of the `CONFIG` array: what the agent tells all programs, and may rewrite at run time.

/// Written whole by the agent; the programs read single words, so a rewrite under traffic mixes at most old and new words.
///
/// Unset (`magic` 0) means closed: nothing enters or leaves the mesh.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// [`Config::MAGIC`] once written.
    pub magic: u32,
    /// This cluster's number.
    pub cluster: u32,
    /// The external VXLAN device; 0 while there is none.
    pub vxlan_ifindex: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Largest inner IP packet that fits the path unfragmented.
    pub mtu: u32,
    /// What SYNs are clamped to: `mtu` - 40; 0 turns clamping off.
    pub mss: u32,
    /// UDP port of the mesh's VXLAN, host order.
    pub vxlan_port: u32,
    /// Bits of an identity's local part: `identity >> identity_shift` is its cluster.
    pub identity_shift: u32,
}

impl Config {
    pub const MAGIC: u32 = 0x4953_5448;
    /// Packets of the mesh must come out of, and go into, the secure device.
    pub const FLAG_ENCRYPTION_REQUIRED: u32 = 1;

    #[inline(always)]
    pub const fn is_set(&self) -> bool {
        self.magic == Self::MAGIC
    }

    #[inline(always)]
    pub const fn requires_encryption(&self) -> bool {
        self.flags & Self::FLAG_ENCRYPTION_REQUIRED != 0
    }
}

const _: () = assert!(size_of::<Config>() == 32);
