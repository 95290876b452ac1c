//! What arrives from outside or lies on a disk, taken from bytes that nobody meant.
//!
//! Each entry point runs one input and panics where a rule of the store breaks; each has seeds, inputs to start from.
//! `mesh-store/fuzz` feeds them by libFuzzer. Nothing else is built with this: see the feature `fuzz`.
#![allow(clippy::unwrap_used, reason = "a panic is how an input is reported")]

use mesh_store_mvcc::{Event, Image, RangeRequest, State};

mod input;

pub use input::Input;

pub use crate::etcd::hostile::seeds as request_seeds;
pub use crate::raft::hostile::{log, log_seeds, snapshot, snapshot_seeds};

/// A list of etcd's requests, as protobuf.
pub fn requests(bytes: &[u8]) {
    crate::etcd::hostile::run(bytes);
}

/// What must hold for any state.
pub fn assert_whole(state: &State) {
    let restored = State::restore(state.image());
    assert_eq!(restored.image(), state.image());
    let hash = |state: &State| state.hash_kv(0).unwrap().finish();
    assert_eq!(hash(&restored), hash(state));
    let history = |state: &State| -> Vec<Event> {
        let since = state.history_since(state.compact_revision()).unwrap();
        since.flat_map(|changes| changes.events().collect::<Vec<_>>()).collect()
    };
    assert_eq!(history(&restored), history(state), "a restored replica shows the same history");
    let all = state.range(&RangeRequest::prefix("")).unwrap();
    assert_eq!(all.kvs.len(), state.key_count());
    assert!(all.kvs.is_sorted_by(|a, b| a.key < b.key));
    for (id, _) in state.leases() {
        assert_eq!(restored.lease_keys(id), state.lease_keys(id), "a restored lease holds the same keys");
    }
    let leased: usize = state.leases().map(|(id, _)| state.lease_keys(id).unwrap().len()).sum();
    assert_eq!(leased, all.kvs.iter().filter(|kv| kv.lease != 0).count(), "every leased key is known to its lease");
    let written = postcard::to_allocvec(&state.image()).unwrap();
    assert_eq!(postcard::from_bytes::<Image>(&written).unwrap(), state.image());
}
