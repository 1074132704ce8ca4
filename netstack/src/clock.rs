//! The clock of a stack: the only place in this crate that knows what time it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::time::Instant;

/// Where a stack's time comes from.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The monotonic clock of the machine, counted from the stack's creation.
    Monotonic(std::time::Instant),
    /// A number that only the user moves (nanoseconds).
    Manual(AtomicU64),
}

impl Clock {
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Monotonic(start) => since(start),
            Self::Manual(now) => Instant::from_nanos(now.load(Ordering::Acquire)),
        }
    }

    /// Milliseconds since midnight UT, as ICMP and IPv4 options tell the time (RFC 792); a manual clock began at midnight.
    pub(crate) fn milliseconds_of_day(&self) -> u32 {
        // Less than the number of milliseconds in a day.
        (self.since_1970().as_millis() % MILLISECONDS_PER_DAY) as u32
    }

    /// The time of day and year; a manual clock began with 1970.
    pub(crate) fn since_1970(&self) -> Duration {
        match self {
            Self::Monotonic(_) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
            }
            Self::Manual(now) => Duration::from_nanos(now.load(Ordering::Acquire)),
        }
    }

    /// Moves a manual clock forward; others take no orders.
    pub(crate) fn set(&self, now: Instant) {
        match self {
            Self::Monotonic(_) => {}
            Self::Manual(current) => {
                current.fetch_max(now.as_nanos(), Ordering::AcqRel);
            }
        }
    }
}

/// Out of line: many places ask, and a look at the clock takes longer than a call.
#[inline(never)]
fn since(start: &std::time::Instant) -> Instant {
    Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

const MILLISECONDS_PER_DAY: u128 = 86_400_000;
