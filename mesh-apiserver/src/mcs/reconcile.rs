//! One name at a time: what is wanted is compared with what is there, and what differs is written.
//!
//! Objects come in the order in which each needs the one before: the import, the Service that it owns, the import's address,
//! the slices of that Service, the import's status. They go in the reverse order.

use std::time::{Duration, Instant};

use mesh_types::{ClusterId, ClusterName, ServiceName};
use serde_json::Value;

use super::conditions::{self, renewed};
use super::local::{is_managed, is_managed_slice};
use super::memory::{Answer, Memory, Verdict};
use super::names;
use super::remote::Remote;
use super::resolve::Import;
use super::standing::{self, Standing, addresses_of, is_fit};
use super::status::StatusHandle;
use super::tap::Seen;
use super::wanted::{self, Wanted};
use crate::kubernetes::{McsObjects, Target, WriteError};
use crate::objects::{Service, ServiceImport};

/// Writes of all objects are at least this far apart: fifty a second.
const PACE: Duration = Duration::from_millis(20);

/// What a name's objects are waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Something was written a moment ago, and the source does not show it.
    LookAgain,
}

pub(super) struct Reconciler {
    own: ClusterName,
    id: ClusterId,
    objects: McsObjects,
    seen: Seen,
    status: StatusHandle,
    memory: Memory,
    next_write: Instant,
    /// Of the name that is being looked at.
    outcome: Outcome,
}

/// What the source shows of a name's objects. What was deleted a moment ago counts as gone.
struct Found {
    import: Option<ServiceImport>,
    service: Option<Service>,
}

impl Reconciler {
    pub(super) fn new(own: ClusterName, id: ClusterId, objects: McsObjects, seen: Seen, status: StatusHandle) -> Self {
        let (memory, next_write, outcome) = (Memory::default(), Instant::now(), Outcome::Done);
        Self { own, id, objects, seen, status, memory, next_write, outcome }
    }

    /// Makes the objects of a name what they should be.
    pub(super) async fn reconcile(&mut self, name: &ServiceName, remote: &mut Remote) -> Result<Outcome, WriteError> {
        self.outcome = Outcome::Done;
        let derived = names::derived(name);
        let (wanted, is_exported) =
            self.seen.read(|local| (Wanted::of(name, local, remote, &self.own, self.id), local.export(name).is_some()));
        if is_exported {
            remote.remember(name);
        } else {
            remote.forget(name);
        }
        let found = self.found(name, &derived);
        // What is wrong with an import is no reason to say nothing of the export.
        let made = match &wanted.import {
            Some(import) => self.make(name, &derived, import, &wanted, found).await,
            None => self.remove(name, &derived, found).await,
        };
        if made.as_ref().is_err_and(WriteError::is_passing) {
            return made.map(|()| self.outcome);
        }
        self.say_of_export(name, &wanted).await?;
        made.map(|()| self.outcome)
    }

    fn found(&self, name: &ServiceName, derived: &ServiceName) -> Found {
        let now = Instant::now();
        let (import, service) = self.seen.read(|local| (local.import(name).cloned(), local.service(derived).cloned()));
        Found {
            import: import.filter(|import| !self.memory.was_deleted(&import.metadata.uid, now)),
            service: service.filter(|service| !self.memory.was_deleted(&service.metadata.uid, now)),
        }
    }

