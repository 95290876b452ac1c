//! What the demo found: the figures of `result.json`, the bounds that they must keep, and the table for people.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Table;
use serde::Serialize;

use crate::components::{Encryption, Store};

#[derive(Debug, Serialize)]
pub struct Outcome {
    pub encryption: String,
    /// Where the API servers kept their state.
    pub store: String,
    /// From `meshctl connect` to the first answer from the other cluster.
    pub connect_to_first_answer_ms: u64,
    /// From `meshctl connect` until every client had an answer from every target.
    pub connect_to_all_answers_ms: u64,
    pub requests: u64,
    /// Failures outside fault windows.
    pub errors: u64,
    pub errors_in_windows: u64,
    pub answers_by_cluster: BTreeMap<String, u64>,
    /// Requests that the backend saw coming from another address than the client pod's, across clusters.
    pub masqueraded_answers: u64,
    pub long_lived_connections: u64,
    pub backend_kill_failover_ms: u64,
    /// From the kill of a whole cluster to the last failure of the global service.
    pub cluster_kill_failover_ms: u64,
    pub cluster_restore_ms: u64,
    pub agent_restart_errors: u64,
    /// While the replica that led a store was down, the others being up.
    pub replica_kill_errors: u64,
    /// While all replicas of a cluster were down.
    pub apiserver_restart_errors: u64,
    /// From the kill of a tunnel process to the last failure; `None` where the kernel is the tunnel.
    pub tunnel_kill_recovery_ms: Option<u64>,
    /// Answers of the cluster that is last in the failover order, while another one had backends.
    pub answers_out_of_order: u64,
    /// Its answers once no other had any.
    pub answers_from_the_last_resort: u64,
    /// From the end of a cluster's last backend to the last failure of the global service; the slower of two switches.
    pub ordered_failover_ms: u64,
    pub clear_packets_on_wan: u64,
    pub wireguard_packets_on_wan: u64,
    pub teardown_leftovers: u64,
    pub total_s: u64,
    /// Some of the failures outside fault windows, and of the clear packets, to find their cause.
    pub samples: Vec<String>,
}

impl Outcome {
    pub(super) fn new(encryption: Encryption, store: Store) -> Self {
        Self {
            encryption: encryption.to_string(),
            store: store.to_string(),
            connect_to_first_answer_ms: 0,
            connect_to_all_answers_ms: 0,
            requests: 0,
            errors: 0,
            errors_in_windows: 0,
            answers_by_cluster: BTreeMap::new(),
            masqueraded_answers: 0,
            long_lived_connections: 0,
            backend_kill_failover_ms: 0,
            cluster_kill_failover_ms: 0,
            cluster_restore_ms: 0,
            agent_restart_errors: 0,
            replica_kill_errors: 0,
            apiserver_restart_errors: 0,
            tunnel_kill_recovery_ms: None,
            answers_out_of_order: 0,
            answers_from_the_last_resort: 0,
            ordered_failover_ms: 0,
            clear_packets_on_wan: 0,
            wireguard_packets_on_wan: 0,
            teardown_leftovers: 0,
            total_s: 0,
            samples: Vec::new(),
        }
    }

