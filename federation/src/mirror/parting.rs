//! The end of a mirror: what is done in the store with a cluster that is no peer any more, in two steps with a pause between.
//!
//! ```text
//!  mark    its configuration and the verdict on it go; the resume point says since when it is parted
//!  (pause) who reads the mirror lets go of the cluster as a whole, and not key by key
//!  drain   the resume point is void, then canaries and facts go, what refers to others first, the resume point last
//! ```
//! Whoever is interrupted, however often, can do each step again. It must never decide when: that is the service's.
//!
//! # Invariants
//! - `mark` and `drain` change nothing of a cluster that is a peer again: every Txn compares that it is none.
//! - A cluster of which something may be missing has a void resume point: who joins it again finishes the removal first.

use mesh_store::Store;
use mesh_store::mvcc::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_types::ClusterName;

use super::{Error, MirrorRecord, is_peer};
use crate::contract::{Layout, Resource, keys};

/// What a former peer left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its cluster id; 0 in what older versions mirrored.
    pub id: u32,
    /// Since when it is parted. An earlier mark stays, so that an interruption does not draw out the pause.
    pub parted_unix_nanos: u64,
}

/// The first step. `None`: nothing was ever mirrored of it, and nothing is left now.
pub async fn mark(store: &dyn Store, cluster: &ClusterName, now_unix_nanos: u64) -> Result<Option<Mark>, Error> {
    let mut success = vec![delete(keys::cluster_config(cluster)), delete(keys::health(cluster))];
    let Some(mut record) = find(store, cluster).await? else {
        apply(store, cluster, Some(is_peer(cluster, false)), success).await?;
        return Ok(None);
    };
    if record.parted_unix_nanos == 0 {
        record.parted_unix_nanos = now_unix_nanos.max(1);
        success.push(TxnOp::Put(PutRequest::new(keys::mirror(cluster), record.encode())));
    }
    apply(store, cluster, Some(is_peer(cluster, false)), success).await?;
    Ok(Some(Mark { id: record.id, parted_unix_nanos: record.parted_unix_nanos }))
}

/// The second step: everything goes that was mirrored of a cluster that is no peer.
pub async fn drain(store: &dyn Store, cluster: &ClusterName) -> Result<(), Error> {
    let record = find(store, cluster).await?.unwrap_or_default();
    remove(store, cluster, &record, Some(is_peer(cluster, false))).await
}

/// The same of a peer as well, where `condition` does not hold it off: the configuration first, so that readers stop
/// trusting the rest.
pub(super) async fn remove(
    store: &dyn Store,
    cluster: &ClusterName,
    record: &MirrorRecord,
    condition: Option<Compare>,
) -> Result<(), Error> {
    let MirrorRecord { id, parted_unix_nanos, .. } = *record;
    let void = MirrorRecord { id, parted_unix_nanos, ..MirrorRecord::default() };
    let prefix = |key: String| TxnOp::DeleteRange(DeleteRangeRequest::prefix(key));
    let mut steps = vec![
        vec![delete(keys::cluster_config(cluster)), TxnOp::Put(PutRequest::new(keys::mirror(cluster), void.encode()))],
        vec![prefix(keys::canaries(cluster))],
    ];
    steps.extend(Resource::ALL.into_iter().rev().map(|resource| vec![prefix(Layout::Cache.prefix(resource, cluster))]));
    steps.push(vec![delete(keys::health(cluster)), delete(keys::mirror(cluster))]);
    for step in steps {
        apply(store, cluster, condition.clone(), step).await?;
    }
    Ok(())
}

/// Clusters of which something is mirrored although they are no peers: their pause, or their removal, was interrupted.
pub async fn leftovers(store: &dyn Store, is_peer: impl Fn(&ClusterName) -> bool) -> Result<Vec<ClusterName>, Error> {
    let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(keys::MIRRORS) };
    let found = store.range(request).await.map_err(|source| Error::Store { key: keys::MIRRORS.to_owned(), source })?;
    let names = found.kvs.iter().filter_map(|kv| {
        let name = std::str::from_utf8(&kv.key).ok()?.strip_prefix(keys::MIRRORS)?;
        ClusterName::new(name).ok()
    });
    Ok(names.filter(|name| !is_peer(name)).collect())
}

/// The resume point; an empty one where it cannot be read, `None` where there is none.
pub(super) async fn find(store: &dyn Store, cluster: &ClusterName) -> Result<Option<MirrorRecord>, Error> {
    let key = keys::mirror(cluster);
    let found = store.range(RangeRequest::get(key.clone())).await;
    let found = found.map_err(|source| Error::Store { key: key.clone(), source })?;
    Ok(found.kvs.first().map(|kv| {
        MirrorRecord::decode(&kv.value).unwrap_or_else(|error| {
            tracing::warn!(peer = %cluster, key, %error, "resume point cannot be read, everything will be listed again");
            MirrorRecord::default()
        })
    }))
}

fn delete(key: String) -> TxnOp {
    TxnOp::DeleteRange(DeleteRangeRequest::key(key))
}

async fn apply(
    store: &dyn Store,
    cluster: &ClusterName,
    condition: Option<Compare>,
    success: Vec<TxnOp>,
) -> Result<(), Error> {
    let request = TxnRequest { compare: condition.into_iter().collect(), success, failure: Vec::new() };
    let done = store.txn(request).await;
    let done = done.map_err(|source| Error::Store { key: keys::mirror(cluster), source })?;
    if done.succeeded { Ok(()) } else { Err(Error::PeerReturned { cluster: cluster.clone() }) }
}
