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
use mesh_store::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest,
};
use mesh_types::{ClusterId, ClusterName};

use crate::contract::{ClusterConfig, Layout, Resource, keys};

mod batch;
mod record;

pub use batch::Batch;
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
}

/// One peer's part of the local store. One writer: the peer's session.
pub struct Mirror {
    store: Arc<dyn Store>,
    peer: ClusterName,
    record: MirrorRecord,
}

impl Mirror {
    /// Reads the resume point. One that cannot be read is treated as none: everything is listed again, and nothing flaps.
    ///
    /// What was mirrored of the peer under another cluster id than `id` is removed first: its numbers mean something else now.
    pub async fn open(store: Arc<dyn Store>, peer: ClusterName, id: ClusterId) -> Result<Self, Error> {
        let key = keys::mirror(&peer);
        let found = store.range(RangeRequest::get(key.clone())).await;
        let found = found.map_err(|source| Error::Store { key: key.clone(), source })?;
        let record = found.kvs.first().and_then(|kv| match MirrorRecord::decode(&kv.value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%peer, key, %error, "resume point cannot be read, everything will be listed again");
                None
            }
        });
        let mut record = record.unwrap_or_default();
        if record.id != 0 && record.id != id.get() {
            tracing::info!(%peer, former = record.id, %id, "cluster id changed: what was mirrored under the former is removed");
            drain(&*store, &peer).await?;
            record = MirrorRecord::default();
        }
        record.id = id.get();
        Ok(Self { store, peer, record })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub fn record(&self) -> &MirrorRecord {
        &self.record
    }

    /// Forgets the resume point: the source is another store than before. What is mirrored stays until it is listed again.
    pub fn restart(&mut self, source_cluster_id: u64) {
        let MirrorRecord { id, imports_revision, .. } = self.record;
        self.record = MirrorRecord { id, source_cluster_id, imports_revision, ..MirrorRecord::default() };
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
        let is_peer = Compare {
            range: KeyRange::single(keys::peer(&self.peer)),
            result: CompareResult::Greater,
            target: CompareTarget::CreateRevision(0),
        };
        let request = TxnRequest { compare: vec![is_peer], success, failure: Vec::new() };
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

/// How many keys of one kind are mirrored.
pub async fn count(store: &dyn Store, peer: &ClusterName, resource: Resource) -> Result<i64, Error> {
    let key = Layout::Cache.prefix(resource, peer);
    let request = RangeRequest { count_only: true, serializable: true, ..RangeRequest::prefix(key.clone()) };
    store.range(request).await.map(|found| found.count).map_err(|source| Error::Store { key, source })
}

/// Removes everything that was mirrored of a cluster that is no peer any more: the configuration first, so that readers
/// stop trusting the rest, then the canaries, then the facts, what refers to others first.
pub async fn drain(store: &dyn Store, cluster: &ClusterName) -> Result<(), Error> {
    let prefix = |key: String| DeleteRangeRequest::prefix(key);
    let mut steps = vec![DeleteRangeRequest::key(keys::cluster_config(cluster)), prefix(keys::canaries(cluster))];
    steps.extend(Resource::ALL.into_iter().rev().map(|r| prefix(Layout::Cache.prefix(r, cluster))));
    steps.push(DeleteRangeRequest::key(keys::health(cluster)));
    steps.push(DeleteRangeRequest::key(keys::mirror(cluster)));
    for step in steps {
        let key = String::from_utf8_lossy(&step.range.key).into_owned();
        store.delete_range(step).await.map_err(|source| Error::Store { key, source })?;
    }
    Ok(())
}

/// Clusters of which something is mirrored although they are no peers: a removal that was interrupted.
pub async fn leftovers(store: &dyn Store, is_peer: impl Fn(&ClusterName) -> bool) -> Result<Vec<ClusterName>, Error> {
    let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(keys::MIRRORS) };
    let found = store.range(request).await.map_err(|source| Error::Store { key: keys::MIRRORS.to_owned(), source })?;
    let names = found.kvs.iter().filter_map(|kv| {
        let name = std::str::from_utf8(&kv.key).ok()?.strip_prefix(keys::MIRRORS)?;
        ClusterName::new(name).ok()
    });
    Ok(names.filter(|name| !is_peer(name)).collect())
}
