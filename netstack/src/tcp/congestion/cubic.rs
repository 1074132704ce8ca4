//! CUBIC (RFC 9438).

use super::hystart::HyStart;
use super::new_reno::slow_start;
use super::{AckedData, Window};
use crate::time::Instant;

/// The controller's state. Windows are in segments, as in the RFC's equations.
#[derive(Clone, Debug, Default)]
pub(super) struct Cubic {
    /// The window before the last reduction, after fast convergence.
    w_max: f64,
    epoch: Option<Epoch>,
    /// What to return to when the last reduction turns out to be spurious (section 4.9).
    before: Option<Box<(f64, Option<Epoch>)>>,
    hystart: HyStart,
}

/// A period of congestion avoidance (section 4.1: epoch_start, K, cwnd_epoch, W_est).
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds from the start to reach the plateau.
    k: f64,
    /// The window at the plateau: `w_max`, or the window at the start if that is larger.
    plateau: f64,
    /// What Reno would have.
    w_est: f64,
    /// The window before the last reduction.
    w_prior: f64,
    /// The fraction of a segment that growth has earned so far.
    credit: f64,
}

impl Cubic {
    pub(super) fn is_unused(&self) -> bool {
        let Self { w_max, epoch, before, hystart } = self;
        *w_max == 0.0 && epoch.is_none() && before.is_none() && hystart.is_unused()
    }

    pub(super) fn on_ack(&mut self, window: &mut Window, acked: &AckedData) {
        let mut bytes = acked.bytes;
        if window.is_slow_start() {
            let grow = self.hystart.on_ack(window, acked);
            bytes = match grow {
                Some(bytes) => slow_start(window, bytes),
                // The exit from slow start has just been decided.
                None => bytes,
            };
            if window.is_slow_start() || bytes == 0 {
                return;
            }
        }
        self.congestion_avoidance(window, acked, bytes);
    }

    fn congestion_avoidance(&mut self, window: &mut Window, acked: &AckedData, bytes: u32) {
        let mss = f64::from(window.mss);
        let cwnd = f64::from(window.cwnd) / mss;
        let acked_segments = f64::from(bytes) / mss;
        let w_max = self.w_max;
        let epoch = self.epoch.get_or_insert_with(|| Epoch::new(acked.now, cwnd, w_max));
        // Section 4.3, Reno-friendly region: alpha is 3 (1 - beta) / (1 + beta) until W_est reaches cwnd_prior, then 1.
        let alpha = if epoch.w_est < epoch.w_prior { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        epoch.w_est += alpha * acked_segments / cwnd;
        // Section 4.2: target = W_cubic(t + RTT), at least cwnd and at most 1.5 cwnd.
        let t = (acked.now - epoch.start + acked.srtt).as_secs_f64();
        let target = epoch.at(t).clamp(cwnd, 1.5 * cwnd);
        let mut grown = acked_segments * (target - cwnd) / cwnd;
        // Sections 4.3 and 4.5: never slower than Reno, and always at least a little (Linux's 1 % of cwnd per RTT).
        if epoch.w_est > cwnd + grown {
            grown = grown.max((epoch.w_est - cwnd).min(acked_segments));
        }
        grown = grown.max(acked_segments / (100.0 * cwnd));
        epoch.credit += grown * mss;
        let whole = epoch.credit.floor();
        epoch.credit -= whole;
        window.cwnd = window.cwnd.saturating_add(bytes_of(whole));
    }

    /// Section 4.6: `ssthresh = cwnd * beta`, with fast convergence (section 4.7).
    pub(super) fn reduce(&mut self, window: &Window) -> u32 {
        let cwnd = f64::from(window.cwnd) / f64::from(window.mss);
        self.before = Some(Box::new((self.w_max, self.epoch)));
        self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
        self.epoch = None;
        self.hystart.finish();
        bytes_of(f64::from(window.cwnd) * BETA)
    }

    /// Section 4.8: after a timeout, slow start, and when that ends a new epoch whose plateau is the window then.
    pub(super) fn on_timeout(&mut self) {
        self.epoch = None;
        self.w_max = 0.0;
        self.hystart.reset();
    }

    pub(super) fn on_idle(&mut self) {
        // Section 5.8: the time that the application was idle does not count as growth.
        self.epoch = None;
    }

    pub(super) fn undo(&mut self) {
        if let Some(before) = self.before.take() {
            (self.w_max, self.epoch) = *before;
        }
    }
}

impl Epoch {
    fn new(now: Instant, cwnd: f64, w_max: f64) -> Self {
        // Section 4.2: K = cbrt((W_max - cwnd_epoch) / C); a window beyond W_max starts a new plateau here.
        let (k, plateau) = if cwnd < w_max { (((w_max - cwnd) / C).cbrt(), w_max) } else { (0.0, cwnd) };
        Self { start: now, k, plateau, w_est: cwnd, w_prior: w_max, credit: 0.0 }
    }

    /// W_cubic(t) = C (t - K)^3 + W_max.
    fn at(&self, seconds: f64) -> f64 {
        let t = seconds - self.k;
        C * t * t * t + self.plateau
    }
}

/// A byte count of a non-negative figure, saturating.
fn bytes_of(value: f64) -> u32 {
    // Saturates by definition of the cast; there is no `TryFrom<f64>`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating on purpose")]
    let bytes = value as u32;
    bytes
}

/// Section 5: segments per second cubed.
const C: f64 = 0.4;
/// Section 4.6.
const BETA: f64 = 0.7;
