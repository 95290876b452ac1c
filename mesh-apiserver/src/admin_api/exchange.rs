//! Who may have what, for people: the rules as the store holds them, and names in them that nobody has.

use federation::contract::keys;
use mesh_proto::v1;
use mesh_store::mvcc::RangeRequest;
use mesh_types::exchange::{EXPORT_TO, IMPORT_FROM, Rules};
use mesh_types::{ClusterName, Exchange};
use tonic::Status;

use super::AdminApi;
use crate::agent_api::unavailable;

impl AdminApi {
    /// The rules; none before the first export.
    pub(super) async fn exchange(&self) -> Result<Exchange, Status> {
        let request = RangeRequest { serializable: true, ..RangeRequest::get(keys::EXCHANGE) };
        let found = self.store.range(request).await.map_err(|e| unavailable(&e))?;
        let Some(kv) = found.kvs.first() else { return Ok(Exchange::default()) };
        serde_json::from_slice(&kv.value).map_err(|error| {
            Status::internal(format!("{} in the store is not a record of this version: {error}", keys::EXCHANGE))
        })
    }

    /// Rules that name a cluster which is not joined: they count once it is.
    pub(super) async fn exchange_errors(&self) -> Result<Vec<v1::ObjectError>, Status> {
        let exchange = self.exchange().await?;
        let of = |annotation, rules: &Rules| {
            let named = rules.all().filter_map(|(scope, clusters)| {
                let unknown: Vec<&ClusterName> = self.view.read(|view| {
                    clusters.iter().filter(|name| **name != self.cluster && !view.has_cluster(name)).collect()
                });
                (!unknown.is_empty()).then(|| v1::ObjectError {
                    object: scope.to_string(),
                    error: crate::view::services::passed_over(annotation, &unknown),
                })
            });
            named.collect::<Vec<_>>()
        };
        let mut errors = of(EXPORT_TO, &exchange.export);
        errors.extend(of(IMPORT_FROM, &exchange.import));
        Ok(errors)
    }
}
