//! The sending half of a synchronised connection: send queue, windows, loss recovery and its timer.
//!
//! Inputs are acknowledgments (`ack.rs`, with `loss.rs`, `phase.rs` and `window.rs` for what follows) and the timer (`timeout.rs`);
//! the output is `poll_data` (`transmit.rs`). What is usual takes a shorter way (`calm.rs`).

mod ack;
mod calm;
mod loss;
mod moved;
mod mtu_search;
mod phase;
mod rest;
mod timeout;
mod transmit;
mod window;

pub(super) use ack::{AckInput, MAX_ECHO_AGE_MS};
pub(super) use rest::{RestingSender, SenderHistory};
pub(super) use timeout::{GiveUp, SenderTimer};
pub(super) use transmit::{DataOut, TransmitLimits};

use super::congestion::{Algorithm, Congestion};
use super::negotiated::DEFAULT_MSS;
use super::num::low_u32;
use super::pacing::Pacing;
use super::rack::Rack;
use super::recovery::{Frto, Phase, Recovery};
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::send_queue::SendQueue;
use crate::time::Instant;
use mtu_search::MtuSearch;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::Timestamps;

/// The sending half. `snd_*` names are those of RFC 9293 section 3.3.1.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) snd_una: SeqNum,
    pub(super) snd_nxt: SeqNum,
    pub(super) snd_wnd: u32,
    snd_wl1: SeqNum,
    /// MAX.SND.WND: the largest window the peer has offered.
    max_wnd: u32,
    /// The shift of the windows that the peer sends.
    wnd_shift: u8,
    /// Whether FIN follows the queued data.
    has_fin: bool,
    pub(super) has_sack: bool,
    pub(super) has_timestamps: bool,
    has_ecn: bool,
    timestamp_offset: u32,
    /// What a segment may carry, options not subtracted: the least of the peer's MSS, the path's and the user's.
    base_mss: u16,
    peer_mss: u16,
    queue: SendQueue,
    pub(super) board: Scoreboard,
    pub(super) rtt: RttEstimator,
    pub(super) congestion: Congestion,
    pub(super) recovery: Recovery,
    pub(super) rack: Rack,
    /// The outstanding tail loss probe (RFC 8985 section 7).
    probe: Option<LossProbe>,
    timer: Option<(SenderTimer, Instant)>,
    /// Something the timer asked for, to be sent by the next `poll_data`.
    forced: Option<Forced>,
    /// Unanswered zero-window probes.
    pub(super) window_probes: u32,
    /// When the current run of timeouts or probes began.
    stalled_since: Option<Instant>,
    /// The end of the last segment below the MSS, for Minshall's variant of Nagle.
    small_end: SeqNum,
    /// SND.UP: the end of urgent data (RFC 9293 section 3.8.5); not beyond SND.UNA if there is none.
    snd_up: SeqNum,
    /// The end of the round trip being measured by the growth of `snd_una`.
    round_end: SeqNum,
    usage: WindowUsage,
    /// The largest flight that both windows have ever allowed.
    largest_flight: u32,
    /// Whether the next new segment carries CWR (RFC 3168 section 6.1.2).
    cwr_pending: bool,
    last_sent_at: Instant,
    /// Present since the congestion control or the user wanted pacing; its rate is `u64::MAX` while they do not.
    pacing: Option<Box<Pacing>>,
    /// The user's limit in bytes a second; `u64::MAX` if there is none.
    max_pacing_rate: u64,
    /// The latest delivery rate in bytes a second; zero before the first.
    delivery_rate: u64,
    /// The search for the path's MTU, where there is one.
    search: Option<Box<MtuSearch>>,
    pub(super) counters: SenderCounters,
}

/// Totals for `TCP_INFO`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SenderCounters {
    pub(super) bytes_acked: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_retransmitted: u64,
    pub(super) retransmits: u64,
    pub(super) dsacks: u64,
    pub(super) undos: u64,
}

/// Whether the congestion window is what limits the sender (RFC 7661 in spirit, Linux's rule in detail).
#[derive(Clone, Copy, Debug, Default)]
struct WindowUsage {
    is_limited: bool,
    /// The most in flight during the current window.
    max_in_flight: u32,
    /// Where the current window of observation ends.
    until: SeqNum,
}

/// A tail loss probe in flight.
#[derive(Clone, Copy, Debug)]
struct LossProbe {
    /// TLP.end_seq: SND.NXT when it was sent.
    end: SeqNum,
    is_retransmission: bool,
}

/// A transmission that ignores the windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forced {
    /// A tail loss probe.
    LossProbe,
    /// A zero-window probe: as much as the window takes, or nothing with an old sequence number.
    WindowProbe,
}

impl Sender {
    /// The payload of a full segment that carries nothing but timestamps as options.
    pub(super) fn mss(&self) -> u32 {
        effective_mss(self.base_mss, self.has_timestamps)
    }

