//! Joined clusters as the store keeps them: what each declared, and since when it is a member.
//!
//! Owns the records under `isthmus/v1/peers/` and the own cluster's at `isthmus/v1/cluster`. A declaration is what the
//! other side said when it joined; of what a peer sends later only its trust bundle changes it, by the rules of
//! [`crate::trust`].

use std::time::Duration;

use ipnet::IpNet;
use mesh_proto::convert::{prefix, prefix_message};
use mesh_proto::v1;
use mesh_store::Store;
use mesh_store::mvcc::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::keys;
use crate::contract::validate::Rules;

mod cilium;

pub use cilium::{AccessError, CiliumAccess, CiliumEndpoint};

/// How often an Isthmus exporter writes its heartbeat.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// What a cluster tells another about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    pub name: ClusterName,
    pub id: ClusterId,
    pub uuid: Uuid,
    /// CA certificates, PEM. Trusted for this cluster only.
    pub trust_bundle_pem: String,
    /// `host:port` of the etcd API.
    pub etcd_endpoints: Vec<String>,
    /// `host:port` of Join, admin and agent calls.
    pub mesh_endpoints: Vec<String>,
    pub pod_prefixes: Vec<IpNet>,
    pub node_prefixes: Vec<IpNet>,
    pub service_prefixes: Vec<IpNet>,
    pub layout: IdentityLayout,
    pub encryption: Encryption,
    pub version: String,
}

/// A joined cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    pub declaration: Declaration,
    pub connected_since_unix_nanos: u64,
    /// How often its exporter writes a heartbeat: 5 for Isthmus, 60 for Cilium.
    pub heartbeat_seconds: u32,
    /// `None`: it is an Isthmus cluster, which is asked as `remote-<own>` under its own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cilium: Option<CiliumAccess>,
    /// The uid of the object of this cluster's Kubernetes that holds the membership: it ends with that object alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach the store for {key}")]
    Store { key: String, source: mesh_store::backend::Error },
    #[error("{key} in the store is not a record of this version")]
    Record { key: String, source: serde_json::Error },
}

/// Why a declaration from the wire was refused.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the declaration's {field} {value:?} is not valid")]
    Field { field: &'static str, value: String },
    #[error("the declaration's prefixes are not valid")]
    Prefix(#[from] mesh_proto::convert::Error),
}

impl Declaration {
    /// What this cluster may say, as rules for the mirror.
    pub fn rules(&self) -> Rules {
        Rules {
            name: self.name.clone(),
            id: self.id,
            layout: self.layout,
            pod_prefixes: self.pod_prefixes.clone(),
            node_prefixes: self.node_prefixes.clone(),
            service_prefixes: self.service_prefixes.clone(),
        }
    }

    /// The name its server certificates carry, whatever address it is reached at.
    pub fn server_name(&self) -> String {
        server_name(&self.name)
    }
}

/// DNS name in a cluster's server certificates.
pub fn server_name(cluster: &ClusterName) -> String {
    format!("{cluster}.mesh.isthmus.io")
}

impl PeerRecord {
    pub fn isthmus(declaration: Declaration, now_unix_nanos: u64) -> Self {
        let heartbeat_seconds = u32::try_from(HEARTBEAT.as_secs()).expect("a constant of a few seconds");
        Self { declaration, connected_since_unix_nanos: now_unix_nanos, heartbeat_seconds, cilium: None, held_by: None }
    }

    /// A Cilium cluster, whose declaration is what its people wrote down for it.
    pub fn cilium(declaration: Declaration, access: CiliumAccess, now_unix_nanos: u64) -> Self {
        Self {
            declaration,
            connected_since_unix_nanos: now_unix_nanos,
            heartbeat_seconds: cilium::HEARTBEAT_SECONDS,
            cilium: Some(access),
            held_by: None,
        }
    }

    /// The name that the server at its `n`th endpoint proves to have.
    pub fn server_name(&self, n: usize) -> String {
        let of_cilium = self.cilium.as_ref().and_then(|access| access.endpoints.get(n));
        of_cilium.map_or_else(|| self.declaration.server_name(), |endpoint| endpoint.server_name.clone())
    }

    /// The same but for what a session goes on with: the CAs that are trusted for it, and who holds it.
    pub fn keeps_its_session(&self, other: &Self) -> bool {
        let mut same = Self { held_by: other.held_by.clone(), ..self.clone() };
        same.declaration.trust_bundle_pem.clone_from(&other.declaration.trust_bundle_pem);
        self != other && same == *other
    }

    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds.max(1).into())
    }

    /// The write that stores it.
    pub fn to_put(&self) -> PutRequest {
        let value = serde_json::to_vec(self).expect("a record of strings and numbers always encodes");
        PutRequest::new(keys::peer(&self.declaration.name), value)
    }

    pub fn decode(key: &str, value: &[u8]) -> Result<Self, Error> {
        decode(key, value)
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|source| Error::Record { key: key.to_owned(), source })
}

