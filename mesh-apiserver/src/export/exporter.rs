//! The task that writes. It alone owns the index and writes the own cluster's facts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation::contract::{ClusterConfig, ExportClock, keys as contract, stamp};
use federation::{Declaration, Tuning};
use ipnet::IpNet;
use mesh_runtime::{Backoff, ErrorChain, ReadyGuard, Shutdown, clock};
use mesh_store::Store;
use mesh_store::backend::{Class, WatchRequest, WatchUpdate, Watcher};
use mesh_store::mvcc::{DeleteRangeRequest, Event, EventKind, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest};
use mesh_types::ClusterName;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::facts::Facts;
use super::keys;
use super::planner::{Batch, Limits};
use crate::index::{Change, Index};
use crate::registration::Registration;
use crate::source::{self, Rejection};

/// Of one Txn. The store takes thousands of operations; smaller ones keep watchers' batches small.
const LIMITS: Limits = Limits { keys: 1000, bytes: 1 << 20 };
/// How often numbers are looked at whose quarantine may be over.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store failed")]
    Store(#[source] mesh_store::backend::Error),
    #[error("the source of objects ended")]
    Source,
    #[error("the watch of node registrations ended")]
    Watch,
}

/// What the exporter is told at the start.
#[derive(Debug, Clone)]
pub struct Options {
    pub cluster: ClusterName,
    pub config: ClusterConfig,
    /// What this cluster tells others of itself.
    pub declaration: Declaration,
    /// The CAs that it tells others to trust, PEM; they change when it goes over to another one.
    pub trust: watch::Receiver<String>,
    /// The declared pod prefixes are those of the Node objects.
    pub pods_follow_nodes: bool,
    /// The declared node prefixes are the addresses of the Node objects.
    pub nodes_follow_nodes: bool,
    /// Who uses an address of another cluster uses it for as long as this says, and its number as well.
    pub tuning: watch::Receiver<Tuning>,
}

/// What the exporter holds at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Objects that were read but not (fully) exported.
    pub errors: BTreeMap<String, String>,
    pub transactions: u64,
    pub keys_written: u64,
}

impl Status {
    pub fn rejections(&self) -> impl Iterator<Item = Rejection> + '_ {
        self.errors.iter().map(|(object, reason)| Rejection { object: object.clone(), reason: reason.clone() })
    }
}

/// Read by the admin API and the metrics while the exporter writes.
#[derive(Debug, Clone, Default)]
pub struct StatusHandle(Arc<RwLock<Status>>);

impl StatusHandle {
    pub fn get(&self) -> Status {
        self.0.read().clone()
    }
}

pub struct Exporter {
    store: Arc<dyn Store>,
    index: Index,
    facts: Facts,
    objects: mpsc::Receiver<source::Batch>,
    options: Options,
    /// Dropped once the first export is complete.
    ready: Option<ReadyGuard>,
    is_complete: bool,
    /// The store holds a complete export of a former term, which is what a full one goes on with.
    has_former: bool,
    /// Why the store takes nothing new at the moment, where an alarm is the reason.
    alarm: Option<String>,
    /// Keys that the store refused for good.
    refused: BTreeMap<String, String>,
    status: StatusHandle,
}

