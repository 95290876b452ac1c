//! Whose Services this cluster takes: the import rules as the store holds them, and what they mean for one peer.
//!
//! ```text
//!  isthmus/v1/exchange --follow--> Known --Imports of a session--> takes(kind, key)?
//! ```
//! It owns which kinds of keys the rules are about: what belongs to a Service. Addresses, identities and nodes of a joined
//! cluster are always taken, since policy and datapath need them. It must never judge what a peer may say: that is
//! [`crate::contract::validate`]'s, and what is not taken is no peer's fault.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Backoff, ErrorChain};
use mesh_store::Store;
use mesh_store::backend::{self, WatchRequest, WatchUpdate};
use mesh_store::mvcc::{EventKind, KeyRange, KeyValue, RangeRequest};
use mesh_types::exchange::{Rules, Towards};
use mesh_types::{ClusterName, Exchange, ServiceName};
use tokio::sync::watch;

use crate::contract::{EndpointSliceValue, Resource, keys};

/// The rules at one moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rules: Rules,
    /// Revision of the record; 0 while there is none, which means that there is no rule.
    revision: i64,
}

/// `None` until the record has been looked for once: nothing may be taken before.
pub(crate) type Feed = watch::Receiver<Option<Arc<Known>>>;

/// Kinds that belong to a Service.
pub(crate) fn concerns(resource: Resource) -> bool {
    matches!(resource, Resource::Services | Resource::ServiceExports | Resource::EndpointSlices)
}

/// Whether the rules need no more than the key: what they do not take by that was never mirrored under them.
pub(crate) fn go_by_key(resource: Resource) -> bool {
    matches!(resource, Resource::Services | Resource::ServiceExports)
}

/// The rules as one peer meets them.
pub(crate) struct Imports {
    peer: ClusterName,
    feed: Feed,
    towards: Towards,
    revision: i64,
}

impl Imports {
    /// Waits until the rules are known.
    pub(crate) async fn open(peer: ClusterName, feed: Feed) -> Self {
        let mut imports = Self { peer, feed, towards: Towards::default(), revision: 0 };
        // An end of the feed is the end of the process.
        let known = imports.feed.wait_for(Option::is_some).await.is_ok();
        if known {
            imports.renew();
        }
        imports
    }

    /// Of the record that these are the rules of.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Resolves when there may be other rules. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.feed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes over the newest rules; true when they are others for this peer.
    pub(crate) fn renew(&mut self) -> bool {
        let Some(known) = self.feed.borrow_and_update().clone() else { return false };
        let towards = known.rules.towards(&self.peer);
        self.revision = known.revision;
        let is_other = towards != self.towards;
        self.towards = towards;
        is_other
    }

    /// Whether a key of the peer is taken. `rest` is what follows the prefix of its kind.
    pub(crate) fn takes(&self, resource: Resource, rest: &str, value: &[u8]) -> bool {
        let service = match resource {
            Resource::Services | Resource::ServiceExports => {
                rest.split_once('/').map(|(namespace, name)| ServiceName::new(namespace, name))
            }
            Resource::EndpointSlices => EndpointSliceValue::decode(value).ok().and_then(|slice| slice.service()),
            Resource::Identities | Resource::Nodes | Resource::Ip => None,
        };
        // What names no Service is for the rules of the contract to refuse.
        service.is_none_or(|service| self.towards.admits(&service))
    }
}

/// Keeps the feed up to date until dropped.
pub(crate) async fn follow(store: Arc<dyn Store>, feed: watch::Sender<Option<Arc<Known>>>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        match follow_once(&*store, &feed, &mut backoff).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(key = keys::EXCHANGE, error = %ErrorChain(&error), "import rules cannot be followed yet");
                backoff.wait().await;
            }
        }
    }
}

/// Reads the record, then follows it until the watch ends.
async fn follow_once(
    store: &dyn Store,
    feed: &watch::Sender<Option<Arc<Known>>>,
    backoff: &mut Backoff,
) -> Result<(), backend::Error> {
    let found = store.range(RangeRequest::get(keys::EXCHANGE)).await?;
    backoff.reset();
    tell(feed, found.kvs.first());
    let request = WatchRequest {
        range: KeyRange::single(keys::EXCHANGE),
        start_revision: found.revision + 1,
        ..WatchRequest::default()
    };
    let mut changes = store.watch(request).await?;
    loop {
        match changes.next().await {
            Some(WatchUpdate::Events(batch)) => {
                if let Some(event) = batch.events.last() {
                    tell(feed, (event.kind == EventKind::Put).then_some(&event.kv));
                }
            }
            Some(WatchUpdate::Progress { .. }) => {}
            Some(WatchUpdate::Compacted { .. }) => return Ok(()),
            None => return Err(backend::Error::Stopped),
        }
    }
}

fn tell(feed: &watch::Sender<Option<Arc<Known>>>, record: Option<&KeyValue>) {
    let known = match record {
        None => Known::default(),
        Some(kv) => match serde_json::from_slice::<Exchange>(&kv.value) {
            Ok(exchange) => Known { rules: exchange.import, revision: kv.mod_revision },
            Err(error) => {
                // The exporter writes it anew when it starts; until then the former rules count, or nothing is taken.
                tracing::error!(key = keys::EXCHANGE, %error, "not a record of this version: import rules stay as they were");
                return;
            }
        },
    };
    feed.send_replace(Some(Arc::new(known)));
}
