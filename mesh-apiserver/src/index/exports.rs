//! ServiceExports: what each tells the cluster set of the Service of its name, or why it tells nothing.
//!
//! The rules are the MCS API's, as Cilium's exporter keeps them: nothing is told while the Service or the export is missing,
//! and nothing of a Service without addresses of its own pods. That it is not told is said, of the export.

use std::collections::BTreeMap;

use federation::contract::ServiceExportValue;
use federation::contract::service_export::{CLUSTER_SET_IP, ExportedPort, HEADLESS, SessionAffinityConfig};
use mesh_types::{ClusterName, Protocol, ServiceName};

use crate::objects::{Kind, ObjectKey, Service, ServiceExport};

/// What the datapath of this version carries.
pub(crate) const FAMILY: &str = "IPv4";

#[derive(Default)]
pub(super) struct Exports {
    exports: BTreeMap<ServiceName, ServiceExport>,
    /// Why nothing is exported.
    errors: BTreeMap<ServiceName, String>,
}

impl Exports {
    pub(super) fn apply(&mut self, export: ServiceExport) -> ServiceName {
        let name = export.service();
        self.exports.insert(name.clone(), export);
        name
    }

    pub(super) fn delete(&mut self, name: &ServiceName) {
        self.exports.remove(name);
    }

    /// What is exported of a Service, or nothing. A value without a time was created when it is first exported.
    pub(super) fn value(
        &mut self,
        name: &ServiceName,
        service: Option<&Service>,
        cluster: &ClusterName,
    ) -> Option<ServiceExportValue> {
        self.errors.remove(name);
        let export = self.exports.get(name)?;
        match exported(export, service, cluster) {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.insert(name.clone(), error.to_string());
                None
            }
        }
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = (ObjectKey, String)> {
        self.errors.iter().map(|(ServiceName { namespace, name }, error)| {
            let key = ObjectKey { kind: Kind::ServiceExport, namespace: namespace.clone(), name: name.clone() };
            (key, format!("{error}; until then nothing is exported"))
        })
    }
}

/// Why an export tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotExported {
    #[error("there is no Service of this name in its namespace: create it, or delete the export")]
    NoService,
    #[error("its Service is of type ExternalName, which no cluster set can have: give it another type")]
    ExternalName,
    #[error(
        "its Service has no {FAMILY} address, and others are not carried between clusters: add {FAMILY} to `ipFamilies`"
    )]
    Family,
    #[error("{0}: set it right in the Service or the export")]
    Word(String),
}

/// In the form of Cilium 1.20, with the defaults that an API server would have set. Ports of SCTP are told as well, although
/// the datapath carries none: who has them is a matter of the API.
pub(crate) fn exported(
    export: &ServiceExport,
    service: Option<&Service>,
    cluster: &ClusterName,
) -> Result<ServiceExportValue, NotExported> {
    let service = service.ok_or(NotExported::NoService)?;
    if service.is_external_name() {
        return Err(NotExported::ExternalName);
    }
    if !service.ip_families().contains(&FAMILY) {
        return Err(NotExported::Family);
    }
    let or_default = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let ports = service.ports().iter().map(|port| ExportedPort {
        name: port.name.clone(),
        protocol: port.protocol.unwrap_or(Protocol::Tcp).to_string(),
        app_protocol: port.app_protocol.clone(),
        port: port.port.into(),
    });
    let value = ServiceExportValue {
        cluster: cluster.to_string(),
        name: export.metadata.name.clone(),
        namespace: export.metadata.namespace.clone(),
        annotations: export.exported_annotations.clone(),
        labels: export.exported_labels.clone(),
        export_creation_timestamp: export.creation_timestamp.clone(),
        ports: ports.collect(),
        kind: if service.is_headless() { HEADLESS } else { CLUSTER_SET_IP }.to_owned(),
        session_affinity: or_default(service.session_affinity(), "None"),
        session_affinity_config: service.client_ip_timeout().map(SessionAffinityConfig::client_ip_timeout),
        ip_families: vec![FAMILY.to_owned()],
        internal_traffic_policy: service.internal_traffic_policy().map(str::to_owned),
        traffic_distribution: service.traffic_distribution().map(str::to_owned),
    };
    let created = value.export_creation_timestamp.as_ref().map_or(Ok(()), |_| value.created().map(drop));
    created.and_then(|()| value.check_words()).map_err(|error| NotExported::Word(error.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests;
