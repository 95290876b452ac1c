//! From when until when a certificate counts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh_runtime::clock;
use rcgen::{CertificateParams, date_time_ymd};

/// A certificate's span of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

const DAY: Duration = Duration::from_hours(24);

impl Validity {
    /// How long a CA made by [`crate::RootCa`] lives: ten years.
    pub const CA: Duration = DAY.saturating_mul(3653);
    /// How long leaves live unless told otherwise: 90 days.
    pub const LEAF: Duration = DAY.saturating_mul(90);
    /// Clocks of machines that are about to join each other differ by up to this.
    pub const BACKDATED: Duration = Duration::from_mins(5);

    /// From (a little before) now for `lifetime`.
    pub fn lasting(lifetime: Duration) -> Self {
        let now = now();
        Self { not_before: minus(now, Self::BACKDATED), not_after: plus(now, lifetime) }
    }

    /// The instant from which a certificate should be renewed: a third of its life is left.
    pub fn renew_at(&self) -> Timestamp {
        minus(
            self.not_after,
            Duration::try_from(self.not_before.duration_until(self.not_after)).unwrap_or_default() / 3,
        )
    }

    /// Never past the issuer's end: clients would report the leaf as the problem.
    pub(crate) fn within(self, issuer_not_after: Timestamp) -> Self {
        Self { not_after: self.not_after.min(issuer_not_after), ..self }
    }

    pub(crate) fn apply_to(&self, params: &mut CertificateParams) {
        let at = |time: Timestamp| {
            date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
        };
        params.not_before = at(self.not_before);
        params.not_after = at(self.not_after);
    }
}

/// The wall clock as a timestamp.
pub(crate) fn now() -> Timestamp {
    Timestamp::try_from(clock::now()).unwrap_or(Timestamp::MAX)
}

fn plus(time: Timestamp, span: Duration) -> Timestamp {
    time.saturating_add(SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

fn minus(time: Timestamp, span: Duration) -> Timestamp {
    time.saturating_sub(SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_when_a_third_of_the_life_is_left() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let validity = Validity { not_before: at(1000), not_after: at(4000) };
        assert_eq!(validity.renew_at(), at(3000));
        assert_eq!(validity.within(at(2000)).not_after, at(2000));
    }
}