fn store_error(key: &str) -> impl FnOnce(mesh_store::backend::Error) -> Error + use<'_> {
    move |source| Error::Store { key: key.to_owned(), source }
}

async fn get<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<T>, Error> {
    let found = store.range(RangeRequest::get(key.to_owned())).await.map_err(store_error(key))?;
    found.kvs.first().map(|kv| decode(key, &kv.value)).transpose()
}

/// The own cluster, once bootstrap has written it.
pub async fn own(store: &dyn Store) -> Result<Option<Declaration>, Error> {
    get(store, keys::OWN_CLUSTER).await
}

pub async fn put_own(store: &dyn Store, own: &Declaration) -> Result<(), Error> {
    let value = serde_json::to_vec(own).expect("a record of strings and numbers always encodes");
    let put = PutRequest::new(keys::OWN_CLUSTER, value);
    store.put(put).await.map(drop).map_err(store_error(keys::OWN_CLUSTER))
}

pub async fn find(store: &dyn Store, name: &ClusterName) -> Result<Option<PeerRecord>, Error> {
    get(store, &keys::peer(name)).await
}

/// All joined clusters, in order of their names.
pub async fn list(store: &dyn Store) -> Result<Vec<PeerRecord>, Error> {
    let found = store.range(RangeRequest::prefix(keys::PEERS)).await.map_err(store_error(keys::PEERS))?;
    found.kvs.iter().map(|kv| decode(&String::from_utf8_lossy(&kv.key), &kv.value)).collect()
}

/// Ends a membership on this side: the session stops, then what was mirrored is removed. False if there was none.
pub async fn disconnect(store: &dyn Store, name: &ClusterName) -> Result<bool, Error> {
    let key = keys::peer(name);
    let request = DeleteRangeRequest::key(key.clone());
    store.delete_range(request).await.map(|done| done.deleted > 0).map_err(store_error(&key))
}

/// Says who holds a membership, if it still is `former`'s to say. False if there is no such membership.
pub async fn hold(
    store: &dyn Store,
    name: &ClusterName,
    former: Option<&str>,
    holder: Option<&str>,
) -> Result<bool, Error> {
    let key = keys::peer(name);
    let found = store.range(RangeRequest::get(key.clone())).await.map_err(store_error(&key))?;
    let Some(kv) = found.kvs.first() else { return Ok(false) };
    let record = PeerRecord::decode(&key, &kv.value)?;
    if record.held_by.as_deref() != former {
        return Ok(false);
    }
    let record = PeerRecord { held_by: holder.map(str::to_owned), ..record };
    let request = TxnRequest {
        compare: vec![Compare::mod_revision(key.clone(), kv.mod_revision)],
        success: vec![TxnOp::Put(record.to_put())],
        failure: Vec::new(),
    };
    store.txn(request).await.map(|done| done.succeeded).map_err(store_error(&key))
}

