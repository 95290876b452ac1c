//! How far one resource has been followed, and so what is to be asked next. Pure.

use super::wire::Page;

/// What to ask of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A list's first page, or, with what the page before gave, a further one.
    Page { next: Option<String> },
    /// What happens after a resourceVersion.
    Watch { from: Box<str> },
}

#[derive(Debug)]
pub(super) struct Progress {
    ask: Ask,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { ask: Ask::Page { next: None } }
    }

    pub(super) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// A page was read. True when it was the last.
    pub(super) fn read(&mut self, page: &Page) -> bool {
        self.ask = match &page.next {
            Some(next) => Ask::Page { next: Some(next.clone()) },
            None => Ask::Watch { from: page.version.as_str().into() },
        };
        page.next.is_none()
    }

    /// A watch has shown everything up to a version. False when that lies before what was shown already: the API server's
    /// store was set back, and what it forgot is only found by a list.
    pub(super) fn shown(&mut self, version: &str) -> bool {
        let Ask::Watch { from } = &self.ask else { return true };
        // Versions of one resource are numbers that grow; Kubernetes says so from 1.35 on.
        let is_before = matches!((version.parse::<u64>(), from.parse::<u64>()), (Ok(now), Ok(then)) if now < then);
        if is_before {
            self.start_over();
        } else if !version.is_empty() {
            self.ask = Ask::Watch { from: version.into() };
        }
        !is_before
    }

    /// What was asked failed. A list that was begun is none: its next page may never come, or be another list's.
    pub(super) fn failed(&mut self) {
        if matches!(self.ask, Ask::Page { .. }) {
            self.start_over();
        }
    }

    /// Only a list can tell what is there now.
    pub(super) fn start_over(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(version: &str, next: Option<&str>) -> Page {
        Page { items: Vec::new(), version: version.to_owned(), next: next.map(str::to_owned) }
    }

    fn watch(from: &str) -> Ask {
        Ask::Watch { from: from.into() }
    }

    #[test]
    fn pages_lead_to_a_watch_and_a_watch_goes_on_where_it_was() {
        let mut progress = Progress::new();
        assert!(!progress.read(&page("10", Some("b"))));
        assert_eq!(progress.ask(), &Ask::Page { next: Some("b".to_owned()) });
        assert!(progress.read(&page("10", None)));
        assert_eq!(progress.ask(), &watch("10"));
        assert!(progress.shown("12"));
        progress.failed();
        assert_eq!(progress.ask(), &watch("12"), "a watch that broke off misses nothing");
        progress.start_over();
        assert_eq!(progress.ask(), &Ask::Page { next: None });
    }

    #[test]
    fn a_list_that_failed_begins_again() {
        let mut progress = Progress::new();
        progress.read(&page("10", Some("b")));
        progress.failed();
        assert_eq!(progress.ask(), &Ask::Page { next: None });
    }

    #[test]
    fn a_version_that_goes_back_asks_for_a_list_and_one_that_is_no_number_does_not() {
        let mut progress = Progress::new();
        progress.read(&page("10", None));
        assert!(progress.shown("10") && progress.shown("") && progress.shown("a-word") && progress.shown("3"));
        assert_eq!(progress.ask(), &watch("3"));
        assert!(!progress.shown("2"));
        assert_eq!(progress.ask(), &Ask::Page { next: None });
    }
}
