//! The state of everything at once.

use std::collections::BTreeMap;

use federation::contract::keys;
use mesh_proto::v1;
use mesh_store::mvcc::RangeRequest;
use mesh_types::view::Object;
use tonic::Status;

use super::{AdminApi, VERSION};
use crate::agent_api::{Presence, unavailable};
use crate::objects::ObjectKey;
use crate::registration::Registration;
use crate::view::View;

/// The most objects that are shown as left out.
const MAX_ERRORS: usize = 100;

impl AdminApi {
    pub(super) async fn status(&self) -> Result<v1::GetStatusResponse, Status> {
        let store = self.store.status().await.map_err(|e| unavailable(&e))?;
        let (elsewhere, certificates) = tokio::join!(self.parties.others.agents(), self.certificates());
        let certificates = certificates?;
        let replicas = self.parties.others.count() + 1;
        let ready_replicas = elsewhere.len() + usize::from(store.leader != 0);
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
            uuid: self.parties.credentials.ca.get().uuid().to_string(),
            version: VERSION.to_owned(),
            store: Some(v1::StoreStatus {
                cluster_id: self.store.cluster_id(),
                revision: store.revision,
                keys: store.keys,
                replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
                ready_replicas: u32::try_from(ready_replicas).unwrap_or(u32::MAX),
            }),
            source: Some(self.source_status().await?),
            peers: self.controller.peers().await,
            agents: self.agents(elsewhere).await?,
            encryption: v1::Encryption::from(self.encryption).into(),
            services: counts[0],
            global_services: counts[1],
            endpoints: counts[2],
            identities: counts[3],
            own_side: self.controller.own_side().unwrap_or_default(),
            first_to_expire: certificates.certificates.into_iter().min_by_key(|row| row.not_after_unix_nanos),
            rotation: certificates.rotation,
        })
    }

    async fn source_status(&self) -> Result<v1::SourceStatus, Status> {
        let of_exchange = self.exchange_errors().await?;
        let source = self.controller.source();
        let export = self.controller.export();
        let of_services = self.view.read(View::service_errors).into_iter();
        let of_services = of_services.map(|(name, error)| (ObjectKey::service(&name).to_string(), error));
        let of_cluster_set = self.controller.mcs().unwrap_or_default();
        let rejections = source.rejections.into_iter().chain(export.rejections()).chain(of_cluster_set.rejections());
        let rejections = rejections.map(|r| (r.object, r.reason));
        Ok(v1::SourceStatus {
            kind: source.kind.to_owned(),
            location: source.location,
            objects: u32::try_from(source.objects).unwrap_or(u32::MAX),
            errors: rejections
                .chain(of_services)
                .map(|(object, error)| v1::ObjectError { object, error })
                .chain(of_exchange)
                .take(MAX_ERRORS)
                .collect(),
            trouble: source.trouble.as_ref().map(|trouble| trouble.reason.clone()).unwrap_or_default(),
            trouble_since_unix_nanos: source.trouble.map_or(0, |trouble| trouble.since_unix_nanos),
        })
    }

    /// Every node whose agent has registered, and every agent that has a stream, here or at another replica.
    pub(super) async fn agents(&self, elsewhere: Vec<Vec<v1::AgentStatus>>) -> Result<Vec<v1::AgentStatus>, Status> {
        let found = self.store.range(RangeRequest::prefix(keys::NODES)).await.map_err(|e| unavailable(&e))?;
        let present = self.connected_agents().into_iter().chain(elsewhere.into_iter().flatten());
        let mut agents = newest(present);
        for kv in found.kvs {
            let node = std::str::from_utf8(&kv.key).ok().and_then(|k| k.strip_prefix(keys::NODES));
            let (Some(node), Ok(registration)) = (node, Registration::decode(&kv.value)) else { continue };
            let agent = agents.entry(node.to_owned()).or_default();
            node.clone_into(&mut agent.node);
            agent.version = registration.version;
            agent.kernel = registration.kernel;
            agent.wireguard_backend = registration.wireguard_backend;
        }
        Ok(agents.into_values().collect())
    }

    /// What this replica knows of agents' streams and reports.
    pub(super) fn connected_agents(&self) -> Vec<v1::AgentStatus> {
        agents_at(&self.presence)
    }
}

/// What this replica knows of agents' streams and reports.
pub(crate) fn agents_at(presence: &Presence) -> Vec<v1::AgentStatus> {
    let present = presence.all().into_iter().map(|(node, state)| v1::AgentStatus {
        node: node.0,
        connected: state.streams > 0,
        since_unix_nanos: state.since_unix_nanos,
        report: state.report,
        ..v1::AgentStatus::default()
    });
    present.collect()
}

/// An agent moves between replicas: what counts is where it is connected, else where it was last.
pub(crate) fn newest(present: impl Iterator<Item = v1::AgentStatus>) -> BTreeMap<String, v1::AgentStatus> {
    let mut agents: BTreeMap<String, v1::AgentStatus> = BTreeMap::new();
    for agent in present {
        let rank = |agent: &v1::AgentStatus| (agent.connected, agent.since_unix_nanos);
        match agents.get(&agent.node) {
            Some(known) if rank(known) >= rank(&agent) => {}
            _ => drop(agents.insert(agent.node.clone(), agent)),
        }
    }
    agents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_shown_where_it_is_connected_else_where_it_was_last() {
        let agent = |node: &str, connected, since_unix_nanos| v1::AgentStatus {
            node: node.to_owned(),
            connected,
            since_unix_nanos,
            ..v1::AgentStatus::default()
        };
        let seen = [agent("a", true, 1), agent("a", false, 5), agent("b", false, 3), agent("b", false, 4)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
            let agents = newest(order.iter().map(|i| seen[*i].clone()));
            assert_eq!(agents["a"], seen[0]);
            assert_eq!(agents["b"], seen[3]);
        }
    }
}
