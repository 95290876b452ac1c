//! The users' documents as tests read them: which pages there are, their blocks of commands, what is expected of each. Reads
//! text only; who runs the commands is `tests/kubernetes_docs`, and the rules for authors are in `docs/kubernetes-tests.md`.
//!
//! ```text
//! pages ──> markdown (blocks, marks) ──> steps (a command, its output) ──> shell (is it whole; which programs) ──> output
//! ```

pub mod markdown;
pub mod output;
pub mod pages;
pub mod shell;
pub mod steps;

/// What is wrong in a page, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Wrong {
    pub line: usize,
    pub what: String,
}

impl Wrong {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}
