//! Which backends are withdrawn: the verdicts on clusters, each weighed by the setting of the own cluster's Service. What
//! changes costs what it touches: a verdict the backends of its cluster, a setting those of its Service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use federation::{Health, Loss, State};
use mesh_types::view::{Key, Object};
use mesh_types::withdrawal::Periods;
use mesh_types::{ClusterName, ServiceName, WithdrawAfter};

use super::{View, decode};

/// How a Service uses a remote cluster's backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub cluster: ClusterName,
    pub usage: Usage,
    /// Unix nanoseconds; 0 where nothing was concluded yet.
    pub since_unix_nanos: u64,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Live,
    /// Used, although its control plane is silent or its facts are not all here yet.
    Stale,
    Withdrawn,
}

impl Usage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl View {
    /// Withdrawal periods that the own cluster's Services ask for, each once.
    pub fn periods(&self) -> Periods {
        self.periods.keys().copied().collect()
    }

    /// Names of the own cluster's nodes.
    pub fn own_nodes(&self) -> BTreeSet<String> {
        let first = Key::Node { cluster: self.own.clone(), name: mesh_types::NodeName(String::new()) };
        let own = self.facts.range(first..).map_while(|(key, _)| match key {
            Key::Node { cluster, name } if *cluster == self.own => Some(name.0.clone()),
            _ => None,
        });
        own.collect()
    }

    /// Whether a Service does not use a cluster's backends now.
    pub(super) fn withdraws(&self, service: &ServiceName, cluster: &ClusterName) -> bool {
        self.healths.get(cluster).is_some_and(|health| health.withdraws(self.setting(service)))
    }

    /// Of every remote cluster that has the Service, in order of their names.
    pub fn standings(&self, service: &ServiceName) -> Vec<Standing> {
        let key = |cluster: &ClusterName| Key::Service { cluster: cluster.clone(), service: service.clone() };
        let remote = self.clusters().filter(|name| **name != self.own && self.facts.contains_key(&key(name)));
        remote.map(|cluster| self.standing(service, cluster)).collect()
    }

    fn standing(&self, service: &ServiceName, cluster: &ClusterName) -> Standing {
        let standing =
            |usage, since_unix_nanos, reason| Standing { cluster: cluster.clone(), usage, since_unix_nanos, reason };
        let Some(health) = self.healths.get(cluster) else {
            return standing(Usage::Stale, 0, "its session has not begun".to_owned());
        };
        let setting = self.setting(service);
        let since = health.since_unix_nanos;
        match (setting, health.state) {
            _ if health.withdraws(setting) => match setting {
                // By its own period, and not by what ended for others at another time.
                Some(WithdrawAfter::Seconds(seconds)) if !matches!(health.loss, Some(Loss::Cluster | Loss::Paths)) => {
                    let period = u64::from(seconds) * 1_000_000_000;
                    let reason = format!("no heartbeat for {seconds} s, its own withdraw-after: {}", health.reason);
                    standing(Usage::Withdrawn, health.last_heartbeat_unix_nanos.saturating_add(period), reason)
                }
                _ => standing(Usage::Withdrawn, since, health.reason.clone()),
            },
            (Some(WithdrawAfter::Never), State::Withdrawn) => {
                standing(Usage::Stale, since, format!("its withdraw-after is never: {}", health.reason))
            }
            (Some(setting), State::Withdrawn) => {
                standing(Usage::Stale, since, format!("its withdraw-after is {setting}: {}", health.reason))
            }
            (_, State::Live) => standing(Usage::Live, since, String::new()),
            (_, _) => standing(Usage::Stale, since, health.reason.clone()),
        }
    }

    /// Takes in a verdict.
    pub(super) fn judged(
        &mut self,
        cluster: ClusterName,
        health: Option<Health>,
        touched: &mut BTreeMap<Key, Option<Object>>,
    ) {
        let first =
            Key::Backend { cluster: cluster.clone(), service: ServiceName::new("", ""), address: decode::FIRST };
        let of_cluster = self.facts.range(first..).take_while(|(key, _)| is_backend_of(key, &cluster));
        let before = self.healths.get(&cluster);
        let withdraws = |health: Option<&Health>, setting| health.is_some_and(|health| health.withdraws(setting));
        for (key, object) in of_cluster {
            let Key::Backend { service, .. } = key else { continue };
            let setting = self.setting(service);
            let was_withdrawn = withdraws(before, setting);
            if was_withdrawn != withdraws(health.as_ref(), setting) {
                touched.entry(key.clone()).or_insert_with(|| (!was_withdrawn).then(|| object.clone()));
            }
        }
        match health {
            Some(health) => self.healths.insert(cluster, health),
            None => self.healths.remove(&cluster),
        };
    }

    /// Before an own Service changes: what its new setting hides or shows, and which periods are in use.
    pub(super) fn note_setting(
        &mut self,
        key: &Key,
        object: Option<&Object>,
        touched: &mut BTreeMap<Key, Option<Object>>,
    ) {
        let Key::Service { cluster, service } = key else { return };
        if *cluster != self.own {
            return;
        }
        let before = self.setting(service);
        let after = object.and_then(setting_of);
        if before == after {
            return;
        }
        for (name, health) in &self.healths {
            let was_withdrawn = health.withdraws(before);
            if was_withdrawn == health.withdraws(after) {
                continue;
            }
            let key = |address| Key::Backend { cluster: name.clone(), service: service.clone(), address };
            for (key, object) in self.facts.range(key(decode::FIRST)..=key(decode::LAST)) {
                touched.entry(key.clone()).or_insert_with(|| (!was_withdrawn).then(|| object.clone()));
            }
        }
        let period = |setting: Option<WithdrawAfter>| setting.and_then(WithdrawAfter::period);
        if let Some(period) = period(before) {
            self.forget_period(period);
        }
        if let Some(period) = period(after) {
            *self.periods.entry(period).or_default() += 1;
        }
    }

    fn forget_period(&mut self, period: Duration) {
        if let Some(count) = self.periods.get_mut(&period) {
            *count -= 1;
            if *count == 0 {
                self.periods.remove(&period);
            }
        }
    }

    /// The own cluster's Service decides; where it has none, the mesh's default does.
    fn setting(&self, service: &ServiceName) -> Option<WithdrawAfter> {
        self.facts.get(&Key::Service { cluster: self.own.clone(), service: service.clone() }).and_then(setting_of)
    }

    /// Names of all clusters, which come first in the order of keys.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.facts.keys().map_while(|key| match key {
            Key::Cluster(name) => Some(name),
            _ => None,
        })
    }
}

fn setting_of(object: &Object) -> Option<WithdrawAfter> {
    match object {
        Object::Service(service) => service.prefers.withdraw_after,
        _ => None,
    }
}

fn is_backend_of(key: &Key, wanted: &ClusterName) -> bool {
    matches!(key, Key::Backend { cluster, .. } if cluster == wanted)
}

#[cfg(test)]
mod tests;
