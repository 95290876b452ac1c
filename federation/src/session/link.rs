//! One connection to one endpoint of a peer's etcd API: TLS, paged reads, and the stream of watches.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::client::tonic_config;
use certs::{LiveLeaf, TrustBundle};
use etcd_client::{Client, ConnectOptions, GetOptions, KvClient, WatchClient, WatchOptions};
use mesh_store::mvcc::KeyRange;

use super::error::{Error, is_compacted, is_denied, reason};
use super::watches::Watches;
use crate::mirror::Watched;
use crate::peer::PeerRecord;

/// A peer that cannot be reached must not hold up the next endpoint.
const CONNECT: Duration = Duration::from_secs(1);
/// One answer of a peer that is reached.
const ANSWER: Duration = Duration::from_secs(5);
/// Keys per page, as Cilium's clients ask.
const PAGE: i64 = 256;
/// A page of large services passes gRPC's default of 4 MiB.
const MAX_MESSAGE: usize = 512 << 20;
/// Listings that were overtaken by a compaction start over so often before the connection is given up.
const LIST_ATTEMPTS: u32 = 3;

pub(super) struct Link {
    endpoint: String,
    kv: KvClient,
    watch: WatchClient,
}

/// Everything of a range at one revision.
pub(super) struct Listing {
    pub(super) cluster_id: u64,
    pub(super) revision: i64,
    pub(super) kvs: Vec<(Vec<u8>, Bytes)>,
}

impl Link {
    /// Prepares the connection; it is made by the first request, which is bounded by [`CONNECT`] and [`ANSWER`].
    pub(super) async fn prepare(
        peer: &PeerRecord,
        bundle: &TrustBundle,
        endpoint: &str,
        leaf: &Arc<LiveLeaf>,
    ) -> Result<Self, Error> {
        let tls = tonic_config(bundle, &leaf.get(), &peer.declaration.server_name());
        // A real etcd answers pings closer than 5 s with GOAWAY; Cilium's heartbeat tells such a peer from Isthmus.
        let ping = (peer.heartbeat_interval() / 4).clamp(Duration::from_secs(1), Duration::from_secs(10));
        let options = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(CONNECT)
            .with_keep_alive(ping, ping.max(Duration::from_secs(2)))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let client = Client::connect([format!("https://{endpoint}")], Some(options)).await;
        let client = client.map_err(|e| Error::Connect { endpoint: endpoint.to_owned(), reason: reason(&e) })?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE),
            watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE),
        })
    }

    /// Reads a whole range in pages of one revision. `None` where the peer does not let us read it.
    pub(super) async fn list(&mut self, what: Watched, range: &KeyRange) -> Result<Option<Listing>, Error> {
        let mut attempt = 1;
        loop {
            match self.list_once(what, range).await {
                Ok(listing) => return Ok(Some(listing)),
                Err(Failed::Denied) if what.is_optional() => return Ok(None),
                Err(Failed::Compacted(_)) if attempt < LIST_ATTEMPTS => attempt += 1,
                Err(Failed::Denied) => {
                    return Err(Error::Request { what, reason: "permission denied".to_owned() });
                }
                Err(Failed::Compacted(reason)) => return Err(Error::Request { what, reason }),
                Err(Failed::Other(error)) => return Err(error),
            }
        }
    }

    async fn list_once(&mut self, what: Watched, range: &KeyRange) -> Result<Listing, Failed> {
        let mut listing: Option<Listing> = None;
        let mut start = range.key.to_vec();
        loop {
            let mut options = GetOptions::new().with_limit(PAGE);
            if !range.is_single() {
                options = options.with_range(range.range_end.to_vec());
            }
            if let Some(listing) = &listing {
                options = options.with_revision(listing.revision);
            }
            let answer = tokio::time::timeout(ANSWER, self.kv.get(start, Some(options))).await;
            let answer = answer.map_err(|_elapsed| Failed::Other(self.timeout(what)))?;
            let mut page = answer.map_err(|e| Failed::classify(what, &self.endpoint, &e))?;
            let header = page.take_header().ok_or(Failed::Other(Error::NoHeader))?;
            let listing = listing.get_or_insert_with(|| Listing {
                cluster_id: header.cluster_id(),
                revision: header.revision(),
                kvs: Vec::new(),
            });
            for kv in page.take_kvs() {
                let (key, value) = kv.into_key_value();
                listing.kvs.push((key, Bytes::from(value)));
            }
            match listing.kvs.last() {
                Some((last, _)) if page.more() => {
                    start = last.clone();
                    start.push(0);
                }
                _ => break,
            }
        }
        listing.ok_or(Failed::Other(Error::NoHeader))
    }

    /// Opens the stream of watches with its first one.
    pub(super) async fn watches(&mut self, first: Watched, range: &KeyRange, from: i64) -> Result<Watches, Error> {
        let options = watch_options(range, from);
        let answer = tokio::time::timeout(ANSWER, self.watch.watch(range.key.to_vec(), Some(options))).await;
        let stream = answer.map_err(|_elapsed| self.timeout(first))?;
        let stream = stream.map_err(|e| Error::Connect { endpoint: self.endpoint.clone(), reason: reason(&e) })?;
        Ok(Watches::new(stream, first))
    }

    fn timeout(&self, what: Watched) -> Error {
        Error::Timeout { endpoint: self.endpoint.clone(), what, limit: ANSWER }
    }
}

/// Why a listing stopped, told apart for the one who can start over.
enum Failed {
    Denied,
    Compacted(String),
    Other(Error),
}

impl Failed {
    fn classify(what: Watched, endpoint: &str, error: &etcd_client::Error) -> Self {
        let is_answer = matches!(error, etcd_client::Error::GRpcStatus(s) if std::error::Error::source(s).is_none());
        match error {
            e if is_denied(e) => Self::Denied,
            e if is_compacted(e) => Self::Compacted(reason(e)),
            e if is_answer => Self::Other(Error::Request { what, reason: reason(e) }),
            e => Self::Other(Error::Connect { endpoint: endpoint.to_owned(), reason: reason(e) }),
        }
    }
}

pub(super) fn watch_options(range: &KeyRange, from: i64) -> WatchOptions {
    let options = WatchOptions::new().with_start_revision(from);
    if range.is_single() { options } else { options.with_range(range.range_end.to_vec()) }
}
