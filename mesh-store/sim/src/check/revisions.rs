//! Revisions: acknowledged writes are where they were said to be, time and revisions go the same way, and all replicas tell
//! one history of one group.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Violation};
use crate::history::{Answer, Ask, Change, Committed, History, Op, Told, Value};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = acknowledged(&history.ops, &history.committed);
    found.extend(ordered(&history.ops));
    found.extend(reads(history));
    found.extend(refused(history));
    found.extend(once(&history.committed));
    for (id, told) in &history.replicas {
        if let Some(what) = difference(told, &history.committed) {
            found.push(format!("replica {id} tells another history: {what}"));
        }
    }
    let cluster_ids: BTreeSet<_> = history.cluster_ids.iter().collect();
    if cluster_ids.len() > 1 {
        found.push(format!("the group's number changed: {cluster_ids:x?}"));
    }
    found.into_iter().map(|what| Violation::new(Promise::Revisions, what)).collect()
}

/// What a write that was acknowledged has changed; `None` if it has not.
fn change(op: &Op, told: Told) -> Option<Change> {
    let value = match (op.ask, told) {
        (Ask::Put(value), _) | (Ask::Create(value) | Ask::Swap { to: value, .. }, Told::Held(true)) => Some(value),
        (Ask::Release(_), Told::Held(true)) => None,
        // A deletion may have found nothing to delete.
        _ => return None,
    };
    Some(Change { key: op.key.clone(), value })
}

fn acknowledged(ops: &[Op], committed: &Committed) -> Vec<String> {
    let mut found = Vec::new();
    let mut used: BTreeMap<i64, &Op> = BTreeMap::new();
    for op in ops {
        let Some((_, answer)) = op.answer else { continue };
        let Some(change) = change(op, answer.told) else { continue };
        if !committed.get(&answer.revision).is_some_and(|changes| changes.contains(&change)) {
            let there = committed.get(&answer.revision);
            found.push(format!("{op:?} was acknowledged, but its revision holds {there:?}"));
        }
        if let Some(other) = used.insert(answer.revision, op) {
            found.push(format!("one revision was given to two writes: {op:?} and {other:?}"));
        }
    }
    found
}

/// A write that began after an answer has a later revision than that answer, and a read not an earlier one.
fn ordered(ops: &[Op]) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_start: Vec<&Op> = ops.iter().filter(|op| op.answer.is_some()).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|op| op.start);
    by_end.sort_by_key(|op| op.answer.map(|(end, _)| end));
    let mut ended = by_end.into_iter().peekable();
    let mut newest = 0;
    for op in by_start {
        while let Some((_, answer)) = ended
            .next_if(|before| before.answer.is_some_and(|(end, _)| end < op.start))
            .and_then(|before| before.answer)
        {
            newest = newest.max(answer.revision);
        }
        let Some((_, answer)) = op.answer else { continue };
        let is_new = change(op, answer.told).is_some();
        if answer.revision < newest || (is_new && answer.revision == newest) {
            found.push(format!("revision {newest} was known before {op:?} began"));
        }
    }
    found
}

/// A write that was refused has not happened.
fn refused(history: &History) -> Vec<String> {
    let refused: BTreeSet<_> = history.refused.iter().collect();
    let changes = history.committed.iter().flat_map(|(at, changes)| changes.iter().map(move |change| (at, change)));
    changes
        .filter(|(_, change)| change.value.is_some_and(|value| refused.contains(&value)))
        .map(|(at, change)| format!("the write of {change:?} was refused, but happened at revision {at}"))
        .collect()
}

/// Revisions are counted without a gap, and no write was executed twice.
fn once(committed: &Committed) -> Vec<String> {
    let mut found = Vec::new();
    let first = committed.keys().next().copied().unwrap_or(0);
    if let Some((expected, at)) = (first..).zip(committed.keys()).find(|(expected, at)| expected != *at) {
        found.push(format!("nothing happened at revision {expected}, the next change is at {at}"));
    }
    let mut written: BTreeMap<&Change, i64> = BTreeMap::new();
    let changes = committed.iter().flat_map(|(at, changes)| changes.iter().map(move |change| (*at, change)));
    for (at, change) in changes.filter(|(_, change)| change.value.is_some()) {
        if let Some(before) = written.insert(change, at) {
            found.push(format!("{change:?} was executed twice, at revisions {before} and {at}"));
        }
    }
    found
}

