//! The receiving half of a synchronised connection: windows, queue, reassembly, acknowledgments.

use super::ack_policy::AckPolicy;
use super::config::Config;
use super::negotiated::window_space;
use super::num::{sat_u16, sat_u32, usize_of};
use super::options::Options;
use super::outcome::DropReason;
use super::reassembly::{Inserted, Reassembly};
use super::receive_queue::ReceiveQueue;
use super::receive_tuning::ReceiveTuning;
use super::rtt::RttEstimator;
use super::segment::{Payload, SegmentIn};
use super::urgent::Urgent;
use crate::hint::{cold_path, likely, unlikely};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, Timestamps};

mod moved;
mod rest;
mod sack;
mod urgent;

pub(super) use rest::{ReceiverHistory, RestingReceiver};
pub(super) use urgent::{Stream, Unread};

/// The receiving half. `rcv_*` names are those of RFC 9293 section 3.3.1.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) rcv_nxt: SeqNum,
    /// RCV.NXT and the window when we last sent them: the right edge that the peer may use.
    last_ack_sent: SeqNum,
    rcv_wnd: u32,
    /// The shift of the windows that we send.
    wnd_shift: u8,
    has_window_scaling: bool,
    has_sack: bool,
    pub(super) queue: ReceiveQueue,
    /// Present while there is a hole.
    out_of_order: Option<Box<Reassembly>>,
    /// The duplicate to report with the next ACK.
    dsack: Option<SackBlock>,
    /// Where the peer's FIN stands, once seen.
    fin_at: Option<SeqNum>,
    /// TS.Recent and when it was taken.
    timestamps: Option<(u32, Instant)>,
    pub(super) policy: AckPolicy,
    tuning: ReceiveTuning,
    /// The receive buffer (`sk_rcvbuf`): about half of it is offered as window.
    buffer: u32,
    window_clamp: u32,
    pub(super) advertised_mss: u16,
    /// The peer's FIN has been taken: RCV.NXT stands one behind the data.
    is_fin_taken: bool,
    /// The announced urgent byte, until the user has read past it.
    urgent: Option<Box<Urgent>>,
    /// CE was seen and the peer has not confirmed with CWR yet (RFC 3168 section 6.1.3).
    pub(super) has_ce: bool,
    pub(super) counters: ReceiverCounters,
}

/// Totals for `TCP_INFO`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReceiverCounters {
    pub(super) bytes_received: u64,
    pub(super) out_of_order: u64,
}

/// What a segment's payload and FIN did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Taken {
    /// RCV.NXT moved over data.
    pub(super) has_data: bool,
    /// RCV.NXT moved over FIN.
    pub(super) has_fin: bool,
    /// Nothing was taken, for this reason.
    pub(super) dropped: Option<DropReason>,
}

impl Receiver {
    /// The window that the peer may still use: what we offered, less what has come since.
    pub(super) fn open_window(&self) -> u32 {
        (self.last_ack_sent + self.rcv_wnd).saturating_since(self.rcv_nxt)
    }

    /// RFC 9293 section 3.10.7.4, first check, in Linux's lenient form: it may begin in what was acknowledged before.
    pub(super) fn is_acceptable(&self, segment: &SegmentIn) -> bool {
        let start = segment.repr.seq;
        segment.end().ge(self.last_ack_sent) && start.le(self.rcv_nxt + self.open_window())
    }

    /// RFC 7323 section 5.3, R1: whether the segment's timestamp is too old.
    pub(super) fn is_paws_violation(&self, now: Instant, timestamps: Option<Timestamps>) -> bool {
        is_timestamp_old(self.timestamps, now, timestamps)
    }

    /// RFC 7323 section 4.3: takes the timestamp of a segment that covers the last acknowledgment sent.
    pub(super) fn update_timestamp(&mut self, now: Instant, seq: SeqNum, timestamps: Option<Timestamps>) {
        if let (Some(_), Some(new)) = (self.timestamps, timestamps)
            && !is_timestamp_old(self.timestamps, now, timestamps)
            && seq.le(self.last_ack_sent)
        {
            self.timestamps = Some((new.value, now));
        }
    }

