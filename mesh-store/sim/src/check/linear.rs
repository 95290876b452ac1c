//! Linearizability of the operations on each key, locks included.
//!
//! The algorithm is Wing and Gong's with Lowe's memory of what was tried, as in Porcupine: look for an order that respects
//! time and in which every answer is right; never try the same set of operations with the same result twice. Keys are
//! independent, so each is judged alone. (`stateright` has a tester for this, but it has no memory of what it tried, so its
//! time grows exponentially with what is concurrent, and it knows no operation that may never have happened.)

use std::collections::{BTreeMap, HashSet};

use super::{Promise, Violation};
use crate::history::{Answer, Ask, Op, Told, Value};

/// A key: its value and, where known, the revision of its last change. A write without an answer has no known one.
type State = Option<(Value, Option<i64>)>;

pub(super) fn check(ops: &[Op]) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        // A read without an answer says nothing.
        if op.answer.is_some() || op.ask.is_write() {
            keys.entry(&op.key).or_default().push(op);
        }
    }
    keys.into_iter().filter_map(|(key, ops)| check_key(key, ops)).collect()
}

/// A set of operations, by their places.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Chosen(Vec<u64>);

impl Chosen {
    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn with(&self, place: usize) -> Self {
        let mut chosen = self.clone();
        chosen.0[place / 64] |= 1 << (place % 64);
        chosen
    }
}

