//! Keeps the clock parameters of the vDSO in step with the host's clocks.
//!
//! Every second the counter's rate over the last period is measured. The published clock never jumps: at each update
//! it goes on from where it is, at a rate that meets the host's clock one period later.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_platform::vdso::{has_invariant_counter, time_stamp_counter};

use crate::kernel::{Clocks, KTime, Kernel, TimerTarget};
use crate::loader::Parameters;

/// The time between updates.
const PERIOD_NS: u64 = 1_000_000_000;
/// The first measurement, so that short programs profit, too.
const FIRST_PERIOD_NS: u64 = 100_000_000;
/// An error beyond this is no drift: the host was suspended or its clock was set. Programs make system calls until the
/// next measurement.
const MAX_ERROR_NS: i128 = 10_000_000;

/// Readings of the counter and the clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    counter: u64,
    monotonic_ns: u64,
    realtime_ns: u64,
    boottime_ns: u64,
}

impl Sample {
    /// The tightest of a few tries, since the thread may lose the processor between two readings.
    fn take(clocks: &Clocks) -> Self {
        let tries = (0..5).map(|_| {
            let before = time_stamp_counter();
            let monotonic_ns = clocks.monotonic().0;
            let after = time_stamp_counter();
            let sample = Self {
                counter: before + after.wrapping_sub(before) / 2,
                monotonic_ns,
                realtime_ns: clocks.realtime_ns(),
                boottime_ns: clocks.boottime().0,
            };
            (time_stamp_counter().wrapping_sub(before), sample)
        });
        let best = tries.min_by_key(|(took, _)| *took);
        // Five tries give a minimum.
        best.map_or(Self { counter: 0, monotonic_ns: 0, realtime_ns: 0, boottime_ns: 0 }, |(_, s)| s)
    }
}

#[derive(Debug, Default)]
struct State {
    last: Option<Sample>,
    published: Option<Parameters>,
}

/// The updater; armed as a timer for the life of the kernel.
pub(crate) struct VdsoClock {
    kernel: Weak<Kernel>,
    state: Mutex<State>,
}

impl VdsoClock {
    /// Starts measuring, where the counter is good for it.
    pub(crate) fn start(kernel: &Arc<Kernel>) {
        if !has_invariant_counter() {
            return;
        }
        let last = Some(Sample::take(kernel.clocks()));
        let state = Mutex::new(State { last, published: None });
        let clock = Arc::new(Self { kernel: Arc::downgrade(kernel), state });
        let at = kernel.clocks().monotonic().saturating_add(FIRST_PERIOD_NS);
        kernel.timers().arm(at, clock);
    }
}

impl TimerTarget for VdsoClock {
    fn expired(self: Arc<Self>, _: KTime) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let now = Sample::take(kernel.clocks());
        let mut state = self.state.lock();
        let parameters = state.last.and_then(|last| next_parameters(&last, &now, state.published.as_ref()));
        kernel.vdso.publish(parameters.as_ref());
        state.published = parameters;
        state.last = Some(now);
        drop(state);
        kernel.timers().arm(KTime(now.monotonic_ns).saturating_add(PERIOD_NS), self);
    }
}

/// What parameters `published` read at `counter`, for the clock with this base.
fn reading(published: &Parameters, base_ns: u64, counter: u64) -> u64 {
    let ticks = u128::from(counter.saturating_sub(published.counter));
    let ns = (ticks * u128::from(published.multiplier)) >> 32;
    base_ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// The parameters from `now` on; `None` where the counter cannot be trusted.
fn next_parameters(last: &Sample, now: &Sample, published: Option<&Parameters>) -> Option<Parameters> {
    let ticks = now.counter.checked_sub(last.counter).filter(|t| *t > 0)?;
    let ns = now.monotonic_ns.checked_sub(last.monotonic_ns)?;
    let shown = match published {
        Some(p) => reading(p, p.base_ns[0], now.counter),
        None => now.monotonic_ns,
    };
    let error = i128::from(now.monotonic_ns) - i128::from(shown);
    if error.abs() > MAX_ERROR_NS {
        return None;
    }
    // Over the next period the shown clock has to make up for the error.
    let period = i128::from(PERIOD_NS);
    let rate = (u128::from(ns) << 32) / u128::from(ticks);
    let rate = i128::try_from(rate).ok()?;
    let multiplier = rate + rate * error / period;
    let ahead = now.monotonic_ns;
    let offset = |clock: u64| clock.wrapping_sub(ahead).wrapping_add(shown);
    Some(Parameters {
        counter: now.counter,
        multiplier: u64::try_from(multiplier).ok()?,
        base_ns: [shown, offset(now.realtime_ns), offset(now.boottime_ns)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose counter makes `khz` ticks per millisecond.
    fn sample(ms: u64, khz: u64, error_ns: i64) -> Sample {
        let monotonic_ns = (ms * 1_000_000).wrapping_add_signed(error_ns);
        Sample {
            counter: ms * khz,
            monotonic_ns,
            realtime_ns: monotonic_ns + 1_000_000_000_000,
            boottime_ns: monotonic_ns + 5,
        }
    }

    #[test]
    fn rate_is_measured_and_clocks_keep_their_distance() {
        let p = next_parameters(&sample(1000, 2_500_000, 0), &sample(2000, 2_500_000, 0), None).unwrap();
        assert!(reading(&p, p.base_ns[0], 3000 * 2_500_000).abs_diff(3_000_000_000) < 1000);
        assert_eq!(p.base_ns[1] - p.base_ns[0], 1_000_000_000_000);
        assert_eq!(p.base_ns[2] - p.base_ns[0], 5);
    }

    #[test]
    fn shown_clock_never_jumps_and_meets_the_host_a_period_later() {
        let first = next_parameters(&sample(0, 1_000_000, 0), &sample(1000, 1_000_000, 0), None).unwrap();
        // The host's clock turns out 20 us ahead.
        let now = sample(2000, 1_000_000, 20_000);
        let before = reading(&first, first.base_ns[0], now.counter);
        let second = next_parameters(&sample(1000, 1_000_000, 0), &now, Some(&first)).unwrap();
        assert_eq!(second.base_ns[0], before);
        let later = reading(&second, second.base_ns[0], 3000 * 1_000_000);
        // The host runs at the measured rate of 1.00002: 3000 ms plus 40 us.
        assert!(later.abs_diff(3_000_040_000) < 1_000, "{later}");
    }

    #[test]
    fn a_clock_that_was_set_is_not_followed() {
        let first = next_parameters(&sample(0, 1_000_000, 0), &sample(1000, 1_000_000, 0), None).unwrap();
        let jumped = sample(2000, 1_000_000, 50_000_000);
        assert_eq!(next_parameters(&sample(1000, 1_000_000, 0), &jumped, Some(&first)), None);
        assert_eq!(next_parameters(&sample(5, 1, 0), &sample(4, 1, 0), None), None);
    }
}
