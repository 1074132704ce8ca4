//! One direction of a connection: what its sender sent, and what that sender acknowledged of the other direction.

use std::collections::BTreeMap;
use std::time::Duration;

use netstack_wire::seq::SeqNum;

use super::note::{Judgement, Note};
use super::rtt::{Rtt, Timing};
use crate::dissect::Segment;

/// One direction of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Half {
    pub(crate) segments: u64,
    /// Without copies.
    pub(crate) bytes: u64,
    pub(crate) retransmitted_segments: u64,
    pub(crate) retransmitted_bytes: u64,
    pub(crate) is_finished: bool,
    pub(crate) has_syn: bool,
    /// How often each note was made.
    pub(crate) notes: BTreeMap<Note, u64>,
    pub(crate) max_in_flight: u32,
    /// Copies of data since the other side was last heard.
    pub(super) unanswered: u32,
    timing: Timing,
    initial: Option<SeqNum>,
    /// One past the highest sequence number seen, and when it was.
    next: Option<SeqNum>,
    next_time: Duration,
    /// Sequence ranges below `next` that were never seen.
    holes: Vec<(SeqNum, SeqNum)>,
    last_ack: Option<SeqNum>,
    last_ack_time: Duration,
    last_window: Option<u16>,
    /// How often `last_ack` was repeated.
    duplicates: u32,
    /// The end of the highest SACK block sent.
    highest_sack: Option<SeqNum>,
    shift: Option<u8>,
    last_was: Probe,
}

/// Whether the latest segment only asked whether the other side is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    KeepAlive,
    Window,
}

impl Half {
    /// Round-trip times from this side's data to its acknowledgement.
    pub(crate) fn rtt(&self) -> &Rtt {
        &self.timing.rtt
    }

    /// The window that the last segment offered, in bytes.
    pub(crate) fn window(&self) -> Option<u64> {
        self.last_window.map(|w| u64::from(w) << self.shift.unwrap_or(0))
    }

    /// The first sequence number seen.
    pub(crate) fn initial(&self) -> Option<u32> {
        self.initial.map(|s| s.0)
    }

    /// Whether nothing that takes sequence space was sent but the SYN.
    pub(super) fn is_only_syn(&self) -> bool {
        self.initial.zip(self.next).is_some_and(|(initial, next)| next.distance_from(initial) == 1)
    }

    /// Whether data was sent that `other` has not acknowledged.
    pub(super) fn has_outstanding_data(&self, other: &Self) -> bool {
        self.next.zip(other.last_ack).is_some_and(|(next, ack)| next.gt(ack))
    }

    /// Recognises segments without data that say nothing new, or only a new window.
    pub(super) fn judge_pure_ack(&self, segment: &Segment, receiver: &Self, judgement: &mut Judgement) {
        let Some(ack) = segment.ack.map(SeqNum) else { return };
        let is_pure = segment.sequence_len() == 0 && !segment.is_rst;
        if segment.window == 0 && !(segment.is_syn || segment.is_fin || segment.is_rst) {
            judgement.notes.push(Note::ZeroWindow);
        }
        let is_next = self.next.is_none_or(|next| next == SeqNum(segment.seq));
        if !is_pure || !is_next || self.last_ack != Some(ack) {
            return;
        }
        let is_same_window = self.last_window == Some(segment.window);
        let has_sack = !segment.options.sack.is_empty();
        match receiver.last_was {
            Probe::KeepAlive if is_same_window => judgement.notes.push(Note::KeepAliveAck),
            Probe::Window if segment.window == 0 => judgement.notes.push(Note::WindowProbeAck),
            // RFC 6675, 2: with a SACK block it is one whatever the window does.
            _ if (is_same_window || has_sack)
                && segment.window != 0
                && receiver.next.is_some_and(|next| next.gt(ack)) =>
            {
                judgement.notes.push(Note::DuplicateAck);
                judgement.duplicate_ack = Some(self.duplicates + 1);
            }
            _ if !is_same_window && segment.window != 0 => {
                judgement.notes.push(Note::WindowUpdate);
            }
            _ => {}
        }
    }

