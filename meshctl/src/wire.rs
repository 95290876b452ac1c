//! The wire's messages as words for people: addresses, prefixes, ports, encryption.

use ipnet::IpNet;
use mesh_proto::convert::{self, Error};
use mesh_proto::v1;
use serde::Serialize;

/// Addresses as text; a bad one names its field.
pub(crate) fn addresses(field: &'static str, list: &[impl AsRef<[u8]>]) -> Result<Vec<String>, Error> {
    list.iter().map(|a| address(field, a.as_ref())).collect()
}

/// One address as text, `""` for none.
pub(crate) fn address(field: &'static str, bytes: &[u8]) -> Result<String, Error> {
    if bytes.is_empty() {
        return Ok(String::new());
    }
    Ok(match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => std::net::IpAddr::from(v4).to_string(),
        (_, Ok(v6)) => std::net::IpAddr::from(v6).to_string(),
        _ => return Err(Error::Address { field, len: bytes.len() }),
    })
}

pub(crate) fn prefixes(field: &'static str, list: &[v1::Prefix]) -> Result<Vec<IpNet>, Error> {
    list.iter().map(|p| convert::prefix(field, Some(p))).collect()
}

/// A prefix; the mask of a single address is left out.
pub(crate) fn short_prefix(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

/// A port of a Service or backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Port {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) protocol: String,
    #[serde(rename = "port")]
    pub(crate) number: u32,
}

impl From<&v1::NamedPort> for Port {
    fn from(port: &v1::NamedPort) -> Self {
        let protocol = match port.protocol {
            6 => "TCP".to_owned(),
            17 => "UDP".to_owned(),
            132 => "SCTP".to_owned(),
            other => other.to_string(),
        };
        Self { name: port.name.clone(), protocol, number: port.port }
    }
}

/// `80/TCP,53/UDP`.
pub(crate) fn port_list(ports: &[Port]) -> String {
    ports.iter().map(|p| format!("{}/{}", p.number, p.protocol)).collect::<Vec<_>>().join(",")
}

pub(crate) fn encryption(value: i32) -> String {
    match v1::Encryption::try_from(value) {
        Ok(v1::Encryption::Wireguard) => "wireguard".to_owned(),
        Ok(v1::Encryption::None) => "none".to_owned(),
        Err(_unknown) => format!("unknown ({value})"),
    }
}