    /// TS.Recent, the echo of our segments.
    pub(super) fn timestamp_echo(&self) -> u32 {
        self.timestamps.map_or(0, |(value, _)| value)
    }

    /// Takes an acceptable segment's payload and FIN. `rtt` is the sender's estimate, `echo_age` the age of the echo.
    pub(super) fn on_payload(
        &mut self,
        config: &Config,
        now: Instant,
        seq: SeqNum,
        payload: Payload,
        facts: PayloadFacts<'_>,
    ) -> Taken {
        let end = seq + payload.len_u32();
        if facts.has_fin {
            self.fin_at = Some(end);
        }
        if !payload.is_empty() {
            let largest = payload.len_u32().div_ceil(u32::from(facts.merged.max(1)));
            self.policy.on_data(config, now, largest, || facts.rtt.rto_ns(config), self.rcv_wnd);
        }
        let mut taken = self.place(config, seq, end, payload, &facts);
        if taken.has_data {
            let window = self.open_window().max(1);
            self.tuning.on_data(now, self.rcv_nxt, window, facts.echo_age);
        }
        if self.fin_at == Some(self.rcv_nxt) {
            self.rcv_nxt += 1;
            self.is_fin_taken = true;
            self.fin_at = None;
            taken.has_fin = true;
            taken.dropped = None;
        }
        // A FIN is acknowledged as data is (Linux, `tcp_fin`): the answer may be ours.
        let is_urgent = taken.dropped.is_some() || self.wants_ack_now();
        self.policy.schedule(config, now, facts.rtt.srtt_ns(), is_urgent);
        taken
    }

    /// Whether a segment at `seq` with `len` bytes is just the next one: it fits the window, and nothing waits for it.
    pub(super) fn is_next(&self, seq: SeqNum, len: usize) -> bool {
        seq == self.rcv_nxt
            && likely(self.out_of_order.is_none())
            && likely(self.fin_at.is_none())
            && len <= usize_of(self.open_window())
    }

    /// The same as `on_payload` for a few bytes that are the next ones, see [`is_next`](Self::is_next).
    pub(super) fn on_next_payload(
        &mut self,
        config: &Config,
        now: Instant,
        payload: &[u8],
        facts: &PayloadFacts<'_>,
    ) {
        let len = sat_u32(payload.len());
        self.policy.on_data(config, now, len, || facts.rtt.rto_ns(config), self.rcv_wnd);
        self.rcv_nxt += len;
        self.counters.bytes_received += u64::from(len);
        self.queue.push_copy(payload);
        let window = self.open_window().max(1);
        self.tuning.on_data(now, self.rcv_nxt, window, facts.echo_age);
        let is_urgent = self.wants_ack_now();
        self.policy.schedule(config, now, facts.rtt.srtt_ns(), is_urgent);
    }

    /// Puts the payload where it belongs: the queue, the reassembly, or nowhere.
    fn place(
        &mut self,
        config: &Config,
        seq: SeqNum,
        end: SeqNum,
        mut payload: Payload,
        facts: &PayloadFacts<'_>,
    ) -> Taken {
        if end.le(self.rcv_nxt) {
            let is_repeat = !payload.is_empty() || facts.has_fin && end.lt(self.rcv_nxt);
            if !payload.is_empty() {
                self.note_duplicate(config, seq, end);
            }
            return Taken { dropped: is_repeat.then_some(DropReason::Duplicate), ..Taken::default() };
        }
        let limit = self.rcv_nxt + self.open_window();
        if end.gt(limit) {
            // The peer ignores our window (or probes a closed one): what fits is taken, RFC 9293 section 3.10.7.4.
            payload.truncate(usize_of(limit.saturating_since(seq)));
            self.fin_at = self.fin_at.filter(|at| at.le(limit));
        }
        if payload.is_empty() {
            // A bare FIN beyond a hole is remembered; anything else did not fit.
            let is_kept = self.fin_at == Some(end);
            self.policy.demand();
            return Taken { dropped: (!is_kept).then_some(DropReason::NoBuffer), ..Taken::default() };
        }
        if seq.gt(self.rcv_nxt) {
            return self.place_out_of_order(config, seq, payload, facts.true_size);
        }
        if seq.lt(self.rcv_nxt) {
            self.note_duplicate(config, seq, self.rcv_nxt);
            payload.advance(usize_of(self.rcv_nxt - seq));
        }
        self.append(payload, facts.true_size);
        self.drain_out_of_order();
        Taken { has_data: true, ..Taken::default() }
    }