    /// What the segment does to this side's data. `receiver` has said what it acknowledged and how much room it has.
    pub(super) fn on_sent(
        &mut self,
        time: Duration,
        segment: &Segment,
        receiver: &mut Self,
        handshake: Option<Duration>,
        judgement: &mut Judgement,
    ) {
        self.segments += 1;
        receiver.unanswered = 0;
        let seq = SeqNum(segment.seq);
        let len = segment.sequence_len();
        if segment.is_syn {
            self.on_syn(segment, judgement);
        }
        // What a RST carries is a sequence number at most (and sometimes text): it is no part of the stream.
        if segment.is_rst {
            self.initial.get_or_insert(seq);
            return;
        }
        self.initial.get_or_insert(seq);
        let next = *self.next.get_or_insert(seq);
        if self.is_keep_alive(segment, receiver) {
            judgement.notes.push(Note::KeepAlive);
            self.last_was = Probe::KeepAlive;
            return;
        }
        self.last_was = Probe::None;
        if len == 0 {
            // An acknowledgement beyond what was captured shows the loss as much as data does.
            if seq.gt(next) && segment.ack.is_some() {
                self.open_hole(seq, time, judgement);
            }
            return;
        }
        if receiver.last_window == Some(0) && segment.payload_len == 1 && seq == next {
            judgement.notes.push(Note::WindowProbe);
            self.last_was = Probe::Window;
        }
        let end = SeqNum(segment.seq.wrapping_add(len));
        if end.le(next) {
            self.on_old(time, segment, (seq, end), receiver, handshake, judgement);
        } else {
            self.on_new(time, segment, (seq, end), receiver, judgement);
        }
        if let (Some(ack), Some(next)) = (receiver.last_ack, self.next) {
            judgement.in_flight = Some(next.saturating_since(ack));
        }
    }

    fn on_syn(&mut self, segment: &Segment, judgement: &mut Judgement) {
        let is_known = self.has_syn && self.initial == Some(SeqNum(segment.seq));
        if self.segments > 1 && !is_known {
            judgement.notes.push(Note::UnexpectedSyn);
            return;
        }
        self.has_syn = true;
        self.shift = segment.options.window_scale;
    }

    /// RFC 9293, 3.8.4: "SEG.SEQ = SND.NXT-1", with one byte or none.
    fn is_keep_alive(&self, segment: &Segment, receiver: &Self) -> bool {
        let is_below = self.next.is_some_and(|next| SeqNum(segment.seq).distance_from(next) == -1);
        // Sent again while unacknowledged, a last byte is a retransmission.
        let is_acked = receiver.last_ack.is_none_or(|ack| self.next.is_some_and(|next| ack.ge(next)));
        is_below
            && is_acked
            && segment.payload_len <= 1
            && segment.ack.is_some()
            && !segment.is_syn
            && !segment.is_fin
    }

    /// All of the segment lies below the highest number seen.
    fn on_old(
        &mut self,
        time: Duration,
        segment: &Segment,
        (seq, end): (SeqNum, SeqNum),
        receiver: &Self,
        handshake: Option<Duration>,
        judgement: &mut Judgement,
    ) {
        // What comes late by less than a round trip was not asked for.
        let soon = handshake.unwrap_or(SOON).max(SOON);
        let was_missing = self.fill_hole(seq, end);
        let is_asked_for = receiver.asks_for(seq, time, soon);
        if was_missing {
            self.bytes += u64::from(segment.payload_len);
            self.is_finished |= segment.is_fin;
            if !is_asked_for && time.saturating_sub(self.next_time) < soon {
                judgement.notes.push(Note::OutOfOrder);
                return;
            }
        }
        self.unanswered += 1;
        self.retransmitted_segments += 1;
        self.retransmitted_bytes += u64::from(segment.payload_len);
        self.timing.on_sent_again(seq, end);
        let is_acked = receiver.last_ack.is_some_and(|ack| ack.ge(end));
        judgement.notes.push(match (is_acked, is_asked_for) {
            (true, _) => Note::SpuriousRetransmission,
            (false, true) => Note::FastRetransmission,
            (false, false) => Note::Retransmission,
        });
    }

    /// The segment has data above the highest number seen.
    fn on_new(
        &mut self,
        time: Duration,
        segment: &Segment,
        (seq, end): (SeqNum, SeqNum),
        receiver: &Self,
        judgement: &mut Judgement,
    ) {
        let next = self.next.unwrap_or(seq);
        let ahead = seq.distance_from(next);
        if ahead > 0 {
            self.open_hole(seq, time, judgement);
        } else if ahead < 0 {
            self.retransmitted_segments += 1;
            self.retransmitted_bytes += u64::from(ahead.unsigned_abs());
            self.timing.on_sent_again(seq, next);
            judgement.notes.push(Note::PartialRetransmission);
        }
        self.bytes += u64::from(segment.payload_len.min(end.distance_from(next).unsigned_abs()));
        self.is_finished |= segment.is_fin;
        if receiver.fills(segment, end) {
            judgement.notes.push(Note::WindowFull);
        }
        self.next = Some(end);
        self.next_time = time;
        self.timing.on_sent(end, time);
    }

