//! Values that are a time: heartbeat and canaries (RFC 3339 text), and the exporter's clock.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::lenient::object;

/// The value of heartbeats and canaries, as Go's `time.RFC3339` writes it. Readers look at arrival, not at the text.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The exporter's time at its newest exporting Txn: what convergence is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportClock {
    pub unix_nanos: u64,
}

impl ExportClock {
    pub fn encode(self) -> Vec<u8> {
        format!("{{\"unix_nanos\":{}}}", self.unix_nanos).into_bytes()
    }

    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        object("clock", value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_second_in_utc() {
        assert_eq!(rfc3339(Timestamp::new(1_772_000_000, 999).unwrap()), "2026-02-25T06:13:20Z");
    }

    #[test]
    fn the_clock_reads_back() {
        let clock = ExportClock { unix_nanos: u64::MAX };
        assert_eq!(ExportClock::decode(&clock.encode()).unwrap(), clock);
    }
}
