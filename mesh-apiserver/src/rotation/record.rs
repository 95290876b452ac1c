//! The two records of the store. Each is replaced as a whole, and only as it was read.

use std::collections::BTreeMap;

use certs::rotation::Rotation;
use federation::contract::keys;
use mesh_store::Store;
use mesh_store::mvcc::{Compare, PutRequest, RangeRequest, TxnOp, TxnRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Others may write the record at the same time.
const ATTEMPTS: u32 = 5;

/// Why a record could not be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach the store for {key}")]
    Store { key: &'static str, source: mesh_store::backend::Error },
    #[error("{key} in the store is not a record of this version")]
    Record { key: &'static str, source: serde_json::Error },
    #[error("{key} is being changed by several at once: try again")]
    Contended { key: &'static str },
}

/// A record with the revision at which it was last changed; 0 where there is none.
#[derive(Debug, Clone)]
pub struct Read<T> {
    pub value: Option<T>,
    mod_revision: i64,
}

/// `isthmus/v1/rotation/leaves`, JSON: who was asked to renew a leaf, and when. Each request has the next number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LeafRequests {
    pub epoch: u64,
    /// The newest request to all.
    all: u64,
    /// The newest one by common name.
    by_name: BTreeMap<String, u64>,
    pub requested_unix_seconds: u64,
}

impl LeafRequests {
    /// The newest request that concerns this leaf; 0 where none does.
    pub fn of(&self, common_name: &str) -> u64 {
        self.by_name.get(common_name).copied().unwrap_or(0).max(self.all)
    }

    /// With one more request. Without names it is to all.
    #[must_use]
    pub fn with(mut self, names: &[String], now_unix_seconds: u64) -> Self {
        self.epoch += 1;
        self.requested_unix_seconds = now_unix_seconds;
        if names.is_empty() {
            // What was asked before by name is part of this.
            (self.all, self.by_name) = (self.epoch, BTreeMap::new());
        }
        self.by_name.extend(names.iter().map(|name| (name.clone(), self.epoch)));
        self
    }
}

async fn read<T: DeserializeOwned>(store: &dyn Store, key: &'static str) -> Result<Read<T>, Error> {
    let found = store.range(RangeRequest::get(key)).await.map_err(|source| Error::Store { key, source })?;
    let Some(kv) = found.kvs.first() else { return Ok(Read { value: None, mod_revision: 0 }) };
    let value = serde_json::from_slice(&kv.value).map_err(|source| Error::Record { key, source })?;
    Ok(Read { value: Some(value), mod_revision: kv.mod_revision })
}

/// `false`: it has changed since it was read.
async fn replace<T: Serialize>(store: &dyn Store, key: &'static str, read: i64, value: &T) -> Result<bool, Error> {
    let value = serde_json::to_vec(value).expect("texts and numbers always encode");
    let request = TxnRequest {
        compare: vec![Compare::mod_revision(key, read)],
        success: vec![TxnOp::Put(PutRequest::new(key, value))],
        failure: Vec::new(),
    };
    let done = store.txn(request).await.map_err(|source| Error::Store { key, source })?;
    Ok(done.succeeded)
}

pub async fn read_ca(store: &dyn Store) -> Result<Read<Rotation>, Error> {
    read(store, keys::ROTATION_CA).await
}

/// `false`: the record has changed since it was read.
pub async fn replace_ca(store: &dyn Store, known: &Read<Rotation>, next: &Rotation) -> Result<bool, Error> {
    replace(store, keys::ROTATION_CA, known.mod_revision, next).await
}

/// The requests so far; none at all where nobody has asked.
pub async fn read_leaves(store: &dyn Store) -> Result<LeafRequests, Error> {
    Ok(read(store, keys::ROTATION_LEAVES).await?.value.unwrap_or_default())
}

/// Asks for these leaves to be renewed, or for all.
pub async fn request_leaves(store: &dyn Store, names: &[String], now_unix_seconds: u64) -> Result<(), Error> {
    let key = keys::ROTATION_LEAVES;
    for _ in 0..ATTEMPTS {
        let known = read::<LeafRequests>(store, key).await?;
        let next = known.value.unwrap_or_default().with(names, now_unix_seconds);
        if replace(store, key, known.mod_revision, &next).await? {
            return Ok(());
        }
    }
    Err(Error::Contended { key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_renewed_for_the_newest_request_that_concerns_it() {
        let named = |requests: LeafRequests, name: &str| requests.with(&[name.to_owned()], 7);
        let one = named(LeafRequests::default(), "agent-n1");
        assert_eq!((one.of("agent-n1"), one.of("agent-n2")), (1, 0));
        let all = one.with(&[], 8);
        assert_eq!((all.of("agent-n1"), all.of("agent-n2"), all.epoch), (2, 2, 2));
        let again = named(all, "agent-n2");
        assert_eq!((again.of("agent-n1"), again.of("agent-n2")), (2, 3));
        let text = serde_json::to_vec(&again).unwrap();
        assert_eq!(serde_json::from_slice::<LeafRequests>(&text).unwrap(), again);
    }
}