    /// The MSS with the room for options that data segments do not have.
    pub(super) fn base_mss(&self) -> u16 {
        self.base_mss
    }

    /// Appends a copy of `data`.
    pub(super) fn push_copy(&mut self, data: &[u8]) {
        self.queue.push_copy(data);
    }

    /// Whether that many bytes can be appended without more memory.
    #[inline]
    pub(super) fn has_room_behind(&self, len: usize) -> bool {
        self.queue.has_room_behind(len)
    }

    /// Appends a copy of `data`, for which there is [room](Self::has_room_behind).
    #[inline]
    pub(super) fn push_behind(&mut self, data: &[u8]) {
        self.queue.push_behind(data);
    }

    /// Appends `data` by reference.
    pub(super) fn push_shared(&mut self, data: bytes::Bytes) {
        self.queue.push_shared(data);
    }

    /// Whether `release` would free anything.
    pub(super) fn has_spare(&self) -> bool {
        self.queue.has_spare()
    }

    /// Gives back the memory that an idle sender keeps for the next data.
    pub(super) fn release(&mut self) {
        self.queue.release();
        self.board.release();
    }

    /// The end of what is queued is urgent.
    pub(super) fn mark_urgent(&mut self) {
        self.snd_up = self.queue.end();
    }

    /// Whether urgent data is not acknowledged.
    pub(super) fn is_urgent(&self) -> bool {
        self.snd_up.gt(self.snd_una)
    }

    /// The urgent pointer of a segment at `seq` (RFC 6093 section 2.1: it points behind the data; Linux's `tcp_transmit_skb`
    /// for what is too far away).
    pub(super) fn urgent_pointer(&self, seq: SeqNum) -> Option<u16> {
        if !self.is_urgent() || self.snd_up.le(seq) {
            return None;
        }
        match u16::try_from(self.snd_up - seq) {
            Ok(pointer) => Some(pointer),
            Err(_) => (seq + u32::from(u16::MAX)).gt(self.snd_nxt).then_some(u16::MAX),
        }
    }

    /// Queues FIN behind the data.
    pub(super) fn push_fin(&mut self) {
        self.has_fin = true;
    }

    /// The number of the byte that is written next.
    pub(super) fn queue_end(&self) -> SeqNum {
        self.queue.end()
    }

    /// Bytes in the queue: not sent or not acknowledged.
    pub(super) fn queued(&self) -> u32 {
        self.queue.len()
    }

    /// Bytes never sent.
    pub(super) fn not_sent(&self) -> u32 {
        self.queue.end().saturating_since(self.snd_nxt)
    }

    pub(super) fn is_fin_sent(&self) -> bool {
        self.has_fin && self.snd_nxt.gt(self.queue.end())
    }

    pub(super) fn is_fin_acked(&self) -> bool {
        self.has_fin && self.snd_una.gt(self.queue.end())
    }

