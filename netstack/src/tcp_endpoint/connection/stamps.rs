//! Times of a stream's bytes (`SO_TIMESTAMPING`): when they arrived, and when those that the user asks about were sent and
//! acknowledged. A byte stands for the write or segment that it ends (Linux's `tcp_tx_timestamp`, `tcp_update_recv_tstamps`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::seq::SeqNum;

use super::{Inner, TcpEndpoint};
use crate::options::{SentStamp, StampKind, StampOrigin, StampRequest};
use crate::stack::Core;
use crate::tcp::{Events, Transmit};
use crate::time::Instant;

/// The times of one connection.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Whether arrivals are remembered.
    notes_arrivals: bool,
    /// Where a segment that is not all read ended, and when it came; in order.
    arrivals: VecDeque<(SeqNum, Instant)>,
    /// What the user wants to know, until it is acknowledged.
    wanted: VecDeque<Wanted>,
    /// What the user has not taken.
    sent: VecDeque<SentStamp>,
    /// The byte with the number zero.
    origin: Option<SeqNum>,
}

/// A write whose times the user wants.
#[derive(Debug)]
struct Wanted {
    /// Its last byte.
    key: SeqNum,
    request: StampRequest,
    /// What went with that byte, if it is to be shown when it is acknowledged.
    payload: Bytes,
}

/// The part of the stream that a segment carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: SeqNum,
    pub(super) len: u32,
}

impl Stamps {
    /// Whether there is nothing to do and to tell.
    pub(super) fn is_empty(&self) -> bool {
        !self.notes_arrivals && self.wanted.is_empty() && self.sent.is_empty() && self.origin.is_none()
    }

    /// Whether the user can take something.
    pub(super) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Remembers a segment. One that repeats what came before does not count.
    fn note_arrival(&mut self, Span { start, len }: Span, now: Instant) {
        let end = start + len;
        if len == 0 || !self.notes_arrivals {
            return;
        }
        let at = self.arrivals.partition_point(|(other, _)| other.lt(end));
        if self.arrivals.get(at).is_some_and(|(other, _)| *other == end) {
            return;
        }
        self.arrivals.insert(at, (end, now));
        if self.arrivals.len() > MAX_ARRIVALS {
            // The oldest two count as one, as of joined segments.
            self.arrivals.pop_front();
        }
    }

    /// When the last byte before `position` came. What is before it is forgotten if it was read.
    fn arrival_of(&mut self, position: SeqNum, is_read: bool) -> Option<Instant> {
        let at = self.arrivals.partition_point(|(end, _)| end.lt(position));
        let found = self.arrivals.get(at).map(|(_, at)| *at);
        if is_read {
            let read = self.arrivals.partition_point(|(end, _)| end.le(position));
            self.arrivals.drain(..read);
        }
        found
    }

    fn push(&mut self, kind: StampKind, key: SeqNum, at: Instant, packet: Bytes) {
        if self.sent.len() < MAX_STAMPS {
            let id = key - self.origin.unwrap_or(key);
            self.sent.push_back(SentStamp { kind, id, at, packet });
        }
    }

    /// A segment has left; `show` gives its bytes with headers.
    fn note_sent(&mut self, span: Span, now: Instant, show: impl Fn() -> Shown) -> bool {
        let is_in = |wanted: &Wanted| wanted.key.is_within(span.start, span.len);
        let mut stamps = Vec::new();
        for wanted in self.wanted.iter_mut().filter(|wanted| is_in(wanted)) {
            let StampRequest { scheduled, sent, acknowledged, with_packet, id: _ } = wanted.request;
            let shown = if with_packet { show() } else { Shown::default() };
            if acknowledged {
                wanted.payload = shown.payload;
            }
            for (_, kind) in [(scheduled, StampKind::Scheduled), (sent, StampKind::Sent)]
                .iter()
                .filter(|(is_wanted, _)| *is_wanted)
            {
                stamps.push((*kind, wanted.key, shown.packet.clone()));
            }
        }
        let has_some = !stamps.is_empty();
        stamps.into_iter().for_each(|(kind, key, packet)| self.push(kind, key, now, packet));
        has_some
    }

    /// Everything before `una` is acknowledged.
    fn note_acked(&mut self, una: SeqNum, now: Instant) -> bool {
        let mut has_some = false;
        while self.wanted.front().is_some_and(|wanted| wanted.key.lt(una))
            && let Some(wanted) = self.wanted.pop_front()
        {
            if wanted.request.acknowledged {
                has_some = true;
                self.push(StampKind::Acknowledged, wanted.key, now, wanted.payload);
            }
        }
        has_some
    }
}

/// A segment for the user.
#[derive(Debug, Default)]
pub(in super::super) struct Shown {
    /// With headers.
    pub(in super::super) packet: Bytes,
    pub(in super::super) payload: Bytes,
}

impl TcpEndpoint {
    /// Begins or ends to remember when segments come.
    pub(super) fn note_arrivals(&self, on: bool) {
        if on || self.has_stamps() {
            self.with_stamps(|stamps| {
                stamps.notes_arrivals = on;
                stamps.arrivals.clear();
            });
        }
    }

    /// Says which byte of what is sent has the number zero.
    pub(crate) fn number_stamps(&self, origin: StampOrigin) {
        let marks = self.inspect(|inner| inner.machine.send_marks());
        if let Some((una, end)) = marks {
            let origin = match origin {
                StampOrigin::Unacknowledged => una,
                StampOrigin::Unwritten => end,
            };
            self.with_stamps(|stamps| stamps.origin = Some(origin));
        }
    }