    /// What lies between the highest number seen and `seq` is missing.
    fn open_hole(&mut self, seq: SeqNum, time: Duration, judgement: &mut Judgement) {
        let next = self.next.unwrap_or(seq);
        // More holes than that and the capture is too lossy to say anything.
        if self.holes.len() < MAX_HOLES {
            self.holes.push((next, seq));
        }
        self.next = Some(seq);
        self.next_time = time;
        judgement.notes.push(Note::LostSegment);
    }

    /// Takes `[start, end)` out of the hole that it lies in, if there is one.
    fn fill_hole(&mut self, start: SeqNum, end: SeqNum) -> bool {
        let Some(at) = self.holes.iter().position(|(from, to)| start.ge(*from) && end.le(*to)) else {
            return false;
        };
        let (from, to) = self.holes.swap_remove(at);
        let rest = [(from, start), (end, to)];
        self.holes.extend(rest.into_iter().filter(|(a, b)| a.lt(*b)));
        true
    }

    /// Whether data up to `end` is exactly what this side has room for.
    fn fills(&self, segment: &Segment, end: SeqNum) -> bool {
        // Without both SYNs the unit of the window is not known.
        let (Some(ack), Some(window)) = (self.last_ack, self.window()) else { return false };
        self.has_syn
            && window > 0
            && segment.payload_len > 0
            && !(segment.is_syn || segment.is_fin)
            && u64::from(end.saturating_since(ack)) == window
    }

    /// Whether this side's latest acknowledgements ask for the data at `seq`: repeated, or with data above it in SACK
    /// blocks.
    fn asks_for(&self, seq: SeqNum, now: Duration, soon: Duration) -> bool {
        let is_fresh = now.saturating_sub(self.last_ack_time) <= soon;
        let is_repeated = self.duplicates >= 2 && self.last_ack == Some(seq);
        let is_above = self.highest_sack.is_some_and(|end| end.gt(seq));
        is_fresh && (is_repeated || is_above)
    }

    /// Remembers the acknowledgement and the window that a segment of this side carries.
    pub(super) fn on_ack_sent(&mut self, time: Duration, segment: &Segment) {
        if segment.is_rst {
            return;
        }
        if segment.is_syn {
            // The window of a SYN is never scaled (RFC 7323, 2.2); nor does it repeat anything.
            self.last_window = Some(segment.window.checked_shr(self.shift.unwrap_or(0).into()).unwrap_or(0));
            self.last_ack = segment.ack.map(SeqNum);
            self.last_ack_time = time;
            return;
        }
        let Some(ack) = segment.ack.map(SeqNum) else { return };
        if self.last_ack.is_some_and(|last| ack.lt(last)) {
            // An old one that was overtaken.
            return;
        }
        let is_repeated = self.last_ack == Some(ack) && segment.sequence_len() == 0;
        self.duplicates = if is_repeated { self.duplicates.saturating_add(1) } else { 0 };
        let highest = segment.options.sack.iter().map(|(_, end)| SeqNum(*end)).reduce(SeqNum::max);
        self.highest_sack = highest.filter(|end| end.gt(ack));
        self.last_ack = Some(ack);
        self.last_ack_time = time;
        self.last_window = Some(segment.window);
    }

    /// The other side acknowledged this side's data up to `ack`.
    pub(super) fn on_acked(&mut self, time: Duration, ack: SeqNum, judgement: &mut Judgement) {
        match self.next {
            Some(next) if ack.gt(next) => {
                judgement.notes.push(Note::AckOfUnseenData);
                self.next = Some(ack);
                // When the acknowledged data was sent is not known.
                self.timing.forget();
            }
            _ => judgement.rtt = self.timing.on_acked(ack, time),
        }
    }
}

/// RFC 2883, 4: the first block reports a duplicate if it lies below the acknowledgement, or within the second.
pub(super) fn is_duplicate_sack(segment: &Segment) -> bool {
    let (Some(ack), Some(&(left, right))) = (segment.ack, segment.options.sack.first()) else { return false };
    let (left, right) = (SeqNum(left), SeqNum(right));
    let is_within_second =
        segment.options.sack.get(1).is_some_and(|(from, to)| left.ge(SeqNum(*from)) && right.le(SeqNum(*to)));
    right.le(SeqNum(ack)) || is_within_second
}

/// Reordering in a network is over within that time, and a fast retransmission follows its acknowledgements as closely.
const SOON: Duration = Duration::from_millis(20);
const MAX_HOLES: usize = 1024;
