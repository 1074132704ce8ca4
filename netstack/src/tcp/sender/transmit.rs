//! What to send next: retransmissions first, then new data, one super-segment at a time.

use super::super::config::Config;
use super::super::num::sat_u16;
use super::super::recovery::{Frto, Phase};
use super::super::segment::Payload;
use super::{Forced, LossProbe, Sender};
use crate::time::{Instant, nanos_of};
use core::num::NonZeroU16;
use core::time::Duration;
use netstack_wire::seq::SeqNum;

/// What bounds one super-segment besides the windows.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct TransmitLimits {
    /// The most payload the link takes at once, as one or several wire segments.
    pub(in super::super) max_payload: u32,
    /// The payload of each wire segment, given the options that this transmission will carry.
    pub(in super::super) segment: u32,
    /// Whether a final partial segment may go while data is in flight (no Nagle).
    pub(in super::super) no_delay: bool,
    /// Whether partial segments are held back altogether.
    pub(in super::super) cork: bool,
}

/// Data (or FIN, or a probe) to put behind a header.
#[derive(Clone, Debug)]
pub(in super::super) struct DataOut {
    pub(in super::super) seq: SeqNum,
    pub(in super::super) payload: Payload,
    pub(in super::super) has_fin: bool,
    pub(in super::super) has_push: bool,
    pub(in super::super) has_cwr: bool,
    pub(in super::super) gso_size: Option<NonZeroU16>,
    /// Whether it may be marked ECN-capable: new data only (RFC 3168 sections 6.1.4 and 6.1.5).
    pub(in super::super) is_new: bool,
}

/// Why there is nothing to send.
enum Blocked {
    Nothing,
    PeerWindow,
}

impl Sender {
    /// Gives the next piece to send and enters it into the scoreboard.
    pub(in super::super) fn poll_data(
        &mut self,
        config: &Config,
        now: Instant,
        mut limits: TransmitLimits,
    ) -> Option<DataOut> {
        match self.forced.take() {
            Some(Forced::LossProbe) => return self.send_loss_probe(config, now, limits),
            Some(Forced::WindowProbe) => return Some(self.send_window_probe(config, now, limits)),
            None => {}
        }
        let has_room = self.cwnd_room() > 0;
        if self.is_past_first_window(config)
            && let Some(pacing) = &mut self.pacing
        {
            if has_room && !pacing.may_send(now) {
                return None;
            }
            limits.max_payload = limits.max_payload.min(pacing.quantum(limits.segment));
        }
        let is_probing = matches!(self.recovery.phase, Phase::Loss { frto: Frto::SentNew, .. });
        if is_probing && let Ok(out) = self.send_new(config, now, limits) {
            return Some(out);
        }
        if self.board.lost() > 0 {
            // While something is lost, new data waits only for the window (RFC 6675 NextSeg rule 1 before rule 2).
            if let Some(out) = self.send_lost(config, now, limits) {
                return Some(out);
            }
            if self.cwnd_room() < limits.segment {
                return None;
            }
        }
        match self.send_new(config, now, limits) {
            Ok(out) => Some(out),
            Err(Blocked::PeerWindow) => {
                if self.board.is_empty() {
                    self.arm_persist(config, now);
                }
                None
            }
            Err(Blocked::Nothing) => None,
        }
    }

    /// Whether `poll_data` may have something. A hint: false is certain except for what limits say.
    pub(in super::super) fn wants_to_send(&self) -> bool {
        self.forced.is_some()
            || self.board.lost() > 0
            || self.unsent_sequence() > 0 && (self.window_room() > 0 || self.board.is_empty())
    }

    /// How large a super-segment is worth waiting for (Linux's `tcp_tso_autosize`): what the window sends in a millisecond,
    /// and more the shorter the path is. On a long one, a part of the window would lie idle.
    fn burst(&self, limits: TransmitLimits) -> u32 {
        let (Some(srtt), Some(min_rtt)) = (self.rtt.srtt(), self.rtt.min_rtt()) else {
            return limits.max_payload;
        };
        let halvings = u32::try_from(min_rtt.as_micros() >> BURST_RTT_SHIFT).unwrap_or(u32::MAX);
        let near = limits.max_payload.checked_shr(halvings).unwrap_or(0);
        if halvings == 0 {
            return near;
        }
        let micros = u64::try_from(srtt.as_micros()).unwrap_or(u64::MAX).max(1);
        let steady = u64::from(self.congestion.cwnd()) * BURST_MICROS / micros;
        let bytes = u32::try_from(steady).unwrap_or(u32::MAX).saturating_add(near);
        bytes.max(limits.segment.saturating_mul(2))
    }

