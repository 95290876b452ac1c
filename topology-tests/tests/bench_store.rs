//! `lab-bench store` runs, whatever its figures: a benchmark that nobody runs is broken when it is wanted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use topology_tests::bench::store::{self, Plan, Scale};

const WORKLOADS: [&str; 17] = [
    "put-256B",
    "txn-compare-put-256B",
    "range-1-linearizable",
    "range-1-serializable",
    "range-1000-linearizable",
    "range-1000-serializable",
    "fanout-last-watcher",
    "fanout-memory",
    "lease-attach-in-txns-of-100",
    "lease-revoke",
    "fill-in-txns-of-100",
    "memory-of-all-members",
    "memory-after-restart",
    "restart-one-member",
    "restart-all-members",
    "failover-no-write",
    "failover-no-event",
];

#[test]
fn every_workload_runs_on_both_stores_and_a_watcher_misses_nothing() -> Result<()> {
    let out = tempfile::tempdir().context("a folder for the results")?;
    let bench = Path::new(env!("CARGO_BIN_EXE_lab-bench"));
    let run = Command::new(bench).arg("--out").arg(out.path()).args(["store", "--quick"]).output().context("run it")?;
    let told = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "lab-bench ended with {}:\n{told}", run.status);
    let text = std::fs::read_to_string(out.path().join("store.json")).context("the results")?;
    let results: serde_json::Value = serde_json::from_str(&text).context("results in JSON")?;
    for key in ["commit", "kernel", "cpu", "date", "etcd_version", "filesystem"] {
        ensure!(results[key].as_str().is_some_and(|value| !value.is_empty()), "{key} is missing in {text}");
    }
    let rows = results["rows"].as_array().context("rows")?;
    for workload in WORKLOADS {
        let row = rows.iter().find(|row| row["workload"] == workload).with_context(|| format!("{workload}: {told}"))?;
        let figure = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        ensure!(figure("isthmus") > 0.0 && figure("etcd") > 0.0 && figure("ratio") > 0.0, "{row}");
        if workload.starts_with("put") {
            ensure!(figure("isthmus_fdatasync_calls") > 0.0 && figure("etcd_fdatasync_calls") > 0.0, "{row}");
        }
        if workload == "failover-no-event" {
            ensure!(figure("isthmus_missed_events") == 0.0 && figure("isthmus_stream_errors") == 0.0, "{row}");
        }
    }
    let table = String::from_utf8_lossy(&run.stdout);
    ensure!(WORKLOADS.iter().all(|workload| table.contains(workload)), "{table}");
    Ok(())
}

#[tokio::test]
async fn a_folder_in_memory_is_refused() {
    let shared_memory = tempfile::tempdir_in("/dev/shm").expect("Linux has shared memory");
    let nothing = Path::new("/nonexistent");
    let plan = Plan {
        workloads: Vec::new(),
        scale: Scale::quick(),
        folder: shared_memory.path().join("data"),
        apiserver: nothing.to_owned(),
        etcd: nothing.to_owned(),
    };
    let error = store::run(&plan, "none").await.expect_err("nothing is durable there");
    assert!(error.to_string().contains("is on tmpfs, where fdatasync costs nothing"), "{error:#}");
}
