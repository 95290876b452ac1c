//! What the measured processes say of themselves: `/metrics`, `/readyz`, and `/proc`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ANSWER: Duration = Duration::from_secs(2);

/// Whether `/readyz` is answered with 200.
pub(super) fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = BlockingStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.split(' ').nth(1) == Some("200"))
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    // 1.0, so that the answer comes in one piece and ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    if text.split(' ').nth(1) != Some("200") {
        bail!("{address}{path} answered {:?}", text.lines().next().unwrap_or_default());
    }
    Ok(text)
}

fn lines<'a>(text: &'a str, name: &'a str, labels: &'a str) -> impl Iterator<Item = f64> + 'a {
    let is_it = move |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
    };
    text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse().ok())
}

/// A figure, summed over the label sets that contain `labels`.
pub(super) fn sum_of(text: &str, name: &str, labels: &str) -> f64 {
    lines(text, name, labels).sum()
}

/// How many of those label sets have a figure of 1 or more.
pub(super) fn count_of(text: &str, name: &str, labels: &str) -> usize {
    lines(text, name, labels).filter(|figure| *figure >= 1.0).count()
}

/// MiB of a process's memory that are BPF maps of the kernel's, mapped: they count as the maps' memory.
pub(super) fn mapped_maps_mib(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).with_context(|| format!("mappings of {pid}"))?;
    let (mut is_map, mut kib) = (false, 0.0);
    for line in text.lines() {
        if let Some(resident) = line.strip_prefix("Rss:").filter(|_| is_map) {
            kib += resident.trim().trim_end_matches(" kB").parse::<f64>().context("a mapping's size")?;
        } else if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            is_map = line.ends_with("anon_inode:bpf-map");
        }
    }
    Ok(kib / 1024.0)
}

/// MiB of memory that a process has in use, and the most it ever had.
pub(super) fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("memory of {pid}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).with_context(|| format!("process {pid} has no {name}"))
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Seconds of CPU that a process has used.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))? {
        let path = task.context("a thread")?.path().join("schedstat");
        // A thread that has ended meanwhile is no loss.
        let text = fs::read_to_string(path).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(nanos / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_and_counted_by_their_labels() {
        let text = "a{peer=\"x\",state=\"Live\"} 1\na{peer=\"y\",state=\"Live\"} 0\nab{state=\"Live\"} 1\na{state=\"Stale\"} 1\nb 7\n";
        assert_eq!(count_of(text, "a", "state=\"Live\""), 1);
        assert!((sum_of(text, "a", "") - 2.0).abs() < 1e-9);
        assert!((sum_of(text, "b", "") - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_has_memory_and_time() {
        let own = std::process::id();
        let (now, peak) = memory_mib(own).unwrap();
        assert!(now > 0.1 && peak >= now);
        assert!(cpu_seconds(own).unwrap() >= 0.0);
    }
}
