//! One way to print an error with its causes: `outer: middle: inner`.
//!
//! Errors of the project never repeat their source in `Display`; this adapter is what joins them again.

use std::error::Error;
use std::fmt;

/// Displays an error and all its sources on one line, parted by `: `.
///
/// ```
/// # use mesh_runtime::ErrorChain;
/// # let error = std::io::Error::other("disk full");
/// eprintln!("cannot start: {}", ErrorChain(&error));
/// ```
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            // Libraries outside the project do repeat their source; saying it once is enough.
            let text = source.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            next = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let source = texts.get(1..).filter(|rest| !rest.is_empty()).map(|rest| Box::new(layers(rest)));
        Layer { text: texts[0], source }
    }

    #[test]
    fn every_source_is_named_once() {
        assert_eq!(ErrorChain(&layers(&["a", "b", "c"])).to_string(), "a: b: c");
        assert_eq!(ErrorChain(&layers(&["alone"])).to_string(), "alone");
    }

    #[test]
    fn a_source_already_in_the_text_is_not_repeated() {
        assert_eq!(ErrorChain(&layers(&["open: refused", "refused", "os 111"])).to_string(), "open: refused: os 111");
    }
}