fn check_key(key: &str, mut ops: Vec<&Op>) -> Option<Violation> {
    ops.sort_by_key(|op| op.start);
    let end = |op: &Op| op.answer.map_or(u64::MAX, |(end, _)| end);
    let mut tried: HashSet<(Chosen, State)> = HashSet::new();
    let mut open = vec![(Chosen(vec![0; ops.len().div_ceil(64)]), State::None)];
    let mut furthest = 0;
    while let Some((chosen, state)) = open.pop() {
        let first_end = ops.iter().enumerate().filter(|(place, _)| !chosen.has(*place)).map(|(_, op)| end(op)).min();
        // Only those are left that may never have happened.
        let first_end = first_end.filter(|end| *end != u64::MAX)?;
        furthest = furthest.max(first_end);
        for (place, op) in ops.iter().enumerate() {
            if op.start > first_end {
                break;
            }
            if chosen.has(place) {
                continue;
            }
            for state in after(state, op.ask, op.answer.map(|(_, answer)| answer)) {
                let next = (chosen.with(place), state);
                if tried.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    let stuck = ops.iter().find(|op| end(op) == furthest)?;
    let around: Vec<String> = ops
        .iter()
        .filter(|op| op.start <= furthest && end(op) >= stuck.start.saturating_sub(40))
        .map(|op| format!("{op:?}"))
        .collect();
    let what = format!("{key}: no order explains {stuck:?}; beside it and before:\n  {}", around.join("\n  "));
    Some(Violation::new(Promise::Linearizable, what))
}

/// What the key may be after an operation that was answered so; nothing if it cannot have been answered so.
fn after(state: State, ask: Ask, answer: Option<Answer>) -> Vec<State> {
    let told = answer.map(|answer| answer.told);
    let written = |value| Some((value, answer.map(|answer| answer.revision)));
    // Whether a condition held: as it was told, where that is possible.
    let decide = |holds: Option<bool>, done: State| -> Vec<State> {
        [(true, done), (false, state)]
            .into_iter()
            .filter(|(held, _)| holds.is_none_or(|holds| holds == *held))
            .filter(|(held, _)| told.is_none_or(|told| told == Told::Held(*held)))
            .map(|(_, state)| state)
            .collect()
    };
    match ask {
        Ask::Get => {
            let is_right = match told {
                Some(Told::Found(found)) => match (found, state) {
                    (None, None) => true,
                    (Some((value, at)), Some((held, known))) => value == held && known.is_none_or(|known| known == at),
                    _ => false,
                },
                _ => false,
            };
            // Whoever reads a value also learns when it was written.
            let learned = match told {
                Some(Told::Found(Some((value, at)))) => Some((value, Some(at))),
                _ => state,
            };
            if is_right { vec![learned] } else { Vec::new() }
        }
        Ask::Put(value) => vec![written(value)],
        Ask::Delete => vec![None],
        Ask::Create(value) => decide(Some(state.is_none()), written(value)),
        Ask::Swap { at, to } => {
            let holds = match state {
                None => Some(at == 0),
                Some((_, known)) => known.map(|known| known == at),
            };
            decide(holds, written(to))
        }
        Ask::Release(value) => decide(Some(state.is_some_and(|(held, _)| held == value)), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(ask: Ask, start: u64, answer: Option<(u64, Told, i64)>) -> Op {
        let answer = answer.map(|(end, told, revision)| (end, Answer { told, revision }));
        Op { client: 0, key: "k".to_owned(), ask, start, answer }
    }

    fn is_fine(ops: &[Op]) -> bool {
        check(ops).is_empty()
    }

    fn read(start: u64, end: u64, found: Option<(Value, i64)>) -> Op {
        op(Ask::Get, start, Some((end, Told::Found(found), 9)))
    }

    #[test]
    fn a_read_sees_the_last_write_before_it_or_one_beside_it() {
        let first = op(Ask::Put(1), 0, Some((1, Told::Done, 2)));
        let second = op(Ask::Put(2), 2, Some((5, Told::Done, 3)));
        assert!(is_fine(&[first.clone(), second.clone(), read(3, 4, Some((1, 2))), read(6, 7, Some((2, 3)))]));
        assert!(is_fine(&[first.clone(), second.clone(), read(3, 4, Some((2, 3)))]));
        assert!(!is_fine(&[first.clone(), second.clone(), read(6, 7, Some((1, 2)))]), "stale");
        assert!(!is_fine(&[first.clone(), second, read(3, 4, Some((2, 3))), read(6, 7, Some((1, 2)))]), "back in time");
        assert!(!is_fine(&[first, read(6, 7, None)]), "lost");
    }

    #[test]
    fn a_write_without_an_answer_happens_at_any_later_time_or_never() {
        let known = op(Ask::Put(1), 0, Some((1, Told::Done, 2)));
        let unknown = op(Ask::Put(2), 2, None);
        assert!(is_fine(&[known.clone(), unknown.clone(), read(3, 4, Some((1, 2)))]));
        assert!(is_fine(&[known.clone(), unknown.clone(), read(3, 4, Some((1, 2))), read(5, 6, Some((2, 7)))]));
        let back = [known.clone(), unknown.clone(), read(3, 4, Some((2, 7))), read(5, 6, Some((1, 2)))];
        assert!(!is_fine(&back), "it happened only once");
        assert!(!is_fine(&[known, unknown, read(0, 1, Some((2, 7)))]), "not before it was asked for");
    }

    #[test]
    fn a_lock_has_one_holder() {
        let held = |held| Told::Held(held);
        let take = |value, start, end, got| op(Ask::Create(value), start, Some((end, held(got), 2)));
        let release = op(Ask::Release(1), 4, Some((5, held(true), 3)));
        assert!(is_fine(&[take(1, 0, 1, true), take(2, 2, 3, false), release.clone(), take(3, 6, 7, true)]));
        assert!(!is_fine(&[take(1, 0, 1, true), take(2, 2, 3, true)]), "two holders");
        assert!(!is_fine(&[take(1, 0, 1, true), release, take(3, 6, 7, false)]), "refused although free");
        // The holder's release has no answer: it may have been done.
        assert!(is_fine(&[take(1, 0, 1, true), op(Ask::Release(1), 2, None), take(2, 3, 4, true)]));
    }

    #[test]
    fn a_swap_holds_at_the_revision_of_the_last_change_only() {
        let put = op(Ask::Put(1), 0, Some((1, Told::Done, 7)));
        let swap = |at, got| op(Ask::Swap { at, to: 2 }, 2, Some((3, Told::Held(got), 8)));
        assert!(is_fine(&[put.clone(), swap(7, true), read(4, 5, Some((2, 8)))]));
        assert!(is_fine(&[put.clone(), swap(6, false), read(4, 5, Some((1, 7)))]));
        assert!(!is_fine(&[put.clone(), swap(6, true)]));
        assert!(!is_fine(&[put, swap(7, false)]));
    }

    #[test]
    fn twelve_writes_at_once_are_judged_without_trying_all_their_orders() {
        let mut ops: Vec<Op> = (0..12).map(|n| op(Ask::Put(n), n, Some((20 + n, Told::Done, 2)))).collect();
        ops.push(read(40, 41, Some((3, 2))));
        assert!(is_fine(&ops));
        ops.push(read(42, 43, Some((4, 2))));
        assert!(!is_fine(&ops));
    }
}
