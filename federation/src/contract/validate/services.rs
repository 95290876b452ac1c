//! The rules of services, their slices and their exports: kinds whose keys end in `<namespace>/<name>`.

use super::super::{EndpointSliceValue, Error, ServiceExportValue, ServiceValue};
use super::{Rule, Rules, Wrong, inside};

impl Rules {
    pub(super) fn service(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let value = ServiceValue::decode(value)?;
        self.is_own_name(&value.cluster)?;
        self.is_own_id(value.cluster_id)?;
        is_named(rest, &value.namespace, &value.name)?;
        for ip in value.frontend_addresses()? {
            inside(Rule::FrontendAddress, &self.service_prefixes, ip)?;
        }
        for ip in value.backend_addresses()? {
            inside(Rule::BackendAddress, &self.pod_prefixes, ip)?;
        }
        Ok(())
    }

    pub(super) fn endpoint_slice(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let value = EndpointSliceValue::decode(value)?;
        self.is_own_name(&value.cluster)?;
        self.is_own_id(value.cluster_id)?;
        is_named(rest, &value.namespace, &value.name)?;
        for ip in value.addresses()? {
            inside(Rule::BackendAddress, &self.pod_prefixes, ip)?;
        }
        // What remains to be wrong: the Service's name, ports, protocols.
        value.to_backends()?;
        Ok(())
    }

    pub(super) fn service_export(&self, rest: &str, value: &[u8]) -> Result<(), Wrong> {
        let value = ServiceExportValue::decode(value)?;
        self.is_own_name(&value.cluster)?;
        is_named(rest, &value.namespace, &value.name)
    }
}

/// Most bytes of a name: what Kubernetes allows of any. It is copied for every backend.
const MAX_NAME: usize = 253;

/// The key's end is the two names, and each is one: a slash in either would let two values claim one key.
fn is_named(rest: &str, namespace: &str, name: &str) -> Result<(), Wrong> {
    is_name("namespace", namespace)?;
    is_name("name", name)?;
    Rules::names(rest, &format!("{namespace}/{name}"))
}

pub(super) fn is_name(field: &'static str, text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.len() > MAX_NAME || text.contains('/') {
        return Err(Error::field(field, text, "a name of 1 to 253 bytes without a slash").into());
    }
    Ok(())
}
