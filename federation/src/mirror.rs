//! What a peer said and may say, written to the local store under `cilium/cache/...`.
//!
//! Every batch is one Txn that also moves the resume point, so a crash between the two cannot be. A batch too large for one
//! Txn is split; then only its last Txn moves the resume point, and repeating the others changes nothing.
//!
//! # Invariants
//! - Only keys of the peer's own part of `cache/`, its cluster-config copy, its canaries and its resume point are written.
//! - Nothing is written once the peer's record is gone: every Txn compares that it is there.
//! - Within a batch identities come before addresses before services; deletes go the other way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mesh_store::Store;
use mesh_store::mvcc::{Compare, CompareResult, CompareTarget, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_types::ClusterName;

use crate::contract::validate::Rules;
use crate::contract::{ClusterConfig, Layout, Resource, keys};

mod batch;
mod parting;
mod record;

pub use batch::Batch;
pub use parting::{Mark, drain, leftovers, mark};
pub use record::{MirrorRecord, Watched};

/// Operations in one Txn: room for the resume point within etcd's own limit of 128, since the store may be a real etcd.
const MAX_OPS: usize = 120;

/// Why the mirror could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach the store for {key}")]
    Store { key: String, source: mesh_store::backend::Error },
    #[error("cluster {peer} is no longer a peer")]
    PeerRemoved { peer: ClusterName },
    #[error("cluster {cluster} is a peer again")]
    PeerReturned { cluster: ClusterName },
}

/// One peer's part of the local store. One writer: the peer's session.
pub struct Mirror {
    store: Arc<dyn Store>,
    peer: ClusterName,
    record: MirrorRecord,
    /// What is mirrored is another cluster's, or what another one was allowed to say, and nobody is shown it.
    is_foreign: bool,
}

impl Mirror {
    /// Reads the resume point. One that cannot be read is treated as none: everything is listed again, and nothing flaps.
    ///
    /// What was mirrored of the peer under another cluster id than that of `rules` is removed first: its numbers mean
    /// something else now. What was mirrored by other rules is listed again, or removed where nobody is shown it.
    pub async fn open(store: Arc<dyn Store>, peer: ClusterName, rules: &Rules) -> Result<Self, Error> {
        let mut record = parting::find(&*store, &peer).await?.unwrap_or_default();
        let (id, fingerprint) = (rules.id, rules.fingerprint());
        if record.id != 0 && record.id != id.get() {
            tracing::info!(%peer, former = record.id, %id, "cluster id changed: what was mirrored under the former is removed");
            parting::remove(&*store, &peer, &record, None).await?;
            record = MirrorRecord::default();
        }
        // 0 in records of older versions.
        let is_other = ![0, fingerprint].contains(&record.rules);
        if is_other {
            tracing::info!(%peer, "it may say other things than before: everything will be listed again");
            record.revisions.clear();
        }
        // Without a source its removal had begun.
        let is_foreign = record.parted_unix_nanos != 0 && (is_other || record.source_cluster_id == 0);
        record.id = id.get();
        record.rules = fingerprint;
        let mut mirror = Self { store, peer, record, is_foreign };
        mirror.settle().await?;
        Ok(mirror)
    }

    /// Before a connection: removes what is mirrored where it is not this peer's.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.is_foreign {
            parting::remove(&*self.store, &self.peer, &self.record, None).await?;
            self.is_foreign = false;
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub fn record(&self) -> &MirrorRecord {
        &self.record
    }

    /// Forgets the resume point: the source is another store than before. What is mirrored stays until it is listed again.
    pub fn restart(&mut self, source_cluster_id: u64) {
        let MirrorRecord { id, rules, parted_unix_nanos, imports_revision, .. } = self.record;
        // Where nobody is shown what was mirrored, it need not bridge the time until all is listed.
        self.is_foreign |= parted_unix_nanos != 0 && self.record.source_cluster_id != 0;
        self.record = MirrorRecord {
            id,
            rules,
            parted_unix_nanos,
            source_cluster_id,
            imports_revision,
            ..MirrorRecord::default()
        };
    }

    /// Says that a watch must list before it can go on.
    pub fn forget(&mut self, watched: Watched) {
        self.record.revisions.remove(watched.name());
    }

    pub fn set_layout(&mut self, layout: Layout) {
        self.record.is_cached = layout == Layout::Cache;
    }

    /// Writes a batch and the resume point. Returns how many keys it wrote or deleted.
    pub async fn write(&mut self, batch: Batch) -> Result<usize, Error> {
        let mut record = self.record.clone();
        batch.move_record(&mut record);
        if batch.has_config(&self.peer) {
            record.parted_unix_nanos = 0;
        }
        let mut ops = batch.into_ops();
        let count = ops.len();
        while ops.len() > MAX_OPS {
            let rest = ops.split_off(MAX_OPS);
            self.txn(ops).await?;
            ops = rest;
        }
        ops.push(TxnOp::Put(PutRequest::new(keys::mirror(&self.peer), record.encode())));
        self.txn(ops).await?;
        self.record = record;
        Ok(count)
    }

    async fn txn(&self, success: Vec<TxnOp>) -> Result<(), Error> {
        let request = TxnRequest { compare: vec![is_peer(&self.peer, true)], success, failure: Vec::new() };
        let done = self.store.txn(request).await;
        let done = done.map_err(|source| Error::Store { key: keys::mirror(&self.peer), source })?;
        if done.succeeded { Ok(()) } else { Err(Error::PeerRemoved { peer: self.peer.clone() }) }
    }

    /// What is mirrored of one kind: what follows the prefix, and the value.
    pub async fn mirrored(&self, resource: Resource) -> Result<BTreeMap<String, Bytes>, Error> {
        let prefix = Layout::Cache.prefix(resource, &self.peer);
        let found = self.store.range(RangeRequest::prefix(prefix.clone())).await;
        let found = found.map_err(|source| Error::Store { key: prefix.clone(), source })?;
        let rest = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        Ok(found.kvs.into_iter().map(|kv| (rest(&kv.key), kv.value)).collect())
    }

    /// The peer's configuration as mirrored.
    pub async fn config(&self) -> Result<Option<ClusterConfig>, Error> {
        let key = keys::cluster_config(&self.peer);
        let found = self.store.range(RangeRequest::get(key.clone())).await;
        let found = found.map_err(|source| Error::Store { key, source })?;
        Ok(found.kvs.first().and_then(|kv| ClusterConfig::decode(&kv.value).ok()))
    }
}

/// Holds while the cluster is a peer, or while it is none.
fn is_peer(cluster: &ClusterName, is_one: bool) -> Compare {
    let result = if is_one { CompareResult::Greater } else { CompareResult::Equal };
    Compare { range: KeyRange::single(keys::peer(cluster)), result, target: CompareTarget::CreateRevision(0) }
}

/// How many keys of one kind are mirrored.
pub async fn count(store: &dyn Store, peer: &ClusterName, resource: Resource) -> Result<i64, Error> {
    let key = Layout::Cache.prefix(resource, peer);
    let request = RangeRequest { count_only: true, serializable: true, ..RangeRequest::prefix(key.clone()) };
    store.range(request).await.map(|found| found.count).map_err(|source| Error::Store { key, source })
}
