//! Counters in Prometheus' text: what a component serves on `/metrics`, asked for inside the lab or a real cluster.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::Lab;
use crate::netns;

const WITHIN: Duration = Duration::from_secs(5);

/// All that one component counts, at one moment.
pub struct Counters(String);

impl Counters {
    pub fn of(text: String) -> Self {
        Self(text)
    }

    /// What a process serves on `/metrics`, as a network namespace reaches it.
    pub fn at(namespace: &str, address: SocketAddr) -> Result<Self> {
        let text = netns::within(namespace, || {
            let mut stream = TcpStream::connect_timeout(&address, WITHIN).context("connect")?;
            stream.set_read_timeout(Some(WITHIN)).context("set a timeout")?;
            // HTTP/1.0 asks for a body that ends with the connection.
            write!(stream, "GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n").context("ask")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).context("read the answer")?;
            Ok(text)
        });
        let text = text.with_context(|| format!("metrics of {address}"))?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head")?;
        ensure!(head.contains(" 200 "), "{address} answered {head:?}");
        Ok(Self(body.to_owned()))
    }

    /// Of a counter or gauge, summed over its labels; 0 where it is not there.
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, "")
    }

    /// The same over the label sets that contain `labels`.
    pub fn sum_where(&self, name: &str, labels: &str) -> f64 {
        self.samples(name).filter(|(found, _)| found.contains(labels)).map(|(_, value)| value).sum()
    }

    /// The same for each value of a label.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let start = format!("{label}=\"");
        let mut sums = BTreeMap::new();
        for (labels, value) in self.samples(name) {
            let of = labels.split_once(&start).and_then(|(_, rest)| rest.split_once('"')).map_or("", |(of, _)| of);
            *sums.entry(of.to_owned()).or_insert(0.0) += value;
        }
        sums
    }

    /// Labels and value of each line of a name.
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels, value.parse().ok()?))
        })
    }
}

/// The value of a counter or gauge, summed over the label sets that contain `labels`. Asked for from `node`.
pub fn metric(lab: &Lab, node: &str, address: SocketAddr, name: &str, labels: &str) -> Result<f64> {
    let address = format!("http://{address}/metrics");
    let place = &lab.node(node)?.place;
    let text = lab.run_in(place, "curl", &["--silent", "--fail", "--max-time", "5", &address])?;
    Ok(Counters::of(text).sum_where(name, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_by_label() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"p\"} 2\na{x=\"2\",y=\"p\"} 1.5e+01\na_more{x=\"1\"} 7\nb 3\n";
        let counters = Counters::of(text.to_owned());
        assert!((counters.sum("a") - 17.0).abs() < f64::EPSILON && (counters.sum("b") - 3.0).abs() < f64::EPSILON);
        let by = counters.by("a", "x");
        assert!((by["1"] - 2.0).abs() < f64::EPSILON && (by["2"] - 15.0).abs() < f64::EPSILON && by.len() == 2);
    }
}