    async fn make(
        &mut self,
        name: &ServiceName,
        derived: &ServiceName,
        import: &Import,
        wanted: &Wanted,
        found: Found,
    ) -> Result<(), WriteError> {
        if found.import.as_ref().is_some_and(|found| !is_managed(&found.metadata)) {
            return Err(WriteError::Taken(Target::Import.what(name)));
        }
        if found.service.as_ref().is_some_and(|found| !is_managed(&found.metadata)) {
            return Err(WriteError::Taken(Target::Service.what(derived)));
        }
        let mut service = found.service;
        if let Some(unfit) = service.take_if(|service| !is_fit(service, import)) {
            self.delete(Target::Service, derived, &unfit.metadata.uid).await?;
        }
        let known = service.as_ref().map(addresses_of);
        let mut addresses = known.unwrap_or_else(|| self.memory.answer(Target::Service, derived).addresses);
        if import.is_headless || !wanted::is_carried(import) {
            addresses.clear();
        }
        let object = wanted::import_object(name, import, &addresses);
        let standing = found.import.as_ref().map_or(Standing::Less, |found| standing::of_import(found, &object));
        self.apply(Target::Import, name, &object, standing).await?;
        let uid = found.import.as_ref().map(|found| found.metadata.uid.clone());
        let uid = uid.or_else(|| self.memory.answer(Target::Import, name).uid);

        let mut slices = Ok(());
        if !wanted::is_carried(import) {
            slices = self.make_slices(name, wanted, None).await;
            self.drop_service(derived, service).await?;
        } else if let Some(uid) = uid {
            let object = wanted::service_object(name, import, &uid, &wanted.annotations);
            let standing = service.as_ref().map_or(Standing::Less, |service| standing::of_service(service, &object));
            if self.apply(Target::Service, derived, &object, standing).await? {
                addresses = self.memory.answer(Target::Service, derived).addresses;
                let object = wanted::import_object(name, import, &addresses);
                self.apply(Target::Import, name, &object, Standing::More).await?;
            }
            slices = self.make_slices(name, wanted, Some(&uid)).await;
        }
        if slices.as_ref().is_err_and(WriteError::is_passing) {
            return slices;
        }
        self.say_of_import(name, import, found.import.as_ref(), !addresses.is_empty()).await?;
        slices
    }