/// What was read is what there was at the revision that came with it, at whatever replica and however far behind.
fn reads(history: &History) -> Vec<String> {
    let mut keys: BTreeMap<&str, Vec<(i64, Option<Value>)>> = BTreeMap::new();
    for (revision, changes) in &history.committed {
        for change in changes {
            keys.entry(&change.key).or_default().push((*revision, change.value));
        }
    }
    let mut found = Vec::new();
    let linearizable = history.ops.iter().filter_map(|op| match (op.ask, op.answer) {
        (Ask::Get, Some((_, Answer { told: Told::Found(found), revision }))) => Some((&op.key, found, revision)),
        _ => None,
    });
    let local = history.local_reads.iter().map(|read| (&read.key, read.found, read.revision));
    for read in local.chain(linearizable) {
        let (key, told, revision) = read;
        let changes = keys.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
        let before = changes.partition_point(|(at, _)| *at <= revision);
        let expected = before.checked_sub(1).and_then(|at| changes[at].1.map(|value| (value, changes[at].0)));
        if expected != told {
            found.push(format!("{read:?} should have found {expected:?}"));
        }
    }
    found
}

fn difference(left: &Committed, right: &Committed) -> Option<String> {
    let revisions: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let at = revisions.into_iter().find(|revision| left.get(revision) != right.get(revision))?;
    Some(format!("revision {at} is {:?} and {:?}", left.get(at), right.get(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::LocalRead;

    fn put(value: Value, start: u64, end: u64, revision: i64) -> Op {
        let answer = Some((end, Answer { told: Told::Done, revision }));
        Op { client: 0, key: "k".to_owned(), ask: Ask::Put(value), start, answer }
    }

    fn history(ops: Vec<Op>, committed: &[(i64, Value)]) -> History {
        let change = |value| vec![Change { key: "k".to_owned(), value: Some(value) }];
        let committed: Committed = committed.iter().map(|(revision, value)| (*revision, change(*value))).collect();
        History { ops, replicas: BTreeMap::from([(1, committed.clone())]), committed, ..History::default() }
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        let ops = vec![put(1, 0, 1, 2), put(2, 2, 3, 3)];
        assert_eq!(check(&history(ops.clone(), &[(2, 1), (3, 2)])), []);
        assert!(!check(&history(ops.clone(), &[(2, 1)])).is_empty(), "lost");
        assert!(!check(&history(ops, &[(2, 1), (3, 9)])).is_empty(), "replaced");
    }

    #[test]
    fn a_revision_is_given_once_and_in_the_order_of_time() {
        let twice = history(vec![put(1, 0, 1, 2), put(1, 0, 1, 2)], &[(2, 1)]);
        assert!(check(&twice).iter().any(|found| found.what.contains("two writes")));
        let backwards = history(vec![put(1, 0, 1, 3), put(2, 2, 3, 2)], &[(2, 2), (3, 1)]);
        assert!(check(&backwards).iter().any(|found| found.what.contains("known before")));
        let beside = history(vec![put(1, 0, 3, 3), put(2, 1, 2, 2)], &[(2, 2), (3, 1)]);
        assert_eq!(check(&beside), []);
    }

    #[test]
    fn a_local_read_shows_some_past() {
        let read = |found, revision| LocalRead { replica: 1, key: "k".to_owned(), found, revision };
        let mut history = history(vec![], &[(2, 1), (3, 2)]);
        history.local_reads = vec![read(Some((1, 2)), 2), read(Some((2, 3)), 7), read(None, 1)];
        assert_eq!(check(&history), []);
        history.local_reads = vec![read(Some((1, 2)), 3)];
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn a_linearizable_read_shows_what_its_revision_held() {
        let read = |found, revision| {
            let answer = Some((1, Answer { told: Told::Found(found), revision }));
            Op { client: 0, key: "k".to_owned(), ask: Ask::Get, start: 0, answer }
        };
        assert_eq!(check(&history(vec![read(Some((2, 3)), 3)], &[(2, 1), (3, 2)])), []);
        assert_eq!(check(&history(vec![read(Some((1, 2)), 3)], &[(2, 1), (3, 2)])).len(), 1);
    }

    #[test]
    fn a_write_is_executed_once_and_revisions_have_no_gap() {
        assert_eq!(check(&history(vec![], &[(2, 1), (3, 2), (4, 1)])).len(), 1);
        assert_eq!(check(&history(vec![], &[(2, 1), (4, 2)])).len(), 1);
    }

    #[test]
    fn what_was_refused_is_not_there() {
        let mut history = history(vec![], &[(2, 1)]);
        history.refused = vec![7];
        assert_eq!(check(&history), []);
        history.refused = vec![1];
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn replicas_agree_on_history_and_group() {
        let mut history = history(vec![], &[(2, 1), (3, 2)]);
        history.cluster_ids = vec![7, 7];
        assert_eq!(check(&history), []);
        history.cluster_ids.push(8);
        history.replicas.insert(2, Committed::new());
        assert_eq!(check(&history).len(), 2);
    }
}
