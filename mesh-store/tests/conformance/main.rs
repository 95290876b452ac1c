//! One suite of rules for every backend of the trait `Store`: the embedded one, an in-memory one that is the contract and
//! nothing else, and a real etcd of three members on loopback. What passes on all three means the same on all three.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

mod external;
mod memory;
mod rules;
#[path = "../shared/watching.rs"]
mod watching;

use std::sync::Arc;

use mesh_store::{Embedded, Metrics, Options, Store};

/// Runs every rule, each below a prefix of its own, and says which one it was when one does not hold.
async fn hold_all(backend: &str, store: Arc<dyn Store>) {
    for (name, rule) in rules::ALL {
        let started = std::time::Instant::now();
        let held = tokio::spawn(rule(rules::Case::new(Arc::clone(&store), name))).await;
        assert!(held.is_ok(), "{backend} does not keep the rule {name}: see above");
        eprintln!("{backend}: {name} holds ({:?})", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_keeps_every_rule() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(Options::new(dir.path()), Metrics::detached()).await.unwrap();
    hold_all("embedded", Arc::clone(&store) as Arc<dyn Store>).await;
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_in_memory_keeps_every_rule() {
    hold_all("memory", memory::Memory::open()).await;
}
