//! BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00, with the refinements of Linux's `tcp_bbr`).
//!
//! Instead of taking losses for congestion, it models the path: the largest delivery rate of the last ten round trips
//! and the least round-trip time of the last ten seconds. It sends at that rate, probes now and then whether there is
//! more, and keeps about two bandwidth-delay products in flight at most. The model is in `model.rs`; this file is what it
//! is used for: the modes, the pacing rate and the congestion window. `policer.rs` recognises paths on which sending
//! faster only loses more.

mod aggregation;
mod model;
mod policer;
#[cfg(test)]
mod tests;

use super::super::delivery_rate::{RateSample, bytes_in, per_second};
use super::Window;
use crate::time::Instant;
use aggregation::Aggregation;
use core::time::Duration;
use model::Model;
use policer::{Finding, Policer};

/// An acknowledgment as a controller sees it that does everything by itself.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Feedback {
    pub(in super::super) now: Instant,
    /// Bytes newly delivered, cumulatively or selectively.
    pub(in super::super) acked: u32,
    /// Bytes newly believed lost.
    pub(in super::super) lost: u32,
    pub(in super::super) in_flight: u32,
    /// In flight before this acknowledgment.
    pub(in super::super) prior_in_flight: u32,
    /// Bytes ever delivered.
    pub(in super::super) delivered: u64,
    pub(in super::super) sample: Option<RateSample>,
    /// The round-trip time measured by this acknowledgment, exactly.
    pub(in super::super) rtt: Option<Duration>,
    pub(in super::super) srtt: Option<Duration>,
    pub(in super::super) state: LossState,
}

/// Where loss recovery stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in super::super) enum LossState {
    /// No loss is being repaired.
    #[default]
    Open,
    /// Fast recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

/// The controller's state.
#[derive(Clone, Debug)]
pub(in super::super) struct Bbr {
    mode: Mode,
    model: Model,
    aggregation: Aggregation,
    policer: Policer,
    /// When the latest acknowledgment came, and how much was delivered by then.
    latest: Option<(Instant, u64)>,
    /// Bytes a second; zero before the first acknowledgment.
    pacing_rate: u64,
    has_rtt: bool,
    /// The congestion window before recovery or PROBE_RTT.
    prior_cwnd: u32,
    /// The recovery state of the acknowledgment before.
    prior_state: LossState,
    /// The first round of recovery: only as much is sent as is delivered.
    is_conserving: bool,
    /// Sending has begun again after the application had nothing to send: the silence says nothing of the path.
    is_restarting: bool,
}

/// BBR's view of a path (`struct tcp_bbr_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BbrInfo {
    /// The bottleneck's bandwidth in bytes a second.
    pub bandwidth: u64,
    /// The least round-trip time of the last ten seconds.
    pub min_rtt: Duration,
    /// The gain of the pacing rate over the bandwidth, in 256ths.
    pub pacing_gain: u32,
    /// The gain of the window over the bandwidth-delay product, in 256ths.
    pub window_gain: u32,
}

/// The states of the draft's section 4.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Doubles the rate each round until it stops to rise.
    Startup,
    /// Sends slowly until the queue that STARTUP has made is gone.
    Drain,
    /// A cycle of gains: probe for more, drain what that queued, cruise.
    ProbeBw { phase: usize, since: Instant },
    /// Four segments in flight for a moment, so that the queue vanishes and the path shows its round-trip time.
    ProbeRtt { until: Option<Instant>, is_round_over: bool },
}

