//! The only place that reads the wall clock, so that a search for it finds every reader.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Time since 1970-01-01T00:00:00Z; zero on a machine whose clock is set before that.
pub fn since_epoch() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds since 1970; enough for the years up to 2554.
pub fn unix_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}