    /// `owner` is the import's uid: slices go with it, whoever deletes it.
    async fn make_slices(
        &mut self,
        name: &ServiceName,
        wanted: &Wanted,
        owner: Option<&str>,
    ) -> Result<(), WriteError> {
        let now = Instant::now();
        let mut failure = None;
        for (slice, object) in &wanted.slices {
            let mut object = object.clone();
            object["metadata"]["ownerReferences"] = wanted::owners(name, owner.unwrap_or_default());
            let object = &object;
            let slice = ServiceName::new(name.namespace.clone(), slice.clone());
            let found = self.seen.read(|local| local.slice(&slice).cloned());
            let found = found.filter(|found| !self.memory.was_deleted(&found.metadata.uid, now));
            if found.as_ref().is_some_and(|found| !is_managed_slice(&found.metadata)) {
                failure.get_or_insert(WriteError::Taken(Target::Slice.what(&slice)));
                continue;
            }
            let standing = found.as_ref().map_or(Standing::Less, |found| standing::of_slice(found, object));
            match self.apply(Target::Slice, &slice, object, standing).await {
                // One slice, of one cluster, keeps no other from being made.
                Err(error) if !error.is_passing() => drop(failure.get_or_insert(error)),
                done => drop(done?),
            }
        }
        let surplus: Vec<(ServiceName, String)> = self.seen.read(|local| {
            let surplus = local.made_for(name).filter(|(slice, _)| !wanted.slices.contains_key(&slice.name));
            surplus.map(|(slice, found)| (slice.clone(), found.metadata.uid.clone())).collect()
        });
        for (slice, uid) in surplus {
            if !self.memory.was_deleted(&uid, now) {
                self.delete(Target::Slice, &slice, &uid).await?;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Nobody exports the name, or there is no such namespace here: what was made of it goes.
    async fn remove(&mut self, name: &ServiceName, derived: &ServiceName, found: Found) -> Result<(), WriteError> {
        self.make_slices(name, &Wanted::default(), None).await?;
        self.drop_service(derived, found.service).await?;
        if let Some(import) = found.import.filter(|import| is_managed(&import.metadata)) {
            self.delete(Target::Import, name, &import.metadata.uid).await?;
        }
        Ok(())
    }

    async fn drop_service(&mut self, derived: &ServiceName, service: Option<Service>) -> Result<(), WriteError> {
        match service.filter(|service| is_managed(&service.metadata)) {
            Some(service) => self.delete(Target::Service, derived, &service.metadata.uid).await,
            None => Ok(()),
        }
    }

    async fn say_of_import(
        &mut self,
        name: &ServiceName,
        import: &Import,
        found: Option<&ServiceImport>,
        has_address: bool,
    ) -> Result<(), WriteError> {
        let said = conditions::of_import(import, wanted::is_carried(import), has_address);
        let former = found.map(|found| found.conditions.as_slice()).unwrap_or_default();
        let generation = found.map_or(1, |found| found.generation);
        let conditions = renewed(former, &said, generation, &now());
        let is_listed = found.is_some_and(|found| found.clusters == import.clusters);
        let standing = if conditions.is_none() && is_listed { Standing::Equal } else { Standing::Less };
        let conditions = conditions.unwrap_or_else(|| former.to_vec());
        let object = wanted::import_status(name, import, &conditions);
        self.apply(Target::ImportStatus, name, &object, standing).await.map(drop)
    }

    async fn say_of_export(&mut self, name: &ServiceName, wanted: &Wanted) -> Result<(), WriteError> {
        let Some(said) = &wanted.export else { return Ok(()) };
        let Some(export) = self.seen.read(|local| local.export(name).cloned()) else { return Ok(()) };
        let Some(conditions) = renewed(&export.conditions, said, export.generation, &now()) else { return Ok(()) };
        let object = wanted::export_status(&export, &conditions);
        self.apply(Target::ExportStatus, name, &object, Standing::Less).await.map(drop)
    }

    /// Whether it had to be written, and was.
    async fn apply(
        &mut self,
        target: Target,
        name: &ServiceName,
        object: &Value,
        standing: Standing,
    ) -> Result<bool, WriteError> {
        match self.memory.judge(target, name, object, standing, Instant::now()) {
            Verdict::Leave => return Ok(false),
            Verdict::Wait => {
                self.outcome = Outcome::LookAgain;
                return Ok(false);
            }
            Verdict::Write => {}
        }
        self.keep_pace().await;
        let answer = self.objects.apply(target, name, object).await;
        self.count(answer.is_ok());
        let Some(answer) = answer? else { return Ok(false) };
        tracing::debug!(object = target.what(name), "written");
        let standing = standing::of_answer(target, &answer, object);
        if standing == Standing::Less {
            tracing::warn!(
                object = target.what(name),
                "the API server keeps less of it than it was given: an older CRD?"
            );
        }
        let said = Answer {
            uid: answer.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned),
            addresses: match target {
                Target::Service => {
                    serde_json::from_value(answer).map(|service| addresses_of(&service)).unwrap_or_default()
                }
                _ => Vec::new(),
            },
        };
        self.memory.wrote(target, name, object, standing, said, Instant::now());
        Ok(true)
    }

    async fn delete(&mut self, target: Target, name: &ServiceName, uid: &str) -> Result<(), WriteError> {
        self.keep_pace().await;
        let done = self.objects.delete(target, name, uid).await;
        self.count(done.is_ok());
        done?;
        tracing::debug!(object = target.what(name), "deleted");
        self.memory.deleted(target, name, uid, Instant::now());
        Ok(())
    }

    fn count(&self, is_done: bool) {
        self.status.change(|status| if is_done { status.writes += 1 } else { status.failures += 1 });
    }

    async fn keep_pace(&mut self) {
        tokio::time::sleep_until(self.next_write.into()).await;
        self.next_write = Instant::now() + PACE;
    }
}

/// As Kubernetes writes times.
fn now() -> String {
    federation::contract::stamp::rfc3339(jiff::Timestamp::now())
}
