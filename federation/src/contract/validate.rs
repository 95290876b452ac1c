//! What a peer may say: every key and value that a remote cluster sends is checked here before it is mirrored.
//!
//! A violation is one rejected key, never an error of the session: the rest goes on. The rules follow from what the peer
//! declared when it joined; nothing is learned from what it says later.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::labels::POLICY_CLUSTER;
use mesh_types::prefix::any_contains;
use mesh_types::{ClusterId, ClusterName, IdentityLayout, SecurityIdentity};

use super::keys::ip_segment;
use super::{ClusterConfig, Error, IpValue, NodeValue, Resource, identity, shown};

mod services;

/// Most bytes of a value: what etcd, by its default, takes in one request. A source that was told to take more can hold
/// values that no mirror of it could.
pub const MAX_VALUE: usize = 1_572_864;

/// What one peer declared, and so what it may say.
#[derive(Debug, Clone)]
pub struct Rules {
    pub name: ClusterName,
    pub id: ClusterId,
    pub layout: IdentityLayout,
    pub pod_prefixes: Vec<IpNet>,
    pub node_prefixes: Vec<IpNet>,
    pub service_prefixes: Vec<IpNet>,
}

impl Rules {
    /// A number of what may be said, the same for equal rules in every version and on every machine (FNV-1a, 64 bits);
    /// never 0. It tells a mirror whether its values were checked by these rules; it protects nothing.
    pub fn fingerprint(&self) -> u64 {
        let list = |prefixes: &[IpNet]| {
            let mut texts: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            texts.sort_unstable();
            texts.join(",")
        };
        let prefixes = [&self.pod_prefixes, &self.node_prefixes, &self.service_prefixes].map(|p| list(p)).join(";");
        let text = format!("{};{};{};{prefixes}", self.name, self.id, self.layout.max_clusters());
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash.max(1)
    }
}

/// The rule that a key or value broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The value has its kind's form.
    Form,
    /// It is no longer than [`MAX_VALUE`].
    Size,
    /// The key's last segments are the names in the value.
    KeyNamesValue,
    /// A cluster speaks for itself only.
    OwnCluster,
    OwnClusterId,
    MaxConnectedClusters,
    /// An identity's number lies in the cluster's range.
    IdentityRange,
    /// An identity's policy.cluster label is the cluster's name.
    PolicyClusterLabel,
    PodAddress,
    HostAddress,
    NodeAddress,
    NodePodCidr,
    BackendAddress,
    FrontendAddress,
}

