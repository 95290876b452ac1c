//! Which backends are withdrawn: the verdicts on clusters, each weighed by the setting of the own cluster's Service. What
//! changes costs what it touches: a verdict the backends of its cluster, a setting those of its Service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use federation::{Health, Loss, State};
use mesh_types::view::{Key, Object};
use mesh_types::withdrawal::Periods;
use mesh_types::{ClusterName, Preference, ServiceName, StaleAfter, WithdrawAfter};

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

    /// The same of periods after which they show a silent cluster as stale.
    pub fn stale_periods(&self) -> Periods {
        self.stale_periods.keys().copied().collect()
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
        let is_remote = |name: &ClusterName| *name != self.own && self.is_shown(name.as_str());
        let remote = self.clusters().filter(|name| is_remote(name) && self.facts.contains_key(&key(name)));
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
            // Nothing but silence is held against it, and that not for long enough.
            (_, State::Stale | State::Withdrawn)
                if matches!(health.loss, None | Some(Loss::Control)) && !self.is_silent(service, health) =>
            {
                standing(Usage::Live, 0, String::new())
            }
            (_, State::Live) if self.is_silent(service, health) && self.stale_setting(service).is_some() => {
                let seconds = self.stale_setting(service).and_then(StaleAfter::period).unwrap_or_default().as_secs();
                let since = health.last_heartbeat_unix_nanos.saturating_add(seconds * 1_000_000_000);
                standing(Usage::Stale, since, format!("no heartbeat for {seconds} s, its own stale-after"))
            }
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
        let is_shown = self.is_shown(cluster.as_str());
        let of_cluster = self.facts.range(first..).take_while(|(key, _)| is_shown && is_backend_of(key, &cluster));
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
        let stale = |prefers: Option<&Preference>| prefers?.stale_after?.period();
        let withdraw = |prefers: Option<&Preference>| prefers?.withdraw_after;
        let (former, now) = (self.preference(service), object.and_then(preference_of));
        let (before, after) = (withdraw(former), withdraw(now));
        let (was_stale, is_stale) = (stale(former), stale(now));
        count(&mut self.stale_periods, was_stale, is_stale);
        if before == after {
            return;
        }
        for (name, health) in &self.healths {
            let was_withdrawn = health.withdraws(before);
            if was_withdrawn == health.withdraws(after) || !self.is_shown(name.as_str()) {
                continue;
            }
            let key = |address| Key::Backend { cluster: name.clone(), service: service.clone(), address };
            for (key, object) in self.facts.range(key(decode::FIRST)..=key(decode::LAST)) {
                touched.entry(key.clone()).or_insert_with(|| (!was_withdrawn).then(|| object.clone()));
            }
        }
        let period = |setting: Option<WithdrawAfter>| setting.and_then(WithdrawAfter::period);
        count(&mut self.periods, period(before), period(after));
    }

    /// The own cluster's Service decides; where it has none, the mesh's default does.
    fn setting(&self, service: &ServiceName) -> Option<WithdrawAfter> {
        self.preference(service)?.withdraw_after
    }

    fn stale_setting(&self, service: &ServiceName) -> Option<StaleAfter> {
        self.preference(service)?.stale_after
    }

    fn preference(&self, service: &ServiceName) -> Option<&Preference> {
        preference_of(self.facts.get(&Key::Service { cluster: self.own.clone(), service: service.clone() })?)
    }

    /// Whether a cluster that is not known to be well has been silent for longer than a Service puts up with.
    fn is_silent(&self, service: &ServiceName, health: &Health) -> bool {
        match self.stale_setting(service) {
            None => true,
            Some(StaleAfter::Never) => false,
            Some(StaleAfter::Seconds(seconds)) => health.stale_seconds >= u64::from(seconds),
        }
    }

    /// Names of all clusters, which come first in the order of keys.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.facts.keys().map_while(|key| match key {
            Key::Cluster(name) => Some(name),
            _ => None,
        })
    }
}

fn preference_of(object: &Object) -> Option<&Preference> {
    match object {
        Object::Service(service) => Some(&service.prefers),
        _ => None,
    }
}

/// Counts one more of a period, and one less of another.
fn count(periods: &mut BTreeMap<Duration, usize>, before: Option<Duration>, after: Option<Duration>) {
    if let Some(period) = after {
        *periods.entry(period).or_default() += 1;
    }
    if let Some(period) = before
        && let Some(count) = periods.get_mut(&period)
    {
        *count -= 1;
        if *count == 0 {
            periods.remove(&period);
        }
    }
}

fn is_backend_of(key: &Key, wanted: &ClusterName) -> bool {
    matches!(key, Key::Backend { cluster, .. } if cluster == wanted)
}

#[cfg(test)]
mod tests;
