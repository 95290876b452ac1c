//! The two clusters of a command, however they are named: `A B`, or `--context A --destination-context B` as users of Cilium
//! know it.

use crate::exit::Exit;
use crate::failure::Failure;

/// What the command line says of both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) a: Option<&'a str>,
    pub(crate) b: Option<&'a str>,
    /// `--context`, as often as it was given.
    pub(crate) contexts: &'a [String],
    pub(crate) destination: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// The first, and the second where one is named.
    pub(crate) fn resolve(self) -> Result<(&'a str, Option<&'a str>), Failure> {
        let usage = |text: &str| Err(Failure::said(Exit::Usage, "arguments", text).hint("name them as A B"));
        let (first, second) = match (self.a, self.b, self.contexts) {
            (Some(a), b, _) => (a, b),
            // Clap gives the first place to what stands first.
            (None, Some(_), _) | (None, None, []) => return usage("no cluster is named"),
            (None, None, [only]) => (only.as_str(), None),
            (None, None, [a, b]) => (a.as_str(), Some(b.as_str())),
            (None, None, _) => return usage("more than two are named by --context"),
        };
        match (second, self.destination) {
            (Some(_), Some(_)) => usage("the second one is named twice, with --destination-context as well"),
            (second, destination) => Ok((first, second.or(destination))),
        }
    }

    /// Both.
    pub(crate) fn both(self) -> Result<(&'a str, &'a str), Failure> {
        match self.resolve()? {
            (a, Some(b)) => Ok((a, b)),
            (a, None) => Err(Failure::said(Exit::Usage, a, "only one cluster is named")
                .hint("name the other one after it, or with --destination-context")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_are_named_in_any_of_three_ways() {
        let contexts = ["x".to_owned(), "y".to_owned()];
        let named = |a, b, contexts, destination| Named { a, b, contexts, destination }.resolve();
        assert_eq!(named(Some("a"), Some("b"), &[], None), Ok(("a", Some("b"))));
        assert_eq!(named(Some("a"), None, &[], None), Ok(("a", None)));
        assert_eq!(named(None, None, &contexts[..1], Some("b")), Ok(("x", Some("b"))));
        assert_eq!(named(None, None, &contexts, None), Ok(("x", Some("y"))));
        assert_eq!(named(Some("a"), None, &contexts, Some("b")), Ok(("a", Some("b"))));
        for wrong in [named(None, None, &[], None), named(Some("a"), Some("b"), &[], Some("c"))] {
            assert_eq!(wrong.unwrap_err().exit, Exit::Usage);
        }
        assert_eq!(
            Named { a: Some("a"), b: None, contexts: &[], destination: None }.both().unwrap_err().exit,
            Exit::Usage
        );
    }
}