    fn place_out_of_order(
        &mut self,
        config: &Config,
        seq: SeqNum,
        payload: Payload,
        true_size: u32,
    ) -> Taken {
        let end = seq + payload.len_u32();
        let store = self.out_of_order.get_or_insert_default();
        let inserted = store.insert(seq, payload, true_size);
        self.counters.out_of_order += 1;
        self.policy.enter_quick(self.rcv_wnd);
        match inserted {
            Inserted::Kept(overlap) => {
                if let Some(SackBlock { start, end }) = overlap {
                    self.note_duplicate(config, start, end);
                }
                Taken::default()
            }
            Inserted::Duplicate => {
                self.note_duplicate(config, seq, end);
                Taken { dropped: Some(DropReason::Duplicate), ..Taken::default() }
            }
            Inserted::Refused => Taken { dropped: Some(DropReason::NoBuffer), ..Taken::default() },
        }
    }

    fn append(&mut self, payload: Payload, true_size: u32) {
        let len = payload.len_u32();
        self.rcv_nxt += len;
        self.counters.bytes_received += u64::from(len);
        self.queue.push(payload, true_size);
    }

    fn drain_out_of_order(&mut self) {
        let Some(store) = &mut self.out_of_order else { return };
        while let Some(payload) = store.pop(self.rcv_nxt) {
            let len = payload.len_u32();
            self.rcv_nxt += len;
            self.counters.bytes_received += u64::from(len);
            // It was compacted on arrival if that was worth it.
            self.queue.push(payload, len);
        }
        if store.is_empty() {
            self.out_of_order = None;
            // RFC 5681 section 4.2: "an immediate ACK when the incoming segment fills in all or part of a gap".
            self.policy.demand();
        }
    }

    /// Remembers a duplicate for a DSACK (RFC 2883 section 4).
    fn note_duplicate(&mut self, config: &Config, start: SeqNum, end: SeqNum) {
        if self.has_sack && config.dsack && start.lt(end) {
            self.dsack = Some(SackBlock { start, end });
        }
        self.policy.enter_quick(self.rcv_wnd);
        self.policy.demand();
    }

    /// Reports the range of an unacceptable old segment as a duplicate.
    pub(super) fn note_old(&mut self, config: &Config, segment: &SegmentIn) {
        let start = segment.repr.seq;
        if start.lt(self.rcv_nxt) && self.has_sack && config.dsack && !segment.payload.is_empty() {
            self.dsack = Some(SackBlock { start, end: segment.end().min(self.rcv_nxt) });
        }
    }

    /// Linux's `__tcp_ack_snd_check`: more than one full segment, or a hole (RFC 5681 section 4.2).
    fn wants_ack_now(&self) -> bool {
        let unacked = self.rcv_nxt - self.last_ack_sent;
        unlikely(self.out_of_order.is_some()) || unacked > self.policy.rcv_mss()
    }

    /// The window to offer now (RFC 9293 section 3.8.6.2.2, silly window avoidance; never takes back what was offered).
    pub(super) fn select_window(&self) -> u32 {
        let offer = WindowOffer {
            open: self.open_window(),
            full: self.space(),
            queued: self.queue.len(),
            rcv_mss: self.policy.rcv_mss(),
            shift: self.wnd_shift,
        };
        offer.window()
    }

