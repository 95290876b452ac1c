//! Gives cluster IPs to Services that have none, out of the cluster's service range. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::ObjectKey;

/// Addresses below this offset are left to those who choose one by hand.
const FIRST: u32 = 10;

#[derive(Debug)]
pub(super) struct ClusterIps {
    range: Ipv4Net,
    given: BTreeMap<ObjectKey, Ipv4Addr>,
}

impl ClusterIps {
    pub(super) fn new(range: Ipv4Net) -> Self {
        Self { range, given: BTreeMap::new() }
    }

    /// The service with `clusterIP` and `clusterIPs` set. A headless one and an ExternalName stay as they are; a service
    /// that had an address keeps it.
    pub(super) fn assign(&mut self, key: &ObjectKey, service: &Value) -> Result<Value> {
        let mut service = service.clone();
        let spec = &mut service["spec"];
        if spec["clusterIP"] == "None" || spec["type"] == "ExternalName" {
            return Ok(service);
        }
        let address = match spec["clusterIP"].as_str().filter(|asked| !asked.is_empty()) {
            Some(asked) => {
                asked.parse().with_context(|| format!("the clusterIP of service {}/{} is not IPv4", key.0, key.1))?
            }
            None => match self.given.get(key) {
                Some(address) => *address,
                None => self.next_free()?,
            },
        };
        self.given.insert(key.clone(), address);
        spec["clusterIP"] = address.to_string().into();
        spec["clusterIPs"] = json!([address]);
        spec["ipFamilies"] = json!(["IPv4"]);
        Ok(service)
    }

    pub(super) fn release(&mut self, key: &ObjectKey) {
        self.given.remove(key);
    }

    fn next_free(&self) -> Result<Ipv4Addr> {
        let first = u32::from(self.range.network()) + FIRST;
        let last = u32::from(self.range.broadcast());
        (first..last)
            .map(Ipv4Addr::from)
            .find(|address| !self.given.values().any(|given| given == address))
            .with_context(|| format!("the service range {} is used up", self.range))
    }
}