    /// The bounds that were not kept, one line each.
    pub fn broken_bounds(&self) -> Vec<String> {
        let is_clear = self.encryption == Encryption::None.to_string();
        let at_most = |name: &str, value: u64, most: u64| {
            (value > most).then(|| format!("{name} is {value}, and may be {most} at most"))
        };
        let more_than_none = |name: &str, value: u64| (value == 0).then(|| format!("{name} is 0: nothing was counted"));
        let mut broken = vec![
            at_most("connect_to_first_answer_ms", self.connect_to_first_answer_ms, 5000),
            at_most("backend_kill_failover_ms", self.backend_kill_failover_ms, 1000),
            at_most("cluster_kill_failover_ms", self.cluster_kill_failover_ms, 3000),
            at_most("errors", self.errors, 0),
            at_most("agent_restart_errors", self.agent_restart_errors, 0),
            at_most("replica_kill_errors", self.replica_kill_errors, 0),
            at_most("apiserver_restart_errors", self.apiserver_restart_errors, 0),
            at_most("answers_out_of_order", self.answers_out_of_order, 0),
            at_most("ordered_failover_ms", self.ordered_failover_ms, 1000),
            more_than_none("answers_from_the_last_resort", self.answers_from_the_last_resort),
            at_most("masqueraded_answers", self.masqueraded_answers, 0),
            at_most("teardown_leftovers", self.teardown_leftovers, 0),
            more_than_none("requests", self.requests),
        ];
        if is_clear {
            broken.push(more_than_none("clear_packets_on_wan (without encryption)", self.clear_packets_on_wan));
        } else {
            broken.push(at_most("clear_packets_on_wan", self.clear_packets_on_wan, 0));
            broken.push(more_than_none("wireguard_packets_on_wan", self.wireguard_packets_on_wan));
        }
        broken.into_iter().flatten().collect()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join("result.json");
        let text = serde_json::to_string_pretty(self).context("encode the result")? + "\n";
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::NOTHING).set_header(["FIGURE", "VALUE", "BOUND"]);
        let is_clear = self.encryption == Encryption::None.to_string();
        let answers: Vec<String> =
            self.answers_by_cluster.iter().map(|(cluster, count)| format!("{cluster} {count}")).collect();
        let tunnel = self.tunnel_kill_recovery_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let rows: [(&str, String, &str); 20] = [
            ("store of the API servers", self.store.clone(), ""),
            ("connect to first answer", format!("{} ms", self.connect_to_first_answer_ms), "5000 ms"),
            ("connect to all answers", format!("{} ms", self.connect_to_all_answers_ms), ""),
            ("requests", self.requests.to_string(), ""),
            ("errors outside fault windows", self.errors.to_string(), "0"),
            ("errors in fault windows", self.errors_in_windows.to_string(), ""),
            ("answers", answers.join(", "), ""),
            ("answers to another than the pod's address", self.masqueraded_answers.to_string(), "0"),
            ("backend killed, last failure", format!("{} ms", self.backend_kill_failover_ms), "1000 ms"),
            ("cluster killed, last failure", format!("{} ms", self.cluster_kill_failover_ms), "3000 ms"),
            ("cluster restored, all answers", format!("{} ms", self.cluster_restore_ms), ""),
            ("errors while an agent was down", self.agent_restart_errors.to_string(), "0"),
            ("errors while the leading API server was down", self.replica_kill_errors.to_string(), "0"),
            ("errors while all API servers were down", self.apiserver_restart_errors.to_string(), "0"),
            ("tunnel process killed, last failure", tunnel, ""),
            ("answers from cluster-c out of order", self.answers_out_of_order.to_string(), "0"),
            ("answers from cluster-c in its turn", self.answers_from_the_last_resort.to_string(), "> 0"),
            ("ordered failover, last failure", format!("{} ms", self.ordered_failover_ms), "1000 ms"),
            ("clear packets on the WAN", self.clear_packets_on_wan.to_string(), if is_clear { "> 0" } else { "0" }),
            ("WireGuard packets on the WAN", self.wireguard_packets_on_wan.to_string(), ""),
        ];
        for (figure, value, bound) in rows {
            table.add_row([figure, &value, bound]);
        }
        let left = self.teardown_leftovers;
        table.add_row(["left after teardown", &left.to_string(), "0"]);
        let samples: Vec<&str> = self.samples.iter().map(String::as_str).collect();
        format!("\n{table}\n{}", samples.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clear_counter_must_bite_without_encryption_and_stay_at_zero_with_it() {
        let mut outcome = Outcome::new(Encryption::Wireguard, Store::Embedded);
        (outcome.requests, outcome.answers_from_the_last_resort) = (1, 1);
        outcome.wireguard_packets_on_wan = 1;
        assert_eq!(outcome.broken_bounds(), Vec::<String>::new());
        outcome.clear_packets_on_wan = 1;
        assert_eq!(outcome.broken_bounds(), ["clear_packets_on_wan is 1, and may be 0 at most"]);
        outcome.encryption = "none".into();
        assert_eq!(outcome.broken_bounds(), Vec::<String>::new());
        outcome.clear_packets_on_wan = 0;
        assert_eq!(outcome.broken_bounds().len(), 1);
    }
}
