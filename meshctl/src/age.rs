//! Times as people read them: how long ago, in at most six characters.

use jiff::Timestamp;

/// A server's Unix nanoseconds; 0 means "never".
pub(crate) fn timestamp(unix_nanos: u64) -> Option<Timestamp> {
    if unix_nanos == 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(unix_nanos)).ok()
}

/// `340ms`, `4.2s`, `48s`, `3m07s`, `2h05m`, `9d04h`; `-` where there is no time. A time ahead of our clock is `0ms`.
pub(crate) fn since(now: Timestamp, then: Option<Timestamp>) -> String {
    let Some(then) = then else { return "-".to_owned() };
    let millis = (now.as_millisecond() - then.as_millisecond()).max(0);
    let (s, m, h) = (millis / 1000, millis / 60_000, millis / 3_600_000);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..10_000 => format!("{s}.{}s", millis % 1000 / 100),
        10_000..60_000 => format!("{s}s"),
        60_000..3_600_000 => format!("{m}m{:02}s", s % 60),
        3_600_000..86_400_000 => format!("{h}h{:02}m", m % 60),
        _ => format!("{}d{:02}h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let ago = |millis: i64| since(now, Some(Timestamp::from_millisecond(now.as_millisecond() - millis).unwrap()));
        assert_eq!(ago(-5), "0ms");
        assert_eq!(ago(340), "340ms");
        assert_eq!(ago(4_250), "4.2s");
        assert_eq!(ago(48_000), "48s");
        assert_eq!(ago(187_000), "3m07s");
        assert_eq!(ago(7_500_000), "2h05m");
        assert_eq!(ago(792_000_000), "9d04h");
        assert_eq!(since(now, timestamp(0)), "-");
    }
}
