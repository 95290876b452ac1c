//! An address's value: who it is and which node hosts it (Cilium `pkg/identity/identity.go`, `IPIdentityPair`).
//!
//! Two forms are in the field. Cilium up to 1.20 writes `Mask`: `null` for a host, else the key ends in `<ip>/<len>`. Later
//! ones write hosts only and have no `Mask`, but the pod's UID and its workload. Both are read; the exporter makes hosts only,
//! and a host is written without `Mask`, which older readers take for `null`.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_types::view::Ip;
use mesh_types::{ClusterName, NamedPort, Protocol, SecurityIdentity};
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::{null_is_default, object};
use super::node::{parse_ip, prefix_of};

/// Cilium's key number for "through WireGuard".
pub const WIREGUARD_KEY: u8 = 255;

/// `cilium/state/ip/v1/default/<ip>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpValue {
    #[serde(rename = "IP", deserialize_with = "null_is_default")]
    pub ip: String,
    /// Base64 of the mask of a prefix that is wider than a host. Such a value keeps it: without, it would speak of a host.
    #[serde(rename = "Mask", skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    #[serde(rename = "HostIP", deserialize_with = "null_is_default")]
    pub host_ip: String,
    #[serde(rename = "ID", deserialize_with = "null_is_default")]
    pub id: u32,
    /// IPsec key number, or [`WIREGUARD_KEY`].
    #[serde(rename = "Key", deserialize_with = "null_is_default")]
    pub key: u8,
    #[serde(rename = "Metadata", deserialize_with = "null_is_default")]
    pub metadata: String,
    #[serde(rename = "K8sNamespace", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub namespace: String,
    #[serde(rename = "K8sPodName", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub pod_name: String,
    #[serde(rename = "K8sPodUID", skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub pod_uid: String,
    #[serde(
        rename = "K8sWorkloadName",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub workload_name: String,
    #[serde(
        rename = "K8sWorkloadKind",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub workload_kind: String,
    #[serde(
        rename = "K8sServiceAccount",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub service_account: String,
    #[serde(rename = "NamedPorts", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub named_ports: Vec<IpPort>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPort {
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "Port")]
    pub port: u16,
    #[serde(rename = "Protocol")]
    pub protocol: Protocol,
}

impl From<&NamedPort> for IpPort {
    fn from(port: &NamedPort) -> Self {
        Self { name: port.name.clone(), port: port.port, protocol: port.protocol }
    }
}

