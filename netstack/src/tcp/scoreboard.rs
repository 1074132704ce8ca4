//! What is in flight: ranges of sequence space by when they were sent and what is known of them.
//!
//! One record covers what one `poll_transmit` sent, up to 64 KiB, not one MSS; records are split where a SACK block or a
//! loss mark ends, and selectively acknowledged neighbours are merged. So the number of records follows the number of
//! sends and holes, never the number of wire segments.

use super::delivery_rate::{DeliveryRate, RateSample, Snapshot};
use crate::time::Instant;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::SackBlock;
use std::collections::VecDeque;

/// The records from the first unacknowledged byte to the last byte sent.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// Contiguous and in order.
    records: VecDeque<Record>,
    /// Bytes of all records.
    total: u32,
    sacked: u32,
    lost: u32,
    /// Bytes outstanding that were sent more than once.
    retransmitted: u32,
    /// No lost record lies before this one; where the next retransmission starts to look.
    lost_hint: SeqNum,
    /// How fast what is in flight gets delivered.
    pub(super) rate: DeliveryRate,
}

/// A range of sequence space `[start, end)` that was sent at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) start: SeqNum,
    pub(super) end: SeqNum,
    /// When it was last sent.
    pub(super) sent_at: Instant,
    pub(super) fate: Fate,
    /// Whether it was sent more than once.
    pub(super) is_retransmission: bool,
    /// What had been delivered when it was sent.
    snapshot: Snapshot,
}

/// What is known of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Nothing.
    Outstanding,
    /// The peer has it, out of order.
    Sacked,
    /// Believed lost and not sent again since.
    Lost,
}

/// What an ACK delivered, summed over its cumulative part and its SACK blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Bytes newly covered by the cumulative acknowledgment.
    pub(super) acked: u32,
    /// Bytes newly known to be delivered, either way.
    pub(super) delivered: u32,
    /// Bytes newly delivered by SACK blocks.
    pub(super) sacked: u32,
    /// When the last-sent record among those newly delivered and never retransmitted was sent: one for the cumulative
    /// part, one for the SACK blocks.
    acked_from: Option<Instant>,
    sacked_from: Option<Instant>,
    /// Whether the cumulative part covers a retransmission.
    is_ambiguous: bool,
    /// The last-sent record among those newly delivered: its time, end and whether it was a retransmission.
    pub(super) newest: Option<(Instant, SeqNum, bool)>,
    /// What that record remembers.
    newest_snapshot: Snapshot,
    /// Whether a never retransmitted byte was newly delivered (for F-RTO).
    pub(super) original: bool,
    /// Whether a retransmitted byte was newly delivered.
    pub(super) retransmission: bool,
    /// The lowest end of a never retransmitted record that was newly delivered (for reordering detection).
    pub(super) lowest_original_end: Option<SeqNum>,
    /// Bytes newly delivered that had been marked lost.
    pub(super) was_lost: u32,
}

impl Record {
    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }
}

impl Scoreboard {
    /// An empty scoreboard that goes on where another one was left empty.
    pub(super) fn resumed(rate: DeliveryRate, lost_hint: SeqNum) -> Self {
        Self { rate, lost_hint, ..Self::default() }
    }

    /// See [`resumed`](Self::resumed).
    pub(super) fn lost_hint(&self) -> SeqNum {
        self.lost_hint
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether nothing is known of what is in flight but that it was sent, once.
    #[inline]
    pub(super) fn is_untroubled(&self) -> bool {
        self.sacked == 0 && self.lost == 0 && self.retransmitted == 0
    }

    /// Bytes sent and not cumulatively acknowledged.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    pub(super) fn retransmitted(&self) -> u32 {
        self.retransmitted
    }

    /// Bytes believed to be in the network (RFC 6675 "pipe", RFC 8985 section 6.2 step 5).
    pub(super) fn in_flight(&self) -> u32 {
        self.total - self.sacked - self.lost
    }

    /// Counts what an acknowledgment delivered and measures how fast that was.
    pub(super) fn measure_rate(
        &mut self,
        now: Instant,
        delivered: &Delivered,
        min_rtt_ns: Option<u64>,
    ) -> Option<RateSample> {
        let (sent_at, ..) = delivered.newest?;
        self.rate.on_delivered(now, delivered.delivered, (sent_at, delivered.newest_snapshot), min_rtt_ns)
    }

