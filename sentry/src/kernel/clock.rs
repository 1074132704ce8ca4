//! Clocks of the sandbox (`clock_gettime(2)`).

use std::time::{Duration, Instant};

use nix::time::ClockId;
use sentry_abi::time::clock;

/// A point on the sandbox's monotonic clock, in nanoseconds since an arbitrary start. Deadlines are of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KTime(pub u64);

impl KTime {
    /// The point `ns` nanoseconds later, at most the end of time.
    #[must_use]
    pub fn saturating_add(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to this point, 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The clock shell: the only place in the sentry that reads the host's clocks. The guest's monotonic clock is the
/// host's, as in a container.
#[derive(Debug, Default)]
pub struct Clocks {}

impl Clocks {
    /// `CLOCK_MONOTONIC` now.
    #[must_use]
    pub fn monotonic(&self) -> KTime {
        KTime(read_ns(ClockId::CLOCK_MONOTONIC))
    }

    /// `CLOCK_BOOTTIME` now.
    #[must_use]
    pub fn boottime(&self) -> KTime {
        KTime(read_ns(ClockId::CLOCK_BOOTTIME))
    }

    /// `CLOCK_REALTIME` now, in nanoseconds since the epoch.
    #[must_use]
    pub fn realtime_ns(&self) -> u64 {
        read_ns(ClockId::CLOCK_REALTIME)
    }

    /// The monotonic time at which the real-time clock reads `ns`. The host's clock may be set meanwhile: sleepers do not
    /// follow.
    #[must_use]
    pub fn realtime_deadline(&self, ns: u64) -> KTime {
        self.monotonic().saturating_add(ns.saturating_sub(self.realtime_ns()))
    }

    /// The monotonic time at which clock `id` of `clock_gettime(2)` reads `ns`.
    #[must_use]
    pub fn deadline_on(&self, id: i32, ns: u64) -> KTime {
        match id {
            clock::REALTIME | clock::REALTIME_ALARM | clock::TAI => self.realtime_deadline(ns),
            clock::BOOTTIME | clock::BOOTTIME_ALARM => {
                self.monotonic().saturating_add(ns.saturating_sub(self.boottime().0))
            }
            _ => KTime(ns),
        }
    }

    /// The host instant at which the monotonic clock reads `at`, for sleeping; `None` when it is too far away.
    #[must_use]
    pub fn host_instant(&self, at: KTime) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_nanos(at.since(self.monotonic())))
    }
}

/// A host clock in nanoseconds. The clocks asked for exist on every Linux and are never negative.
fn read_ns(clock: ClockId) -> u64 {
    nix::time::clock_gettime(clock).map_or(0, |t| {
        let secs = u64::try_from(t.tv_sec()).unwrap_or(0);
        secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec()).unwrap_or(0))
    })
}
