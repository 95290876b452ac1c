//! The key table: which key holds which fact, in an exporter's own layout and in a mirror's.
//!
//! Source: Cilium's `pkg/kvstore/store` and `pkg/clustermesh`, as observed on the wire. Two traps are kept here and
//! nowhere else: `state/ip` has the literal segment `default`, and `state/identities` has no cluster segment at all.

use std::fmt;

use mesh_types::{ClusterName, NodeName, SecurityIdentity, ServiceName};

/// Watched as a prefix, without a trailing slash.
pub const HEARTBEAT: &str = "cilium/.heartbeat";
/// Own and mirrored cluster configurations.
pub const CLUSTER_CONFIGS: &str = "cilium/cluster-config/";
/// Canaries of all clusters.
pub const SYNCED: &str = "cilium/synced/";
/// What this cluster exports.
pub const STATE: &str = "cilium/state/";
/// What was mirrored from remote clusters.
pub const CACHE: &str = "cilium/cache/";

/// The own cluster's record.
pub const OWN_CLUSTER: &str = "isthmus/v1/cluster";
/// Records of joined clusters.
pub const PEERS: &str = "isthmus/v1/peers/";
/// Join and node tokens that were handed out.
pub const TOKENS: &str = "isthmus/v1/tokens/";
/// Resume points of mirrors.
pub const MIRRORS: &str = "isthmus/v1/mirror/";
/// Verdicts on joined clusters.
pub const HEALTH: &str = "isthmus/v1/health/";
/// Own nodes' registrations.
pub const NODES: &str = "isthmus/v1/nodes/";
/// What a remote Isthmus may read beyond Cilium's contract.
pub const EXPORT: &str = "isthmus/v1/export/";
/// What only some clusters may see, one copy for each: see [`audience`].
pub const AUDIENCE: &str = "isthmus/v1/audience/";
/// Who may have what: JSON of [`mesh_types::Exchange`], written by the exporter for sessions and for status.
pub const EXCHANGE: &str = "isthmus/v1/exchange";
/// The exporter's clock, rewritten in every exporting Txn.
pub const EXPORT_CLOCK: &str = "isthmus/v1/export/clock";
/// The exporter's trust bundle, PEM.
pub const EXPORT_TRUST: &str = "isthmus/v1/export/trust";
/// Which CAs the exporter trusts for each of its peers.
pub const EXPORT_TRUSTED: &str = "isthmus/v1/export/trusts/";
/// The rotation of the own CA that runs, or the last one.
pub const ROTATION_CA: &str = "isthmus/v1/rotation/ca";
/// When leaves were last asked to be renewed.
pub const ROTATION_LEAVES: &str = "isthmus/v1/rotation/leaves";

/// A kind of exported fact. The order is the order in which kinds are written (what is referred to comes first); they are
/// deleted in the reverse order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    Identities,
    Nodes,
    Ip,
    Services,
    ServiceExports,
    EndpointSlices,
}

impl Resource {
    pub const ALL: [Self; 6] =
        [Self::Identities, Self::Nodes, Self::Ip, Self::Services, Self::ServiceExports, Self::EndpointSlices];