impl Bbr {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Startup,
            model: Model::default(),
            aggregation: Aggregation::default(),
            policer: Policer::default(),
            latest: None,
            pacing_rate: 0,
            has_rtt: false,
            prior_cwnd: 0,
            prior_state: LossState::Open,
            is_conserving: false,
            is_restarting: false,
        }
    }

    /// Bytes a second; the first guess before anything was measured is the window per round trip, at the gain of STARTUP.
    pub(super) fn pacing_rate(&self, window: &Window, srtt: Option<Duration>) -> u64 {
        match self.pacing_rate {
            0 => scale(per_second(window.cwnd.into(), srtt.unwrap_or(UNKNOWN_RTT)), HIGH_GAIN),
            rate => rate,
        }
    }

    /// Takes an acknowledgment. Returns whether the connection is to count as limited by the application from here on:
    /// in PROBE_RTT it is held back on purpose.
    pub(super) fn on_ack(&mut self, window: &mut Window, feedback: &Feedback) -> bool {
        let was_conserving = self.is_conserving;
        if self.model.update_bandwidth(feedback) {
            self.is_conserving = false;
        }
        self.look_for_policer(feedback);
        self.aggregation.update(feedback, self.bandwidth(), self.model.is_round_start, window.cwnd);
        self.advance_cycle(feedback);
        // A round that was held to what is delivered could not raise the bandwidth. While no queue shows either, it says
        // nothing: three of them, by random losses, would end STARTUP at a fraction of what the path has.
        if !was_conserving || self.model.has_queue(feedback) {
            self.model.check_full_pipe(feedback);
        }
        self.check_drain(window, feedback);
        self.update_min_rtt(window, feedback);
        self.set_pacing_rate(window, feedback);
        self.set_cwnd(window, feedback);
        matches!(self.mode, Mode::ProbeRtt { .. })
    }

    /// The bandwidth to send at in bytes a second: the path's, or what a policer lets through of it.
    fn bandwidth(&self) -> u64 {
        self.policer.rate().unwrap_or_else(|| self.model.bandwidth())
    }

    /// The bandwidth-delay product times a gain.
    fn bdp(&self, gain: u64) -> u64 {
        self.model.bdp_at(self.bandwidth(), gain)
    }

    fn look_for_policer(&mut self, feedback: &Feedback) {
        self.latest = Some((feedback.now, feedback.delivered));
        self.policer.count(feedback);
        if feedback.sample.is_none() {
            return;
        }
        let is_cycling = matches!(self.mode, Mode::ProbeBw { .. });
        if self.policer.on_sample(feedback, self.model.is_round_start, is_cycling) == Finding::TryMore {
            self.enter_probe_bw(feedback.now);
        }
    }

    /// What `TCP_CC_INFO` shows.
    pub(super) fn info(&self) -> BbrInfo {
        BbrInfo {
            bandwidth: self.bandwidth(),
            min_rtt: self.model.min_rtt().unwrap_or_default(),
            pacing_gain: u32::try_from(self.pacing_gain()).unwrap_or(u32::MAX),
            window_gain: u32::try_from(self.cwnd_gain()).unwrap_or(u32::MAX),
        }
    }

    /// A reduction of the window begins: BBR makes none, but recovery will change the window.
    pub(super) fn on_congestion(&mut self, window: &Window) {
        self.save_cwnd(window);
    }

    /// A retransmission timeout: what was believed of the bandwidth may be wrong.
    pub(super) fn on_timeout(&mut self) {
        self.prior_state = LossState::Loss;
        self.model.doubt_full_pipe();
        self.model.is_round_start = true;
        self.policer.on_timeout(self.latest);
    }

    /// The losses were none: they did not end STARTUP either, and say nothing of policers.
    pub(super) fn undo(&mut self) {
        self.model.doubt_full_pipe();
        if let Some((now, delivered)) = self.latest {
            self.policer.reset(now, delivered);
        }
    }

    /// Data is sent with nothing in flight, after the application had none.
    pub(super) fn on_restart(&mut self, window: &mut Window, now: Instant) {
        self.is_restarting = true;
        self.aggregation.restart(now);
        match self.mode {
            // "BBR ... paces packets at a rate of BtlBw" instead of probing with a gain after idleness.
            Mode::ProbeBw { .. } => self.raise_pacing_rate(self.bandwidth()),
            Mode::ProbeRtt { until, .. } => self.check_probe_rtt_done(window, now, until),
            Mode::Startup | Mode::Drain => {}
        }
    }

    fn pacing_gain(&self) -> u64 {
        match self.mode {
            Mode::Startup => HIGH_GAIN,
            Mode::Drain => DRAIN_GAIN,
            // Probing would only lose.
            Mode::ProbeBw { .. } if self.policer.rate().is_some() => UNIT,
            Mode::ProbeBw { phase, .. } => CYCLE.get(phase).copied().unwrap_or(UNIT),
            Mode::ProbeRtt { .. } => UNIT,
        }
    }

    fn cwnd_gain(&self) -> u64 {
        match self.mode {
            Mode::Startup | Mode::Drain => HIGH_GAIN,
            Mode::ProbeBw { .. } => CWND_GAIN,
            Mode::ProbeRtt { .. } => UNIT,
        }
    }

    /// Draft section 4.3.4.3: whether it is time for the next phase of the cycle.
    fn advance_cycle(&mut self, feedback: &Feedback) {
        let Mode::ProbeBw { phase, since } = self.mode else { return };
        let is_full_length = feedback.now - since > self.model.min_rtt().unwrap_or_default();
        let has_reached = |gain: u64| u64::from(feedback.prior_in_flight) >= self.model.bdp(gain);
        let is_over = match self.pacing_gain() {
            UNIT => is_full_length,
            // Losses may keep the flight below what the gain wants.
            gain if gain > UNIT => is_full_length && (feedback.lost > 0 || has_reached(gain)),
            _ => is_full_length || u64::from(feedback.prior_in_flight) <= self.model.bdp(UNIT),
        };
        if is_over {
            self.mode = Mode::ProbeBw { phase: (phase + 1) % CYCLE.len(), since: feedback.now };
        }
    }

    /// Draft section 4.3.3.
    fn check_drain(&mut self, window: &mut Window, feedback: &Feedback) {
        if self.mode == Mode::Startup && self.model.is_pipe_full() {
            self.mode = Mode::Drain;
            window.ssthresh = saturate(self.model.bdp(UNIT));
        }
        if self.mode == Mode::Drain && u64::from(feedback.in_flight) <= self.model.bdp(UNIT) {
            self.enter_probe_bw(feedback.now);
        }
    }

    /// Begins the cycle anywhere but in the phase that drains what the one before has queued.
    fn enter_probe_bw(&mut self, now: Instant) {
        // The draft wants a random phase, so that flows which begin together do not probe together; the nanoseconds at
        // which a queue happens to be drained are random enough.
        let at = usize::try_from(now.as_nanos() / 1_000 % 7).unwrap_or(0);
        let phase = if at == 0 { 0 } else { at + 1 };
        self.mode = Mode::ProbeBw { phase, since: now };
    }

    /// Draft section 4.3.5: keeps the round-trip time young, by PROBE_RTT if need be.
    fn update_min_rtt(&mut self, window: &mut Window, feedback: &Feedback) {
        let now = feedback.now;
        let is_expired = self.model.update_min_rtt(now, feedback.rtt);
        if is_expired && !self.is_restarting && !matches!(self.mode, Mode::ProbeRtt { .. }) {
            self.save_cwnd(window);
            self.mode = Mode::ProbeRtt { until: None, is_round_over: false };
        }
        if let Mode::ProbeRtt { until, is_round_over } = &mut self.mode {
            match *until {
                None if feedback.in_flight <= min_cwnd(window) => {
                    *until = Some(now + PROBE_RTT_TIME);
                    self.model.begin_round(feedback.delivered);
                }
                None => {}
                Some(end) => {
                    *is_round_over |= self.model.is_round_start;
                    if *is_round_over {
                        self.check_probe_rtt_done(window, now, Some(end));
                    }
                }
            }
        }
        if feedback.sample.is_some_and(|sample| sample.delivered > 0) {
            self.is_restarting = false;
        }
    }

    fn check_probe_rtt_done(&mut self, window: &mut Window, now: Instant, until: Option<Instant>) {
        if until.is_none_or(|end| now <= end) {
            return;
        }
        self.model.confirm_min_rtt(now);
        window.cwnd = window.cwnd.max(self.prior_cwnd);
        if self.model.is_pipe_full() {
            self.enter_probe_bw(now);
        } else {
            self.mode = Mode::Startup;
        }
    }

    /// Draft section 4.4.3: remembers the window for after recovery or PROBE_RTT.
    fn save_cwnd(&mut self, window: &Window) {
        let is_normal = self.prior_state == LossState::Open && !matches!(self.mode, Mode::ProbeRtt { .. });
        self.prior_cwnd = if is_normal { window.cwnd } else { self.prior_cwnd.max(window.cwnd) };
    }

    /// Draft section 4.2.1.
    fn set_pacing_rate(&mut self, window: &Window, feedback: &Feedback) {
        if !self.has_rtt && feedback.srtt.is_some() {
            self.has_rtt = true;
            self.pacing_rate = 0;
            self.pacing_rate = self.pacing_rate(window, feedback.srtt);
        }
        let rate = scale(self.bandwidth(), self.pacing_gain());
        if self.model.is_pipe_full() {
            self.pacing_rate = pace(rate);
        } else {
            // Until the pipe is full a low sample says little.
            self.raise_pacing_rate(rate);
        }
    }

    fn raise_pacing_rate(&mut self, rate: u64) {
        self.pacing_rate = self.pacing_rate.max(pace(rate));
    }

    /// Draft section 4.2.3.
    fn set_cwnd(&mut self, window: &mut Window, feedback: &Feedback) {
        if feedback.acked > 0 && !self.follow_recovery(window, feedback) {
            self.approach_target(window, feedback);
        }
        if matches!(self.mode, Mode::ProbeRtt { .. }) {
            window.cwnd = window.cwnd.min(min_cwnd(window));
        }
        window.cwnd = window.cwnd.max(window.mss);
    }

    fn approach_target(&self, window: &mut Window, feedback: &Feedback) {
        let target = self.target_cwnd(window);
        let grown = window.cwnd.saturating_add(feedback.acked);
        if self.model.is_pipe_full() {
            window.cwnd = grown.min(target);
        } else if window.cwnd < target || feedback.delivered < u64::from(window.mss) * INITIAL_SEGMENTS {
            window.cwnd = grown;
        }
        window.cwnd = window.cwnd.max(min_cwnd(window));
    }

    /// What should be in flight at most.
    fn target_cwnd(&self, window: &Window) -> u32 {
        if self.model.min_rtt().is_none() {
            return window.cwnd.max(window.mss.saturating_mul(10));
        }
        let mut target = self.bdp(self.cwnd_gain());
        if self.model.is_pipe_full() {
            target += self.aggregation.extra(self.bandwidth());
        }
        // "quanta in flight": at each end of the path and in the sender may be one burst.
        target += 3 * self.quantum(window);
        if matches!(self.mode, Mode::ProbeBw { phase: 0, .. }) {
            target += 2 * u64::from(window.mss);
        }
        saturate(target)
    }

    fn quantum(&self, window: &Window) -> u64 {
        let floor = u64::from(window.mss) * if self.pacing_rate < LOW_RATE { 1 } else { 2 };
        bytes_in(self.pacing_rate, QUANTUM_TIME).min(MAX_QUANTUM).max(floor)
    }

    /// Packet conservation in the first round of recovery, and the way back. Returns whether that set the window.
    fn follow_recovery(&mut self, window: &mut Window, feedback: &Feedback) -> bool {
        if feedback.lost > 0 {
            window.cwnd = window.cwnd.saturating_sub(feedback.lost).max(window.mss);
        }
        let carried = feedback.in_flight.saturating_add(feedback.acked);
        let (was, is) = (core::mem::replace(&mut self.prior_state, feedback.state), feedback.state);
        if is == LossState::Recovery && was != LossState::Recovery {
            self.is_conserving = true;
            self.model.begin_round(feedback.delivered);
            window.cwnd = carried;
        } else if is == LossState::Open && was != LossState::Open {
            window.cwnd = window.cwnd.max(self.prior_cwnd);
            self.is_conserving = false;
        }
        if self.is_conserving {
            window.cwnd = window.cwnd.max(carried);
        }
        self.is_conserving
    }
}