    /// Whether reading has opened the window enough to tell the peer (Linux's `tcp_cleanup_rbuf`).
    #[inline]
    pub(super) fn on_read(&mut self, config: &Config, now: Instant, may_tune: bool) {
        let read_to = self.rcv_nxt - self.queue.len();
        let mss = u32::from(self.advertised_mss);
        if may_tune && let Some(window) = self.tuning.on_read(now, read_to, mss) {
            cold_path();
            let buffer = window.saturating_mul(2).min(config.receive_buffer.max);
            self.buffer = self.buffer.max(buffer);
        }
        if self.policy.is_owed() && unlikely(self.rcv_nxt - self.last_ack_sent > self.policy.rcv_mss()) {
            return self.policy.demand();
        }
        let open = self.open_window();
        if unlikely(open.saturating_mul(2) <= self.space())
            && self.select_window() >= open.saturating_mul(2).max(1)
        {
            self.policy.demand();
        }
    }

    /// The window field of a segment being sent now; moves the right edge.
    #[inline]
    pub(super) fn take_window_field(&mut self) -> u16 {
        let window = self.select_window();
        let field = sat_u16(window >> self.wnd_shift);
        self.rcv_wnd = u32::from(field) << self.wnd_shift;
        self.last_ack_sent = self.rcv_nxt;
        field
    }

    /// Takes over changed options (`SO_RCVBUF`, `TCP_WINDOW_CLAMP`).
    pub(super) fn set_options(&mut self, options: &Options) {
        self.buffer = options.receive_buffer.unwrap_or(self.buffer);
        self.window_clamp = options.window_clamp.unwrap_or(u32::MAX);
    }

    pub(super) fn rcv_wnd(&self) -> u32 {
        self.rcv_wnd
    }

    pub(super) fn wnd_shift(&self) -> u8 {
        self.wnd_shift
    }

    pub(super) fn has_window_scaling(&self) -> bool {
        self.has_window_scaling
    }

    pub(super) fn tuning_space(&self) -> u32 {
        self.tuning.space()
    }

    /// `TCP_QUICKACK`.
    pub(super) fn set_quick_ack(&mut self, on: bool) {
        self.policy.set_quick(on, self.rcv_wnd);
    }

    fn space(&self) -> u32 {
        window_space(self.buffer, self.window_clamp)
    }
}

/// What the window to offer depends on.
struct WindowOffer {
    /// What the peer may still use of the last one.
    open: u32,
    /// The part of the receive buffer that is for windows.
    full: u32,
    /// What waits for the reader.
    queued: u32,
    rcv_mss: u32,
    shift: u8,
}

impl WindowOffer {
    fn window(&self) -> u32 {
        let &Self { open, full, queued, rcv_mss, shift } = self;
        let free = full.saturating_sub(queued);
        let mss = rcv_mss.min(full);
        if unlikely(free < full / 2) && (free < full / 16 || free < mss) {
            return open.next_multiple_of(1 << shift);
        }
        let window = if likely(shift > 0) {
            free
        } else if open <= free.saturating_sub(mss) || open > free {
            free / mss.max(1) * mss.max(1)
        } else {
            open
        };
        // Rounded up, or the scaled field would take back a part of what was offered.
        window.max(open).next_multiple_of(1 << shift).min(u32::from(u16::MAX) << shift)
    }
}

/// RFC 7323 section 5.3, R1: whether a segment's timestamp is older than TS.Recent, taken at a known time.
fn is_timestamp_old(recent: Option<(u32, Instant)>, now: Instant, timestamps: Option<Timestamps>) -> bool {
    let (Some((recent, at)), Some(new)) = (recent, timestamps) else { return false };
    // Section 5.5: after 24 days of silence the clock may have wrapped. A zero is no time (Linux's `tcp_paws_check`).
    unlikely(new.value.wrapping_sub(recent).cast_signed() < 0)
        && recent != 0
        && now.nanos_since(at) < PAWS_EXPIRY
}

/// What `on_payload` needs to know besides the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct PayloadFacts<'a> {
    pub(super) has_fin: bool,
    pub(super) merged: u16,
    pub(super) true_size: u32,
    /// The sender's estimates.
    pub(super) rtt: &'a RttEstimator,
    /// The age of the timestamp echo of a data segment, in nanoseconds.
    pub(super) echo_age: Option<u64>,
}

/// RFC 7323 section 5.5, in nanoseconds.
const PAWS_EXPIRY: u64 = 24 * 24 * 3600 * 1_000_000_000;