    /// What the congestion window leaves.
    pub(super) fn cwnd_room(&self) -> u32 {
        self.congestion.cwnd().saturating_sub(self.board.in_flight())
    }

    /// Retransmits the first lost range, as much as the congestion window allows.
    fn send_lost(&mut self, config: &Config, now: Instant, limits: TransmitLimits) -> Option<DataOut> {
        let room = whole_segments(self.cwnd_room(), limits.segment);
        if room == 0 {
            return None;
        }
        let max = room.min(whole_segments(limits.max_payload, limits.segment).max(limits.segment));
        let (start, end) = self.board.next_lost(max)?;
        Some(self.retransmit(config, now, start, end, limits))
    }

    fn retransmit(
        &mut self,
        config: &Config,
        now: Instant,
        start: SeqNum,
        end: SeqNum,
        limits: TransmitLimits,
    ) -> DataOut {
        let bytes = end - start;
        self.forget_mtu_probe();
        self.board.on_retransmitted(start, end, now);
        let tsval = self.has_timestamps.then(|| self.timestamp(now));
        self.recovery.on_retransmitted(bytes, tsval);
        self.counters.bytes_retransmitted += u64::from(bytes);
        self.counters.retransmits += u64::from(bytes.div_ceil(limits.segment));
        if start == self.snd_una && self.rtt.backoff() == 0 {
            // Linux's tcp_xmit_retransmit_queue: the timer that runs was set for what is given up now.
            self.timer = self.timer.filter(|(kind, _)| *kind != super::SenderTimer::Retransmit);
        }
        self.account(config, now, bytes);
        self.piece(start, end, limits, false)
    }

    /// Sends never sent data and FIN, as much as both windows allow.
    fn send_new(
        &mut self,
        config: &Config,
        now: Instant,
        limits: TransmitLimits,
    ) -> Result<DataOut, Blocked> {
        if self.unsent_sequence() == 0 {
            return Err(Blocked::Nothing);
        }
        if self.board.is_empty() {
            self.restart_after_idle(config, now);
        }
        if self.search.is_some() {
            match self.send_mtu_probe(config, now, limits) {
                Ok(Some(probe)) => return Ok(probe),
                Ok(None) => {}
                Err(()) => return Err(Blocked::Nothing),
            }
        }
        let len = self.new_data_len(now, limits)?;
        let unsent = self.not_sent();
        let fin_fits = self.window_room() > len;
        let has_fin = self.has_fin && len == unsent && fin_fits;
        if len == 0 && !has_fin {
            let is_window = unsent == 0 && self.has_fin;
            return Err(if is_window { Blocked::PeerWindow } else { Blocked::Nothing });
        }
        let start = self.snd_nxt;
        let end = start + len + u32::from(has_fin);
        if len % limits.segment != 0 {
            self.small_end = start + len;
        }
        self.snd_nxt = end;
        self.board.on_sent(start, end, now);
        self.account(config, now, end - start);
        self.note_usage();
        let mut out = self.piece(start, end, limits, true);
        if len > 0 && core::mem::take(&mut self.cwr_pending) {
            out.has_cwr = true;
        }
        Ok(out)
    }

    /// How many bytes of new data may go now; zero when only FIN is left.
    fn new_data_len(&mut self, now: Instant, limits: TransmitLimits) -> Result<u32, Blocked> {
        let unsent = self.not_sent();
        if unsent == 0 {
            return Ok(0);
        }
        let window = self.window_room();
        let room = self.cwnd_room();
        let segment = limits.segment;
        if room < segment.min(unsent) && !self.board.is_empty() || room == 0 {
            self.usage.is_limited = true;
            return Err(Blocked::Nothing);
        }
        if window < unsent && window < segment && !self.may_send_fragment(window) {
            return Err(Blocked::PeerWindow);
        }
        let allowed = window.min(room.max(segment));
        if unsent > allowed && self.should_wait_for_more(now, allowed, limits) {
            self.usage.is_limited |= allowed == room;
            return Err(Blocked::Nothing);
        }
        let len = unsent.min(allowed).min(whole_segments(limits.max_payload, segment).max(segment));
        if len == unsent {
            return self.hold_partial(len, limits);
        }
        // Whole segments only; the rest of the window waits for company, except where the window is all there is.
        Ok(match whole_segments(len, segment) {
            0 => len,
            whole => whole,
        })
    }

