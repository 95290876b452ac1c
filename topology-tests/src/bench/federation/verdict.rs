//! The figures beside what is aimed at, for people.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde::Serialize;

use super::Results;

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub figure: String,
    pub value: f64,
    pub unit: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub aim: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
}

pub(super) fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut at_most = |figure: &str, value: Option<f64>, unit: &'static str, most: Option<f64>| {
        let Some(value) = value else { return };
        let aim = most.map(|most| format!("<= {most}")).unwrap_or_default();
        let is_met = most.map(|most| value <= most);
        rows.push(Row { figure: figure.to_owned(), value, unit, aim, is_met });
    };
    let count = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).map(f64::from);
    at_most("bootstrap of mirror, view and agent", results.bootstrap_s, "s", Some(15.0));
    at_most("the same, three replicas", results.bootstrap_three_replicas_s, "s", None);
    at_most("warm restart", results.warm_restart_s, "s", Some(15.0));
    let rewritten = results.warm_restart_keys_rewritten.map(|n| n as u64);
    at_most("keys that the restart wrote again", count(rewritten), "", Some(0.0));
    at_most("API server's memory", results.apiserver_rss_mib, "MiB", Some(600.0));
    at_most("its peak", results.apiserver_peak_rss_mib, "MiB", None);
    at_most("its memory after the restart", results.apiserver_rss_after_restart_mib, "MiB", Some(600.0));
    at_most("burst in the other store", results.burst_1000_keys_s, "s", Some(0.5));
    at_most("change to agent, p50", results.change_p50_ms, "ms", Some(10.0));
    at_most("change to agent, p99", results.change_p99_ms, "ms", Some(100.0));
    at_most("reconnections meanwhile", count(results.reconnections), "", Some(0.0));
    for (clusters, p99) in &results.change_p99_ms_by_clusters {
        at_most(&format!("change to agent, p99, {clusters} clusters"), Some(*p99), "ms", None);
    }
    for (clusters, cpu) in &results.cpu_us_per_change_by_clusters {
        at_most(&format!("CPU per change, {clusters} clusters"), Some(*cpu), "us", None);
    }
    at_most("bytes per backend change", results.bytes_per_backend_change, "B", Some(200.0));
    at_most("backend change to agent, p50", results.backend_change_p50_ms, "ms", None);
    at_most("node-agent's memory", results.agent_rss_mib, "MiB", Some(128.0));
    at_most("its peak", results.agent_peak_rss_mib, "MiB", None);
    at_most("its maps, in the kernel", results.agent_maps_mib, "MiB", None);
    at_most("node-agent's start until ready", results.agent_ready_s, "s", None);
    for (behaviour, harm) in &results.hostile {
        at_most(&format!("others' p99 beside calm: {behaviour}"), Some(harm.ratio), "x", Some(2.0));
    }
    if let Some(failover) = &results.streams {
        let streams = failover.streams;
        at_most(&format!("{streams} agents started at once"), Some(failover.start_s), "s", None);
        at_most("replica killed: the last one follows elsewhere", Some(failover.resume_last_s), "s", Some(5.0));
        at_most("whole views sent then", count(Some(failover.snapshots_after)), "", Some(0.0));
    }
    rows
}

pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(["figure", "value", "unit", "aim", "met"]);
    for row in rows {
        let met = row.is_met.map_or("", |is_met| if is_met { "yes" } else { "NO" });
        table.add_row([
            row.figure.clone(),
            row.value.to_string(),
            row.unit.to_owned(),
            row.aim.clone(),
            met.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_aim_is_told_and_one_that_was_not_measured_is_left_out() {
        let results = Results { bootstrap_s: Some(16.0), change_p50_ms: Some(3.0), ..Results::default() };
        let rows = rows(&results);
        let met: Vec<_> = rows.iter().map(|row| row.is_met).collect();
        assert_eq!(met, [Some(false), Some(true)]);
        assert!(table(&rows).to_string().contains("NO"));
    }
}
