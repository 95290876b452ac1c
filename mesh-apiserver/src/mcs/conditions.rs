//! What is said of ServiceExports and ServiceImports in their status, in the MCS API's words. Pure but for the time that it
//! is given.

use std::collections::BTreeSet;

use super::resolve::{Conflict, Import, Reason};
use crate::index::exports::NotExported;
use crate::objects::Condition;

/// The API server refuses a longer one.
const MESSAGE: usize = 32_768;
const REASON: usize = 1024;

/// What is so now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    kind: &'static str,
    status: bool,
    reason: String,
    message: String,
}

fn said(kind: &'static str, status: bool, reason: impl Into<String>, message: impl Into<String>) -> Said {
    let cut = |text: String, most| text.chars().take(most).collect();
    Said { kind, status, reason: cut(reason.into(), REASON), message: cut(message.into(), MESSAGE) }
}

/// Of an own export, which tells something or does not; `import` is what the cluster set makes of it.
pub(super) fn of_export(told: Result<(), &NotExported>, import: Option<&Import>) -> Vec<Said> {
    let not = |reason, error: &NotExported| {
        let waits = said("Ready", false, "Pending", "nothing is exported while the export is not valid");
        vec![said("Valid", false, reason, error.to_string()), waits, conflict(&[])]
    };
    match told {
        Err(error @ NotExported::NoService) => return not("NoService", error),
        Err(error @ NotExported::ExternalName) => return not("InvalidServiceType", error),
        Err(error) => {
            return vec![
                said("Valid", true, "Valid", "the Service can be exported"),
                said("Ready", false, "Failed", error.to_string()),
                conflict(&[]),
            ];
        }
        Ok(()) => {}
    }
    let conflicts = import.map(|import| import.conflicts.as_slice()).unwrap_or_default();
    vec![
        said("Valid", true, "Valid", "the Service can be exported"),
        said("Ready", true, "Exported", "the Service is exported to the clusters that are joined and may have it"),
        conflict(conflicts),
    ]
}

fn conflict(conflicts: &[Conflict]) -> Said {
    if conflicts.is_empty() {
        return said("Conflict", false, "NoConflicts", "no export of this name says otherwise");
    }
    let reasons: BTreeSet<Reason> = conflicts.iter().map(|conflict| conflict.reason).collect();
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let messages: Vec<&str> = conflicts.iter().map(|conflict| conflict.message.as_str()).collect();
    said("Conflict", true, reasons.join(","), messages.join("; "))
}

/// Of an import: whether it can be used. `has_address` says that the derived Service has one.
pub(super) fn of_import(import: &Import, is_carried: bool, has_address: bool) -> Vec<Said> {
    let ready = if !is_carried {
        let families = import.ip_families.as_ref().map(|families| families.join(", ")).unwrap_or_default();
        let message = format!("only IPv4 is carried between clusters, and the exports have {families} in common");
        said("Ready", false, "IPFamilyNotSupported", message)
    } else if import.is_headless || has_address {
        said("Ready", true, "Ready", "")
    } else {
        said("Ready", false, "Pending", "its Service has no address yet")
    };
    vec![ready]
}

/// The conditions to write; `None` where all of it is said already, whatever others say beside. The time of a condition is that at which its status
/// became what it is.
pub(super) fn renewed(former: &[Condition], now: &[Said], generation: i64, time: &str) -> Option<Vec<Condition>> {
    let mut is_news = false;
    let mut conditions = Vec::new();
    for Said { kind, status, reason, message } in now {
        let status = if *status { "True" } else { "False" };
        let known = former.iter().find(|condition| condition.kind == *kind);
        let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time.clone());
        let condition = Condition {
            kind: (*kind).to_owned(),
            status: status.to_owned(),
            reason: reason.clone(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: since.unwrap_or_else(|| time.to_owned()),
        };
        is_news |= known != Some(&condition);
        conditions.push(condition);
    }
    is_news.then_some(conditions)
}

#[cfg(test)]
mod tests;
