//! Congestion control: how much may be in flight.
//!
//! Windows are in bytes and grow by bytes acknowledged (RFC 3465), so that neither stretch ACKs nor segmentation offload
//! slow the growth. Loss recovery (when to reduce, when to undo) is the business of `recovery`; the controllers here
//! only say by how much.

mod bbr;
mod cubic;
mod hystart;
mod new_reno;

use super::delivery_rate::per_second;
use crate::time::Instant;
use bbr::Bbr;
pub use bbr::BbrInfo;
pub(super) use bbr::{Feedback, LossState};
use core::time::Duration;
use cubic::Cubic;
use new_reno::NewReno;

/// The name of a congestion control algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Algorithm {
    /// NewReno (RFC 5681, RFC 6582).
    NewReno,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// BBR, version 1: a model of the path instead of losses, with pacing.
    Bbr,
}

impl Algorithm {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::NewReno, Self::Cubic, Self::Bbr];

    /// Linux's name (`TCP_CONGESTION`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewReno => "reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// The algorithm of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }
}

/// The congestion window and its controller.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    window: Window,
    controller: Controller,
}

/// The state variables that every algorithm has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The congestion window in bytes.
    pub(super) cwnd: u32,
    /// The slow-start threshold in bytes; `u32::MAX` until the first reduction.
    pub(super) ssthresh: u32,
    /// The segment size.
    pub(super) mss: u32,
}

#[derive(Clone, Debug)]
enum Controller {
    NewReno(NewReno),
    Cubic(Cubic),
    Bbr(Box<Bbr>),
}

/// An acknowledgment of new data, as a controller sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckedData {
    pub(super) now: Instant,
    /// Bytes newly delivered.
    pub(super) bytes: u32,
    /// The RTT measured on this ACK.
    pub(super) rtt: Option<Duration>,
    pub(super) srtt: Duration,
    /// Whether a round trip has ended: the ACK covers data sent after the previous round's end.
    pub(super) round_ended: bool,
}

impl Window {
    pub(super) fn is_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// The floor of a reduced window: RFC 5681 equation 4 and RFC 9438 section 4.6 say two segments.
    fn floor(&self) -> u32 {
        self.mss.saturating_mul(2)
    }
}

impl Congestion {
    pub(super) fn new(algorithm: Algorithm, initial_window: u32, mss: u32) -> Self {
        let window = Window { cwnd: initial_window, ssthresh: u32::MAX, mss };
        Self { window, controller: Controller::new(algorithm) }
    }

    /// Whether nothing but the window tells it from a new one.
    pub(super) fn is_unused(&self) -> bool {
        let is_new = match &self.controller {
            Controller::NewReno(reno) => reno.is_unused(),
            Controller::Cubic(cubic) => cubic.is_unused(),
            Controller::Bbr(_) => false,
        };
        is_new && self.window.ssthresh == u32::MAX
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.window.cwnd
    }

    pub(super) fn set_cwnd(&mut self, cwnd: u32) {
        self.window.cwnd = cwnd.max(self.window.mss);
    }

    pub(super) fn ssthresh(&self) -> u32 {
        self.window.ssthresh
    }

    pub(super) fn set_mss(&mut self, mss: u32) {
        self.window.mss = mss;
        self.window.cwnd = self.window.cwnd.max(mss);
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self.controller {
            Controller::NewReno(_) => Algorithm::NewReno,
            Controller::Cubic(_) => Algorithm::Cubic,
            Controller::Bbr(_) => Algorithm::Bbr,
        }
    }

    /// Changes the algorithm; the window stays.
    pub(super) fn set_algorithm(&mut self, algorithm: Algorithm) {
        if algorithm != self.algorithm() {
            self.controller = Controller::new(algorithm);
        }
    }

    /// Grows the window for new data acknowledged outside of recovery, while the window is what limits the sender.
    pub(super) fn on_ack(&mut self, acked: &AckedData) {
        match &mut self.controller {
            Controller::NewReno(reno) => reno.on_ack(&mut self.window, acked),
            Controller::Cubic(cubic) => cubic.on_ack(&mut self.window, acked),
            // Fed by `on_feedback`.
            Controller::Bbr(_) => {}
        }
    }

    /// BBR's view of the path, where it is at work.
    pub(super) fn bbr(&self) -> Option<BbrInfo> {
        match &self.controller {
            Controller::Bbr(bbr) => Some(bbr.info()),
            Controller::NewReno(_) | Controller::Cubic(_) => None,
        }
    }

    /// Whether the controller sets the window by itself, in recovery as well, from [`Feedback`].
    pub(super) fn is_autonomous(&self) -> bool {
        matches!(self.controller, Controller::Bbr(_))
    }