    /// Gives back the memory of an empty scoreboard.
    pub(super) fn release(&mut self) {
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }

    pub(super) fn first(&self) -> Option<&Record> {
        self.records.front()
    }

    pub(super) fn last(&self) -> Option<&Record> {
        self.records.back()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter()
    }

    /// The end of the highest selectively acknowledged range.
    #[cfg(test)]
    fn highest_sacked(&self) -> Option<SeqNum> {
        if self.sacked == 0 {
            return None;
        }
        self.records.iter().rev().find(|record| record.fate == Fate::Sacked).map(|record| record.end)
    }

    /// Enters new data `[start, end)`, which follows what is held.
    #[inline]
    pub(super) fn on_sent(&mut self, start: SeqNum, end: SeqNum, now: Instant) {
        let is_first = self.records.is_empty();
        if is_first {
            self.lost_hint = start;
        }
        let snapshot = self.rate.on_sent(now, is_first);
        self.total += end - start;
        if let Some(last) = self.records.back_mut()
            && last.sent_at == now
            && last.fate == Fate::Outstanding
            && !last.is_retransmission
        {
            last.end = end;
            return;
        }
        let fate = Fate::Outstanding;
        let record = Record { start, end, sent_at: now, fate, is_retransmission: false, snapshot };
        self.records.push_back(record);
    }

    /// Returns the first lost range, at most `max` bytes of it. Neighbouring lost records count as one, so that what was sent
    /// in pieces can be sent again in one.
    pub(super) fn next_lost(&mut self, max: u32) -> Option<(SeqNum, SeqNum)> {
        if self.lost == 0 {
            return None;
        }
        let from = self.index_of(self.lost_hint);
        let mut lost = self.records.range(from..).skip_while(|record| record.fate != Fate::Lost);
        let Record { start, mut end, .. } = *lost.next()?;
        self.lost_hint = start;
        let limit = start + max;
        for record in lost.take_while(|record| record.fate == Fate::Lost) {
            if end.ge(limit) {
                break;
            }
            end = record.end;
        }
        Some((start, end.min(limit)))
    }

    /// Notes that `[start, end)`, of which nothing was selectively acknowledged, was sent again.
    pub(super) fn on_retransmitted(&mut self, start: SeqNum, end: SeqNum, now: Instant) {
        self.split_at(start);
        self.split_at(end);
        let first = self.index_of(start);
        let mut past = first;
        let mut was_lost = false;
        while let Some(record) = self.records.get(past)
            && record.start.lt(end)
        {
            let len = record.len();
            match record.fate {
                Fate::Lost => {
                    self.lost -= len;
                    was_lost = true;
                }
                Fate::Outstanding if record.is_retransmission => self.retransmitted -= len,
                Fate::Outstanding => {}
                Fate::Sacked => self.sacked -= len,
            }
            self.retransmitted += len;
            past += 1;
        }
        let Some(record) = self.records.get_mut(first) else { return };
        let (fate, snapshot) = (Fate::Outstanding, self.rate.on_sent(now, false));
        *record = Record { start, end, sent_at: now, fate, is_retransmission: true, snapshot };
        if past > first + 1 {
            self.records.drain(first + 1..past);
        }
        if was_lost && self.lost_hint.lt(end) && self.lost_hint.ge(start) {
            self.lost_hint = end;
        }
    }

    /// Removes what the cumulative acknowledgment `una` covers.
    pub(super) fn on_ack(&mut self, una: SeqNum, out: &mut Delivered) {
        while let Some(front) = self.records.front_mut() {
            if front.start.ge(una) {
                break;
            }
            let covered = Record { end: front.end.min(una), ..*front };
            if front.end.le(una) {
                self.records.pop_front();
            } else {
                front.start = una;
            }
            let len = covered.len();
            self.total -= len;
            out.acked += len;
            match covered.fate {
                Fate::Sacked => self.sacked -= len,
                Fate::Lost => {
                    self.lost -= len;
                    out.was_lost += len;
                    out.note_acked(&covered);
                }
                Fate::Outstanding => {
                    if covered.is_retransmission {
                        self.retransmitted -= len;
                    }
                    out.note_acked(&covered);
                }
            }
        }
        self.lost_hint = self.lost_hint.max(una);
    }

