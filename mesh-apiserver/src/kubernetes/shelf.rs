//! The objects of one of the mesh's own kinds as the API server has them: listed once, then watched.
//!
//! Each object is kept as it was read, so that one which this version cannot read spoils no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use mesh_runtime::{Backoff, ErrorChain};
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::{Client, Error};

/// By name; `None` until they were listed once.
pub(super) type Objects = Option<Arc<BTreeMap<String, DynamicObject>>>;

/// As other clients' watches; then all are listed again.
const WATCH_SECONDS: u32 = 290;
/// A watch tells of itself once a minute.
const QUIET: Duration = Duration::from_secs(90);
/// A kind whose definition is not installed is looked for so often.
const ABSENT: Duration = Duration::from_secs(10);
/// A watch that ends at once must not become a flood of lists.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Shelf {
    client: Client,
    resource: ApiResource,
    what: String,
}

impl Shelf {
    pub(super) fn new<K: kube::Resource<DynamicType = ()>>(client: Client) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let what = format!("{}.{}", resource.plural, resource.group);
        Self { client, resource, what }
    }

    pub(super) fn api(&self, client: kube::Client) -> Api<DynamicObject> {
        Api::all_with(client, &self.resource)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Keeps what is told equal to what the API server has, until dropped. While it cannot be asked the last answer counts.
    pub(super) async fn follow(&self, told: watch::Sender<Objects>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut said = String::new();
        loop {
            match self.follow_once(&told, &mut backoff).await {
                Ok(()) => {
                    said.clear();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_absence() => {
                    if told.borrow().as_ref().is_none_or(|objects| !objects.is_empty()) {
                        tracing::info!(kind = self.what, "this kind of objects is not installed: looked for again");
                        told.send_replace(Some(Arc::default()));
                    }
                    tokio::time::sleep(ABSENT).await;
                }
                Err(error) => {
                    let text = ErrorChain(&error).to_string();
                    if said != text {
                        tracing::warn!(kind = self.what, error = text, "objects cannot be followed: tried again");
                        said = text;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// Until the watch ends.
    async fn follow_once(&self, told: &watch::Sender<Objects>, backoff: &mut Backoff) -> Result<(), Error> {
        let list = |client| async move { self.api(client).list(&ListParams::default()).await };
        let listed = self.client.ask("list", &self.what, list).await?;
        backoff.reset();
        let version = listed.metadata.resource_version.unwrap_or_default();
        let named = listed.items.into_iter().filter_map(|object| Some((object.metadata.name.clone()?, object)));
        let mut objects: BTreeMap<String, DynamicObject> = named.collect();
        told.send_replace(Some(Arc::new(objects.clone())));
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        let watch = |client| {
            let (params, version) = (&params, &version);
            async move { self.api(client).watch(params, version).await }
        };
        let events = self.client.ask("watch", &self.what, watch).await?;
        pin_mut!(events);
        // What is quiet for so long, has ended, or says that it cannot go on is begun anew by a list.
        while let Ok(Some(Ok(event))) = timeout(QUIET, events.next()).await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let Some(name) = object.metadata.name.clone() else { continue };
                    objects.insert(name, object);
                }
                WatchEvent::Deleted(object) => drop(object.metadata.name.and_then(|name| objects.remove(&name))),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(_) => break,
            }
            told.send_replace(Some(Arc::new(objects.clone())));
        }
        Ok(())
    }
}
