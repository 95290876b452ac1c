//! What a group's processes say of themselves: syncs from `/metrics`, memory and CPU time from `/proc`.

use std::fs;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Both stores measure each sync of their log under this name.
const LOG_SYNCS: &str = "etcd_disk_wal_fsync_duration_seconds";
/// etcd also syncs the file of its data.
const DATA_SYNCS: &str = "etcd_disk_backend_commit_duration_seconds";

/// A histogram of durations, summed over a group's members.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Syncs {
    pub(super) calls: f64,
    seconds: f64,
    /// Calls that took no longer than so many seconds.
    buckets: Vec<(f64, f64)>,
}

/// The counters of a group at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) log: Syncs,
    /// Syncs of other files.
    pub(super) data: Syncs,
    pub(super) cpu_seconds: f64,
}

impl Figures {
    pub(super) async fn add_metrics(&mut self, address: &str) -> Result<()> {
        let text = get(address, "/metrics").await.with_context(|| format!("metrics of {address}"))?;
        let log = Syncs::parse(&text, LOG_SYNCS).with_context(|| format!("{address} has no {LOG_SYNCS}"))?;
        self.log.add(&log);
        if let Some(data) = Syncs::parse(&text, DATA_SYNCS) {
            self.data.add(&data);
        }
        Ok(())
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            log: self.log.since(&before.log),
            data: self.data.since(&before.data),
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.log.add(&other.log);
        self.data.add(&other.data);
        self.cpu_seconds += other.cpu_seconds;
    }
}

impl Syncs {
    fn parse(text: &str, name: &str) -> Option<Self> {
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let single = |suffix: &str| {
            let start = format!("{name}_{suffix} ");
            text.lines().find(|line| line.starts_with(&start)).and_then(value)
        };
        let start = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, _) = line.strip_prefix(&start)?.split_once('"')?;
            Some((bound.parse().unwrap_or(f64::INFINITY), value(line)?))
        };
        let buckets = text.lines().filter_map(bucket).collect();
        Some(Self { calls: single("count")?, seconds: single("sum")?, buckets })
    }

    fn combine(&mut self, other: &Self, combine: impl Fn(f64, f64) -> f64) {
        self.calls = combine(self.calls, other.calls);
        self.seconds = combine(self.seconds, other.seconds);
        for (bound, count) in &other.buckets {
            match self.buckets.iter_mut().find(|(known, _)| known.total_cmp(bound).is_eq()) {
                Some((_, known)) => *known = combine(*known, *count),
                None => self.buckets.push((*bound, combine(0.0, *count))),
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a + b);
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.combine(before, |a, b| a - b);
        since
    }

    pub(super) fn mean_ms(&self) -> f64 {
        if self.calls > 0.0 { self.seconds / self.calls * 1e3 } else { 0.0 }
    }

    /// The upper end of the bucket in which the 99th percentile lies.
    pub(super) fn p99_below_ms(&self) -> f64 {
        let within = self.buckets.iter().filter(|(_, count)| *count >= self.calls * 0.99);
        within.map(|(bound, _)| bound * 1e3).fold(f64::INFINITY, f64::min)
    }
}

/// Seconds of CPU that a process has used, in user space and in the kernel.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("CPU time of process {pid}"))?;
    // Behind the name, which may hold anything; utime and stime are fields 14 and 15 of proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n - 3).and_then(|field| field.parse::<f64>().ok()).context("a short stat file");
    Ok((ticks(14)? + ticks(15)?) / 100.0)
}

/// Bytes of memory that a process has in use.
pub(super) fn resident_bytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("memory of {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.with_context(|| format!("process {pid} has no VmRSS"))? * 1024.0)
}

async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // 1.0, so that the answer comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.split(' ').nth(1);
    if status != Some("200") {
        bail!("answered {:?}", text.lines().next().unwrap_or_default());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_read_added_and_subtracted() {
        let text =
            "x_sum 0.5\nx_count 10\nx_bucket{le=\"0.001\"} 9\nx_bucket{le=\"0.002\"} 10\nx_bucket{le=\"+Inf\"} 10\n";
        let syncs = Syncs::parse(text, "x").unwrap();
        assert!((syncs.mean_ms() - 50.0).abs() < 1e-9);
        assert!((syncs.p99_below_ms() - 2.0).abs() < 1e-9);
        let mut twice = syncs.clone();
        twice.add(&syncs);
        assert!((twice.calls - 20.0).abs() < 1e-9);
        assert_eq!(twice.since(&syncs), syncs);
        assert_eq!(Syncs::parse(text, "y"), None);
    }

    #[test]
    fn a_process_has_memory_and_time() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 1e5);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }
}
