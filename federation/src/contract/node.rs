//! A node's value: Go's field names in Go's order (Cilium `pkg/node/types/node.go`), and the mesh's word for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;
use mesh_types::{ClusterId, ClusterName, Node, NodeName};
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::{null_is_default, object};

/// Cilium's annotation with the node's WireGuard public key.
pub const WG_PUB_KEY: &str = "network.cilium.io/wg-pub-key";
/// UDP port of the node's WireGuard device, where it is not Cilium's.
pub const WIREGUARD_PORT: &str = "mesh.isthmus.io/wireguard-port";
/// UDP port of the node's VXLAN device, where it is not Cilium's.
pub const VXLAN_PORT: &str = "mesh.isthmus.io/vxlan-port";

/// Where a node without the port annotations (a Cilium node) listens.
const CILIUM_WIREGUARD_PORT: u16 = 51_871;
const CILIUM_VXLAN_PORT: u16 = 8472;

/// `cilium/state/nodes/v1/<cluster>/<node>`. `NodeIdentity` (older versions) is read over and not written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeValue {
    #[serde(rename = "Name", deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(rename = "Cluster", deserialize_with = "null_is_default")]
    pub cluster: String,
    #[serde(rename = "IPAddresses", deserialize_with = "null_is_default")]
    pub ip_addresses: Vec<NodeAddress>,
    #[serde(rename = "IPv4AllocCIDR")]
    pub ipv4_alloc_cidr: Option<Cidr>,
    #[serde(rename = "IPv4SecondaryAllocCIDRs")]
    pub ipv4_secondary_alloc_cidrs: Option<Vec<Cidr>>,
    #[serde(rename = "IPv6AllocCIDR")]
    pub ipv6_alloc_cidr: Option<Cidr>,
    #[serde(rename = "IPv6SecondaryAllocCIDRs")]
    pub ipv6_secondary_alloc_cidrs: Option<Vec<Cidr>>,
    #[serde(rename = "IPv4HealthIP", deserialize_with = "null_is_default")]
    pub ipv4_health_ip: String,
    #[serde(rename = "IPv6HealthIP", deserialize_with = "null_is_default")]
    pub ipv6_health_ip: String,
    #[serde(rename = "IPv4IngressIP", deserialize_with = "null_is_default")]
    pub ipv4_ingress_ip: String,
    #[serde(rename = "IPv6IngressIP", deserialize_with = "null_is_default")]
    pub ipv6_ingress_ip: String,
    #[serde(rename = "ClusterID", deserialize_with = "null_is_default")]
    pub cluster_id: u32,
    #[serde(rename = "Source", deserialize_with = "null_is_default")]
    pub source: String,
    #[serde(rename = "EncryptionKey", deserialize_with = "null_is_default")]
    pub encryption_key: u8,
    #[serde(rename = "Labels")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "WireguardPubKey", deserialize_with = "null_is_default")]
    pub wireguard_pub_key: String,
    #[serde(rename = "BootID", deserialize_with = "null_is_default")]
    pub boot_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `CiliumInternalIP`, `ExternalIP`, `Hostname`, ...
    #[serde(rename = "Type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(rename = "IP", deserialize_with = "null_is_default")]
    pub ip: String,
}

/// Go's `net.IPNet`: the mask is the base64 of its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    #[serde(rename = "IP")]
    pub ip: String,
    #[serde(rename = "Mask")]
    pub mask: String,
}

impl From<&IpNet> for Cidr {
    fn from(net: &IpNet) -> Self {
        let net = net.trunc();
        Self { ip: net.addr().to_string(), mask: encode_mask(net.netmask()) }
    }
}

impl TryFrom<&Cidr> for IpNet {
    type Error = Error;
    fn try_from(cidr: &Cidr) -> Result<Self, Error> {
        let ip = parse_ip("IP", &cidr.ip)?;
        prefix_of(ip, &cidr.mask)
    }
}

