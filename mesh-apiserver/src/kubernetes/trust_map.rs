//! The ConfigMap from which agents learn whom to trust before they have anything else: the cluster's CAs, at every stage of
//! a rotation.
//!
//! Written by the holder of the controller's role alone, so that replicas which are at different stages do not take turns.
//! Must never hold anything but certificates.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use tokio::sync::watch;

use super::client::{Client, Error};
use super::name::NamespacedName;

const KEY: &str = "ca.crt";
/// What somebody else changed or removed is put right within this.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrustMap {
    client: Client,
    name: NamespacedName,
    told: watch::Receiver<String>,
}

impl TrustMap {
    /// `told` are the CAs of the cluster as PEM, as they change.
    pub fn new(client: Client, name: NamespacedName, told: watch::Receiver<String>) -> Self {
        Self { client, name, told }
    }

    /// Keeps the ConfigMap equal to what is told until stopped.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        shutdown.unless_requested(self.keep()).await;
        Ok(())
    }

    async fn keep(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut said = String::new();
        loop {
            let bundle = self.told.borrow_and_update().clone();
            match self.write(&bundle).await {
                Ok(is_news) => {
                    if is_news {
                        tracing::info!(configmap = %self.name, "agents are told of these CAs");
                    }
                    said.clear();
                    backoff.reset();
                    tokio::select! {
                        // Whoever tells lives as long as the process.
                        Ok(()) = self.told.changed() => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
                Err(error) => {
                    let text = ErrorChain(&error).to_string();
                    if said != text && !error.is_conflict() {
                        tracing::warn!(configmap = %self.name, error = text, "agents are not told of the CAs: tried again");
                        said = text;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// Whether something had to be written.
    async fn write(&self, bundle: &str) -> Result<bool, Error> {
        let NamespacedName { namespace, name } = &self.name;
        let what = format!("ConfigMap {}", self.name);
        let maps = |client| Api::<ConfigMap>::namespaced(client, namespace);
        let found = self.client.ask("get", &what, |client| async move { maps(client).get_opt(name).await }).await?;
        let Some(mut map) = found else {
            let map = ConfigMap {
                metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels()), ..ObjectMeta::default() },
                data: Some(BTreeMap::from([(KEY.to_owned(), bundle.to_owned())])),
                ..ConfigMap::default()
            };
            let create = |client| async move { maps(client).create(&PostParams::default(), &map).await };
            return self.client.ask("create", &what, create).await.map(|_made| true);
        };
        let data = map.data.get_or_insert_default();
        if data.get(KEY).is_some_and(|known| known == bundle) {
            return Ok(false);
        }
        data.insert(KEY.to_owned(), bundle.to_owned());
        // With the version that was read: who changed it in between is looked at again.
        let replace = |client| async move { maps(client).replace(name, &PostParams::default(), &map).await };
        self.client.ask("update", &what, replace).await.map(|_replaced| true)
    }
}

/// What objects of this server carry.
pub(super) fn labels() -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    [label("app.kubernetes.io/part-of", "isthmus"), label("app.kubernetes.io/managed-by", "mesh-apiserver")].into()
}
