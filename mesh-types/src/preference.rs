//! Which clusters' backends a Service prefers, and how long it keeps those of a silent one: the settings of the consuming
//! cluster's Service, read from annotations.
//!
//! It owns their syntax and which of them exclude each other. What follows from them is [`crate::select`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ClusterName;
use crate::withdrawal::{self, STALE_AFTER, StaleAfter, WITHDRAW_AFTER, WithdrawAfter};

/// Own name first, then Cilium's current name, then Cilium's old one: the first that is present wins.
pub const AFFINITY: [&str; 3] =
    ["mesh.isthmus.io/affinity", "service.cilium.io/affinity", "io.cilium/service-affinity"];
/// `cluster-b,cluster-c`: see [`Preference::failover`].
pub const FAILOVER: &str = "mesh.isthmus.io/failover";
/// `cluster-a=80,cluster-b=20`: see [`Preference::weights`].
pub const WEIGHTS: &str = "mesh.isthmus.io/weights";
/// `50%`: see [`Preference::spillover`].
pub const SPILLOVER: &str = "mesh.isthmus.io/spillover";

/// Which cluster's backends a Service prefers (Cilium `pkg/clustermesh/selectbackends.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Local and remote backends alike.
    #[default]
    None,
    /// Local backends; remote ones only while no local one is healthy.
    Local,
    /// Remote backends; local ones only while no remote one is healthy.
    Remote,
}

/// Nothing of it set is Cilium's default: all backends of all clusters alike.
///
/// # Invariants
/// `weights` stand alone: neither `failover` nor an affinity is set beside them, and at least one is above 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Preference {
    #[serde(default)]
    pub affinity: Affinity,
    /// Clusters in order: the next one takes connections when no backend of those before it is healthy. The own cluster
    /// comes first unless it is named or the affinity is remote (then last); clusters that are not named come after those
    /// that are. Empty: no order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<ClusterName>,
    /// Shares of new connections by cluster, whatever the number of its backends; a share of a cluster without healthy
    /// backends goes to the others. Clusters with 0 or not named take connections only when no other can. Empty: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<ClusterName, u16>,
    /// Per cent, 1 to 100. While fewer of a tier's backends are healthy, it takes only as many of the connections as those
    /// make up of that, and the next tier the rest. `None`: a tier takes all until its last healthy backend is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spillover: Option<u8>,
    /// `None`: as the mesh says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_after: Option<WithdrawAfter>,
    /// `None`: as the mesh says. Never longer than `withdraw_after` where both are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<StaleAfter>,
}

/// A setting that is not understood, or that goes with no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Withdrawal(#[from] withdrawal::Error),
    #[error("annotation {annotation}: {value:?} is not an affinity: use local, remote or none")]
    Affinity { annotation: String, value: String },
    #[error("annotation {annotation}: {source}")]
    Cluster { annotation: &'static str, source: crate::cluster::Error },
    #[error("annotation {annotation} names {cluster} twice")]
    Twice { annotation: &'static str, cluster: ClusterName },
    #[error("annotation {WEIGHTS}: {part:?} is not <cluster>=<0 to 65535>: write cluster-a=80,cluster-b=20")]
    Weight { part: String },
    #[error("annotation {WEIGHTS} gives no cluster a weight above 0")]
    NoWeight,
    #[error("annotation {SPILLOVER}: {value:?} is not a percentage from 1% to 100%")]
    Spillover { value: String },
    #[error(
        "annotation {SPILLOVER} needs {FAILOVER}, or an affinity of local or remote: there is no next tier otherwise"
    )]
    NothingToSpill,
    #[error("annotations {WEIGHTS} and {other} exclude each other: weights share, the other orders")]
    Exclusive { other: &'static str },
}

impl Preference {
    /// Reads the annotations. A value that is not understood is an error that names it: guessing would send traffic astray.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        let text = |name: &str| annotations.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let withdraw_after = text(WITHDRAW_AFTER).map(WithdrawAfter::parse).transpose()?;
        let preference = Self {
            affinity: affinity(annotations)?,
            failover: text(FAILOVER).map(failover).transpose()?.unwrap_or_default(),
            weights: text(WEIGHTS).map(weights).transpose()?.unwrap_or_default(),
            spillover: text(SPILLOVER).map(spillover).transpose()?,
            withdraw_after,
            stale_after: text(STALE_AFTER).map(|value| StaleAfter::parse(value, withdraw_after)).transpose()?,
        };
        let is_ordered = !preference.failover.is_empty();
        if !preference.weights.is_empty() && is_ordered {
            return Err(Error::Exclusive { other: FAILOVER });
        }
        if !preference.weights.is_empty() && preference.affinity != Affinity::None {
            return Err(Error::Exclusive { other: AFFINITY[0] });
        }
        if preference.spillover.is_some() && !is_ordered && preference.affinity == Affinity::None {
            return Err(Error::NothingToSpill);
        }
        Ok(preference)
    }

    /// Every cluster that it names, each once.
    pub fn clusters(&self) -> BTreeSet<&ClusterName> {
        self.failover.iter().chain(self.weights.keys()).collect()
    }
}

fn affinity(annotations: &BTreeMap<String, String>) -> Result<Affinity, Error> {
    let found = AFFINITY.iter().find_map(|name| annotations.get(*name).map(|value| (*name, value)));
    let Some((annotation, value)) = found else { return Ok(Affinity::None) };
    match value.to_ascii_lowercase().as_str() {
        "none" | "" => Ok(Affinity::None),
        "local" => Ok(Affinity::Local),
        "remote" => Ok(Affinity::Remote),
        _ => Err(Error::Affinity { annotation: annotation.to_owned(), value: value.clone() }),
    }
}

