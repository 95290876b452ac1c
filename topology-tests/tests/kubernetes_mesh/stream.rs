//! Commands that go on, and when they printed what: pods that ask again and again, and watches.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use serde_json::Value;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::kubectl::Kubectl;
use topology_tests::nursery;

/// Asks port 80 of an address once, as a pod's shell does. By nc: this wget crashes where a connection is led elsewhere by its
/// socket. The pause is for the server, which takes the end of what it is sent for the end of the connection.
pub(crate) fn http_get(ip: &str) -> String {
    let request = r"printf 'GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n'";
    format!("({request}; sleep 0.2) | nc -w 2 {ip} 80 | grep '^{{'")
}

/// The lines of a command that runs, with their moments. Ended when dropped.
pub(crate) struct Stream {
    child: Child,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Stream {
    pub(crate) fn of(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = nursery::spawn(command)?;
        let out = child.stdout.take().context("a command has no standard output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        // It ends with the command's output.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                kept.lock().push((Instant::now(), line));
            }
        });
        Ok(Self { child, lines })
    }

    /// A pod that asks an address over HTTP until this is dropped. A question without an answer is an empty line.
    pub(crate) fn asking(kubectl: &Kubectl, pod: &str, ip: &str) -> Result<Self> {
        let script = format!("while :; do {} || echo; done", http_get(ip));
        let mut command = kubectl.command();
        command.args(["exec", "-n", "default", pod, "--", "sh", "-c", &script]);
        Self::of(command)
    }

    /// The first line since a moment that means something, and when it came.
    pub(crate) fn first<T>(
        &self,
        what: &str,
        since: Instant,
        within: Duration,
        meaning: impl Fn(&str) -> Option<T>,
    ) -> Result<(Instant, T)> {
        wait_for(what, within, || {
            let lines = self.lines.lock();
            let mut new = lines.iter().filter(|(at, _)| *at >= since);
            let found = new.find_map(|(at, line)| meaning(line).map(|meant| (*at, meant)));
            if found.is_none() {
                let last = lines.last().map_or("nothing", |(_, line)| line);
                anyhow::bail!("{} lines, the last: {last:?}", lines.len());
            }
            Ok(found)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The answer of a workload, where its pod or its cluster is the one that is meant.
pub(crate) fn answer_of(field: &str, wanted: &str) -> impl Fn(&str) -> Option<Value> {
    let (field, wanted) = (field.to_owned(), wanted.to_owned());
    move |line| serde_json::from_str::<Value>(line).ok().filter(|answer| answer[&field] == wanted.as_str())
}