    /// Nagle's algorithm in Minshall's variant, and cork: holds a final partial segment back.
    ///
    /// RFC 9293 section 3.7.4 with draft-minshall-nagle-01: a small segment waits only for an earlier small one.
    fn hold_partial(&self, len: u32, limits: TransmitLimits) -> Result<u32, Blocked> {
        let partial = len % limits.segment;
        if partial == 0 || self.has_fin {
            return Ok(len);
        }
        let is_small_unacked = self.small_end.gt(self.snd_una) && !self.board.is_empty();
        let is_held = limits.cork || !limits.no_delay && is_small_unacked;
        match (is_held, len - partial) {
            (false, _) => Ok(len),
            (true, 0) => Err(Blocked::Nothing),
            (true, whole) => Ok(whole),
        }
    }

    /// RFC 9293 section 3.8.6.2.1: a segment below the MSS is worth sending when it fills half of the largest window seen.
    fn may_send_fragment(&self, window: u32) -> bool {
        window > 0 && window >= self.max_wnd() / 2
    }

    /// Waits for the next ACK rather than sending a short super-segment, as long as most of the window is in flight and so
    /// an ACK is bound to come (Linux's TSO deferral). Not where the last transmission is a while ago: ACKs are then so far
    /// apart that a part of the window would lie idle.
    fn should_wait_for_more(&self, now: Instant, allowed: u32, limits: TransmitLimits) -> bool {
        let in_flight = self.board.in_flight();
        let window = self.congestion.cwnd().min(self.snd_wnd);
        // Linux's tcp_tso_win_divisor is 3 for all. Where ACKs come in clumps, what is held back lies idle for a round trip,
        // and a small window saves next to nothing by it.
        let chunk = window / if window < LARGE_WINDOW { 8 } else { 3 };
        now - self.last_sent_at <= RECENT
            && self.recovery.is_open()
            && self.board.sacked() == 0
            && in_flight >= limits.segment.saturating_mul(4)
            && allowed < chunk.min(limits.max_payload)
            && allowed < self.burst(limits)
    }

    /// RFC 5681 section 4.1.
    fn restart_after_idle(&mut self, config: &Config, now: Instant) {
        if self.board.rate.is_app_limited() {
            self.congestion.on_restart(now);
        }
        if self.is_restart_due(config, now) {
            let window = config.initial_window.saturating_mul(self.mss());
            self.congestion.on_idle(now - self.last_sent_at, self.rtt.rto(config), window);
        }
    }

    /// Whether the pause was long enough for the window to be too old.
    #[inline]
    pub(super) fn is_restart_due(&self, config: &Config, now: Instant) -> bool {
        let idle = now.nanos_since(self.last_sent_at);
        // No timeout is shorter than the round trip, unless the user limits it.
        idle > self.rtt.srtt_ns().min(nanos_of(config.rto_max))
            && config.slow_start_after_idle
            && idle > self.rtt.rto_ns(config)
    }

    /// RFC 8985 section 7.3: new data if there is any, otherwise the last segment again.
    fn send_loss_probe(&mut self, config: &Config, now: Instant, limits: TransmitLimits) -> Option<DataOut> {
        if self.board.is_empty() {
            return None;
        }
        let unsent = self.not_sent();
        let len = unsent.min(limits.segment).min(self.window_room());
        let out = if len > 0 {
            let start = self.snd_nxt;
            self.snd_nxt = start + len;
            self.board.on_sent(start, self.snd_nxt, now);
            self.account(config, now, len);
            self.piece(start, self.snd_nxt, limits, true)
        } else {
            let last = *self.board.last()?;
            let start = last.start.max(last.end - limits.segment.min(last.end - last.start));
            // Before, so that the timer behind it is not for another probe.
            self.probe = Some(LossProbe { end: self.snd_nxt, is_retransmission: true });
            self.retransmit(config, now, start, last.end, limits)
        };
        self.probe = Some(LossProbe { end: self.snd_nxt, is_retransmission: len == 0 });
        Some(out)
    }