    /// Removes the only record if the cumulative acknowledgment `una` covers it to its end, and nothing is known of it but that it
    /// was sent, once. Otherwise nothing has happened.
    #[inline]
    pub(super) fn take_only(&mut self, una: SeqNum) -> Option<Record> {
        let record = *self.records.front()?;
        let is_plain = self.records.len() == 1
            && record.end == una
            && record.fate == Fate::Outstanding
            && !record.is_retransmission;
        if !is_plain {
            return None;
        }
        self.records.clear();
        self.total -= record.len();
        self.lost_hint = self.lost_hint.max(una);
        Some(record)
    }

    /// The same as [`measure_rate`](Self::measure_rate) for a record that was just taken.
    #[inline]
    pub(super) fn measure_rate_of(
        &mut self,
        now: Instant,
        record: &Record,
        min_rtt_ns: Option<u64>,
    ) -> Option<RateSample> {
        self.rate.on_delivered(now, record.len(), (record.sent_at, record.snapshot), min_rtt_ns)
    }

    /// Marks `block` as received by the peer. Blocks outside of what is in flight change nothing.
    pub(super) fn on_sack(&mut self, block: SackBlock, out: &mut Delivered) {
        let (Some(first), Some(last)) = (self.records.front(), self.records.back()) else { return };
        let (start, end) = (block.start.max(first.start), block.end.min(last.end));
        if start.ge(end) || self.is_all_sacked(start, end) {
            return;
        }
        if self.records.len() >= MAX_RECORDS && !self.has_boundaries(start, end) {
            return;
        }
        self.split_at(start);
        self.split_at(end);
        let from = self.index_of(start);
        let mut index = from;
        while let Some(record) = self.records.get_mut(index)
            && record.start.lt(end)
        {
            let len = record.len();
            let fate = core::mem::replace(&mut record.fate, Fate::Sacked);
            match fate {
                Fate::Sacked => {}
                Fate::Lost => {
                    self.lost -= len;
                    out.was_lost += len;
                }
                Fate::Outstanding if record.is_retransmission => self.retransmitted -= len,
                Fate::Outstanding => {}
            }
            if fate != Fate::Sacked {
                self.sacked += len;
                out.sacked += len;
                out.note_sacked(record);
            }
            index += 1;
        }
        self.merge_sacked(from, index);
    }

    /// Marks as lost each record for which `is_lost` says so, looking from the first on until `is_beyond`. Returns how
    /// many bytes were newly marked.
    pub(super) fn mark_lost(
        &mut self,
        mut is_lost: impl FnMut(&Record) -> bool,
        mut is_beyond: impl FnMut(&Record) -> bool,
    ) -> u32 {
        let before = self.lost;
        for record in &mut self.records {
            if is_beyond(record) {
                break;
            }
            if record.fate != Fate::Outstanding || !is_lost(record) {
                continue;
            }
            let len = record.end - record.start;
            record.fate = Fate::Lost;
            self.lost += len;
            if record.is_retransmission {
                self.retransmitted -= len;
            }
            self.lost_hint = self.lost_hint.min(record.start);
        }
        self.lost - before
    }

    /// Marks the first `max` bytes lost if they are outstanding; returns how many.
    pub(super) fn mark_head_lost(&mut self, max: u32) -> u32 {
        let Some(first) = self.records.front() else { return 0 };
        let (start, cut) = (first.start, first.start + max);
        self.split_at(cut);
        self.mark_lost(|_| true, |record| record.start != start)
    }

    /// The peer dropped data that it had selectively acknowledged: believes no SACK any more (RFC 2018 section 8).
    pub(super) fn forget_sacks(&mut self) {
        for record in &mut self.records {
            if record.fate == Fate::Sacked {
                record.fate = Fate::Outstanding;
                if record.is_retransmission {
                    self.retransmitted += record.end - record.start;
                }
            }
        }
        self.sacked = 0;
    }

    /// Takes all loss marks back: the losses were spurious.
    pub(super) fn forget_losses(&mut self) {
        for record in &mut self.records {
            if record.fate == Fate::Lost {
                record.fate = Fate::Outstanding;
                if record.is_retransmission {
                    self.retransmitted += record.end - record.start;
                }
            }
        }
        self.lost = 0;
    }

