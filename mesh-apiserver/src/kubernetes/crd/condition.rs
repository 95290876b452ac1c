//! One condition of an object's status, as Kubernetes has them everywhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// For people, with what to do.
    pub message: String,
    /// When `status` was last another.
    pub last_transition_time: String,
    /// Of the spec that this is about.
    #[serde(default)]
    pub observed_generation: i64,
}

/// What is to be said now; when it began to be so follows from what was said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    pub(crate) status: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The conditions to write: those that stay as they are keep their time, also where only the message is another.
pub(crate) fn merged(former: &[Condition], said: Vec<Said>, generation: i64, now: &str) -> Vec<Condition> {
    let one = |said: Said| {
        let status = if said.status { "True" } else { "False" }.to_owned();
        let known = former.iter().find(|known| known.kind == said.kind && known.status == status);
        Condition {
            kind: said.kind.to_owned(),
            status,
            reason: said.reason,
            message: said.message,
            last_transition_time: known.map_or(now, |known| &known.last_transition_time).to_owned(),
            observed_generation: generation,
        }
    };
    said.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: bool, message: &str) -> Vec<Said> {
        vec![Said { kind: "Ready", status, reason: "Live".to_owned(), message: message.to_owned() }]
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_is_another() {
        let first = merged(&[], said(true, "a"), 1, "t1");
        assert_eq!((first[0].status.as_str(), first[0].last_transition_time.as_str()), ("True", "t1"));
        let second = merged(&first, said(true, "b"), 2, "t2");
        assert_eq!((second[0].message.as_str(), second[0].last_transition_time.as_str()), ("b", "t1"));
        assert_eq!(second[0].observed_generation, 2);
        let third = merged(&second, said(false, "b"), 2, "t3");
        assert_eq!(third[0].last_transition_time, "t3");
    }
}