impl From<&Declaration> for v1::ClusterDeclaration {
    fn from(own: &Declaration) -> Self {
        let prefixes = |list: &[IpNet]| list.iter().map(prefix_message).collect();
        Self {
            name: own.name.to_string(),
            id: own.id.get(),
            uuid: own.uuid.to_string(),
            trust_bundle_pem: own.trust_bundle_pem.clone(),
            etcd_endpoints: own.etcd_endpoints.clone(),
            mesh_endpoints: own.mesh_endpoints.clone(),
            pod_prefixes: prefixes(&own.pod_prefixes),
            node_prefixes: prefixes(&own.node_prefixes),
            service_prefixes: prefixes(&own.service_prefixes),
            max_connected_clusters: own.layout.max_clusters(),
            encryption: v1::Encryption::from(own.encryption).into(),
            version: own.version.clone(),
        }
    }
}

impl TryFrom<v1::ClusterDeclaration> for Declaration {
    type Error = WireError;

    fn try_from(said: v1::ClusterDeclaration) -> Result<Self, WireError> {
        let bad = |field: &'static str, value: &dyn ToString| WireError::Field { field, value: value.to_string() };
        let prefixes = |field, list: &[v1::Prefix]| {
            list.iter().map(|p| prefix(field, Some(p))).collect::<Result<Vec<_>, mesh_proto::convert::Error>>()
        };
        let layout = match said.max_connected_clusters {
            255 => IdentityLayout::Clusters255,
            511 => IdentityLayout::Clusters511,
            other => return Err(bad("max_connected_clusters", &other)),
        };
        let encryption = match v1::Encryption::try_from(said.encryption) {
            Ok(v1::Encryption::Wireguard) => Encryption::Wireguard,
            Ok(v1::Encryption::None) => Encryption::None,
            Err(_unknown_value) => return Err(bad("encryption", &said.encryption)),
        };
        Ok(Self {
            name: ClusterName::new(said.name.as_str()).map_err(|_named_below| bad("name", &said.name))?,
            id: ClusterId::new(said.id).map_err(|_named_below| bad("id", &said.id))?,
            uuid: said.uuid.parse().map_err(|_named_below| bad("uuid", &said.uuid))?,
            trust_bundle_pem: said.trust_bundle_pem,
            etcd_endpoints: said.etcd_endpoints,
            mesh_endpoints: said.mesh_endpoints,
            pod_prefixes: prefixes("pod_prefixes", &said.pod_prefixes)?,
            node_prefixes: prefixes("node_prefixes", &said.node_prefixes)?,
            service_prefixes: prefixes("service_prefixes", &said.service_prefixes)?,
            layout,
            encryption,
            version: said.version,
        })
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// A cluster of the lab's shape: number `n` gives names, prefixes and endpoints.
    pub(crate) fn declaration(name: &str, n: u32) -> Declaration {
        let net = |text: String| text.parse::<IpNet>().unwrap();
        Declaration {
            name: ClusterName::new(name).unwrap(),
            id: ClusterId::new(n).unwrap(),
            uuid: Uuid::from_u128(n.into()),
            trust_bundle_pem: format!("CA of {name}"),
            etcd_endpoints: vec![format!("172.30.{n}.11:2379")],
            mesh_endpoints: vec![format!("172.30.{n}.11:2382")],
            pod_prefixes: vec![net(format!("10.{n}.0.0/16"))],
            node_prefixes: vec![net(format!("172.30.{n}.0/24"))],
            service_prefixes: vec![net(format!("10.10{n}.0.0/16"))],
            layout: IdentityLayout::Clusters255,
            encryption: Encryption::Wireguard,
            version: "test".to_owned(),
        }
    }

    #[test]
    fn a_declaration_survives_the_wire_and_the_store() {
        let own = declaration("cluster-a", 1);
        let back = Declaration::try_from(v1::ClusterDeclaration::from(&own)).unwrap();
        assert_eq!(back, own);
        let record = PeerRecord::isthmus(own, 7);
        assert_eq!(PeerRecord::decode("k", &record.to_put().value).unwrap(), record);
        let mut bad = v1::ClusterDeclaration::from(&record.declaration);
        bad.max_connected_clusters = 300;
        let error = Declaration::try_from(bad).unwrap_err();
        assert_eq!(error.to_string(), "the declaration's max_connected_clusters \"300\" is not valid");
    }
}
