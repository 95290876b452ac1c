//! One key of the store and its value to a fact of the view.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use federation::Health;
use federation::contract::keys::{self, CacheKey};
use federation::contract::{self, EndpointSliceValue, ExportClock, IpValue, Layout, NodeValue, Resource, ServiceValue};
use federation::mirror::MirrorRecord;
use federation::peer::{Declaration, PeerRecord};
use ipnet::IpNet;
use mesh_types::view::{Cluster, Identity, Key, Object, Service, ServiceBackend};
use mesh_types::{ClusterName, NodeName, SecurityIdentity, ServiceName};

use crate::export::keys as local;

/// The first and the last address in the order of keys.
pub(super) const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(super) const LAST: IpAddr = IpAddr::V6(Ipv6Addr::new(!0, !0, !0, !0, !0, !0, !0, !0));

/// A value in the store that cannot be read. It counts as absent.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be read and is left out of the view")]
pub struct Error {
    pub key: String,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

pub(super) enum Fact {
    Object(Key, Option<Box<Object>>),
    /// A peer's Service holds all of its backends in one value.
    RemoteService {
        cluster: ClusterName,
        name: ServiceName,
        value: Option<(Service, Vec<ServiceBackend>)>,
    },
    /// Some of them, in a slice of `namespace/name`.
    RemoteSlice {
        cluster: ClusterName,
        slice: String,
        value: Option<(ServiceName, Vec<ServiceBackend>)>,
    },
    /// All slices of a peer are mirrored, or may not be.
    SlicesComplete {
        cluster: ClusterName,
        is_complete: bool,
    },
    /// A peer's configuration is mirrored, or not any more.
    Configured {
        cluster: ClusterName,
        is_there: bool,
    },
    Mirror {
        cluster: ClusterName,
        clock: u64,
    },
    /// `None`: nothing was concluded yet.
    Health(ClusterName, Option<Health>),
    /// The own exporter's.
    Clock(u64),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `None` for a key that the view has no use for. When the value cannot be read, the fact says "absent".
pub(super) fn read(own: &ClusterName, key: &[u8], value: Option<&Bytes>) -> (Option<Fact>, Option<Error>) {
    let Ok(key) = std::str::from_utf8(key) else { return (None, None) };
    match fact(own, key, value.map(|v| &v[..])) {
        Ok(fact) => (fact, None),
        Err(source) => {
            let absent = fact(own, key, None).ok().flatten();
            (absent, Some(Error { key: key.to_owned(), source }))
        }
    }
}

fn fact(own: &ClusterName, key: &str, value: Option<&[u8]>) -> Result<Option<Fact>, Failure> {
    if let Some(cached) = CacheKey::parse(key) {
        return of_cluster(&cached.cluster, cached.resource, cached.rest, value);
    }
    // The own Services are read from `isthmus/v1/local/`, which has all of them and not only the shared ones.
    for resource in [Resource::Identities, Resource::Nodes, Resource::Ip] {
        if let Some(rest) = key.strip_prefix(&Layout::State.prefix(resource, own)) {
            return of_cluster(own, resource, rest, value);
        }
    }
    if let Some(cluster) = keys::cached_slices_canary(key) {
        return Ok(Some(Fact::SlicesComplete { cluster, is_complete: value.is_some() }));
    }
    if let Some(name) = key.strip_prefix(keys::CLUSTER_CONFIGS) {
        return Ok(Some(Fact::Configured { cluster: ClusterName::new(name)?, is_there: value.is_some() }));
    }
    if let Some(service) = key.strip_prefix(local::LOCAL_SERVICES).and_then(local::parse_service) {
        let object = value.map(serde_json::from_slice).transpose()?.map(|s| Box::new(Object::Service(s)));
        return Ok(Some(Fact::Object(Key::Service { cluster: own.clone(), service }, object)));
    }
    if let Some((service, address)) = key.strip_prefix(local::LOCAL_BACKENDS).and_then(local::parse_backend) {
        let object = value.map(serde_json::from_slice).transpose()?.map(|b| Box::new(Object::Backend(b)));
        return Ok(Some(Fact::Object(Key::Backend { cluster: own.clone(), service, address }, object)));
    }
    if key == keys::OWN_CLUSTER {
        let declaration: Option<Declaration> = value.map(serde_json::from_slice).transpose()?;
        let object = declaration.map(|d| Box::new(cluster(&d, true)));
        return Ok(Some(Fact::Object(Key::Cluster(own.clone()), object)));
    }
    if let Some(name) = key.strip_prefix(keys::PEERS) {
        let record = value.map(|v| PeerRecord::decode(key, v)).transpose()?;
        let object = record.map(|r| Box::new(cluster(&r.declaration, false)));
        return Ok(Some(Fact::Object(Key::Cluster(ClusterName::new(name)?), object)));
    }
    if let Some(name) = key.strip_prefix(keys::MIRRORS) {
        let record = value.map(MirrorRecord::decode).transpose()?.unwrap_or_default();
        let clock = record.clock_unix_nanos;
        return Ok(Some(Fact::Mirror { cluster: ClusterName::new(name)?, clock }));
    }
    if let Some(name) = key.strip_prefix(keys::HEALTH) {
        let health = value.map(Health::decode).transpose()?;
        return Ok(Some(Fact::Health(ClusterName::new(name)?, health)));
    }
    if key == keys::EXPORT_CLOCK {
        return Ok(value.map(ExportClock::decode).transpose()?.map(|c| Fact::Clock(c.unix_nanos)));
    }
    Ok(None)
}

fn of_cluster(
    cluster: &ClusterName,
    resource: Resource,
    rest: &str,
    value: Option<&[u8]>,
) -> Result<Option<Fact>, Failure> {
    let cluster = cluster.clone();
    Ok(Some(match resource {
        Resource::Nodes => {
            let object = match value {
                Some(value) => Some(Box::new(Object::Node(NodeValue::decode(value)?.to_node()?))),
                None => None,
            };
            Fact::Object(Key::Node { cluster, name: NodeName(rest.to_owned()) }, object)
        }
        Resource::Identities => {
            let number = SecurityIdentity(rest.parse()?);
            let labels = value.map(contract::identity::decode).transpose()?;
            let object = labels.map(|labels| Box::new(Object::Identity(Identity { number, labels })));
            Fact::Object(Key::Identity(number), object)
        }
        Resource::Ip => {
            let prefix = if rest.contains('/') { rest.parse()? } else { IpNet::from(rest.parse::<IpAddr>()?) };
            let object = match value {
                Some(value) => Some(Box::new(Object::Ip(IpValue::decode(value)?.to_ip(&cluster)?))),
                None => None,
            };
            Fact::Object(Key::Ip { cluster, prefix }, object)
        }
        Resource::Services => {
            let Some(name) = local::parse_service(rest) else { return Ok(None) };
            let value = value.map(|v| ServiceValue::decode(v).and_then(|v| v.to_service())).transpose()?;
            Fact::RemoteService { cluster, name, value }
        }
        Resource::EndpointSlices => {
            let value = value.map(EndpointSliceValue::decode).transpose()?;
            let value = value.and_then(|v| Some((v.service()?, v))).map(|(service, v)| Ok((service, v.to_backends()?)));
            let value = value.transpose().map_err(|error: contract::Error| error)?;
            Fact::RemoteSlice { cluster, slice: rest.to_owned(), value }
        }
        // What Services a cluster set has is not a matter of the agents.
        Resource::ServiceExports => return Ok(None),
    }))
}

fn cluster(declaration: &Declaration, is_local: bool) -> Object {
    Object::Cluster(Cluster {
        name: declaration.name.clone(),
        id: declaration.id,
        is_local,
        pod_prefixes: declaration.pod_prefixes.clone(),
        encryption: declaration.encryption,
    })
}