    /// Asks for the times of what was written last.
    pub(crate) fn want_stamp(&self, inner: &Inner, request: StampRequest) {
        let Some((una, end)) = inner.machine.send_marks() else { return };
        let key = end - 1;
        self.with_stamps(|stamps| {
            stamps.origin.get_or_insert(una);
            // The same byte: as on Linux, the later request counts.
            stamps.wanted.retain(|wanted| wanted.key != key);
            if stamps.wanted.len() < MAX_STAMPS {
                stamps.wanted.push_back(Wanted { key, request, payload: Bytes::new() });
            }
        });
    }

    /// Takes the oldest time that was asked for.
    pub(crate) fn take_stamp(&self) -> Option<SentStamp> {
        if !self.has_stamps() {
            return None;
        }
        self.with_stamps(|stamps| stamps.sent.pop_front())
    }

    /// Whether there is a time to take.
    pub(crate) fn has_sent_stamps(&self) -> bool {
        self.has_stamps() && self.with_stamps(|stamps| stamps.has_sent())
    }

    /// When the last of the bytes came that end `ahead` bytes behind those that were read.
    pub(crate) fn arrival(&self, ahead: usize) -> Option<Instant> {
        if !self.has_stamps() {
            return None;
        }
        let position = self.inspect(|inner| inner.machine.read_position())?;
        // Less than a window.
        let ahead_len = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.with_stamps(|stamps| stamps.arrival_of(position + ahead_len, ahead == 0))
    }

    /// A segment was taken.
    #[cold]
    pub(super) fn stamp_arrival(&self, inner: &mut Inner, span: Span, now: Instant) {
        let una = inner.machine.send_marks().map(|(una, _)| una);
        let has_acked = self.with_stamps(|stamps| {
            stamps.note_arrival(span, now);
            una.is_some_and(|una| stamps.note_acked(una, now))
        });
        inner.events.set(Events::STAMPED, has_acked || inner.events.contains(Events::STAMPED));
    }

    /// A segment is about to leave.
    #[cold]
    pub(super) fn stamp_departure(
        &self,
        core: &Arc<Core>,
        transmit: &Transmit,
        show: impl Fn() -> Shown,
    ) -> Events {
        let span = Span { start: transmit.repr.seq, len: transmit.payload.len_u32() };
        let has_some = self.with_stamps(|stamps| stamps.note_sent(span, core.clock.now(), show));
        if has_some { Events::STAMPED } else { Events::empty() }
    }
}

/// As for datagrams.
const MAX_STAMPS: usize = 256;
/// More segments than a receive buffer usually holds; what exceeds it counts as having come with what follows.
const MAX_ARRIVALS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn span(start: u32, len: u32) -> Span {
        Span { start: SeqNum(start), len }
    }

    #[test]
    fn bytes_came_with_the_first_segment_that_ended_behind_them() {
        let mut stamps = Stamps { notes_arrivals: true, ..Stamps::default() };
        // Across the end of the sequence space, one out of order and one repeated.
        stamps.note_arrival(span(u32::MAX - 9, 10), at(1));
        stamps.note_arrival(span(10, 10), at(2));
        stamps.note_arrival(span(0, 10), at(3));
        stamps.note_arrival(span(0, 10), at(4));
        assert_eq!(stamps.arrival_of(SeqNum(u32::MAX - 3), false), Some(at(1)));
        assert_eq!(stamps.arrival_of(SeqNum(5), true), Some(at(3)));
        assert_eq!(stamps.arrival_of(SeqNum(10), true), Some(at(3)));
        assert_eq!(stamps.arrival_of(SeqNum(20), true), Some(at(2)));
        assert_eq!(stamps.arrival_of(SeqNum(30), true), None);
        assert!(stamps.arrivals.is_empty());
    }

    #[test]
    fn arrivals_are_bounded() {
        let mut stamps = Stamps { notes_arrivals: true, ..Stamps::default() };
        for index in 0..10_000 {
            stamps.note_arrival(span(index, 1), at(u64::from(index)));
        }
        assert_eq!(stamps.arrivals.len(), MAX_ARRIVALS);
        assert_eq!(stamps.arrival_of(SeqNum(10_000), true), Some(at(9999)));
    }

    #[test]
    fn a_write_is_told_when_its_last_byte_leaves_and_is_acknowledged() {
        let request =
            StampRequest { scheduled: true, sent: true, acknowledged: true, ..StampRequest::default() };
        let mut stamps = Stamps { origin: Some(SeqNum(100)), ..Stamps::default() };
        stamps.wanted.push_back(Wanted { key: SeqNum(109), request, payload: Bytes::new() });
        assert!(!stamps.note_sent(span(100, 9), at(1), Shown::default));
        assert!(stamps.note_sent(span(109, 1), at(2), Shown::default));
        assert!(!stamps.note_acked(SeqNum(109), at(3)));
        assert!(stamps.note_acked(SeqNum(110), at(4)));
        let told: Vec<_> = stamps.sent.iter().map(|stamp| (stamp.kind, stamp.id, stamp.at)).collect();
        let expected = [
            (StampKind::Scheduled, 9, at(2)),
            (StampKind::Sent, 9, at(2)),
            (StampKind::Acknowledged, 9, at(4)),
        ];
        assert_eq!(told, expected);
    }
}
