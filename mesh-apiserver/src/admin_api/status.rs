//! The state of everything at once.

use std::collections::BTreeMap;

use federation::contract::keys;
use mesh_proto::v1;
use mesh_store::mvcc::RangeRequest;
use mesh_types::NodeName;
use mesh_types::view::Object;
use tonic::Status;

use super::{AdminApi, VERSION};
use crate::agent_api::{AgentState, unavailable};
use crate::registration::Registration;

/// The most objects that are shown as left out.
const MAX_ERRORS: usize = 100;

impl AdminApi {
    pub(super) async fn status(&self) -> Result<v1::GetStatusResponse, Status> {
        let store = self.store.status().await.map_err(|e| unavailable(&e))?;
        let counts = self.view.read(|view| {
            let of_own = |o: &&Object| match o {
                Object::Ip(ip) => ip.cluster == self.cluster,
                _ => false,
            };
            let endpoints = view.objects().filter(of_own).count();
            let identities = view.objects().filter(|o| matches!(o, Object::Identity(_))).count();
            let (services, global) = view.service_names();
            [services.len(), global.len(), endpoints, identities].map(|n| u32::try_from(n).unwrap_or(u32::MAX))
        });
        Ok(v1::GetStatusResponse {
            cluster: self.cluster.to_string(),
            cluster_id: self.cluster_id.get(),
            uuid: self.ca.uuid().to_string(),
            version: VERSION.to_owned(),
            store: Some(v1::StoreStatus {
                cluster_id: self.store.cluster_id(),
                revision: store.revision,
                keys: store.keys,
                replicas: 1,
                ready_replicas: u32::from(store.leader != 0),
            }),
            source: Some(self.source_status()),
            peers: self.federation.status().await,
            agents: self.agents().await?,
            encryption: v1::Encryption::from(self.encryption).into(),
            services: counts[0],
            global_services: counts[1],
            endpoints: counts[2],
            identities: counts[3],
        })
    }

    fn source_status(&self) -> v1::SourceStatus {
        let source = self.source.get();
        let export = self.export.get();
        let rejections = source.rejections.into_iter().chain(export.rejections());
        v1::SourceStatus {
            kind: "manifests".to_owned(),
            location: source.location,
            objects: u32::try_from(source.objects).unwrap_or(u32::MAX),
            errors: rejections
                .take(MAX_ERRORS)
                .map(|r| v1::ObjectError { object: r.object, error: r.reason })
                .collect(),
        }
    }

    /// Every node whose agent has registered, and every agent that has a stream.
    async fn agents(&self) -> Result<Vec<v1::AgentStatus>, Status> {
        let found = self.store.range(RangeRequest::prefix(keys::NODES)).await.map_err(|e| unavailable(&e))?;
        let mut agents: BTreeMap<NodeName, (Registration, AgentState)> = BTreeMap::new();
        for kv in found.kvs {
            let node = std::str::from_utf8(&kv.key).ok().and_then(|k| k.strip_prefix(keys::NODES));
            let (Some(node), Ok(registration)) = (node, Registration::decode(&kv.value)) else { continue };
            agents.entry(NodeName(node.to_owned())).or_default().0 = registration;
        }
        for (node, state) in self.presence.all() {
            agents.entry(node).or_default().1 = state;
        }
        let status = |(node, (registration, state)): (NodeName, (Registration, AgentState))| v1::AgentStatus {
            node: node.0,
            connected: state.streams > 0,
            since_unix_nanos: state.since_unix_nanos,
            version: registration.version,
            kernel: registration.kernel,
            wireguard_backend: registration.wireguard_backend,
            report: state.report,
        };
        Ok(agents.into_iter().map(status).collect())
    }
}
