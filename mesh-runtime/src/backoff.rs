//! Waiting longer after each failure, with jitter so that many clients do not come back at once.

use std::time::Duration;

use rand::Rng;

/// A sequence of delays: doubles from `initial` to `max`, each spread over -25 % to +25 %.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration) -> Self {
        let max = max.max(initial);
        Self { initial, max, next: initial, failures: 0 }
    }

    /// The delay to wait now; the next one is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.max);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(rand::rng().random_range(0.75..=1.25)).min(self.max)
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Starts over: call after a success.
    pub fn reset(&mut self) {
        self.next = self.initial;
        self.failures = 0;
    }

    /// Delays handed out since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn max(&self) -> Duration {
        self.max
    }
}

impl Default for Backoff {
    /// 100 ms to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_jitter_and_never_pass_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100_u32, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay();
            let expected = Duration::from_millis(expected.into());
            assert!(delay >= expected.mul_f64(0.74) && delay <= expected.mul_f64(1.26), "{delay:?} for {expected:?}");
            assert!(delay <= backoff.max());
        }
        assert_eq!(backoff.failures(), 6);
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(125));
    }
}