    /// Feeds an autonomous controller. Returns whether it holds the connection back on purpose, so that what is measured
    /// from here on does not say how fast the path is.
    pub(super) fn on_feedback(&mut self, feedback: &Feedback) -> bool {
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_ack(&mut self.window, feedback),
            Controller::NewReno(_) | Controller::Cubic(_) => false,
        }
    }

    /// Whether [`pacing_rate`](Self::pacing_rate) may give a rate.
    #[inline]
    pub(super) fn may_pace(&self) -> bool {
        self.is_autonomous() || self.window.cwnd > HARMLESS_BURST
    }

    /// The rate in bytes a second at which the controller wants data to leave; `None` without pacing.
    ///
    /// The window-based ones are paced, too, where a round trip is long enough for it: in slow start at twice the window
    /// per round trip (RFC 9406 section 4.2 counts on it), then at 1.2 times, as Linux with its fair queue. ACKs that come
    /// bunched, a recovery that ends and an application that writes a lot at once would otherwise send bursts that
    /// overflow queues long before the path is full.
    pub(super) fn pacing_rate(&self, srtt: Option<Duration>) -> Option<u64> {
        match &self.controller {
            Controller::Bbr(bbr) => Some(bbr.pacing_rate(&self.window, srtt)),
            Controller::NewReno(_) | Controller::Cubic(_) => {
                let srtt = srtt.filter(|srtt| self.may_pace() && *srtt >= SHORTEST_PACED)?;
                let per_cent = if self.window.is_slow_start() { 200 } else { 120 };
                Some(per_second(u64::from(self.window.cwnd) * per_cent / 100, srtt))
            }
        }
    }

    /// Data is sent with nothing in flight, after the application had nothing to send for a while.
    pub(super) fn on_restart(&mut self, now: Instant) {
        if let Controller::Bbr(bbr) = &mut self.controller {
            bbr.on_restart(&mut self.window, now);
        }
    }

    /// A reduction is complete: the window is what it was to become, or `most` if that is less.
    pub(super) fn end_reduction(&mut self, most: u32) {
        if !self.is_autonomous() {
            self.set_cwnd(self.window.ssthresh.min(most));
        }
    }

    /// A congestion event (loss or ECN echo): sets `ssthresh`; the caller brings `cwnd` down to it.
    pub(super) fn on_congestion(&mut self) {
        let ssthresh = match &mut self.controller {
            Controller::NewReno(reno) => reno.reduce(&self.window),
            Controller::Cubic(cubic) => cubic.reduce(&self.window),
            Controller::Bbr(bbr) => return bbr.on_congestion(&self.window),
        };
        self.window.ssthresh = ssthresh.max(self.window.floor());
    }

    /// A retransmission timeout: `cwnd` is to become one segment beyond what is in flight.
    pub(super) fn on_timeout(&mut self, in_flight: u32) {
        self.window.cwnd = in_flight.saturating_add(self.window.mss);
        match &mut self.controller {
            Controller::NewReno(reno) => reno.on_timeout(),
            Controller::Cubic(cubic) => cubic.on_timeout(),
            Controller::Bbr(bbr) => bbr.on_timeout(),
        }
    }

    /// The last reduction was a mistake: restores both variables.
    pub(super) fn undo(&mut self, cwnd: u32, ssthresh: u32) {
        match &mut self.controller {
            Controller::NewReno(_) => {}
            Controller::Cubic(cubic) => cubic.undo(),
            // It returns to the window before by itself.
            Controller::Bbr(bbr) => return bbr.undo(),
        }
        self.window.cwnd = self.window.cwnd.max(cwnd);
        self.window.ssthresh = self.window.ssthresh.max(ssthresh);
    }

    /// The sender was idle for `idle`: RFC 5681 section 4.1 restarts from the initial window; as in Linux (RFC 2861) the
    /// window halves per timeout instead and `ssthresh` remembers three quarters of it.
    pub(super) fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: u32) {
        if self.is_autonomous() {
            return;
        }
        let Window { cwnd, ssthresh, .. } = self.window;
        self.window.ssthresh = ssthresh.max(cwnd / 4 * 3);
        let mut cwnd = cwnd;
        let mut left = idle;
        while left > rto && cwnd > restart_window {
            left -= rto;
            cwnd /= 2;
        }
        self.window.cwnd = cwnd.max(restart_window.min(self.window.cwnd));
        if let Controller::Cubic(cubic) = &mut self.controller {
            cubic.on_idle();
        }
    }
}

impl Controller {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::NewReno => Self::NewReno(NewReno::default()),
            Algorithm::Cubic => Self::Cubic(Cubic::default()),
            Algorithm::Bbr => Self::Bbr(Box::new(Bbr::new())),
        }
    }
}

/// RFC 6928 lets this much leave at once without knowing anything of the path.
const HARMLESS_BURST: u32 = 15_000;
/// On shorter paths, bursts of the timers' resolution are a good part of the window anyway.
const SHORTEST_PACED: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests;
