//! Counting what became of packets.

use agent_ebpf_common::verdict::verdict;
use agent_ebpf_common::{CounterKey, CounterValue};
use aya_ebpf::bindings::BPF_NOEXIST;

use crate::maps::COUNTERS;
use crate::packet::SHOT;

/// Who is counted for: identity of the source, and the other cluster. Zero where not proved.
#[derive(Clone, Copy)]
pub struct Who {
    pub identity: u32,
    pub cluster: u32,
}

pub const NOBODY: Who = Who { identity: 0, cluster: 0 };

#[inline(always)]
pub fn forward(direction: u8, reason: u8, who: Who, bytes: u32) {
    add(CounterKey { direction, verdict: verdict::FORWARD, reason, pad: 0, ..key(who) }, bytes);
}

#[inline(always)]
pub fn note(direction: u8, reason: u8, who: Who, bytes: u32) {
    cold(direction as u32 | (verdict::NOTE as u32) << 8 | (reason as u32) << 16, who.identity, who.cluster, bytes);
}

/// Counts a drop; the value is the program's answer.
#[inline(always)]
pub fn drop(direction: u8, reason: u8, who: Who, bytes: u32) -> i32 {
    cold(direction as u32 | (verdict::DROP as u32) << 8 | (reason as u32) << 16, who.identity, who.cluster, bytes);
    SHOT
}

#[inline(always)]
fn key(who: Who) -> CounterKey {
    CounterKey { identity: who.identity, cluster: who.cluster, ..CounterKey::default() }
}

/// One body for the many places that are rarely reached.
#[inline(never)]
fn cold(what: u32, identity: u32, cluster: u32, bytes: u32) {
    let key = CounterKey {
        direction: what as u8,
        verdict: (what >> 8) as u8,
        reason: (what >> 16) as u8,
        pad: 0,
        identity,
        cluster,
    };
    add(key, bytes);
}

#[inline(always)]
fn add(key: CounterKey, bytes: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(&key) {
        // SAFETY: this CPU's own value, and programs are not preempted by another of their kind on it.
        unsafe {
            (*value).packets += 1;
            (*value).bytes += bytes as u64;
        }
        return;
    }
    let first = CounterValue { packets: 1, bytes: bytes as u64 };
    let _ = COUNTERS.insert(&key, &first, BPF_NOEXIST as u64);
}
