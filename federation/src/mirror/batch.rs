//! Changes of one peer's mirror that belong together, in the order in which they may be seen.

use std::collections::BTreeMap;

use bytes::Bytes;
use mesh_store::mvcc::{DeleteRangeRequest, PutRequest, TxnOp};
use mesh_types::ClusterName;

use super::{MirrorRecord, Watched};
use crate::contract::{Layout, Resource, keys};

/// The last word per key: a key that changes twice is written once. How far its watches have come is part of it, so that
/// the resume point can never run ahead of the facts.
#[derive(Debug, Default)]
pub struct Batch {
    /// Before the facts: the configuration's copy, and canaries of what is going (`None` deletes).
    first: BTreeMap<String, Option<Bytes>>,
    /// `None` deletes.
    facts: BTreeMap<(Resource, String), Option<Bytes>>,
    /// After the facts: canaries.
    last: BTreeMap<String, Bytes>,
    /// Events that went in, before the last word per key counted.
    events: usize,
    progress: BTreeMap<Watched, i64>,
    clock_unix_nanos: Option<u64>,
    imports_revision: Option<i64>,
}

impl Batch {
    /// Nothing to write, and no watch has moved.
    pub fn is_empty(&self) -> bool {
        !self.has_writes() && self.progress.is_empty()
    }

    /// Some key changes. Progress alone is not worth a Txn of its own.
    pub fn has_writes(&self) -> bool {
        !(self.first.is_empty() && self.facts.is_empty() && self.last.is_empty())
    }

    pub fn events(&self) -> usize {
        self.events
    }

    /// `rest` is what follows the prefix of its kind in the source.
    pub fn put(&mut self, peer: &ClusterName, resource: Resource, rest: &str, value: Bytes) {
        self.fact(peer, resource, rest, Some(value));
    }

    pub fn delete(&mut self, peer: &ClusterName, resource: Resource, rest: &str) {
        self.fact(peer, resource, rest, None);
    }

    fn fact(&mut self, peer: &ClusterName, resource: Resource, rest: &str, value: Option<Bytes>) {
        let key = format!("{}{rest}", Layout::Cache.prefix(resource, peer));
        self.facts.insert((resource, key), value);
        self.events += 1;
    }

    pub fn put_first(&mut self, key: String, value: impl Into<Bytes>) {
        self.first.insert(key, Some(value.into()));
    }

    /// Whether the peer's configuration is part of it.
    pub(super) fn has_config(&self, peer: &ClusterName) -> bool {
        self.first.get(&keys::cluster_config(peer)).is_some_and(Option::is_some)
    }

    /// A canary that must not be seen beside the facts any more.
    pub fn delete_first(&mut self, key: String) {
        self.first.insert(key, None);
    }

    pub fn put_last(&mut self, key: String, value: impl Into<Bytes>) {
        self.last.insert(key, value.into());
    }

    /// Everything of a watch up to `revision` is in this batch or was written before.
    pub fn advance(&mut self, watched: Watched, revision: i64) {
        let reached = self.progress.entry(watched).or_insert(revision);
        *reached = revision.max(*reached);
    }

    /// The peer's clock at its newest exporting Txn.
    pub fn set_clock(&mut self, unix_nanos: u64) {
        self.clock_unix_nanos = Some(unix_nanos);
    }

    /// With this batch, everything mirrored was chosen by the import rules of this revision. Not worth a Txn of its own.
    pub fn set_imports(&mut self, revision: i64) {
        self.imports_revision = Some(revision);
    }

    /// The resume point as it is once this batch is written.
    pub(super) fn move_record(&self, record: &mut MirrorRecord) {
        for (watched, revision) in &self.progress {
            record.advance(*watched, *revision);
        }
        if let Some(clock) = self.clock_unix_nanos {
            record.clock_unix_nanos = clock;
        }
        if let Some(revision) = self.imports_revision {
            record.imports_revision = revision;
        }
    }

    /// Puts by kind, then deletes by kind backwards, so that nothing visible refers to what is not there.
    pub(super) fn into_ops(self) -> Vec<TxnOp> {
        let put = |(key, value): (String, Bytes)| TxnOp::Put(PutRequest::new(key, value));
        let either = |(key, value): (String, Option<Bytes>)| match value {
            Some(value) => put((key, value)),
            None => TxnOp::DeleteRange(DeleteRangeRequest::key(key)),
        };
        let mut ops: Vec<TxnOp> = self.first.into_iter().map(either).collect();
        let mut deletes = Vec::new();
        for ((_, key), value) in self.facts {
            match value {
                Some(value) => ops.push(put((key, value))),
                None => deletes.push(TxnOp::DeleteRange(DeleteRangeRequest::key(key))),
            }
        }
        ops.extend(deletes.into_iter().rev());
        ops.extend(self.last.into_iter().map(put));
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first_and_goes_last() {
        let east = ClusterName::new("east").unwrap();
        let mut batch = Batch::default();
        batch.put_last("canary".into(), "t");
        for (resource, rest) in [
            (Resource::Services, "shop/cart"),
            (Resource::Ip, "10.0.0.1"),
            (Resource::Nodes, "w1"),
            (Resource::Identities, "70000"),
        ] {
            batch.put(&east, resource, rest, Bytes::from_static(b"1"));
            batch.delete(&east, resource, &format!("{rest}9"));
        }
        batch.put(&east, Resource::Ip, "10.0.0.2", Bytes::from_static(b"1"));
        batch.delete(&east, Resource::Ip, "10.0.0.2");
        batch.put_first("config".into(), "c");
        assert_eq!(batch.events(), 10);
        let keys: Vec<String> = batch
            .into_ops()
            .into_iter()
            .map(|op| match op {
                TxnOp::Put(put) => format!("+{}", String::from_utf8_lossy(&put.key)),
                TxnOp::DeleteRange(delete) => format!("-{}", String::from_utf8_lossy(&delete.range.key)),
                other => panic!("{other:?}"),
            })
            .map(|key| key.replace("cilium/cache/", "").replace("/v1/east", ""))
            .collect();
        let want = [
            "+config",
            "+identities/id/70000",
            "+nodes/w1",
            "+ip/10.0.0.1",
            "+services/shop/cart",
            "-services/shop/cart9",
            "-ip/10.0.0.2",
            "-ip/10.0.0.19",
            "-nodes/w19",
            "-identities/id/700009",
            "+canary",
        ];
        assert_eq!(keys, want);
    }
}
