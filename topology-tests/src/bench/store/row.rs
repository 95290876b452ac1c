//! A line of the result: one figure of both stores, what it is beside the peer's, and whether that is what is aimed at.

use std::collections::BTreeMap;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::pair::Both;
use crate::bench::stats::{median, rounded};

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub workload: String,
    /// Clients, or watchers.
    pub clients: usize,
    pub unit: &'static str,
    /// Median over the rounds.
    pub isthmus: f64,
    pub etcd: f64,
    /// isthmus / etcd.
    pub ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
    /// Latencies, syncs and the like: `isthmus_p99_ms` and so on.
    #[serde(flatten)]
    pub detail: BTreeMap<String, f64>,
}

impl Row {
    pub(super) fn new(workload: impl Into<String>, clients: usize, unit: &'static str, figures: Both<f64>) -> Self {
        let Both { mut isthmus, mut etcd } = figures;
        let (isthmus, etcd) = (median(&mut isthmus), median(&mut etcd));
        Self {
            workload: workload.into(),
            clients,
            unit,
            isthmus: rounded(isthmus),
            etcd: rounded(etcd),
            ratio: rounded(isthmus / etcd),
            aim: None,
            is_met: None,
            detail: BTreeMap::new(),
        }
    }

    /// One more figure of each store.
    pub(super) fn with(mut self, name: &str, isthmus: f64, etcd: f64) -> Self {
        self.detail.insert(format!("isthmus_{name}"), rounded(isthmus));
        self.detail.insert(format!("etcd_{name}"), rounded(etcd));
        self
    }

    /// Says what is aimed at, in words, and whether this is it.
    pub(super) fn aiming(mut self, aim: impl Into<String>, is_met: impl FnOnce(&Self) -> bool) -> Self {
        self.is_met = Some(is_met(&self));
        self.aim = Some(aim.into());
        self
    }

    pub(super) fn isthmus_detail(&self, name: &str) -> f64 {
        self.detail.get(&format!("isthmus_{name}")).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn etcd_detail(&self, name: &str) -> f64 {
        self.detail.get(&format!("etcd_{name}")).copied().unwrap_or(f64::NAN)
    }
}

/// All rows for people. Figures that only some workloads have stand behind the ones that all have.
pub fn table(rows: &[Row]) -> Table {
    const DETAILS: [&str; 5] = ["p50_ms", "p99_ms", "cpu_us_per_call", "fdatasync_per_call", "fdatasync_mean_ms"];
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let header = ["workload", "clients", "unit", "isthmus", "etcd", "ratio", "aim", "met"].map(str::to_owned);
    table.set_header(header.into_iter().chain(DETAILS.map(|name| name.replace('_', " "))));
    for row in rows {
        let met = row.is_met.map_or("", |is_met| if is_met { "yes" } else { "NO" });
        let mut cells = vec![
            row.workload.clone(),
            row.clients.to_string(),
            row.unit.to_owned(),
            row.isthmus.to_string(),
            row.etcd.to_string(),
            row.ratio.to_string(),
            row.aim.clone().unwrap_or_default(),
            met.to_owned(),
        ];
        cells.extend(DETAILS.map(|name| match (row.isthmus_detail(name), row.etcd_detail(name)) {
            (ours, theirs) if ours.is_nan() && theirs.is_nan() => String::new(),
            (ours, theirs) => format!("{ours} / {theirs}"),
        }));
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_says_whether_the_aim_is_met() {
        let figures = Both { isthmus: vec![30.0, 10.0, 20.0], etcd: vec![5.0, 10.0, 40.0] };
        let row = Row::new("put", 7, "calls/s", figures).with("p99_ms", 1.0, 2.0);
        assert!((row.ratio - 2.0).abs() < f64::EPSILON, "{row:?}");
        let row = row.aiming("ratio >= 3", |row| row.ratio >= 3.0);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((json["isthmus"].as_f64(), json["etcd_p99_ms"].as_f64()), (Some(20.0), Some(2.0)));
        assert_eq!(json["is_met"].as_bool(), Some(false));
        assert!(table(&[row]).to_string().contains("1 / 2"));
    }
}
