//! How long a Service uses a remote cluster whose control plane is silent, and when it shows it as stale: the consuming
//! Service's own settings.
//!
//! It owns their syntax. When a cluster is silent, and for how long, is judged elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `45s`, `10m`, `2h` or `never`: see [`WithdrawAfter`].
pub const WITHDRAW_AFTER: &str = "mesh.isthmus.io/withdraw-after";
/// `20s`, `10m`, `2h` or `never`: see [`StaleAfter`].
pub const STALE_AFTER: &str = "mesh.isthmus.io/stale-after";
/// Three heartbeats of an Isthmus cluster: less would withdraw a cluster that is well.
pub const LEAST: Duration = Duration::from_secs(15);
/// Longer than any repair; who wants more wants `never`.
pub const MOST: Duration = Duration::from_hours(7 * 24);

/// What a Service says in place of the mesh's `--withdraw-after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithdrawAfter {
    /// So many seconds of silence, [`LEAST`] to [`MOST`]; a cluster that is lost for certain goes at once all the same.
    Seconds(u32),
    /// No verdict withdraws a cluster's backends, as in Cilium; each node still avoids paths that are down for it.
    Never,
}

/// What a Service says in place of the mesh's `--stale-after`. Its backends are used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StaleAfter {
    /// So many seconds of silence, [`LEAST`] to [`MOST`].
    Seconds(u32),
    /// Silence alone never makes a cluster stale.
    Never,
}

/// A value that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("annotation {annotation}: {value:?} is not a period: write 45s, 10m, 2h or never")]
    Malformed { annotation: &'static str, value: String },
    #[error("annotation {annotation}: {value} is shorter than three heartbeats: write {} s or more", LEAST.as_secs())]
    TooShort { annotation: &'static str, value: String },
    #[error("annotation {annotation}: {value} is longer than a week: write never")]
    TooLong { annotation: &'static str, value: String },
    #[error(
        "annotation {STALE_AFTER}: {stale} is longer than {WITHDRAW_AFTER} {withdraw}: a cluster is stale before it is withdrawn"
    )]
    StaleLater { stale: StaleAfter, withdraw: WithdrawAfter },
}

/// The periods in use, each once: silence is measured against these.
pub type Periods = BTreeSet<Duration>;

impl WithdrawAfter {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> Result<Self, Error> {
        Ok(period(WITHDRAW_AFTER, value)?.map_or(Self::Never, Self::Seconds))
    }

    /// `None` for "never".
    pub fn period(self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
            Self::Never => None,
        }
    }
}

impl StaleAfter {
    /// Reads the annotation's value; a Service's other setting must not be shorter.
    pub fn parse(value: &str, withdraw: Option<WithdrawAfter>) -> Result<Self, Error> {
        let stale = period(STALE_AFTER, value)?.map_or(Self::Never, Self::Seconds);
        match withdraw.and_then(|withdraw| Some((withdraw, withdraw.period()?))) {
            Some((withdraw, until)) if stale.period().is_none_or(|period| period > until) => {
                Err(Error::StaleLater { stale, withdraw })
            }
            _ => Ok(stale),
        }
    }

    /// `None` for "never".
    pub fn period(self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
            Self::Never => None,
        }
    }
}

/// Seconds; `None` for "never".
fn period(annotation: &'static str, value: &str) -> Result<Option<u32>, Error> {
    if value.eq_ignore_ascii_case("never") {
        return Ok(None);
    }
    let named = || value.to_owned();
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    let seconds = seconds.ok_or_else(|| Error::Malformed { annotation, value: named() })?;
    if seconds < LEAST.as_secs() {
        return Err(Error::TooShort { annotation, value: named() });
    }
    let too_long = || Error::TooLong { annotation, value: named() };
    let seconds = u32::try_from(seconds).map_err(|_far_above| too_long())?;
    if u64::from(seconds) > MOST.as_secs() { Err(too_long()) } else { Ok(Some(seconds)) }
}

impl fmt::Display for StaleAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl fmt::Display for WithdrawAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Never => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_read_in_the_units_that_people_write() {
        for (text, want) in [
            ("15s", WithdrawAfter::Seconds(15)),
            ("10m", WithdrawAfter::Seconds(600)),
            ("2h", WithdrawAfter::Seconds(7200)),
            ("168h", WithdrawAfter::Seconds(604_800)),
            ("Never", WithdrawAfter::Never),
        ] {
            assert_eq!(WithdrawAfter::parse(text), Ok(want), "{text}");
        }
        assert_eq!(WithdrawAfter::Seconds(600).to_string(), "600s");
    }

    #[test]
    fn what_is_no_period_or_no_sensible_one_is_refused_by_name() {
        for (text, want) in [
            ("soon", "\"soon\" is not a period: write 45s, 10m, 2h or never"),
            ("45", "\"45\" is not a period"),
            ("-5s", "\"-5s\" is not a period"),
            ("99999999999999999999h", "is not a period"),
            ("5124095576030432h", "is not a period"),
            ("14s", "14s is shorter than three heartbeats: write 15 s or more"),
            ("0m", "0m is shorter"),
            ("169h", "169h is longer than a week: write never"),
        ] {
            let error = WithdrawAfter::parse(text).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains(WITHDRAW_AFTER), "{text}: {error}");
            let error = StaleAfter::parse(text, None).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains(STALE_AFTER), "{text}: {error}");
        }
    }

    #[test]
    fn a_cluster_is_stale_no_later_than_it_is_withdrawn() {
        use WithdrawAfter::{Never, Seconds};
        for (text, withdraw) in [("20s", Seconds(20)), ("20s", Never), ("never", Never), ("1m", Seconds(61))] {
            StaleAfter::parse(text, Some(withdraw)).unwrap();
        }
        assert_eq!(StaleAfter::parse("Never", None), Ok(StaleAfter::Never));
        for (text, shown) in [("2m", "120s"), ("never", "never")] {
            let error = StaleAfter::parse(text, Some(Seconds(60))).unwrap_err().to_string();
            let want =
                format!("mesh.isthmus.io/stale-after: {shown} is longer than mesh.isthmus.io/withdraw-after 60s");
            assert!(error.contains(&want), "{error}");
        }
    }
}
