//! Waiting for a condition with a deadline: the lab's only way to wait. There are no fixed sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives a value. The error says what was waited for and what was last seen.
pub fn wait_for<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match condition() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() >= within {
            match last {
                Some(error) => return Err(error.context(format!("waited {within:?} for {what}"))),
                None => bail!("waited {within:?} for {what}"),
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Looks at `fact` until it is true.
pub fn wait_until(what: &str, within: Duration, mut fact: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, within, || Ok(fact().then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_was_waited_for_and_why() {
        let error = wait_for::<()>("a pig to fly", Duration::ZERO, || bail!("no wings")).unwrap_err();
        assert_eq!(format!("{error:#}"), "waited 0ns for a pig to fly: no wings");
    }
}
