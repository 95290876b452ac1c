//! What the store counts about itself.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PrincipalLabel {
    pub principal: Arc<str>,
}

/// Clones share the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) revision: Gauge,
    pub(crate) compact_revision: Gauge,
    pub(crate) keys: Gauge,
    pub(crate) db_bytes: Gauge,
    pub(crate) db_bytes_in_use: Gauge,
    /// 1 while the disk has less room than the replica wants.
    pub(crate) low_disk: Gauge,
    pub(crate) apply_seconds: Histogram,
    pub(crate) commands: Counter,
    pub(crate) proposals: Counter,
    pub(crate) snapshots: Counter,
    /// One for each batch of entries that was made durable in the log.
    pub(crate) fdatasync: Counter,
    pub(crate) fsync_seconds: Histogram,
    pub(crate) watchers: Gauge,
    pub(crate) slow_watchers: Gauge,
    pub(crate) leases_expired: Counter,
    pub(crate) range_calls: Family<PrincipalLabel, Counter>,
    pub(crate) watch_streams: Family<PrincipalLabel, Counter>,
    pub(crate) watches_created: Family<PrincipalLabel, Counter>,
    pub(crate) denied: Family<PrincipalLabel, Counter>,
}

impl Metrics {
    /// Registers everything under names that start with `isthmus_store_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::detached();
        // Under etcd's name, since it means the same.
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL",
            metrics.fsync_seconds.clone(),
        );
        let store = registry.sub_registry_with_prefix("isthmus_store");
        store.register("revision", "Newest revision applied", metrics.revision.clone());
        store.register("compact_revision", "Revision last compacted at", metrics.compact_revision.clone());
        store.register("keys", "Keys that exist", metrics.keys.clone());
        store.register("db_bytes", "Bytes of log and snapshot on disk", metrics.db_bytes.clone());
        store.register("db_in_use_bytes", "Bytes of all kept versions in memory", metrics.db_bytes_in_use.clone());
        store.register("low_disk", "1 while the disk has less room than is wanted", metrics.low_disk.clone());
        store.register("apply_seconds", "Time to apply one log entry", metrics.apply_seconds.clone());
        store.register("commands", "Commands applied", metrics.commands.clone());
        store.register("proposals", "Log entries proposed; each holds one command or more", metrics.proposals.clone());
        store.register("snapshots", "Snapshots written", metrics.snapshots.clone());
        store.register("fdatasync", "Syncs of the log", metrics.fdatasync.clone());
        store.register("watchers", "Watches that run", metrics.watchers.clone());
        store.register("slow_watchers", "Watches that are being served from history", metrics.slow_watchers.clone());
        store.register("leases_expired", "Leases that ended without a keepalive", metrics.leases_expired.clone());
        store.register("range", "Range calls served over gRPC", metrics.range_calls.clone());
        store.register("watch_streams", "Watch streams opened over gRPC", metrics.watch_streams.clone());
        store.register("watches_created", "Watches created over gRPC", metrics.watches_created.clone());
        store.register("denied", "Operations refused for lack of permission", metrics.denied.clone());
        metrics
    }

    /// Counts for nobody.
    pub fn detached() -> Self {
        Self {
            revision: Gauge::default(),
            compact_revision: Gauge::default(),
            keys: Gauge::default(),
            db_bytes: Gauge::default(),
            db_bytes_in_use: Gauge::default(),
            low_disk: Gauge::default(),
            apply_seconds: Histogram::new(exponential_buckets(0.000_005, 2.0, 18)),
            commands: Counter::default(),
            proposals: Counter::default(),
            snapshots: Counter::default(),
            fdatasync: Counter::default(),
            // etcd's own buckets.
            fsync_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            watchers: Gauge::default(),
            slow_watchers: Gauge::default(),
            leases_expired: Counter::default(),
            range_calls: Family::default(),
            watch_streams: Family::default(),
            watches_created: Family::default(),
            denied: Family::default(),
        }
    }

    /// Syncs of the log so far.
    pub fn fdatasync_total(&self) -> u64 {
        self.fdatasync.get()
    }

    /// Range calls that a principal has made over gRPC.
    pub fn range_total(&self, principal: &str) -> u64 {
        self.range_calls.get_or_create(&PrincipalLabel { principal: principal.into() }).get()
    }
}
