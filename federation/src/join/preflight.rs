//! What would keep two clusters apart, found before anything is changed. Pure: what both declare, in; findings, out.
//!
//! It must find at least what joining refuses (`check_claims`), and all of it at once instead of the first.

mod measured;

use std::fmt;
use std::time::Duration;

use certs::TrustBundle;
use certs::token::Claims;
use jiff::Timestamp;

use super::check::{Conflict, conflicts};
use crate::peer::Declaration;

pub use measured::{of_certificate, of_mtu};

/// A CA that ends sooner than this is worth a warning.
const SOON: Duration = Duration::from_hours(30 * 24);
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Pass,
    Warn,
    /// Joining would be refused, or would not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// One word for what was looked at: `id`, `name`, `prefixes`, `ca`, ...
    pub check: &'static str,
    /// What was found, of what object, and what to do about it.
    pub text: String,
}

impl Finding {
    pub fn new(severity: Severity, check: &'static str, text: impl Into<String>) -> Self {
        Self { severity, check, text: text.into() }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// Everything that `own` sees of `other`: `peers` are the clusters that it has joined already.
pub fn compare(own: &Declaration, other: &Declaration, peers: &[Declaration], now: Timestamp) -> Vec<Finding> {
    let mut findings = of_claims(own, other, peers);
    findings.push(of_version(own, other));
    findings.extend([own, other].map(|cluster| of_ca(cluster, now)));
    findings.extend(of_endpoints(other));
    findings
}

fn of_claims(own: &Declaration, other: &Declaration, peers: &[Declaration]) -> Vec<Finding> {
    let peers: Vec<Claims> = peers.iter().map(Claims::from).collect();
    let found = conflicts(&own.into(), &other.into(), &peers);
    let of = |check: &'static str| {
        let text: Vec<String> =
            found.iter().filter(|conflict| check_of(conflict) == check).map(ToString::to_string).collect();
        match text.as_slice() {
            [] => vec![Finding::new(Severity::Pass, check, pass(check, own, other))],
            texts => texts.iter().map(|text| Finding::new(Severity::Fail, check, text.clone())).collect(),
        }
    };
    ["name", "id", "prefixes", "encryption", "mode"].into_iter().flat_map(of).collect()
}

fn check_of(conflict: &Conflict) -> &'static str {
    match conflict {
        Conflict::SameCluster { .. } | Conflict::DuplicateName { .. } => "name",
        Conflict::DuplicateId { .. } => "id",
        Conflict::Overlap { .. } | Conflict::Ipv6 { .. } | Conflict::NoPrefix { .. } => "prefixes",
        Conflict::Encryption { .. } => "encryption",
        Conflict::MaxConnectedClusters { .. } => "mode",
        Conflict::SharedCa { .. } => "ca",
    }
}

fn pass(check: &str, own: &Declaration, other: &Declaration) -> String {
    match check {
        "name" => format!("{} and {} are two clusters, and no joined one has either name", own.name, other.name),
        "id" => format!("{} has id {} and {} has {}", own.name, own.id.get(), other.name, other.id.get()),
        "prefixes" => "pod, node and service prefixes overlap nowhere in the mesh".to_owned(),
        "encryption" => "both protect packets in the same way".to_owned(),
        _ => format!("both are set for at most {} clusters", own.layout.max_clusters()),
    }
}

fn of_version(own: &Declaration, other: &Declaration) -> Finding {
    let minor = |version: &str| version.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    let text = format!("{} runs {} and {} runs {}", own.name, own.version, other.name, other.version);
    if minor(&own.version) == minor(&other.version) {
        Finding::new(Severity::Pass, "version", text)
    } else {
        Finding::new(Severity::Warn, "version", format!("{text}: upgrade the older one first"))
    }
}

fn of_ca(cluster: &Declaration, now: Timestamp) -> Finding {
    let name = &cluster.name;
    let expires = match TrustBundle::from_pem(&cluster.trust_bundle_pem) {
        Ok(bundle) => bundle.expires_at(),
        Err(error) => {
            let text =
                format!("the trust bundle of {name} cannot be read ({error}): restart its API server with its CA");
            return Finding::new(Severity::Fail, "ca", text);
        }
    };
    let text = format!("the CA of {name} is valid until {expires}");
    if expires <= now {
        Finding::new(Severity::Fail, "ca", format!("{text}, which is past: give {name} a new CA"))
    } else if expires.duration_since(now).unsigned_abs() < SOON {
        Finding::new(Severity::Warn, "ca", format!("{text}: replace it soon"))
    } else {
        Finding::new(Severity::Pass, "ca", text)
    }
}

/// Whether it says at all where it is reached.
fn of_endpoints(other: &Declaration) -> Vec<Finding> {
    let kinds = [("etcd API", &other.etcd_endpoints), ("mesh port", &other.mesh_endpoints)];
    let silent = kinds.into_iter().filter(|(_, endpoints)| endpoints.is_empty()).map(|(what, _)| {
        let text = format!(
            "{} does not say where its {what} is reached: start its API servers with --advertise-address",
            other.name
        );
        Finding::new(Severity::Fail, "endpoints", text)
    });
    silent.collect()
}

#[cfg(test)]
mod tests;
