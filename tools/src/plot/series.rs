//! The points of a flow's plots.

use crate::analysis::Note;
use crate::examine::Examined;
use crate::reassembly::Direction;

/// What one direction's data and the other's acknowledgements look like over time: seconds from the capture's start,
/// and bytes from the first sequence number.
#[derive(Debug)]
pub(crate) struct Series {
    direction: Direction,
    pub(crate) segments: Vec<Span>,
    pub(crate) sacks: Vec<Span>,
    /// Acknowledged up to.
    pub(crate) acks: Vec<(f64, f64)>,
    /// The right edge of the window.
    pub(crate) edges: Vec<(f64, f64)>,
    /// In milliseconds.
    pub(crate) rtts: Vec<(f64, f64)>,
    pub(crate) windows: Vec<(f64, f64)>,
    pub(crate) in_flight: Vec<(f64, f64)>,
    /// The sequence number that counts as zero, and the highest offset so far.
    origin: Option<u32>,
    highest: i64,
}

/// A range of bytes at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) at: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) kind: SpanKind,
}

/// How a span is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    New,
    Retransmitted,
    OutOfOrder,
    Sack,
}

impl Series {
    pub(crate) fn new(direction: Direction) -> Self {
        Self {
            direction,
            segments: Vec::new(),
            sacks: Vec::new(),
            acks: Vec::new(),
            edges: Vec::new(),
            rtts: Vec::new(),
            windows: Vec::new(),
            in_flight: Vec::new(),
            origin: None,
            highest: 0,
        }
    }

    /// Takes a packet of the flow.
    pub(crate) fn add(&mut self, packet: &Examined) {
        let Some(segment) = packet.dissection.as_ref().and_then(|d| d.tcp()) else { return };
        let at = packet.since_start.as_secs_f64();
        let judgement = &packet.judgement;
        if packet.is_from_client == (self.direction == Direction::FromClient) {
            let from = self.offset(segment.seq);
            let len = i64::from(segment.sequence_len());
            if len > 0 && !segment.is_rst {
                let kind = match judgement.notes.as_slice() {
                    notes if notes.iter().any(|note| note.is_retransmission()) => SpanKind::Retransmitted,
                    notes if notes.contains(&Note::OutOfOrder) => SpanKind::OutOfOrder,
                    _ => SpanKind::New,
                };
                self.highest = self.highest.max(from + len);
                self.segments.push(Span { at, from: float(from), to: float(from + len), kind });
            }
            self.in_flight.extend(judgement.in_flight.map(|bytes| (at, f64::from(bytes))));
            return;
        }
        let Some(ack) = segment.ack.filter(|_| !segment.is_rst) else { return };
        let ack = self.offset(ack);
        self.acks.push((at, float(ack)));
        if let Some(window) = judgement.window {
            self.windows.push((at, f64::from(window)));
            self.edges.push((at, float(ack) + f64::from(window)));
        }
        for (left, right) in &segment.options.sack {
            let (from, to) = (float(self.offset(*left)), float(self.offset(*right)));
            self.sacks.push(Span { at, from, to, kind: SpanKind::Sack });
        }
        self.rtts.extend(judgement.rtt.map(|rtt| (at, rtt.as_secs_f64() * 1000.0)));
    }

    /// Bytes from the origin: the number nearest to the highest so far that is equal modulo 2^32.
    fn offset(&mut self, seq: u32) -> i64 {
        let origin = *self.origin.get_or_insert(seq);
        // The lower half of the highest offset is what sequence numbers show.
        let highest = self.highest as u32;
        let distance = seq.wrapping_sub(origin).wrapping_sub(highest).cast_signed();
        self.highest + i64::from(distance)
    }

    /// Bytes a second in each of `count` equal parts of the time: all, and without copies.
    pub(crate) fn throughput(&self, count: u32) -> [Vec<(f64, f64)>; 2] {
        let (first, last) = match (self.segments.first(), self.segments.last()) {
            (Some(first), Some(last)) if last.at > first.at => (first.at, last.at),
            _ => return [Vec::new(), Vec::new()],
        };
        let width = (last - first) / f64::from(count);
        let mut parts = vec![[0.0; 2]; usize::try_from(count).unwrap_or(1)];
        for span in &self.segments {
            // Not negative, and the last moment belongs to the last part.
            let index = ((span.at - first) / width) as usize;
            let index = index.min(parts.len() - 1);
            if let Some([all, new]) = parts.get_mut(index) {
                *all += span.to - span.from;
                if span.kind != SpanKind::Retransmitted {
                    *new += span.to - span.from;
                }
            }
        }
        let points = |which: usize| {
            let rates = (0_u32..).zip(&parts).map(|(index, part)| {
                let rate = part.get(which).copied().unwrap_or(0.0) / width;
                (first + (f64::from(index) + 0.5) * width, rate)
            });
            rates.collect()
        };
        [points(0), points(1)]
    }

    /// The last moment of any point.
    pub(crate) fn end(&self) -> f64 {
        let ends = [self.segments.last().map(|s| s.at), self.acks.last().map(|a| a.0)];
        ends.into_iter().flatten().fold(0.0, f64::max)
    }
}

/// Exact up to 2^53.
fn float(offset: i64) -> f64 {
    offset as f64
}