fn min_cwnd(window: &Window) -> u32 {
    window.mss.saturating_mul(4)
}

/// One percent below the estimate, so that a queue drains rather than builds up (Linux's `bbr_pacing_margin_percent`).
fn pace(rate: u64) -> u64 {
    rate / 100 * 99
}

/// `value` times a gain.
fn scale(value: u64, gain: u64) -> u64 {
    value.saturating_mul(gain) / UNIT
}

fn saturate(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Gains are in 256ths.
const UNIT: u64 = 256;
/// 2/ln(2): the least gain that doubles the rate each round.
const HIGH_GAIN: u64 = UNIT * 2885 / 1000 + 1;
/// Its inverse drains the queue of STARTUP in about one round.
const DRAIN_GAIN: u64 = UNIT * 1000 / 2885;
/// Two bandwidth-delay products absorb delayed and aggregated ACKs.
const CWND_GAIN: u64 = UNIT * 2;
/// Draft section 4.3.4: probe, drain, cruise for six round trips.
const CYCLE: [u64; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Linux's guess where the handshake gave no measurement.
const UNKNOWN_RTT: Duration = Duration::from_millis(1);
const INITIAL_SEGMENTS: u64 = 10;
/// What one transmission carries (`pacing.rs` says the same).
const QUANTUM_TIME: Duration = Duration::from_millis(1);
const MAX_QUANTUM: u64 = 65_536;
/// Linux's `bbr_min_tso_rate`, 1.2 Mbit/s: below it segments leave one by one.
const LOW_RATE: u64 = 150_000;
