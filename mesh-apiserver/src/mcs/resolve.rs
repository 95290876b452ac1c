//! The exports of one name by all clusters to the one import that all of them make, and what they disagree about. Pure.
//!
//! Where exports disagree the oldest is right. Creation times have whole seconds and come from clocks that nobody compares: of
//! two exports of one second the one of the cluster whose name comes first is the older. Only what is exported counts, and
//! never when this cluster saw it, so that every cluster that sees the same exports names the same winner.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use federation::contract::ServiceExportValue;
use federation::contract::service_export::HEADLESS;

use super::ports::{self, ImportPort};
use super::words;

/// What a cluster set knows of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) is_headless: bool,
    /// No two have the same name, or the same protocol and number.
    pub(super) ports: Vec<ImportPort>,
    /// `None` or `ClientIP`.
    pub(super) session_affinity: String,
    /// Of `ClientIP`.
    pub(super) client_ip_seconds: Option<i32>,
    /// Those that every backend has; `None` where no export says.
    pub(super) ip_families: Option<Vec<String>>,
    pub(super) internal_traffic_policy: Option<String>,
    pub(super) traffic_distribution: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The exporting clusters, the oldest export first.
    pub(super) clusters: Vec<String>,
    pub(super) conflicts: Vec<Conflict>,
}

/// Something that exports disagree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) reason: Reason,
    /// Which clusters, and what counts.
    pub(super) message: String,
}

/// The MCS API's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Port,
    Type,
    SessionAffinity,
    SessionAffinityConfig,
    Annotations,
    Labels,
    InternalTrafficPolicy,
    TrafficDistribution,
    IpFamily,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::Labels => "LabelsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::IpFamily => "IPFamilyConflict",
        })
    }
}

/// Oldest first. An export without a time, which no mirror takes, is the youngest.
pub(super) fn by_age(a: &ServiceExportValue, b: &ServiceExportValue) -> Ordering {
    let second = |export: &ServiceExportValue| export.created().map_or(i64::MAX, jiff::Timestamp::as_second);
    second(a).cmp(&second(b)).then_with(|| a.cluster.cmp(&b.cluster))
}

/// One export a cluster, in any order. `None` where nobody exports the name.
pub(super) fn resolve<'a>(exports: impl IntoIterator<Item = &'a ServiceExportValue>) -> Option<Import> {
    let mut exports: Vec<&ServiceExportValue> = exports.into_iter().collect();
    exports.sort_by(|a, b| by_age(a, b));
    let oldest = *exports.first()?;
    let is_headless = oldest.kind == HEADLESS;
    let mut conflicts = Vec::new();
    let (ports, disagreement) = ports::union(&exports);
    conflicts.extend(disagreement.map(|message| Conflict { reason: Reason::Port, message }));
    let mut compare = |reason, field, told: &dyn Fn(&ServiceExportValue) -> String| {
        conflicts.extend(different(&exports, reason, field, told));
    };
    compare(Reason::Type, "type", &|export| export.kind.clone());
    let (affinity, seconds) = (affinity_of(oldest), seconds_of(oldest));
    if !is_headless {
        // What is only its backends has no affinity.
        compare(Reason::SessionAffinity, "sessionAffinity", &|export| affinity_of(export).to_owned());
        let config =
            |export: &ServiceExportValue| seconds_of(export).map_or_else(|| "none".into(), |s| format!("{s} s"));
        compare(Reason::SessionAffinityConfig, "sessionAffinityConfig", &config);
    }
    compare(Reason::Annotations, "exportedAnnotations", &|export| pairs(&export.annotations));
    compare(Reason::Labels, "exportedLabels", &|export| pairs(&export.labels));
    let policy =
        |export: &ServiceExportValue| export.internal_traffic_policy.clone().unwrap_or_else(|| "Cluster".into());
    compare(Reason::InternalTrafficPolicy, "internalTrafficPolicy", &policy);
    let distribution =
        |export: &ServiceExportValue| export.traffic_distribution.clone().unwrap_or_else(|| "none".into());
    compare(Reason::TrafficDistribution, "trafficDistribution", &distribution);
    let (ip_families, disagreement) = families(&exports);
    conflicts.extend(disagreement);
    let (labels, odd) = taken(&oldest.labels, |key, value| words::is_qualified(key) && words::is_label_value(value));
    conflicts.extend(odd.map(|key| left_out(Reason::Labels, "exportedLabels", oldest, key)));
    let (annotations, odd) = taken(&oldest.annotations, |key, _| words::is_qualified(key));
    conflicts.extend(odd.map(|key| left_out(Reason::Annotations, "exportedAnnotations", oldest, key)));
    Some(Import {
        is_headless,
        ports,
        session_affinity: affinity.to_owned(),
        client_ip_seconds: seconds,
        ip_families,
        internal_traffic_policy: oldest.internal_traffic_policy.clone(),
        traffic_distribution: oldest.traffic_distribution.clone(),
        labels,
        annotations,
        clusters: exports.iter().map(|export| export.cluster.clone()).collect(),
        conflicts,
    })
}