    /// RFC 9293 section 3.8.6.1, Linux's form: what the window takes, otherwise an empty segment with an old sequence
    /// number, which the peer has to answer.
    fn send_window_probe(&mut self, config: &Config, now: Instant, limits: TransmitLimits) -> DataOut {
        let len = self.not_sent().min(self.window_room()).min(limits.segment);
        if len == 0 {
            let payload = Payload::new();
            let seq = self.snd_una - 1;
            return DataOut {
                seq,
                payload,
                has_fin: false,
                has_push: false,
                has_cwr: false,
                gso_size: None,
                is_new: false,
            };
        }
        let start = self.snd_nxt;
        self.snd_nxt = start + len;
        self.board.on_sent(start, self.snd_nxt, now);
        self.timer = None;
        self.account(config, now, len);
        self.piece(start, self.snd_nxt, limits, true)
    }

    /// Counts a transmission and sees to it that a timer runs.
    pub(super) fn account(&mut self, config: &Config, now: Instant, bytes: u32) {
        self.counters.bytes_sent += u64::from(bytes);
        self.recovery.on_sent(bytes);
        if self.pacing.is_some() {
            self.pace(config, now, bytes);
        }
        self.last_sent_at = now;
        // RFC 6298 section 5.1; a probe timer moves with each transmission (RFC 8985 section 7.2).
        let must_arm = match self.timer() {
            None | Some(super::SenderTimer::LossProbe | super::SenderTimer::Persist) => true,
            Some(super::SenderTimer::Retransmit | super::SenderTimer::Reorder) => false,
        };
        if must_arm {
            self.arm(config, now);
        }
    }

    #[inline(never)]
    fn pace(&mut self, config: &Config, now: Instant, bytes: u32) {
        if self.is_past_first_window(config)
            && let Some(pacing) = &mut self.pacing
        {
            pacing.on_sent(now, bytes);
        }
    }

    /// The first window goes out at once, as in Linux: nothing is known of the path, and waiting costs most there.
    fn is_past_first_window(&self, config: &Config) -> bool {
        self.counters.bytes_sent >= u64::from(config.initial_window) * u64::from(self.mss())
    }

    /// Keeps track of whether the congestion window is what limits us (Linux's `tcp_cwnd_validate`).
    pub(super) fn note_usage(&mut self) {
        let in_flight = self.board.in_flight();
        if self.snd_una.ge(self.usage.until) {
            self.usage.is_limited = false;
            self.usage.max_in_flight = 0;
            self.usage.until = self.snd_nxt;
        }
        self.usage.max_in_flight = self.usage.max_in_flight.max(in_flight);
        if self.cwnd_room() < self.mss() {
            self.usage.is_limited = true;
        }
    }

    /// Makes the transmission of `[start, end)`.
    pub(super) fn piece(
        &mut self,
        start: SeqNum,
        end: SeqNum,
        limits: TransmitLimits,
        is_new: bool,
    ) -> DataOut {
        let data_end = end.min(self.queue.end());
        let len = data_end.saturating_since(start);
        let payload = if len == 0 { Payload::new() } else { self.queue.range(start, len) };
        let gso_size = if len > limits.segment { NonZeroU16::new(sat_u16(limits.segment)) } else { None };
        DataOut {
            seq: start,
            payload,
            has_fin: end.gt(self.queue.end()),
            has_push: data_end == self.queue.end(),
            has_cwr: false,
            gso_size,
            is_new,
        }
    }
}

/// Two super-segments.
const LARGE_WINDOW: u32 = 128 << 10;
/// Linux's `tcp_tso_should_defer`: "defer only if the last write was recent (1 ms)".
const RECENT: Duration = Duration::from_millis(1);
/// Linux's `tcp_tso_rtt_log`: the super-segment halves with every 512 microseconds of round-trip time.
const BURST_RTT_SHIFT: u32 = 9;
/// A millisecond of the window with a fifth of slack, as Linux's pacing rate in congestion avoidance.
const BURST_MICROS: u64 = 1_200;

/// The largest multiple of `segment` within `bytes`.
fn whole_segments(bytes: u32, segment: u32) -> u32 {
    bytes / segment.max(1) * segment
}