    /// Its segment in keys; also its name towards people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Nodes => "nodes",
            Self::Ip => "ip",
            Self::Services => "services",
            Self::ServiceExports => "serviceexports",
            Self::EndpointSlices => "endpointslices",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a store keeps a cluster's facts: a cluster's own store under `state/`, a mirror under `cache/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    #[default]
    State,
    Cache,
}

impl Layout {
    /// The prefix of all of `cluster`'s keys of one kind, with its trailing slash.
    pub fn prefix(self, resource: Resource, cluster: &ClusterName) -> String {
        match (self, resource) {
            (Self::State, Resource::Ip) => "cilium/state/ip/v1/default/".to_owned(),
            (Self::State, Resource::Identities) => "cilium/state/identities/v1/id/".to_owned(),
            (Self::Cache, Resource::Identities) => format!("cilium/cache/identities/v1/{cluster}/id/"),
            (Self::State, other) => format!("cilium/state/{other}/v1/{cluster}/"),
            (Self::Cache, other) => format!("cilium/cache/{other}/v1/{cluster}/"),
        }
    }

    /// The canary that says "all keys of this kind have been written once".
    pub fn canary(self, resource: Resource, cluster: &ClusterName) -> String {
        let segment = match self {
            Self::State => "state",
            Self::Cache => "cache",
        };
        format!("cilium/synced/{cluster}/cilium/{segment}/{resource}/v1")
    }

    pub fn node(self, cluster: &ClusterName, node: &NodeName) -> String {
        format!("{}{node}", self.prefix(Resource::Nodes, cluster))
    }

    pub fn identity(self, cluster: &ClusterName, identity: SecurityIdentity) -> String {
        format!("{}{identity}", self.prefix(Resource::Identities, cluster))
    }

    /// `ip` is the address's text form, without a prefix length for a host.
    pub fn ip(self, cluster: &ClusterName, ip: &ipnet::IpNet) -> String {
        format!("{}{}", self.prefix(Resource::Ip, cluster), ip_segment(ip))
    }

    pub fn service(self, cluster: &ClusterName, service: &ServiceName) -> String {
        format!("{}{service}", self.prefix(Resource::Services, cluster))
    }

    pub fn service_export(self, cluster: &ClusterName, service: &ServiceName) -> String {
        format!("{}{service}", self.prefix(Resource::ServiceExports, cluster))
    }

    /// `slice` is the slice's own name, in the service's namespace.
    pub fn endpoint_slice(self, cluster: &ClusterName, namespace: &str, slice: &str) -> String {
        format!("{}{namespace}/{slice}", self.prefix(Resource::EndpointSlices, cluster))
    }
}

/// `<ip>` for a host, `<ip>/<len>` for anything wider.
pub fn ip_segment(prefix: &ipnet::IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.trunc().to_string() }
}

pub fn cluster_config(cluster: &ClusterName) -> String {
    format!("{CLUSTER_CONFIGS}{cluster}")
}

/// The prefix of all canaries of a cluster.
pub fn canaries(cluster: &ClusterName) -> String {
    format!("{SYNCED}{cluster}/")
}

pub fn peer(cluster: &ClusterName) -> String {
    format!("{PEERS}{cluster}")
}

pub fn token(id: &str) -> String {
    format!("{TOKENS}{id}")
}

pub fn mirror(cluster: &ClusterName) -> String {
    format!("{MIRRORS}{cluster}")
}

pub fn health(cluster: &ClusterName) -> String {
    format!("{HEALTH}{cluster}")
}

/// Where one cluster's own part of the export lies: below it, keys are as under [`STATE`], and that cluster alone is shown
/// them there.
pub fn audience(cluster: &ClusterName) -> String {
    format!("{AUDIENCE}{cluster}/")
}

/// The key as everybody, or its audience, sees it.
pub fn shown(key: &[u8]) -> &[u8] {
    let rest = key.strip_prefix(AUDIENCE.as_bytes()).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == b'/')?;
        Some(&rest[end + 1..])
    });
    rest.unwrap_or(key)
}

pub fn export_trusted(cluster: &ClusterName) -> String {
    format!("{EXPORT_TRUSTED}{cluster}")
}

pub fn own_node(node: &NodeName) -> String {
    format!("{NODES}{node}")
}

/// The cluster whose canary for endpoint slices under `cache/` this key is: all of its slices are mirrored.
pub fn cached_slices_canary(key: &str) -> Option<ClusterName> {
    let cluster = key.strip_prefix(SYNCED)?.strip_suffix("/cilium/cache/endpointslices/v1")?;
    ClusterName::new(cluster).ok()
}

/// A key under `cilium/cache/`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey<'a> {
    pub resource: Resource,
    pub cluster: ClusterName,
    /// What follows the prefix of its kind and cluster: a node's name, a number, an address, `namespace/name`.
    pub rest: &'a str,
}

impl<'a> CacheKey<'a> {
    /// `None` for a key that is not of the layout.
    pub fn parse(key: &'a str) -> Option<Self> {
        let (resource, rest) = key.strip_prefix(CACHE)?.split_once("/v1/")?;
        let resource = Resource::ALL.into_iter().find(|r| r.name() == resource)?;
        let (cluster, rest) = rest.split_once('/')?;
        let cluster = ClusterName::new(cluster).ok()?;
        let rest = if resource == Resource::Identities { rest.strip_prefix("id/")? } else { rest };
        (!rest.is_empty()).then_some(Self { resource, cluster, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_ciliums_table() {
        let east = ClusterName::new("east").unwrap();
        let cart = ServiceName::new("shop", "cart");
        let (node, number) = (NodeName("worker-7".into()), SecurityIdentity(459_953));
        let ip = "10.71.7.44/32".parse().unwrap();
        let table = [
            (Layout::State.node(&east, &node), "cilium/state/nodes/v1/east/worker-7"),
            (Layout::State.identity(&east, number), "cilium/state/identities/v1/id/459953"),
            (Layout::State.ip(&east, &ip), "cilium/state/ip/v1/default/10.71.7.44"),
            (Layout::State.service(&east, &cart), "cilium/state/services/v1/east/shop/cart"),
            (Layout::Cache.node(&east, &node), "cilium/cache/nodes/v1/east/worker-7"),
            (Layout::Cache.identity(&east, number), "cilium/cache/identities/v1/east/id/459953"),
            (Layout::Cache.ip(&east, &ip), "cilium/cache/ip/v1/east/10.71.7.44"),
            (Layout::Cache.ip(&east, &"10.71.7.0/24".parse().unwrap()), "cilium/cache/ip/v1/east/10.71.7.0/24"),
            (Layout::Cache.service(&east, &cart), "cilium/cache/services/v1/east/shop/cart"),
            (Layout::State.service_export(&east, &cart), "cilium/state/serviceexports/v1/east/shop/cart"),
            (Layout::Cache.service_export(&east, &cart), "cilium/cache/serviceexports/v1/east/shop/cart"),
            (
                Layout::State.endpoint_slice(&east, "shop", "cart-x7"),
                "cilium/state/endpointslices/v1/east/shop/cart-x7",
            ),
            (
                Layout::Cache.endpoint_slice(&east, "shop", "cart-x7"),
                "cilium/cache/endpointslices/v1/east/shop/cart-x7",
            ),
            (Layout::State.canary(Resource::Nodes, &east), "cilium/synced/east/cilium/state/nodes/v1"),
            (Layout::Cache.canary(Resource::Identities, &east), "cilium/synced/east/cilium/cache/identities/v1"),
            (cluster_config(&east), "cilium/cluster-config/east"),
        ];
        for (got, want) in table {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_cache_key_says_its_kind_cluster_and_name() {
        let key = CacheKey::parse("cilium/cache/identities/v1/east/id/459953").unwrap();
        assert_eq!((key.resource, key.cluster.as_str(), key.rest), (Resource::Identities, "east", "459953"));
        let key = CacheKey::parse("cilium/cache/services/v1/east/shop/cart").unwrap();
        assert_eq!((key.resource, key.rest), (Resource::Services, "shop/cart"));
        for other in ["cilium/state/nodes/v1/east/n", "cilium/cache/nodes/v1/east/", "cilium/cache/pods/v1/east/p"] {
            assert_eq!(CacheKey::parse(other), None, "{other}");
        }
        let east = ClusterName::new("east").unwrap();
        let canary = |layout: Layout, resource| cached_slices_canary(&layout.canary(resource, &east));
        assert_eq!(canary(Layout::Cache, Resource::EndpointSlices), Some(east.clone()));
        assert_eq!(canary(Layout::State, Resource::EndpointSlices), None);
        assert_eq!(canary(Layout::Cache, Resource::Services), None);
    }
}
