//! What the task says about its work.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use agent_ebpf_common::ServiceKey;
use mesh_runtime::clock;

use super::Control;
use crate::compile::{self, Refusal};
use crate::realize::Failures;
use crate::status::{ObjectError, Status, since};

impl Control {
    pub(super) fn publish_status(&mut self, now: Instant) {
        self.stale.status = false;
        let refusals = self.all_refusals();
        let mut errors = Vec::new();
        failures(&mut errors, now, "ip", &self.ipcache.failures, ToString::to_string);
        failures(&mut errors, now, "node", &self.nodes.failures, IpAddr::to_string);
        failures(&mut errors, now, "endpoint", &self.endpoints.failures, IpAddr::to_string);
        failures(&mut errors, now, "frontend", &self.services.failures, frontend);
        let stamp = clock::unix_nanos();
        let object = |kind, name: String, error: String| ObjectError { kind, name, error, since_unix_nanos: stamp };
        let unattached = self.wiring.attach_failures.borrow_and_update().clone();
        errors.extend(unattached.into_iter().map(|(index, error)| object("device", index.to_string(), error)));
        let (underlay, tunnel_up, inner_mtu) = {
            let state = self.wiring.underlay.borrow();
            let tunnel_up = if state.is_encrypted { state.tunnel.is_some() } else { state.vxlan.is_some() };
            (state.errors.clone(), tunnel_up, state.sizes.map_or(0, |sizes| sizes.inner))
        };
        errors.extend(underlay.into_iter().map(|error| object("underlay", "node".to_owned(), error)));
        let mut counts = BTreeMap::new();
        for refusal in refusals {
            *counts.entry(refusal.reason).or_insert(0) += 1;
            errors.push(object(refusal.kind, refusal.name, refusal.text));
        }
        let mut status = Status {
            realized_revision: self.view.revision(),
            paths: self.wiring.paths.borrow().clone(),
            errors,
            refusals: counts,
            drift_total: self.drift_total,
            tunnel_up,
            inner_mtu,
            endpoints: self.endpoints.len(),
            services: self.services.len(),
            ip_entries: self.ipcache.len(),
            backends: self.services.backends(),
        };
        self.metrics.status(&status);
        self.wiring.status.send_if_modified(|old| {
            keep_first_times(&mut status.errors, &old.errors);
            let changed = *old != status;
            *old = status;
            changed
        });
        // Retries come and go without an event.
        let has_failures = !(self.ipcache.failures.is_empty()
            && self.nodes.failures.is_empty()
            && self.endpoints.failures.is_empty()
            && self.services.failures.is_empty());
        self.stale.status = has_failures;
    }

    fn all_refusals(&self) -> Vec<Refusal> {
        let mut all: Vec<Refusal> = self.refusals.values().flatten().cloned().collect();
        all.extend(compile::disagreements(self.facts()));
        all.extend(self.ip_refusals.values().flatten().cloned());
        all
    }
}

fn failures<K: Ord + Clone>(
    out: &mut Vec<ObjectError>,
    now: Instant,
    kind: &'static str,
    failures: &Failures<K>,
    name: impl Fn(&K) -> String,
) {
    out.extend(failures.iter().map(|(key, failure)| ObjectError {
        kind,
        name: name(key),
        error: failure.error.clone(),
        since_unix_nanos: since(now.saturating_duration_since(failure.since)),
    }));
}

fn frontend(key: &ServiceKey) -> String {
    format!("{}:{}/{}", IpAddr::from(key.addr), u16::from_be(key.port_be), key.proto)
}

/// An error that was there before keeps the time at which it came.
fn keep_first_times(errors: &mut [ObjectError], before: &[ObjectError]) {
    let known: BTreeMap<_, _> = before.iter().map(|e| ((e.kind, &e.name, &e.error), e.since_unix_nanos)).collect();
    for error in errors {
        if let Some(since) = known.get(&(error.kind, &error.name, &error.error)) {
            error.since_unix_nanos = *since;
        }
    }
}
