//! How a failure is shown: the object, what happened, its causes, and what to do about it.

use std::error::Error;
use std::fmt;

use crate::exit::Exit;

/// One failure on one object. `Display` is the whole text for stderr, without a trailing newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The cluster, node, file or argument it is about.
    pub(crate) object: String,
    /// The error, then its causes, outermost first.
    pub(crate) chain: Vec<String>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, object: impl Into<String>, error: &dyn Error) -> Self {
        let mut chain = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Libraries wrap errors in others of the same or an empty text: a repetition tells nothing.
            if text != "transport error" && chain.last() != Some(&text) {
                chain.push(text);
            }
            cause = error.source();
        }
        Self { exit, object: object.into(), chain, hint: None }
    }

    pub(crate) fn said(exit: Exit, object: impl Into<String>, text: impl Into<String>) -> Self {
        Self { exit, object: object.into(), chain: vec![text.into()], hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure on one line, for JSON.
    pub(crate) fn one_line(&self) -> String {
        self.chain.join(": ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meshctl: {}: {}", self.object, self.chain.first().map_or("failed", String::as_str))?;
        for cause in self.chain.iter().skip(1) {
            write!(f, "\n  caused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the key")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_shows_object_causes_and_hint() {
        let error = Outer(std::io::Error::other("no such file"));
        let failure = Failure::new(Exit::Config, "context \"east\"", &error).hint("write it");
        assert_eq!(
            failure.to_string(),
            "meshctl: context \"east\": cannot read the key\n  caused by: no such file\n  hint: write it"
        );
        assert_eq!(failure.one_line(), "cannot read the key: no such file");
    }
}
