//! What a component serves on `/metrics`, asked for inside the lab.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::lab::Lab;

/// The value of a counter or gauge, summed over the label sets that contain `labels`. Asked for from `node`.
pub fn metric(lab: &Lab, node: &str, address: SocketAddr, name: &str, labels: &str) -> Result<f64> {
    let address = format!("http://{address}/metrics");
    let place = &lab.node(node)?.place;
    let text = lab.run_in(place, "curl", &["--silent", "--fail", "--max-time", "5", &address])?;
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(labels)
    });
    lines
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value.parse::<f64>().with_context(|| format!("{line:?} does not end in a number"))
        })
        .sum()
}