impl NodeValue {
    /// What the exporter writes for a node. Labels and boot id, which the mesh has no word for, are the caller's to add.
    pub fn from_node(node: &Node) -> Self {
        let family = |v4: bool| {
            let mut list = node.pod_cidrs.iter().filter(move |net| net.addr().is_ipv4() == v4).map(Cidr::from);
            let first = list.next();
            let rest: Vec<Cidr> = list.collect();
            (first, (!rest.is_empty()).then_some(rest))
        };
        let (ipv4_alloc_cidr, ipv4_secondary_alloc_cidrs) = family(true);
        let (ipv6_alloc_cidr, ipv6_secondary_alloc_cidrs) = family(false);
        let wireguard_pub_key = node.wireguard_key.map(|key| BASE64.encode(key)).unwrap_or_default();
        let mut annotations = BTreeMap::new();
        if !wireguard_pub_key.is_empty() {
            annotations.insert(WG_PUB_KEY.to_owned(), wireguard_pub_key.clone());
        }
        for (name, port) in [(WIREGUARD_PORT, node.wireguard_port), (VXLAN_PORT, node.vxlan_port)] {
            if port != 0 {
                annotations.insert(name.to_owned(), port.to_string());
            }
        }
        Self {
            name: node.name.0.clone(),
            cluster: node.cluster.to_string(),
            ip_addresses: node
                .internal_ips
                .iter()
                .map(|ip| NodeAddress { kind: "InternalIP".to_owned(), ip: ip.to_string() })
                .collect(),
            ipv4_alloc_cidr,
            ipv4_secondary_alloc_cidrs,
            ipv6_alloc_cidr,
            ipv6_secondary_alloc_cidrs,
            cluster_id: node.cluster_id.get(),
            source: "custom-resource".to_owned(),
            annotations: (!annotations.is_empty()).then_some(annotations),
            wireguard_pub_key,
            ..Self::default()
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps of strings always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        object("node", value)
    }

    /// Every address prefix that its pods take addresses from.
    pub fn pod_cidrs(&self) -> Result<Vec<IpNet>, Error> {
        let one = [&self.ipv4_alloc_cidr, &self.ipv6_alloc_cidr];
        let more = [&self.ipv4_secondary_alloc_cidrs, &self.ipv6_secondary_alloc_cidrs];
        let one = one.into_iter().flatten();
        one.chain(more.into_iter().flatten().flatten()).map(IpNet::try_from).collect()
    }

    /// Addresses by which other nodes reach it: those of type `InternalIP`.
    pub fn internal_ips(&self) -> Result<Vec<IpAddr>, Error> {
        self.ip_addresses
            .iter()
            .filter(|address| address.kind == "InternalIP")
            .map(|address| parse_ip("IPAddresses", &address.ip))
            .collect()
    }

    /// The mesh's word for it.
    pub fn to_node(&self) -> Result<Node, Error> {
        let cluster = ClusterName::new(self.cluster.as_str())
            .map_err(|_named_below| Error::field("Cluster", &self.cluster, "a cluster name"))?;
        let cluster_id = ClusterId::new(self.cluster_id)
            .map_err(|_named_below| Error::field("ClusterID", &self.cluster_id, "a cluster id"))?;
        Ok(Node {
            cluster,
            cluster_id,
            name: NodeName(self.name.clone()),
            internal_ips: self.internal_ips()?,
            pod_cidrs: self.pod_cidrs()?,
            wireguard_key: self.wireguard_key()?,
            wireguard_port: self.port(WIREGUARD_PORT, CILIUM_WIREGUARD_PORT)?,
            vxlan_port: self.port(VXLAN_PORT, CILIUM_VXLAN_PORT)?,
        })
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn wireguard_key(&self) -> Result<Option<[u8; 32]>, Error> {
        let text = match self.wireguard_pub_key.as_str() {
            "" => self.annotation(WG_PUB_KEY).unwrap_or_default(),
            key => key,
        };
        if text.is_empty() {
            return Ok(None);
        }
        let key = BASE64.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        key.map(Some).ok_or_else(|| Error::field("WireguardPubKey", text, "the base64 of 32 bytes"))
    }

    fn port(&self, annotation: &'static str, default: u16) -> Result<u16, Error> {
        match self.annotation(annotation) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_named_below| Error::field(annotation, text, "a port number")),
        }
    }
}

pub(super) fn parse_ip(field: &'static str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_named_below| Error::field(field, text, "an IP address"))
}

fn encode_mask(mask: IpAddr) -> String {
    match mask {
        IpAddr::V4(m) => BASE64.encode(m.octets()),
        IpAddr::V6(m) => BASE64.encode(m.octets()),
    }
}

/// The prefix of an address and a base64 mask of the same family, with contiguous bits.
pub(super) fn prefix_of(ip: IpAddr, mask: &str) -> Result<IpNet, Error> {
    let bad = || Error::field("Mask", mask, "the base64 of a contiguous mask of the address's family");
    let bytes = BASE64.decode(mask).map_err(|_named_below| bad())?;
    let netmask = match ip {
        IpAddr::V4(_) => <[u8; 4]>::try_from(bytes).map(IpAddr::from),
        IpAddr::V6(_) => <[u8; 16]>::try_from(bytes).map(IpAddr::from),
    };
    let netmask = netmask.map_err(|_wrong_size| bad())?;
    IpNet::with_netmask(ip, netmask).map(|net| net.trunc()).map_err(|_holes| bad())
}