impl Exporter {
    pub fn new(
        store: Arc<dyn Store>,
        index: Index,
        facts: Facts,
        objects: mpsc::Receiver<source::Batch>,
        options: Options,
        ready: Option<ReadyGuard>,
    ) -> (Self, StatusHandle) {
        let status = StatusHandle::default();
        let exporter = Self {
            store,
            index,
            facts,
            objects,
            options,
            ready,
            is_complete: false,
            has_former: false,
            alarm: None,
            refused: BTreeMap::new(),
            status: status.clone(),
        };
        (exporter, status)
    }

    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Error> {
        self.load().await?;
        let mut registrations = self.load_registrations().await?;
        let mut config = self.watch_config().await?;
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                batch = self.objects.recv() => {
                    self.take(batch.ok_or(Error::Source)?);
                    while let Ok(more) = self.objects.try_recv() {
                        self.take(more);
                    }
                }
                update = registrations.next() => match update {
                    Some(WatchUpdate::Events(batch)) => self.note_registrations(&batch.events),
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Compacted { .. }) => registrations = self.load_registrations().await?,
                    None => return Err(Error::Watch),
                },
                update = config.next() => match update {
                    Some(WatchUpdate::Events(batch)) => self.note_config(&batch.events),
                    Some(WatchUpdate::Progress { .. }) => {}
                    Some(WatchUpdate::Compacted { .. }) => config = self.watch_config().await?,
                    None => return Err(Error::Watch),
                },
                // The sender goes with the process.
                Ok(()) = self.options.trust.changed() => {}
                _ = expiry.tick() => {
                    self.facts.set_quarantine(self.options.tuning.borrow().liveness.withdraw_after);
                    self.facts.expire(clock::unix_nanos());
                }
            }
            self.flush().await?;
            // Of half a scan nothing can be said: a pod may be read before the Node whose prefix it is in.
            if self.is_complete {
                self.publish_status();
            }
        }
    }

    fn take(&mut self, batch: source::Batch) {
        for change in batch.changes {
            let changes = match change {
                source::Change::Apply(object) => self.index.apply(*object),
                source::Change::Delete(key) => self.index.delete(&key),
            };
            self.apply(changes);
        }
        if batch.is_delayed && self.has_former {
            // Whoever asks is better served by it than by nobody: agents and peers go on.
            tracing::warn!("what there is cannot be read now: what was exported before is served");
            self.ready = None;
        }
        if batch.is_complete {
            self.is_complete = true;
            // Before anything is pruned, or a restart would take back for a moment what it announced before.
            self.declare();
            self.facts.announce(&self.options.config, &stamp::rfc3339(jiff::Timestamp::now()));
            self.facts.scan_is_complete(clock::unix_nanos());
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.facts.apply(change, clock::unix_nanos());
        }
    }

    async fn load(&mut self) -> Result<(), Error> {
        let cluster = &self.options.cluster;
        let prefixes = [
            contract::STATE.to_owned(),
            contract::AUDIENCE.to_owned(),
            keys::LOCAL.to_owned(),
            keys::IDENTITY.to_owned(),
            contract::canaries(cluster),
        ];
        let mut requests: Vec<RangeRequest> = prefixes.into_iter().map(RangeRequest::prefix).collect();
        requests.push(RangeRequest::get(contract::cluster_config(cluster)));
        requests.push(RangeRequest::get(contract::OWN_CLUSTER));
        requests.push(RangeRequest::get(contract::EXCHANGE));
        requests.push(RangeRequest::get(contract::EXPORT_TRUST));
        let mut kvs = Vec::new();
        for request in requests {
            let response = self.store.range(request).await.map_err(Error::Store)?;
            kvs.extend(response.kvs.into_iter().map(|kv| (kv.key, kv.value)));
        }
        let canaries = contract::canaries(cluster);
        self.has_former = kvs.iter().any(|(key, _): &(Bytes, Bytes)| key.starts_with(canaries.as_bytes()));
        for error in self.facts.load(kvs) {
            tracing::warn!(error = %ErrorChain(&error), "an identity record is not usable and will be removed");
        }
        Ok(())
    }

    async fn load_registrations(&mut self) -> Result<Watcher, Error> {
        let response = self.store.range(RangeRequest::prefix(contract::NODES)).await.map_err(Error::Store)?;
        for kv in response.kvs {
            self.note_registration(&kv.key, Some(&kv.value));
        }
        let request = WatchRequest::prefix(contract::NODES, response.revision + 1);
        self.store.watch(request).await.map_err(Error::Store)
    }

    /// Follows what peers read first, so that a foreign word in it does not stay (Cilium's exporter does the same).
    async fn watch_config(&mut self) -> Result<Watcher, Error> {
        let key = contract::cluster_config(&self.options.cluster);
        let found = self.store.range(RangeRequest::get(key.clone())).await.map_err(Error::Store)?;
        let key = Bytes::from(key);
        self.facts.planner().found(&key, found.kvs.first().map(|kv| &kv.value));
        let request = WatchRequest { range: KeyRange::single(key), ..WatchRequest::prefix("", found.revision + 1) };
        self.store.watch(request).await.map_err(Error::Store)
    }

    fn note_config(&mut self, events: &[Event]) {
        for event in events {
            let value = (event.kind == EventKind::Put).then_some(&event.kv.value);
            if self.facts.planner().realized(&event.kv.key) != value {
                tracing::warn!("the cluster-config was changed by somebody else: it is put right");
                self.facts.planner().found(&event.kv.key, value);
            }
        }
    }

    fn note_registrations(&mut self, events: &[Event]) {
        for event in events {
            let value = (event.kind == EventKind::Put).then_some(&event.kv.value);
            self.note_registration(&event.kv.key, value);
        }
    }

    fn note_registration(&mut self, key: &[u8], value: Option<&Bytes>) {
        let Some(node) = std::str::from_utf8(key).ok().and_then(|k| k.strip_prefix(contract::NODES)) else { return };
        let registration = match value.map(|v| Registration::decode(v)).transpose() {
            Ok(registration) => registration,
            Err(error) => return tracing::warn!(node, error = %ErrorChain(&error), "registration left out"),
        };
        let changes = self.index.register(node, registration);
        self.apply(changes);
    }

    /// Writes all that differs; facts come before what announces them, by the order of their ranks. Before the first scan
    /// is complete it writes nothing: a Namespace that keeps its own from others may not have been read yet.
    async fn flush(&mut self) -> Result<(), Error> {
        if !self.is_complete {
            return Ok(());
        }
        self.declare();
        self.facts.publish_exchange();
        let alarm = self.write_dirty().await?;
        self.note_alarm(alarm);
        if self.alarm.is_none() || self.has_former {
            self.ready = None;
        }
        Ok(())
    }

    fn note_alarm(&mut self, alarm: Option<String>) {
        match (&self.alarm, &alarm) {
            (None, Some(alarm)) => {
                tracing::error!(alarm, "only what goes is exported until the alarm is disarmed: what is new waits");
            }
            (Some(_), None) => tracing::info!("the store takes everything again: all that waited is exported"),
            _ => {}
        }
        self.alarm = alarm;
    }

    fn declare(&mut self) {
        let declaration = &mut self.options.declaration;
        declaration.trust_bundle_pem.clone_from(&self.options.trust.borrow_and_update());
        if self.options.pods_follow_nodes {
            declaration.pod_prefixes = carried(self.index.pod_cidrs());
        }
        if self.options.nodes_follow_nodes {
            declaration.node_prefixes = carried(self.index.node_addresses());
        }
        self.index.declare_pods(&declaration.pod_prefixes);
        self.facts.declare(declaration);
    }

    /// Returns why some of it had to wait, where an alarm is the reason: it stays dirty, and is tried again at every flush.
    async fn write_dirty(&mut self) -> Result<Option<String>, Error> {
        let mut alarm = None;
        for batch in self.facts.planner().batches(LIMITS) {
            match self.write(&batch).await {
                Ok(()) => self.facts.planner().committed(&batch),
                Err(error) if error.class() == Class::Invalid => {
                    alarm = self.write_one_by_one(&batch).await?.or(alarm);
                }
                Err(error) if error.class() == Class::Alarm => {
                    alarm = Some(error.to_string());
                    self.write_deletes(batch).await?;
                }
                Err(error) => return Err(Error::Store(error)),
            }
        }
        Ok(alarm)
    }

    /// The store refuses something in the batch for good: what is good in it goes on. Returns as [`Self::write_dirty`] does.
    async fn write_one_by_one(&mut self, batch: &Batch) -> Result<Option<String>, Error> {
        let mut alarm = None;
        let puts = batch.puts.iter().map(|put| Batch { puts: vec![put.clone()], deletes: Vec::new() });
        let deletes = batch.deletes.iter().map(|key| Batch { puts: Vec::new(), deletes: vec![key.clone()] });
        for one in puts.chain(deletes) {
            match self.write(&one).await {
                Ok(()) => self.facts.planner().committed(&one),
                Err(error) if error.class() == Class::Alarm => alarm = Some(error.to_string()),
                Err(error) if error.class() == Class::Invalid => {
                    for key in one.puts.iter().map(|(key, _)| key).chain(&one.deletes) {
                        let text = String::from_utf8_lossy(key).into_owned();
                        tracing::error!(key = text, error = %ErrorChain(&error), "the store refuses a key");
                        self.refused.insert(text, error.to_string());
                        self.facts.planner().give_up(key);
                    }
                }
                Err(error) => return Err(Error::Store(error)),
            }
        }
        Ok(alarm)
    }

    /// A store that is full takes what makes it no larger: a backend that is gone is withdrawn all the same.
    async fn write_deletes(&mut self, batch: Batch) -> Result<(), Error> {
        let deletes = Batch { puts: Vec::new(), deletes: batch.deletes };
        if deletes.is_empty() {
            return Ok(());
        }
        match self.commit(&deletes, Vec::new()).await {
            Ok(()) => self.facts.planner().committed(&deletes),
            Err(error) if error.class() == Class::Alarm => {}
            Err(error) => return Err(Error::Store(error)),
        }
        Ok(())
    }

    async fn write(&self, batch: &Batch) -> Result<(), mesh_store::backend::Error> {
        let stamp = ExportClock { unix_nanos: clock::unix_nanos() };
        self.commit(batch, vec![TxnOp::Put(PutRequest::new(contract::EXPORT_CLOCK, stamp.encode()))]).await
    }

    async fn commit(&self, batch: &Batch, more: Vec<TxnOp>) -> Result<(), mesh_store::backend::Error> {
        let mut success: Vec<TxnOp> = Vec::with_capacity(batch.len() + more.len());
        success.extend(batch.puts.iter().map(|(k, v)| TxnOp::Put(PutRequest::new(k.clone(), v.clone()))));
        success.extend(batch.deletes.iter().map(|k| TxnOp::DeleteRange(DeleteRangeRequest::key(k.clone()))));
        success.extend(more);
        let request = TxnRequest { success, ..TxnRequest::default() };
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            // Puts and deletes of fixed values: writing them twice does no harm, so an unknown outcome is tried again.
            match self.store.txn(request.clone()).await {
                Ok(_) => break,
                Err(error) if error.class() == Class::Retryable => {
                    tracing::warn!(error = %ErrorChain(&error), "export waits for the store");
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
        let mut status = self.status.0.write();
        status.transactions += 1;
        status.keys_written += batch.len() as u64;
        Ok(())
    }

    fn publish_status(&self) {
        let mut errors: BTreeMap<String, String> =
            self.index.errors().into_iter().map(|(key, error)| (key.to_string(), error)).collect();
        for (ip, address) in self.facts.waiting() {
            let object = format!("Pod {}/{}", address.value.namespace, address.value.pod_name);
            let reason = format!("{ip} has identity \"init\": every identity number of this cluster is taken");
            errors.insert(object, reason);
        }
        if let Some(alarm) = &self.alarm {
            errors.insert("the store".to_owned(), format!("{alarm}: what is new waits until the alarm is disarmed"));
        }
        errors.extend(self.refused.iter().map(|(key, error)| (key.clone(), error.clone())));
        let mut status = self.status.0.write();
        if status.errors != errors {
            for (object, reason) in errors.iter().filter(|(o, r)| status.errors.get(*o) != Some(*r)) {
                tracing::warn!(object, reason, "not fully exported");
            }
            status.errors = errors;
        }
    }
}

/// What the datapath of this version carries: a cluster that declared more could not join.
fn carried(prefixes: Vec<IpNet>) -> Vec<IpNet> {
    prefixes.into_iter().filter(|prefix| prefix.addr().is_ipv4()).collect()
}
