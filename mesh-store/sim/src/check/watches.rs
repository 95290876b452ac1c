//! Watches: every change of the watched keys once, in order, none left out.

use super::{Promise, Violation};
use crate::history::{Change, Committed, Seen, Watched};

pub(super) fn check(watched: &[Watched], committed: &Committed) -> Vec<Violation> {
    watched
        .iter()
        .filter_map(|watched| check_one(watched, committed))
        .map(|what| Violation::new(Promise::Watches, what))
        .collect()
}

fn check_one(watched: &Watched, committed: &Committed) -> Option<String> {
    let Watched { prefix, from, seen } = watched;
    let mut expected = committed
        .range(from..)
        .flat_map(|(revision, changes)| changes.iter().map(move |change| (*revision, change)))
        .filter(|(_, change)| change.key.starts_with(prefix.as_str()))
        .peekable();
    for (place, seen) in seen.iter().enumerate() {
        let who = || format!("the watch of {prefix:?} from revision {from}, at item {place}");
        match seen {
            Seen::Event { revision, change } => {
                let next: Option<(i64, &Change)> = expected.next();
                if next != Some((*revision, change)) {
                    return Some(format!("{}, was shown {seen:?} in the place of {next:?}", who()));
                }
            }
            Seen::Upto(revision) => {
                if let Some(missing) = expected.peek().filter(|(at, _)| at <= revision) {
                    return Some(format!("{}, was told it had all up to {revision}, but lacks {missing:?}", who()));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str) -> Change {
        Change { key: key.to_owned(), value: None }
    }

    fn is_fine(seen: Vec<Seen>) -> bool {
        let committed =
            (2..8).map(|revision| (revision, vec![change(if revision == 5 { "b" } else { "a" })])).collect();
        check(&[Watched { prefix: "a".to_owned(), from: 3, seen }], &committed).is_empty()
    }

    fn event(revision: i64) -> Seen {
        Seen::Event { revision, change: change("a") }
    }

    #[test]
    fn a_watch_shows_each_change_once_and_in_order() {
        assert!(is_fine(vec![event(3), event(4), event(6), event(7), Seen::Upto(7)]));
        assert!(is_fine(vec![Seen::Upto(2), event(3), Seen::Upto(3)]));
        assert!(!is_fine(vec![event(2), event(3)]), "before its start");
        assert!(!is_fine(vec![event(3), event(3)]), "twice");
        assert!(!is_fine(vec![event(4), event(3)]), "out of order");
        assert!(!is_fine(vec![event(3), event(6)]), "a gap");
        assert!(!is_fine(vec![event(3), Seen::Upto(4)]), "a gap that progress hides");
        assert!(!is_fine(vec![event(3), event(4), event(5)]), "of another key");
    }
}
