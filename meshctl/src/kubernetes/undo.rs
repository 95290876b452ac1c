//! Taking back what a command made in a cluster: Ctrl-C and SIGTERM end the work, never the cleaning up.

use std::fmt;

use tokio::signal::unix::{SignalKind, signal};

/// Somebody asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; what was made is being removed")
    }
}

/// The work's result, unless a signal comes first. The caller cleans up after either.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Interrupted> {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without signals a Ctrl-C ends the process at once, as it would have.
        return Ok(work.await);
    };
    tokio::select! {
        result = work => Ok(result),
        _ = interrupt.recv() => Err(Interrupted),
        _ = terminate.recv() => Err(Interrupted),
    }
}

/// What tells one run's objects from another's: five letters and digits.
pub(crate) fn run_name() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let seed = uuid::Uuid::new_v4().into_bytes();
    seed.iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_fit_into_names_of_objects() {
        let name = run_name();
        assert_eq!(name.len(), 5);
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        assert_ne!((run_name(), run_name()), (name.clone(), name));
    }
}
