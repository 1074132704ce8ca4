//! The rate limit of ICMP errors (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)): a token bucket per stack.

use crate::sync::Mutex;

use crate::time::Instant;

/// A token bucket.
pub(crate) struct RateLimiter {
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: u64,
    /// Up to when tokens were added.
    filled: Instant,
}

impl RateLimiter {
    pub(crate) fn new() -> Self {
        Self { bucket: Mutex::new(Bucket { tokens: BURST, filled: Instant::ZERO }) }
    }

    /// Takes a token, if there is one.
    pub(crate) fn allow(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let elapsed = now.as_nanos().saturating_sub(bucket.filled.as_nanos());
        let fresh = elapsed / NANOS_PER_TOKEN;
        if fresh > 0 {
            bucket.tokens = bucket.tokens.saturating_add(fresh).min(BURST);
            // Keeps the remainder, so that the rate is exact.
            bucket.filled = Instant::from_nanos(now.as_nanos() - elapsed % NANOS_PER_TOKEN);
        }
        let allowed = bucket.tokens > 0;
        bucket.tokens -= u64::from(allowed);
        allowed
    }
}

/// Linux's `icmp_msgs_burst`.
const BURST: u64 = 50;
/// Linux's `icmp_msgs_per_sec`: 1000.
const NANOS_PER_TOKEN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let limiter = RateLimiter::new();
        let start = Instant::from_millis(1000);
        assert_eq!((0..60).filter(|_| limiter.allow(start)).count(), 50);
        let later = Instant::from_millis(1010);
        assert_eq!((0..60).filter(|_| limiter.allow(later)).count(), 10);
    }
}