impl Rule {
    /// For the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Size => "size",
            Self::KeyNamesValue => "key-names-value",
            Self::OwnCluster => "own-cluster",
            Self::OwnClusterId => "own-cluster-id",
            Self::MaxConnectedClusters => "max-connected-clusters",
            Self::IdentityRange => "identity-range",
            Self::PolicyClusterLabel => "policy-cluster-label",
            Self::PodAddress => "pod-address",
            Self::HostAddress => "host-address",
            Self::NodeAddress => "node-address",
            Self::NodePodCidr => "node-pod-cidr",
            Self::BackendAddress => "backend-address",
            Self::FrontendAddress => "frontend-address",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing a peer said that it may not say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cluster {peer} may not say {value} in {key}: {rule}: it may say {allowed}")]
pub struct Rejection {
    pub peer: ClusterName,
    /// The key's part after the prefix of its kind, with the kind in front.
    pub key: String,
    pub rule: Rule,
    pub value: String,
    pub allowed: String,
}

/// What is wrong, before it is known where.
struct Wrong {
    rule: Rule,
    value: String,
    allowed: String,
}

fn wrong(rule: Rule, value: &(impl ToString + ?Sized), allowed: impl Into<String>) -> Wrong {
    Wrong { rule, value: value.to_string(), allowed: allowed.into() }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let allowed = match &error {
            Error::Field { want, .. } => (*want).to_owned(),
            Error::Size { what, limit } => format!("{limit} {what}"),
            _ => "a value of the contract's form".to_owned(),
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self { rule: Rule::Form, value: format!("a value that cannot be read: {error}{cause}"), allowed }
    }
}

fn list(prefixes: &[IpNet]) -> String {
    if prefixes.is_empty() {
        return "none: it declared no such prefixes".to_owned();
    }
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Rules {
    /// Checks one key. `rest` is what follows the prefix of its kind and cluster.
    pub fn check(&self, resource: Resource, rest: &str, value: &[u8]) -> Result<(), Rejection> {
        let checked = sized(value).and_then(|()| match resource {
            Resource::Identities => self.identity(rest, value),
            Resource::Nodes => self.node(rest, value),
            Resource::Ip => self.ip(rest, value),
            Resource::Services => self.service(rest, value),
            Resource::ServiceExports => self.service_export(rest, value),
            Resource::EndpointSlices => self.endpoint_slice(rest, value),
        });
        checked.map_err(|wrong| self.reject(format!("{resource}/{rest}"), wrong))
    }

    /// Checks the peer's configuration and returns it.
    pub fn check_config(&self, value: &[u8]) -> Result<ClusterConfig, Rejection> {
        self.config(value).map_err(|wrong| self.reject("cluster-config".to_owned(), wrong))
    }

    fn reject(&self, key: String, wrong: Wrong) -> Rejection {
        Rejection {
            peer: self.name.clone(),
            key: shown(key),
            rule: wrong.rule,
            value: shown(wrong.value),
            allowed: shown(wrong.allowed),
        }
    }

    fn config(&self, value: &[u8]) -> Result<ClusterConfig, Wrong> {
        sized(value)?;
        let config = ClusterConfig::decode(value)?;
        self.is_own_id(config.id)?;
        let max = self.layout.max_clusters();
        if config.id > max {
            return Err(wrong(Rule::MaxConnectedClusters, &config.id, format!("an id of 1 to {max}")));
        }
        // The mode is how an identity's bits are split, so both sides must have the same; who does not say it has Cilium's
        // default. Cilium itself compares in 511 mode only: in the other it lets such a peer in, and then refuses each of its
        // identities.
        let said = match config.capabilities.max_connected_clusters {
            0 => IdentityLayout::Clusters255.max_clusters(),
            said => said,
        };
        if said != max {
            return Err(wrong(Rule::MaxConnectedClusters, &said, max.to_string()));
        }
        Ok(config)
    }

    fn is_own_name(&self, said: &str) -> Result<(), Wrong> {
        if said == self.name.as_str() { Ok(()) } else { Err(wrong(Rule::OwnCluster, said, self.name.as_str())) }
    }

    fn is_own_id(&self, said: u32) -> Result<(), Wrong> {
        if said == self.id.get() { Ok(()) } else { Err(wrong(Rule::OwnClusterId, &said, self.id.to_string())) }
    }

    fn names(rest: &str, want: &str) -> Result<(), Wrong> {
        if rest == want { Ok(()) } else { Err(wrong(Rule::KeyNamesValue, want, rest)) }
    }

    fn identity(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let range = self.layout.range(self.id);
        let allowed = || format!("{} to {}", range.start(), range.end());
        let number = rest.parse::<u32>().ok().filter(|n| n.to_string() == rest);
        if !number.is_some_and(|n| range.contains(&n)) {
            return Err(wrong(Rule::IdentityRange, rest, allowed()));
        }
        let labels = identity::decode(value)?;
        match labels.get(POLICY_CLUSTER) {
            Some(cluster) if cluster == self.name.as_str() => Ok(()),
            said => Err(wrong(
                Rule::PolicyClusterLabel,
                &format!("{POLICY_CLUSTER}={}", said.unwrap_or("(absent)")),
                format!("{POLICY_CLUSTER}={}", self.name),
            )),
        }
    }

    fn node(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let value = NodeValue::decode(value)?;
        self.is_own_name(&value.cluster)?;
        self.is_own_id(value.cluster_id)?;
        services::is_name("Name", &value.name)?;
        Self::names(rest, &value.name)?;
        let node = value.to_node()?;
        // A dual-stack node of a cluster that declared IPv4 alone: what is IPv6 about it is used nowhere.
        let is_carried = |declared: &[IpNet], is_ipv4: bool| is_ipv4 || declared.iter().any(|net| net.addr().is_ipv6());
        for ip in node.internal_ips.into_iter().filter(|ip| is_carried(&self.node_prefixes, ip.is_ipv4())) {
            inside(Rule::NodeAddress, &self.node_prefixes, ip)?;
        }
        let pod_cidrs = node.pod_cidrs.into_iter();
        for cidr in pod_cidrs.filter(|cidr| is_carried(&self.pod_prefixes, cidr.addr().is_ipv4())) {
            if !self.pod_prefixes.iter().any(|declared| declared.contains(&cidr)) {
                return Err(wrong(Rule::NodePodCidr, &cidr, list(&self.pod_prefixes)));
            }
        }
        Ok(())
    }

    fn ip(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let value = IpValue::decode(value)?;
        let prefix = value.prefix()?;
        // Not said of what is no pod.
        for (field, text) in [("K8sNamespace", &value.namespace), ("K8sPodName", &value.pod_name)] {
            if !text.is_empty() {
                services::is_name(field, text)?;
            }
        }
        if rest != ip_segment(&prefix) && rest != prefix.to_string() {
            return Err(wrong(Rule::KeyNamesValue, &prefix, rest));
        }
        let said = SecurityIdentity(value.id);
        if !self.layout.may_say(self.id, said) {
            let range = self.layout.range(self.id);
            return Err(wrong(
                Rule::IdentityRange,
                &said,
                format!("{} to {}, or a reserved number", range.start(), range.end()),
            ));
        }
        let lies_in = |declared: &[IpNet]| declared.iter().any(|d| d.contains(&prefix));
        // A node's own address is never a workload's: only reserved identities are said about it.
        let is_node = said.is_reserved() && lies_in(&self.node_prefixes);
        if !is_node && !lies_in(&self.pod_prefixes) {
            return Err(wrong(Rule::PodAddress, &prefix, list(&self.pod_prefixes)));
        }
        match value.host()? {
            Some(host) => inside(Rule::HostAddress, &self.node_prefixes, host),
            None => Ok(()),
        }
    }
}

fn sized(value: &[u8]) -> Result<(), Wrong> {
    if value.len() <= MAX_VALUE {
        Ok(())
    } else {
        Err(wrong(Rule::Size, &format!("{} bytes", value.len()), format!("at most {MAX_VALUE} bytes")))
    }
}

fn inside(rule: Rule, declared: &[IpNet], ip: IpAddr) -> Result<(), Wrong> {
    if any_contains(declared, ip) { Ok(()) } else { Err(wrong(rule, &ip, list(declared))) }
}

#[cfg(test)]
mod tests;
