use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::Backoff;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_end_of_a_vital_task_stops_the_process_and_says_why() {
    let tasks = TaskSet::new(Shutdown::new());
    tasks.spawn("store", OnExit::Shutdown, async { Err::<(), _>(std::io::Error::other("disk gone")) });
    tasks.run_until_stopped(SOON).await.unwrap();
    assert_eq!(tasks.shutdown().cause(), Some(&Cause::Failure("task \"store\" failed: disk gone".into())));
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let tasks = TaskSet::new(Shutdown::new());
    tasks.spawn("index", OnExit::Shutdown, async { assert_eq!(1, 2, "bug {}", 1) });
    tasks.run_until_stopped(SOON).await.unwrap();
    let why = tasks.shutdown().cause().unwrap().to_string();
    assert!(why.starts_with("task \"index\" failed: panicked: ") && why.contains("bug 1"), "{why}");
}

#[tokio::test]
async fn a_logged_task_stops_nothing() {
    let tasks = TaskSet::new(Shutdown::new());
    tasks.spawn("once", OnExit::Log, async {});
    tasks.join(SOON).await.unwrap();
    assert!(!tasks.shutdown().is_requested() && tasks.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarting_task_runs_until_the_process_stops() {
    let tasks = TaskSet::new(Shutdown::new());
    let runs = Arc::new(AtomicU32::new(0));
    let (counted, shutdown) = (Arc::clone(&runs), tasks.shutdown().clone());
    tasks.spawn_restarting("session", Backoff::default(), move || {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        let shutdown = shutdown.clone();
        async move {
            match run {
                0 => panic!("first"),
                1 => Err(std::io::Error::other("second")),
                _ => {
                    shutdown.trigger(Cause::Requested("seen enough".into()));
                    Ok(())
                }
            }
        }
    });
    tasks.run_until_stopped(SOON).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn late_tasks_are_named_and_aborted() {
    let tasks = TaskSet::new(Shutdown::new());
    tasks.spawn("stuck", OnExit::Log, std::future::pending::<()>());
    let aborted = tasks.spawn("aborted", OnExit::Log, std::future::pending::<()>());
    aborted.abort();
    let late = tasks.join(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.to_string(), "not stopped within 50 ms, aborted: stuck");
    assert!(tasks.names().is_empty());
}
