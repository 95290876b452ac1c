//! What a node's agent said of its node: the value of `isthmus/v1/nodes/<node>`.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// WireGuard public key; `None` where no encryption is in use.
    pub wireguard_key: Option<[u8; 32]>,
    pub wireguard_port: u16,
    pub vxlan_port: u16,
    pub version: String,
    pub kernel: String,
    /// "kernel", "userspace" or "none".
    pub wireguard_backend: String,
}

/// A value under `isthmus/v1/nodes/` that is not a registration.
#[derive(Debug, thiserror::Error)]
#[error("not a node's registration")]
pub struct Error(#[source] serde_json::Error);

impl Registration {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(value).map_err(Error)
    }
}
