//! `meshctl store status`.

use serde::Serialize;

use super::{Replica, exit, member_id, replicas};
use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table, Tone};

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    backend: String,
    cluster_id: String,
    member: String,
    role: &'static str,
    leader: String,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    bytes_on_disk: u64,
    bytes_in_use: u64,
    raft_term: u64,
    raft_index: u64,
    raft_applied_index: u64,
    alarms: Vec<String>,
}

impl Row {
    fn new(replica: Replica) -> Self {
        let store = replica.store;
        Self {
            context: replica.context,
            backend: store.backend,
            cluster_id: format!("{:x}", store.cluster_id),
            member: member_id(store.member_id),
            role: match (store.leader, store.is_learner) {
                (_, true) => "learner",
                (leader, _) if leader == store.member_id => "leader",
                (0, _) => "no leader",
                _ => "follower",
            },
            leader: member_id(store.leader),
            revision: store.revision,
            compact_revision: store.compact_revision,
            keys: store.keys,
            bytes_on_disk: store.db_size,
            bytes_in_use: store.db_size_in_use,
            raft_term: store.raft_term,
            raft_index: store.raft_index,
            raft_applied_index: store.raft_applied_index,
            alarms: store.alarms.iter().map(|alarm| format!("{} of {:x}", alarm.kind, alarm.member_id)).collect(),
        }
    }

    fn is_well(&self) -> bool {
        self.alarms.is_empty() && self.role != "no leader"
    }
}

fn render(rows: &[Row], colour: bool) -> String {
    let mut table = Table::new([
        "CLUSTER",
        "MEMBER",
        "ROLE",
        "REVISION",
        "COMPACTED",
        "KEYS",
        "ON DISK",
        "IN USE",
        "APPLIED",
        "ALARMS",
    ]);
    for row in rows {
        let tone = if row.role == "no leader" { Tone::Bad } else { Tone::Plain };
        table.row([
            row.context.as_str().into(),
            row.member.as_str().into(),
            Cell::toned(row.role, tone),
            row.revision.to_string().into(),
            row.compact_revision.to_string().into(),
            row.keys.to_string().into(),
            bytes(row.bytes_on_disk).into(),
            bytes(row.bytes_in_use).into(),
            row.raft_applied_index.to_string().into(),
            Cell::toned(row.alarms.join(", "), if row.alarms.is_empty() { Tone::Plain } else { Tone::Bad }),
        ]);
    }
    table.render(colour)
}

/// In the largest unit of which there are some.
fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| count >> shift >= 10);
    unit.map_or_else(|| format!("{count} B"), |(name, shift)| format!("{} {name}", count >> shift))
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let (replicas, failures) = replicas(run).await;
    run.report(&failures);
    let exit = exit(&replicas, &failures);
    let rows: Vec<Row> = replicas.into_iter().map(Row::new).collect();
    run.output.data(&rows, |rows, colour| render(rows, colour))?;
    Ok(if rows.iter().all(Row::is_well) { exit } else { exit.max(Exit::Degraded) })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_shown_in_a_unit_that_says_something() {
        assert_eq!([0, 9_999, 10_240, 64 << 20, 12 << 30].map(bytes), ["0 B", "9999 B", "10 KiB", "64 MiB", "12 GiB"]);
    }
}
