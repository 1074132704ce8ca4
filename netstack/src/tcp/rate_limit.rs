//! Limits the ACKs that invalid segments can draw from a connection (RFC 5961 section 7; Linux's `tcp_invalid_ratelimit`).

use crate::time::Instant;
use core::time::Duration;

/// At most one event per interval.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimit {
    last: Option<Instant>,
}

impl RateLimit {
    /// Whether it has let nothing pass yet.
    pub(super) fn is_unused(&self) -> bool {
        self.last.is_none()
    }

    /// Returns whether the event may happen now, and counts it if so.
    pub(super) fn allows(&mut self, now: Instant, interval: Duration) -> bool {
        if self.last.is_some_and(|last| now - last < interval) {
            return false;
        }
        self.last = Some(now);
        true
    }
}
