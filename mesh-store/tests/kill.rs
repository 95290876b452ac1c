//! kill -9 in the middle of writing: whatever was acknowledged is there afterwards, at its revision.

#![expect(clippy::disallowed_methods, reason = "a test ends its tasks with its runtime")]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mesh_store::mvcc::{PutRequest, RangeRequest};
use mesh_store::{Embedded, Metrics, Options, Store};

const CHILD: &str = "ISTHMUS_TEST_STORE_DIR";
const ROUNDS: usize = 4;
const ACKNOWLEDGED_PER_ROUND: usize = 400;

fn options(dir: impl Into<std::path::PathBuf>) -> Options {
    // Small, so that segments change and snapshots are taken while the knife falls.
    Options { segment_bytes: 64 * 1024, snapshot_log_bytes: 200 * 1024, ..Options::new(dir) }
}

/// Not a test of its own: what the test below runs as another process, and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = Embedded::open(options(dir), Metrics::detached()).await.unwrap();
    writeln!(std::io::stdout(), "cluster {}", store.cluster_id()).unwrap();
    let start = store.revision();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0_u64.. {
                    let key = format!("{start}/{writer}/{n}");
                    let response = store.put(PutRequest::new(key.clone(), vec![1; 500])).await.unwrap();
                    writeln!(std::io::stdout(), "ack {key} {}", response.revision).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut cluster = None;
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            // The harness prints on the same stream, and may have begun the first line.
            let Some(at) = words.iter().position(|word| *word == "ack" || *word == "cluster") else { return };
            match words[at..] {
                ["ack", key, revision] => {
                    acknowledged.insert(key.to_owned(), revision.parse::<i64>().unwrap());
                    seen += 1;
                }
                ["cluster", id] => {
                    assert_eq!(*cluster.get_or_insert_with(|| id.to_owned()), id);
                }
                _ => {}
            }
            if seen == ACKNOWLEDGED_PER_ROUND {
                child.kill().unwrap();
            }
        };
        // The last line may be cut in the middle: that one was not acknowledged to anybody.
        let mut previous: Option<String> = None;
        while let Some(Ok(line)) = lines.next() {
            if let Some(line) = previous.replace(line) {
                note(&line);
            }
        }
        child.wait().unwrap();
    }
    assert!(acknowledged.len() >= ROUNDS * ACKNOWLEDGED_PER_ROUND);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Embedded::open(options(dir.path()), Metrics::detached()).await.unwrap();
        assert_eq!(store.cluster_id().to_string(), cluster.unwrap());
        assert!(store.revision() >= *acknowledged.values().max().unwrap());
        for (key, revision) in &acknowledged {
            let found = store.range(RangeRequest::get(key.clone())).await.unwrap();
            assert_eq!(found.kvs.first().map(|kv| kv.mod_revision), Some(*revision), "{key}");
        }
        store.shutdown().await;
    });
}