impl IpValue {
    /// What the exporter writes for an address. `None` for a prefix wider than a host: only hosts are exported.
    pub fn from_ip(ip: &Ip, key: u8) -> Option<Self> {
        (ip.prefix.prefix_len() == ip.prefix.max_prefix_len()).then(|| Self {
            ip: ip.prefix.addr().to_string(),
            host_ip: ip.host.map(|host| host.to_string()).unwrap_or_default(),
            id: ip.identity.0,
            key,
            namespace: ip.namespace.clone().unwrap_or_default(),
            pod_name: ip.pod.clone().unwrap_or_default(),
            ..Self::default()
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        object("ip", value)
    }

    /// The address as a prefix: a host unless there is a mask.
    pub fn prefix(&self) -> Result<IpNet, Error> {
        let ip = parse_ip("IP", &self.ip)?;
        match self.mask.as_deref() {
            None | Some("") => Ok(IpNet::from(ip)),
            Some(mask) => prefix_of(ip, mask),
        }
    }

    /// The node that hosts it, where it is said.
    pub fn host(&self) -> Result<Option<IpAddr>, Error> {
        if self.host_ip.is_empty() { Ok(None) } else { parse_ip("HostIP", &self.host_ip).map(Some) }
    }

    /// The mesh's word for it, said by `cluster`.
    pub fn to_ip(&self, cluster: &ClusterName) -> Result<Ip, Error> {
        let text = |value: &String| (!value.is_empty()).then(|| value.clone());
        Ok(Ip {
            cluster: cluster.clone(),
            prefix: self.prefix()?,
            identity: SecurityIdentity(self.id),
            host: self.host()?,
            namespace: text(&self.namespace),
            pod: text(&self.pod_name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::ip_segment;
    use super::*;

    #[test]
    fn a_host_is_written_without_mask_and_read_in_both_forms() {
        let word = Ip {
            cluster: ClusterName::new("east").unwrap(),
            prefix: "10.71.7.44/32".parse().unwrap(),
            identity: SecurityIdentity(459_953),
            host: Some("192.0.2.17".parse().unwrap()),
            namespace: Some("shop".to_owned()),
            pod: Some("cart-6c9".to_owned()),
        };
        let value = IpValue::from_ip(&word, WIREGUARD_KEY).unwrap();
        let text = r#"{"IP":"10.71.7.44","HostIP":"192.0.2.17","ID":459953,"Key":255,"Metadata":"","K8sNamespace":"shop","K8sPodName":"cart-6c9"}"#;
        assert_eq!(String::from_utf8(value.encode()).unwrap(), text);
        assert_eq!(IpValue::decode(text.as_bytes()).unwrap().to_ip(&word.cluster).unwrap(), word);

        let older = r#"{"IP":"10.71.7.44","Mask":null,"HostIP":"192.0.2.17","ID":459953,"Key":255,"Metadata":"","K8sNamespace":"shop","K8sPodName":"cart-6c9","NamedPorts":null}"#;
        assert_eq!(IpValue::decode(older.as_bytes()).unwrap().to_ip(&word.cluster).unwrap(), word);
        let prefix = r#"{"IP":"10.71.7.0","Mask":"////AA==","HostIP":"","ID":2}"#;
        let prefix = IpValue::decode(prefix.as_bytes()).unwrap();
        assert_eq!(prefix.prefix().unwrap().to_string(), "10.71.7.0/24");
        assert_eq!(prefix.host().unwrap(), None);
        assert!(IpValue::from_ip(&Ip { prefix: "10.71.7.0/24".parse().unwrap(), ..word }, 0).is_none());
    }

    #[test]
    fn every_field_of_either_form_is_read_and_kept() {
        let later = concat!(
            r#"{"IP":"fd71:7::44","HostIP":"2001:db8::17","ID":459953,"Key":3,"Metadata":"","K8sNamespace":"shop","#,
            r#""K8sPodName":"cart-6c9","K8sPodUID":"5f0c1c2e","K8sWorkloadName":"cart","K8sWorkloadKind":"Deployment","#,
            r#""K8sServiceAccount":"default","NamedPorts":[{"Name":"http","Port":8080,"Protocol":"TCP"}]}"#,
        );
        let value = IpValue::decode(later.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(value.encode()).unwrap(), later);
        assert_eq!(
            (value.workload_name.as_str(), value.workload_kind.as_str(), value.pod_uid.as_str()),
            ("cart", "Deployment", "5f0c1c2e")
        );
        assert_eq!(value.named_ports, [IpPort { name: "http".into(), port: 8080, protocol: Protocol::Tcp }]);
    }

    #[test]
    fn a_prefix_keeps_its_mask_and_has_its_length_in_the_key() {
        for (text, prefix) in [
            (r#"{"IP":"10.71.7.0","Mask":"////AA==","HostIP":"","ID":2,"Key":0,"Metadata":""}"#, "10.71.7.0/24"),
            (r#"{"IP":"0.0.0.0","Mask":"AAAAAA==","HostIP":"","ID":2,"Key":0,"Metadata":""}"#, "0.0.0.0/0"),
            (
                r#"{"IP":"fd71:7::","Mask":"//////////8AAAAAAAAAAA==","HostIP":"","ID":2,"Key":0,"Metadata":""}"#,
                "fd71:7::/64",
            ),
        ] {
            let value = IpValue::decode(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(value.encode()).unwrap(), text);
            assert_eq!(ip_segment(&value.prefix().unwrap()), prefix);
        }
        for (text, host) in [
            (r#"{"IP":"10.71.7.44","Mask":"/////w==","ID":2}"#, "10.71.7.44"),
            (r#"{"IP":"fd71:7::44","Mask":null,"ID":2}"#, "fd71:7::44"),
        ] {
            assert_eq!(ip_segment(&IpValue::decode(text.as_bytes()).unwrap().prefix().unwrap()), host);
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        for (text, name) in [
            (r#"{"IP":"10.71.7"}"#, "IP: \"10.71.7\""),
            (r#"{"IP":"fe80::1%eth0"}"#, "IP: \"fe80::1%eth0\""),
            (r#"{"IP":""}"#, "IP: \"\""),
            (r#"{"IP":"10.71.7.44","Mask":"AAE="}"#, "Mask: \"AAE=\""),
        ] {
            let error = IpValue::decode(text.as_bytes()).unwrap().prefix().unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        let value = IpValue::decode(br#"{"IP":"10.71.7.44","HostIP":"worker-7"}"#).unwrap();
        assert!(value.host().unwrap_err().to_string().starts_with("HostIP: \"worker-7\""));
        for text in [
            r#"{"IP":"10.71.7.44","Key":256}"#,
            r#"{"ID":-1}"#,
            r#"{"NamedPorts":[{"Name":"x"}]}"#,
            "[]",
            r#"["10.71.7.44"]"#,
            "",
        ] {
            assert!(matches!(IpValue::decode(text.as_bytes()), Err(Error::Json { kind: "ip", .. })), "{text}");
        }
    }

    #[test]
    fn a_mask_of_another_family_or_with_holes_is_refused() {
        for mask in ["//////////8AAAAAAAAAAA==", "/wD/AA==", "?"] {
            let value = IpValue { ip: "10.71.7.0".into(), mask: Some(mask.into()), ..IpValue::default() };
            assert!(value.prefix().is_err(), "{mask}");
        }
    }
}
