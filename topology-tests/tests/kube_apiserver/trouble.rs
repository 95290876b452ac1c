//! What went wrong for the API's clients, and when that may happen: only while a replica is down, and only in words that a
//! real etcd of three members has kube-apiserver say, too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;

use crate::api::Answer;

/// A client learns of what happened to its request only a moment later.
const GRACE: Duration = Duration::from_secs(2);
/// Measured: `ISTHMUS_KUBE_STORE=etcd` runs the same on etcd and prints what was said.
const AS_ETCD: [(u16, &str); 2] = [
    // Also "..., possibly due to previous leader failure".
    (500, "etcdserver: request timed out"),
    // What was on its way to the member that died: "error reading from server: EOF", or "connection reset by peer".
    (500, "rpc error: code = Unavailable desc = error reading from server"),
];

#[derive(Default)]
pub(crate) struct Trouble {
    notes: Mutex<Vec<Note>>,
    faults: Mutex<Vec<(Instant, Option<Instant>)>>,
}

struct Note {
    asked: Instant,
    answered: Instant,
    verb: &'static str,
    status: u16,
    text: String,
}

impl Trouble {
    /// A request that failed; the caller finds out what has become of it.
    pub(crate) fn note(&self, verb: &'static str, asked: Instant, answer: &Answer) {
        let text = format!("{} {}", answer.reason(), answer.message());
        self.notes.lock().push(Note { asked, answered: Instant::now(), verb, status: answer.status, text });
    }

    pub(crate) fn fault_begins(&self) {
        self.faults.lock().push((Instant::now(), None));
    }

    pub(crate) fn fault_ends(&self) {
        if let Some((_, end)) = self.faults.lock().last_mut() {
            *end = Some(Instant::now());
        }
    }

    /// How often what was said.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for note in self.notes.lock().iter() {
            *counts.entry(format!("{} {} {}", note.verb, note.status, note.text)).or_default() += 1;
        }
        counts
    }

    /// Nothing failed without a fault, and nothing in words that etcd has not.
    pub(crate) fn check(&self) -> Result<()> {
        let faults = self.faults.lock();
        for note in self.notes.lock().iter() {
            let Note { verb, status, text, .. } = note;
            let excused = faults
                .iter()
                .any(|(begin, end)| note.answered >= *begin && end.is_none_or(|end| note.asked <= end + GRACE));
            if !excused {
                bail!("{verb} failed though all replicas were up: {status} {text}");
            }
            if !AS_ETCD.iter().any(|(of, words)| of == status && text.contains(words)) {
                bail!("{verb} failed as it does not with etcd: {status} {text}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(status: u16, message: &str) -> Answer {
        Answer { status, body: json!({ "message": message }) }
    }

    #[test]
    fn a_failure_is_excused_by_a_fault_and_by_etcds_words_only() {
        let timed_out = said(500, "etcdserver: request timed out");
        let trouble = Trouble::default();
        trouble.note("create", Instant::now(), &timed_out);
        assert!(trouble.check().unwrap_err().to_string().contains("all replicas were up"));

        let trouble = Trouble::default();
        trouble.fault_begins();
        trouble.note("create", Instant::now(), &timed_out);
        trouble.check().unwrap();
        trouble.note("list", Instant::now(), &said(410, "too old resource version"));
        assert!(trouble.check().unwrap_err().to_string().contains("list failed as it does not with etcd: 410"));
    }
}
