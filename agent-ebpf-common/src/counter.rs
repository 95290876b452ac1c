//! `COUNTERS`: packets and bytes per program, verdict, reason, identity and cluster.

/// What is counted. See [`crate::verdict`] for the numbers.
///
/// Identity and cluster are 0 where the packet has not proved them, so that a forger cannot fill the map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct CounterKey {
    pub direction: u8,
    pub verdict: u8,
    pub reason: u8,
    pub pad: u8,
    /// Identity of the packet's source.
    pub identity: u32,
    /// The other cluster, or 0.
    pub cluster: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterValue {
    pub packets: u64,
    pub bytes: u64,
}

const _: () = assert!(size_of::<CounterKey>() == 12);
const _: () = assert!(size_of::<CounterValue>() == 16);
