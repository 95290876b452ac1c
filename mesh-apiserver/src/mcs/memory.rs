//! What was written and deleted, so that an object is written when something else is wanted of it, or when somebody changed
//! it, and never again and again. Pure: the time is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mesh_types::ServiceName;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::standing::Standing;
use crate::kubernetes::Target;

/// How long what was written may take to be seen, and the least pause between two writes of the same to one object.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// What to do about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Leave,
    /// It was written a moment ago, and the source shows something else, or still does.
    Wait,
    Write,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    written: BTreeMap<(Target, ServiceName), Written>,
    /// By uid.
    deleted: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Written {
    digest: [u8; 32],
    at: Instant,
    /// The API server keeps less of it than was written: an older CRD does not have all fields.
    is_capped: bool,
    answer: Answer,
}

/// What the API server said of an object as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    pub(super) uid: Option<String>,
    /// Of a Service.
    pub(super) addresses: Vec<IpAddr>,
}

impl Memory {
    /// Of an object that is to be like this and stands so to it.
    pub(super) fn judge(
        &mut self,
        target: Target,
        name: &ServiceName,
        object: &Value,
        standing: Standing,
        now: Instant,
    ) -> Verdict {
        let digest = digest(object);
        let key = (target, name.clone());
        match self.written.get(&key) {
            Some(written) if written.digest == digest => match standing {
                Standing::Equal | Standing::More => Verdict::Leave,
                Standing::Less if written.is_capped => Verdict::Leave,
                Standing::Less if now.duration_since(written.at) < SETTLED => Verdict::Wait,
                Standing::Less => Verdict::Write,
            },
            None if standing == Standing::Equal => {
                // Of a former term, or another replica's.
                let written = Written { digest, at: now, is_capped: false, answer: Answer::default() };
                self.written.insert(key, written);
                Verdict::Leave
            }
            _ => Verdict::Write,
        }
    }

    /// It was written; `standing` is that of what the API server has made of it.
    pub(super) fn wrote(
        &mut self,
        target: Target,
        name: &ServiceName,
        object: &Value,
        standing: Standing,
        answer: Answer,
        now: Instant,
    ) {
        let is_capped = standing == Standing::Less;
        let written = Written { digest: digest(object), at: now, is_capped, answer };
        self.written.insert((target, name.clone()), written);
    }

    /// What was said when it was written, which the source may not have shown yet.
    pub(super) fn answer(&self, target: Target, name: &ServiceName) -> Answer {
        self.written.get(&(target, name.clone())).map(|written| written.answer.clone()).unwrap_or_default()
    }

    pub(super) fn deleted(&mut self, target: Target, name: &ServiceName, uid: &str, now: Instant) {
        self.deleted.retain(|_, at| now.duration_since(*at) < SETTLED);
        self.deleted.insert(uid.to_owned(), now);
        self.written.remove(&(target, name.clone()));
        if target == Target::Import {
            self.written.remove(&(Target::ImportStatus, name.clone()));
        }
    }

    /// The source may show it for a moment yet.
    pub(super) fn was_deleted(&self, uid: &str, now: Instant) -> bool {
        self.deleted.get(uid).is_some_and(|at| now.duration_since(*at) < SETTLED)
    }
}

/// Of what an object asks for, without the times of its conditions, which are those of the writing.
fn digest(object: &Value) -> [u8; 32] {
    let mut object = object.clone();
    let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    Sha256::digest(object.to_string()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_written_when_it_is_new_changed_or_drifted_and_not_again_and_again() {
        let (mut memory, name, begun) = (Memory::default(), ServiceName::new("shop", "cart"), Instant::now());
        let object = json!({"spec": 1});
        let judge = |memory: &mut Memory, object: &Value, standing, after: u64| {
            memory.judge(Target::Import, &name, object, standing, begun + Duration::from_secs(after))
        };
        assert_eq!(judge(&mut memory, &object, Standing::Less, 0), Verdict::Write);
        memory.wrote(Target::Import, &name, &object, Standing::Equal, Answer::default(), begun);
        assert_eq!(judge(&mut memory, &object, Standing::Less, 1), Verdict::Wait, "the source is late");
        assert_eq!(judge(&mut memory, &object, Standing::Equal, 2), Verdict::Leave);
        assert_eq!(judge(&mut memory, &object, Standing::More, 2), Verdict::Leave, "what others add is theirs");
        assert_eq!(judge(&mut memory, &object, Standing::Less, 6), Verdict::Write, "somebody changed it");
        assert_eq!(
            judge(&mut memory, &json!({"spec": 2}), Standing::More, 2),
            Verdict::Write,
            "something is taken out"
        );
        memory.wrote(Target::Import, &name, &object, Standing::Less, Answer::default(), begun);
        assert_eq!(judge(&mut memory, &object, Standing::Less, 60), Verdict::Leave, "the server keeps no more of it");
    }

    #[test]
    fn a_new_term_writes_only_what_differs() {
        let (mut memory, name, now) = (Memory::default(), ServiceName::new("shop", "cart"), Instant::now());
        let object = json!({"spec": 1});
        assert_eq!(memory.judge(Target::Slice, &name, &object, Standing::Equal, now), Verdict::Leave);
        assert_eq!(memory.judge(Target::Service, &name, &object, Standing::More, now), Verdict::Write);
    }

    #[test]
    fn the_time_of_a_condition_is_no_change_of_a_status() {
        let status = |time: &str| json!({"status": {"conditions": [{"type": "Valid", "lastTransitionTime": time}]}});
        assert_eq!(digest(&status("1")), digest(&status("2")));
    }

    #[test]
    fn what_was_deleted_is_not_taken_for_there_until_the_source_has_had_its_time() {
        let (mut memory, name, now) = (Memory::default(), ServiceName::new("shop", "cart"), Instant::now());
        memory.deleted(Target::Import, &name, "u", now);
        assert!(memory.was_deleted("u", now) && !memory.was_deleted("v", now));
        assert!(!memory.was_deleted("u", now + SETTLED));
    }
}
