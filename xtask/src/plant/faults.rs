//! The faults: where each is planted, and the check that must notice it.

/// A place in the source, sound and broken.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: &'static str,
    pub(super) file: &'static str,
    pub(super) sound: &'static str,
    pub(super) broken: &'static str,
    pub(super) check: Check,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// The same random requests to a real etcd.
    Differential,
    /// Requests from damaged bytes, two replicas and a restored state.
    Hostile,
    /// Worlds of one seed: crashes, partitions and changes of leader.
    Simulation,
    /// Three replicas that lose power at once under load.
    PowerLoss,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Hostile => "hostile requests",
            Self::Simulation => "simulation",
            Self::PowerLoss => "power loss",
        }
    }

    /// What cargo is to build and run.
    pub(super) fn target(self) -> &'static [&'static str] {
        match self {
            Self::Differential => &["--workspace", "--test", "differential"],
            Self::Hostile => &["--package", "mesh-store", "--lib"],
            Self::Simulation => &["--package", "mesh-store-sim", "--test", "simulation"],
            Self::PowerLoss => &["--package", "mesh-store-sim", "--test", "power_loss"],
        }
    }

    /// Which of its tests.
    pub(super) fn filter(self) -> &'static str {
        match self {
            Self::Differential => "random_requests",
            Self::Hostile => "hostile",
            Self::Simulation => "every_seed",
            Self::PowerLoss => "all_replicas",
        }
    }
}

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        what: "a transaction's comparison is off by one",
        file: "mesh-store/mvcc/src/txn.rs",
        sound: "CompareResult::Greater => order == Ordering::Greater,",
        broken: "CompareResult::Greater => order != Ordering::Less,",
        check: Check::Differential,
    },
    Fault {
        what: "a watch skips the revision after each batch",
        file: "mesh-store/src/raft/watch.rs",
        sound: "self.cursor = reached + 1;",
        broken: "self.cursor = reached + 2;",
        check: Check::Differential,
    },
    Fault {
        what: "a deletion uses the revision again that is there",
        file: "mesh-store/mvcc/src/state/write.rs",
        sound: "            self.state.revision = self.main;\n",
        broken: "            self.state.revision = self.main - i64::from(self.changed[0].is_deletion());\n",
        check: Check::Differential,
    },
    Fault {
        what: "leases live half as long as granted",
        file: "mesh-store/src/raft/lease_clock.rs",
        sound: "Duration::from_secs(ttl.unsigned_abs())",
        broken: "Duration::from_secs(ttl.unsigned_abs() / 2)",
        check: Check::Differential,
    },
    Fault {
        what: "a compaction drops versions that can still be read",
        file: "mesh-store/mvcc/src/keyspace.rs",
        sound: "let keep_newest = !newest.is_deletion() || newest.mod_revision == revision;",
        broken: "let keep_newest = newest.mod_revision == revision;",
        check: Check::Differential,
    },
    Fault {
        what: "a key may be put twice beside a deletion",
        file: "mesh-store/mvcc/src/txn.rs",
        sound: "if self.deletes_key(key) || !self.puts.insert(key) {",
        broken: "if self.deletes_key(key) || (!self.puts.insert(key) && self.deletes.is_empty()) {",
        check: Check::Differential,
    },
    Fault {
        what: "a snapshot forgets which keys a lease holds",
        file: "mesh-store/mvcc/src/state.rs",
        sound: "filter(|record| record.lease != 0)",
        broken: "filter(|record| record.lease > 1)",
        check: Check::Hostile,
    },
    Fault {
        what: "a transaction may attach keys to a lease that is not there",
        file: "mesh-store/mvcc/src/state/write.rs",
        sound: "                self.check_present(put)?;\n                self.check_lease(put)\n",
        broken: "                self.check_present(put)\n",
        check: Check::Hostile,
    },
    Fault {
        what: "a write is acknowledged before it is synced",
        file: "mesh-store/src/raft/log/segment.rs",
        sound: "self.file.write_at(records, self.tail)?;\n        self.file.sync_data()?;",
        broken: "self.file.write_at(records, self.tail)?;",
        check: Check::Simulation,
    },
    Fault {
        what: "a write is acknowledged before it is synced, all at once",
        file: "mesh-store/src/raft/log/segment.rs",
        sound: "self.file.write_at(records, self.tail)?;\n        self.file.sync_data()?;",
        broken: "self.file.write_at(records, self.tail)?;",
        check: Check::PowerLoss,
    },
    Fault {
        what: "a leader that was replaced answers reads unasked",
        file: "mesh-store/src/raft/read_index.rs",
        sound: "Some(Leader::Here) => {",
        broken: "Some(Leader::Here) if self.raft.metrics().borrow().last_applied.is_some() => {\n                Ok(self.raft.metrics().borrow().last_applied.map_or(0, |last| last.index))\n            }\n            Some(Leader::Here) => {",
        check: Check::Simulation,
    },
    Fault {
        what: "a restarted leader leads on, unsure of what was committed",
        file: "mesh-store/src/raft/log_store.rs",
        sound: "vote.committed = false;",
        broken: "vote.committed |= false;",
        check: Check::Simulation,
    },
    Fault {
        what: "a lease that is not renewed in time is gone at once",
        file: "mesh-store/src/raft/leadership.rs",
        sound: "Renewal::Ended => {}",
        broken: "Renewal::Ended => return Ok(None),",
        check: Check::Simulation,
    },
    Fault {
        what: "a change of leader does not restart the leases",
        file: "mesh-store/src/raft/leadership.rs",
        sound: "self.replica.restart_leases();",
        broken: "let _ = &self.replica;",
        check: Check::Simulation,
    },
];
