//! Congestion control: how much may be in flight.
//!
//! Windows are in bytes and grow by bytes acknowledged (RFC 3465), so that neither stretch ACKs nor segmentation offload
//! slow the growth. Loss recovery (when to reduce, when to undo) is the business of `recovery`; the controllers here
//! only say by how much.

mod cubic;
mod hystart;
mod new_reno;

use crate::time::Instant;
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
}

impl Algorithm {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::NewReno, Self::Cubic];

    /// Linux's name (`TCP_CONGESTION`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewReno => "reno",
            Self::Cubic => "cubic",
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
        }
    }

    /// A congestion event (loss or ECN echo): sets `ssthresh`; the caller brings `cwnd` down to it.
    pub(super) fn on_congestion(&mut self) {
        self.window.ssthresh = match &mut self.controller {
            Controller::NewReno(reno) => reno.reduce(&self.window),
            Controller::Cubic(cubic) => cubic.reduce(&self.window),
        }
        .max(self.window.floor());
    }

    /// A retransmission timeout: `cwnd` is to become one segment beyond what is in flight.
    pub(super) fn on_timeout(&mut self, in_flight: u32) {
        self.window.cwnd = in_flight.saturating_add(self.window.mss);
        match &mut self.controller {
            Controller::NewReno(reno) => reno.on_timeout(),
            Controller::Cubic(cubic) => cubic.on_timeout(),
        }
    }

    /// The last reduction was a mistake: restores both variables.
    pub(super) fn undo(&mut self, cwnd: u32, ssthresh: u32) {
        self.window.cwnd = self.window.cwnd.max(cwnd);
        self.window.ssthresh = self.window.ssthresh.max(ssthresh);
        if let Controller::Cubic(cubic) = &mut self.controller {
            cubic.undo();
        }
    }

    /// The sender was idle for `idle`: RFC 5681 section 4.1 restarts from the initial window; as in Linux (RFC 2861) the
    /// window halves per timeout instead and `ssthresh` remembers three quarters of it.
    pub(super) fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: u32) {
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
        }
    }
}

#[cfg(test)]
mod tests;