    /// Whether everything queued, FIN included, has been sent and acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.board.is_empty() && self.unsent_sequence() == 0
    }

    /// The sequence number after everything queued.
    fn queue_end_with_fin(&self) -> SeqNum {
        self.queue.end() + u32::from(self.has_fin)
    }

    /// Sequence space queued and never sent.
    fn unsent_sequence(&self) -> u32 {
        self.queue_end_with_fin() - self.snd_nxt
    }

    /// The room in the peer's window beyond SND.NXT.
    fn window_room(&self) -> u32 {
        (self.snd_una + self.snd_wnd).saturating_since(self.snd_nxt)
    }

    /// The timestamps clock: milliseconds, offset per connection.
    pub(super) fn timestamp(&self, now: Instant) -> u32 {
        low_u32(now.as_millis()).wrapping_add(self.timestamp_offset)
    }

    pub(super) fn timestamp_offset(&self) -> u32 {
        self.timestamp_offset
    }

    /// Scales the window field of a segment.
    pub(super) fn scale_window(&self, field: u16) -> u32 {
        u32::from(field) << self.wnd_shift
    }

    pub(super) fn wnd_shift(&self) -> u8 {
        self.wnd_shift
    }

    /// The largest flight that both windows have ever allowed.
    pub(super) fn largest_flight(&self) -> u32 {
        self.largest_flight
    }

    pub(super) fn max_wnd(&self) -> u32 {
        self.max_wnd
    }

    pub(super) fn last_sent_at(&self) -> Instant {
        self.last_sent_at
    }

    /// Whether `echo` answers something that we can have sent (RFC 7323 leaves this to the receiver; RFC 3522 needs it).
    pub(super) fn echo_of(timestamps: Option<Timestamps>) -> Option<u32> {
        timestamps.map(|timestamps| timestamps.echo).filter(|&echo| echo != 0)
    }

    /// The path changed: uses `path_mss` from now on and resends what no longer fits (RFC 1191 section 6.5). Returns
    /// whether the MSS went down.
    pub(super) fn set_path_mss(&mut self, path_mss: u16, overhead: u16, min_mss: u16) -> bool {
        let new = self.peer_mss.min(path_mss).saturating_sub(overhead).max(min_mss);
        let new = self.bound_mtu_search(new);
        self.set_base_mss(new)
    }

    /// The IP headers are as much longer as `now` exceeds `before`.
    pub(super) fn set_header_overhead(&mut self, before: u16, now: u16, min_mss: u16) {
        let new = self.base_mss.saturating_add(before).min(self.peer_mss).saturating_sub(now).max(min_mss);
        let new = self.bound_mtu_search(new);
        self.set_base_mss(new);
    }

    fn set_base_mss(&mut self, new: u16) -> bool {
        let is_smaller = new < self.base_mss;
        if new == self.base_mss {
            return false;
        }
        self.base_mss = new;
        self.congestion.set_mss(self.mss());
        if is_smaller {
            self.resend_at_new_size();
        }
        is_smaller
    }

    /// What was sent with a larger size is taken as lost, without a reduction of the window: this is no congestion.
    fn resend_at_new_size(&mut self) {
        self.forget_mtu_probe();
        self.board.mark_lost(|_| true, |_| false);
        if self.board.lost() > 0 && self.recovery.is_open() {
            self.recovery.phase = Phase::Loss { high: self.snd_nxt, frto: Frto::Off };
            self.recovery.undo = None;
        }
    }

    pub(super) fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.congestion.set_algorithm(algorithm);
        self.update_pacing();
    }

    /// `SO_MAX_PACING_RATE`: at most so many bytes a second.
    pub(super) fn set_max_pacing_rate(&mut self, rate: Option<u64>) {
        self.max_pacing_rate = rate.unwrap_or(u64::MAX);
        self.update_pacing();
    }

    /// The rate at which data leaves, in bytes a second; `None` without pacing.
    pub(super) fn pacing_rate(&self) -> Option<u64> {
        self.pacing.as_ref().map(|pacing| pacing.rate()).filter(|rate| *rate != u64::MAX)
    }

    /// The latest sample of the delivery rate in bytes a second.
    pub(super) fn delivery_rate(&self) -> u64 {
        self.delivery_rate
    }

    /// Paces at what the congestion control and the user want, or not at all.
    #[inline]
    fn update_pacing(&mut self) {
        if self.pacing.is_some() || self.max_pacing_rate != u64::MAX || self.congestion.may_pace() {
            self.repace();
        }
    }

    fn repace(&mut self) {
        let wanted = self.congestion.pacing_rate(self.rtt.srtt());
        let rate = wanted.unwrap_or(u64::MAX).min(self.max_pacing_rate);
        match &mut self.pacing {
            Some(pacing) => pacing.set_rate(rate),
            None if rate == u64::MAX => {}
            None => self.pacing = Some(Box::new(Pacing::new(rate))),
        }
    }

    /// The application brings data: if what it had brought before is all gone and the window has room, the rate of
    /// delivery has been the application's (Linux's `tcp_rate_check_app_limited`).
    pub(super) fn note_app_limit(&mut self) {
        let in_flight = self.board.in_flight();
        if self.not_sent() < self.mss() && in_flight < self.congestion.cwnd() && self.board.lost() == 0 {
            self.board.rate.on_app_limited(in_flight);
        }
    }

    pub(super) fn has_ecn(&self) -> bool {
        self.has_ecn
    }
}

/// RFC 6691: the MSS option counts no options; the sender subtracts those that it sends.
fn effective_mss(base: u16, has_timestamps: bool) -> u32 {
    let options = if has_timestamps { TIMESTAMPS_LEN } else { 0 };
    u32::from(base).saturating_sub(options).max(1)
}

/// Linux's `tcp_bound_to_half_wnd`: at least two segments fit the largest window of the peer, so that it never has to
/// acknowledge one alone (RFC 9293 section 3.8.6.2.1: a segment counts as full at half of that window).
fn within_half_window(base: u16, window: u32, has_timestamps: bool) -> u16 {
    let options = u32::from(base) - effective_mss(base, has_timestamps).min(base.into());
    let cutoff = if window > u32::from(DEFAULT_MSS) { window / 2 } else { window };
    if cutoff == 0 {
        return base;
    }
    base.min(super::num::sat_u16(cutoff.max(MIN_PAYLOAD).saturating_add(options)))
}

/// RFC 791: "Every internet module must be able to forward a datagram of 68 octets", less the headers.
const MIN_PAYLOAD: u32 = 68 - 40;
/// The timestamps option with its padding.
pub(super) const TIMESTAMPS_LEN: u32 = 12;