/// The first export that says something else than the oldest names the conflict.
fn different(
    exports: &[&ServiceExportValue],
    reason: Reason,
    field: &str,
    told: &dyn Fn(&ServiceExportValue) -> String,
) -> Option<Conflict> {
    let (oldest, younger) = exports.split_first()?;
    let right = told(oldest);
    let other = younger.iter().find(|export| told(export) != right)?;
    let message = format!(
        "{field}: {} has {}, and {} has {right}, which counts as that of the oldest export",
        other.cluster,
        told(other),
        oldest.cluster
    );
    Some(Conflict { reason, message })
}

/// What Kubernetes takes of a map, and the first that it does not.
fn taken(
    map: &BTreeMap<String, String>,
    is_good: impl Fn(&str, &str) -> bool,
) -> (BTreeMap<String, String>, Option<&String>) {
    let odd = map.iter().find(|(key, value)| !is_good(key, value)).map(|(key, _)| key);
    (map.iter().filter(|(key, value)| is_good(key, value)).map(|(k, v)| (k.clone(), v.clone())).collect(), odd)
}

fn left_out(reason: Reason, field: &str, export: &ServiceExportValue, key: &str) -> Conflict {
    let message = format!("{field}: {key:?} of {} is none that Kubernetes takes: it is left out", export.cluster);
    Conflict { reason, message }
}

/// Those that all exports have, so that whichever address a client takes reaches all backends. One that has none in common
/// with the older ones is a conflict: taking it into account would leave nothing.
fn families(exports: &[&ServiceExportValue]) -> (Option<Vec<String>>, Option<Conflict>) {
    let mut common: Option<Vec<String>> = None;
    let mut conflict = None;
    for export in exports.iter().filter(|export| !export.ip_families.is_empty()) {
        let Some(known) = &common else {
            common = Some(export.ip_families.clone());
            continue;
        };
        let both: Vec<String> = known.iter().filter(|family| export.ip_families.contains(family)).cloned().collect();
        if both.is_empty() {
            let message = format!(
                "ipFamilies: {} has {} only, and older exports {}: its backends are not reached",
                export.cluster,
                export.ip_families.join(", "),
                known.join(", ")
            );
            conflict.get_or_insert(Conflict { reason: Reason::IpFamily, message });
        } else {
            common = Some(both);
        }
    }
    (common, conflict)
}

fn affinity_of(export: &ServiceExportValue) -> &str {
    if export.session_affinity.is_empty() { "None" } else { &export.session_affinity }
}

/// The setting means something for `ClientIP` only.
fn seconds_of(export: &ServiceExportValue) -> Option<i32> {
    let config = export.session_affinity_config.as_ref().filter(|_| affinity_of(export) == "ClientIP");
    config.and_then(|config| config.client_ip.as_ref()).and_then(|client_ip| client_ip.timeout_seconds)
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let all: BTreeSet<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.into_iter().collect::<Vec<_>>().join(",") }
}

#[cfg(test)]
mod tests;