fn cluster(annotation: &'static str, name: &str) -> Result<ClusterName, Error> {
    ClusterName::new(name.trim()).map_err(|source| Error::Cluster { annotation, source })
}

fn failover(text: &str) -> Result<Vec<ClusterName>, Error> {
    let mut order = Vec::new();
    for name in text.split(',') {
        let cluster = cluster(FAILOVER, name)?;
        if order.contains(&cluster) {
            return Err(Error::Twice { annotation: FAILOVER, cluster });
        }
        order.push(cluster);
    }
    Ok(order)
}

fn weights(text: &str) -> Result<BTreeMap<ClusterName, u16>, Error> {
    let mut weights = BTreeMap::new();
    for part in text.split(',') {
        let malformed = || Error::Weight { part: part.trim().to_owned() };
        let (name, weight) = part.split_once('=').ok_or_else(malformed)?;
        let weight = weight.trim().parse().map_err(|_not_a_weight| malformed())?;
        let cluster = cluster(WEIGHTS, name)?;
        if weights.insert(cluster.clone(), weight).is_some() {
            return Err(Error::Twice { annotation: WEIGHTS, cluster });
        }
    }
    if weights.values().all(|weight| *weight == 0) { Err(Error::NoWeight) } else { Ok(weights) }
}

fn spillover(text: &str) -> Result<u8, Error> {
    let percent =
        text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| Error::Spillover { value: text.to_owned() })
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Local => "local",
            Self::Remote => "remote",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Result<Preference, String> {
        let annotations = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Preference::from_annotations(&annotations).map_err(|error| error.to_string())
    }

    fn names(list: &[&str]) -> Vec<ClusterName> {
        list.iter().map(|name| ClusterName::new(*name).unwrap()).collect()
    }

    #[test]
    fn each_setting_is_read_with_the_blanks_that_people_write() {
        let ordered = read(&[(FAILOVER, " cluster-b, cluster-c "), (SPILLOVER, "50%")]).unwrap();
        assert_eq!(ordered.failover, names(&["cluster-b", "cluster-c"]));
        assert_eq!(ordered.spillover, Some(50));
        let shared = read(&[(WEIGHTS, "a=80, b = 20,c=0")]).unwrap();
        assert_eq!(shared.weights.values().copied().collect::<Vec<_>>(), [80, 20, 0]);
        assert_eq!(shared.clusters().len(), 3);
        let silent = read(&[(STALE_AFTER, " 20s "), (WITHDRAW_AFTER, "never")]).unwrap();
        assert_eq!(silent.stale_after, Some(StaleAfter::Seconds(20)));
        assert_eq!(read(&[(FAILOVER, ""), (WEIGHTS, " ")]).unwrap(), Preference::default());
        assert_eq!(read(&[(AFFINITY[2], "Local"), (SPILLOVER, "70")]).unwrap().affinity, Affinity::Local);
    }

    #[test]
    fn the_own_name_wins_over_ciliums_alias() {
        assert_eq!(read(&[(AFFINITY[0], "local"), (AFFINITY[1], "remote")]).unwrap().affinity, Affinity::Local);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let table: &[(&[(&str, &str)], &str)] = &[
            (&[(AFFINITY[1], "nearest")], "affinity: \"nearest\" is not an affinity: use local, remote or none"),
            (&[(FAILOVER, "cluster-b,,c")], "mesh.isthmus.io/failover: cluster name \"\" is not valid"),
            (&[(FAILOVER, "B")], "mesh.isthmus.io/failover: cluster name \"B\" is not valid"),
            (&[(FAILOVER, "b,c,b")], "mesh.isthmus.io/failover names b twice"),
            (&[(WEIGHTS, "a=80,b")], "\"b\" is not <cluster>=<0 to 65535>"),
            (&[(WEIGHTS, "a=-1")], "\"a=-1\" is not <cluster>=<0 to 65535>"),
            (&[(WEIGHTS, "a=65536")], "\"a=65536\" is not <cluster>=<0 to 65535>"),
            (&[(WEIGHTS, "a=1,a=2")], "mesh.isthmus.io/weights names a twice"),
            (&[(WEIGHTS, "a=0,b=0")], "gives no cluster a weight above 0"),
            (&[(FAILOVER, "b"), (SPILLOVER, "0")], "\"0\" is not a percentage from 1% to 100%"),
            (&[(FAILOVER, "b"), (SPILLOVER, "half")], "\"half\" is not a percentage"),
            (&[(SPILLOVER, "50")], "there is no next tier otherwise"),
            (&[(STALE_AFTER, "soon")], "mesh.isthmus.io/stale-after: \"soon\" is not a period"),
            (&[(STALE_AFTER, "2m"), (WITHDRAW_AFTER, "1m")], "stale-after: 120s is longer than"),
            (&[(WEIGHTS, "a=1"), (FAILOVER, "b")], "mesh.isthmus.io/weights and mesh.isthmus.io/failover exclude"),
            (
                &[(WEIGHTS, "a=1"), (AFFINITY[1], "local")],
                "mesh.isthmus.io/weights and mesh.isthmus.io/affinity exclude",
            ),
        ];
        for (annotations, want) in table {
            let error = read(annotations).unwrap_err();
            assert!(error.contains(want), "{annotations:?}: {error}");
        }
    }
}
