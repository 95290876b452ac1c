//! What a million keys of 256 bytes take in memory. A program of its own, so that nothing else allocates meanwhile.
//!
//! `ISTHMUS_MEMORY_KEYS=1000000` measures the real size; by default it is smaller, to be quick.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use mesh_store_mvcc::{Command, PutRequest, RangeRequest, State};

const VALUE_BYTES: usize = 256;
/// The promise: one and a half times the bytes of keys and values, and so much for each key.
const PER_KEY: usize = 100;

/// Resident memory of this process, from the kernel (proc(5)).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

#[test]
fn keys_take_at_most_half_as_much_again_and_a_hundred_bytes_each() {
    let keys = std::env::var("ISTHMUS_MEMORY_KEYS").map_or(200_000, |keys| keys.parse().unwrap());
    let key = |n: usize| format!("cilium/state/ip/v1/default/10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    let before = resident();
    let mut state = State::default();
    let mut raw = 0;
    for n in 0..keys {
        let key = key(n);
        raw += key.len() + VALUE_BYTES;
        // As a replica has it: decoded from the log, applied, and gone.
        let command = Command::Put(PutRequest::new(key, vec![u8::try_from(n % 251).unwrap(); VALUE_BYTES]));
        state.apply(command).result.unwrap();
    }
    let written = resident() - before;
    let all = state.range(&RangeRequest { limit: 0, ..RangeRequest::prefix("cilium/") }).unwrap();
    assert_eq!(all.kvs.len(), keys);
    drop(all);
    let first = RangeRequest { keys_only: true, count_only: false, ..RangeRequest::get(key(0)) };
    assert_eq!(state.range(&first).unwrap().count, 1);
    let limit = raw + raw / 2 + PER_KEY * keys;
    println!(
        "memory: {keys} keys, {} raw bytes a key, {} resident a key (history included), {} allowed, {} counted by the store",
        raw / keys,
        written / keys,
        limit / keys,
        state.bytes_in_use() / keys,
    );
    assert!(written <= limit, "{written} bytes are resident, {limit} are allowed");
    let counted = state.bytes_in_use();
    assert!(counted.abs_diff(written) < written / 4, "the store counts {counted} bytes, {written} are resident");
}