    /// Cuts the record that spans `at` in two there.
    pub(super) fn split_at(&mut self, at: SeqNum) {
        let index = self.index_of(at);
        let Some(record) = self.records.get_mut(index) else { return };
        if record.start.ge(at) || record.end.le(at) {
            return;
        }
        let tail = Record { start: at, ..*record };
        record.end = at;
        self.records.insert(index + 1, tail);
    }

    /// The index of the record that contains `seq`, or of the nearest one before (0 when there is none).
    fn index_of(&self, seq: SeqNum) -> usize {
        match self.records.front() {
            Some(first) if first.end.le(seq) => {
                self.records.partition_point(|record| record.start.le(seq)).saturating_sub(1)
            }
            _ => 0,
        }
    }

    fn is_all_sacked(&self, start: SeqNum, end: SeqNum) -> bool {
        self.records
            .get(self.index_of(start))
            .is_some_and(|record| record.fate == Fate::Sacked && record.start.le(start) && record.end.ge(end))
    }

    fn has_boundaries(&self, start: SeqNum, end: SeqNum) -> bool {
        let has = |at: SeqNum| {
            let record = self.records.get(self.index_of(at));
            record.is_some_and(|record| record.start == at || record.end == at)
        };
        has(start) && has(end)
    }

    /// Merges the selectively acknowledged records `[from, to)` with each other and their neighbours.
    fn merge_sacked(&mut self, from: usize, to: usize) {
        let is_sacked = |index: usize| self.records.get(index).is_some_and(|r| r.fate == Fate::Sacked);
        let first = if from > 0 && is_sacked(from - 1) { from - 1 } else { from };
        let last = if is_sacked(to) { to } else { to - 1 };
        if first >= last {
            return;
        }
        let Some(end) = self.records.get(last).map(|record| record.end) else { return };
        // Retransmitted or not no longer matters once delivered, unless the peer reneges; then the times are stale too.
        if let Some(record) = self.records.get_mut(first) {
            record.end = end;
        }
        self.records.drain(first + 1..=last);
    }
}

impl Delivered {
    /// When what this ACK measures was sent.
    ///
    /// Karn's rule, and more: an ACK that covers a retransmission may also cover what had long arrived behind the hole, so
    /// nothing of its cumulative part is a measurement (RFC 6298 section 3).
    pub(super) fn rtt_from(&self) -> Option<Instant> {
        self.acked_from.filter(|_| !self.is_ambiguous).or(self.sacked_from)
    }

    fn note_acked(&mut self, record: &Record) {
        self.note(record);
        if record.is_retransmission {
            self.is_ambiguous = true;
        } else {
            self.acked_from = self.acked_from.max(Some(record.sent_at));
        }
    }

    fn note_sacked(&mut self, record: &Record) {
        self.note(record);
        if !record.is_retransmission {
            self.sacked_from = self.sacked_from.max(Some(record.sent_at));
        }
    }

    /// Adds a record, or a part of one, that was outstanding or lost and is now delivered.
    fn note(&mut self, record: &Record) {
        self.delivered += record.len();
        if self.newest.is_none_or(|(at, end, _)| is_sent_after((record.sent_at, record.end), (at, end))) {
            self.newest = Some((record.sent_at, record.end, record.is_retransmission));
            self.newest_snapshot = record.snapshot;
        }
        if record.is_retransmission {
            self.retransmission = true;
            return;
        }
        self.original = true;
        self.lowest_original_end =
            Some(self.lowest_original_end.map_or(record.end, |end| end.min(record.end)));
    }
}

/// RFC 8985 section 6.2 step 2, `RACK_sent_after`: later, or at the same time and of higher sequence.
pub(super) fn is_sent_after(one: (Instant, SeqNum), other: (Instant, SeqNum)) -> bool {
    one.0 > other.0 || one.0 == other.0 && one.1.gt(other.1)
}

/// Beyond this many records, SACK blocks that would split one are ignored (the data is then acknowledged cumulatively or
/// retransmitted): a bound on the work that a hostile peer can cause.
const MAX_RECORDS: usize = 16_384;

#[cfg(test)]
#[path = "scoreboard_tests.rs"]
mod tests;
