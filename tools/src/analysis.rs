//! What happened on each TCP connection, judged from the capture alone.

use std::collections::HashMap;
use std::time::Duration;

use netstack_wire::seq::SeqNum;
use serde::Serialize;

use crate::dissect::Segment;
use crate::flow::Endpoints;

/// Something worth knowing about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Note {
    /// All of its data was captured before.
    Retransmission,
    /// Part of its data was captured before.
    PartialRetransmission,
    /// It fills a hole behind data captured before: reordered, or retransmitted after a loss before the capture point.
    FillsGap,
    /// Data before it was not captured (yet).
    Gap,
    /// A repeated acknowledgement without data while data is outstanding (RFC 5681, 2).
    DuplicateAck,
    /// The receiver has no room.
    ZeroWindow,
    /// One byte, or none, into a closed window.
    WindowProbe,
    /// Below the next expected sequence number by one, without data (RFC 9293, 3.8.4).
    KeepAlive,
    /// It acknowledges data that was not captured.
    AckOfUnseenData,
    /// The connection was reset.
    Reset,
}

/// All connections of a capture.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// In the order of their first segment.
    pub(crate) connections: Vec<Connection>,
    by_endpoints: HashMap<Endpoints, usize>,
}

/// One TCP connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) number: usize,
    /// From the side that sent the first segment (the SYN, if it was captured).
    pub(crate) endpoints: Endpoints,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    pub(crate) is_reset: bool,
    pub(crate) from_client: Half,
    pub(crate) from_server: Half,
}

/// One direction of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Half {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) retransmitted_segments: u64,
    pub(crate) retransmitted_bytes: u64,
    pub(crate) duplicate_acks: u64,
    pub(crate) zero_windows: u64,
    pub(crate) is_finished: bool,
    /// Round-trip times from data to its acknowledgement, as seen from the capture point.
    pub(crate) rtt: Rtt,
    initial: Option<SeqNum>,
    /// One past the highest sequence number seen.
    next: Option<SeqNum>,
    /// Sequence ranges below `next` that were never seen.
    holes: Vec<(SeqNum, SeqNum)>,
    last_ack: Option<SeqNum>,
    last_window: Option<u16>,
    shift: u8,
    syn_had_scale: bool,
    /// End of a segment that is being timed, and when it was sent.
    timed: Option<(SeqNum, Duration)>,
}

/// Minimum, mean and maximum of round-trip times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rtt {
    pub(crate) samples: u32,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    total: Duration,
}

impl Rtt {
    fn add(&mut self, sample: Duration) {
        self.min = if self.samples == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.total += sample;
        self.samples += 1;
    }

    /// `None` without samples.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.total.checked_div(self.samples)
    }
}

impl Analysis {
    /// Takes the next segment; returns the number of its connection and what is to be said.
    pub(crate) fn on_segment(&mut self, time: Duration, segment: &Segment) -> (usize, Vec<Note>) {
        let known = self.by_endpoints.get(&segment.endpoints).or_else(|| {
            let reversed = segment.endpoints.reversed();
            self.by_endpoints.get(&reversed)
        });
        let is_new_syn = |c: &Connection| {
            // A SYN with another number on a finished connection reuses its ports.
            let done = c.is_reset || (c.from_client.is_finished && c.from_server.is_finished);
            segment.is_syn && segment.ack.is_none() && done
        };
        let number = match known.and_then(|&n| self.connections.get(n)) {
            Some(connection) if !is_new_syn(connection) => connection.number,
            _ => self.add(time, segment),
        };
        let Some(connection) = self.connections.get_mut(number) else { return (number, Vec::new()) };
        let notes = connection.on_segment(time, segment);
        (number, notes)
    }

    fn add(&mut self, time: Duration, segment: &Segment) -> usize {
        let number = self.connections.len();
        // A SYN-ACK comes from the server.
        let is_reply = segment.is_syn && segment.ack.is_some();
        let endpoints = if is_reply { segment.endpoints.reversed() } else { segment.endpoints };
        self.by_endpoints.remove(&endpoints.reversed());
        self.by_endpoints.insert(endpoints, number);
        self.connections.push(Connection {
            number,
            endpoints,
            first: time,
            last: time,
            is_reset: false,
            from_client: Half::default(),
            from_server: Half::default(),
        });
        number
    }
}

impl Connection {
    fn on_segment(&mut self, time: Duration, segment: &Segment) -> Vec<Note> {
        self.last = time;
        let (sender, receiver) = if segment.endpoints == self.endpoints {
            (&mut self.from_client, &mut self.from_server)
        } else {
            (&mut self.from_server, &mut self.from_client)
        };
        let mut notes = Vec::new();
        if segment.is_rst {
            self.is_reset = true;
            notes.push(Note::Reset);
        }
        sender.on_sent(time, segment, receiver.last_window == Some(0), &mut notes);
        sender.on_ack_sent(segment, receiver, &mut notes);
        if let Some(ack) = segment.ack {
            receiver.on_acked(time, SeqNum(ack), &mut notes);
        }
        notes
    }
}

impl Half {
    /// The window that the last segment offered, in bytes.
    pub(crate) fn window(&self) -> Option<u64> {
        self.last_window.map(|w| u64::from(w) << self.shift)
    }

    /// The first sequence number seen.
    pub(crate) fn initial(&self) -> Option<u32> {
        self.initial.map(|s| s.0)
    }

    fn on_sent(
        &mut self,
        time: Duration,
        segment: &Segment,
        into_closed_window: bool,
        notes: &mut Vec<Note>,
    ) {
        self.segments += 1;
        let seq = SeqNum(segment.seq);
        let len = segment.sequence_len();
        if segment.is_syn {
            self.syn_had_scale = segment.options.window_scale.is_some();
            self.shift = segment.options.window_scale.unwrap_or(0);
        }
        self.initial.get_or_insert(seq);
        let next = *self.next.get_or_insert(seq);
        let end = SeqNum(segment.seq.wrapping_add(len));
        let ahead = seq.distance_from(next);
        if len == 0 {
            if ahead == -1 && segment.ack.is_some() && !segment.is_rst {
                notes.push(Note::KeepAlive);
            }
            return;
        }
        if into_closed_window && segment.payload_len <= 1 {
            notes.push(Note::WindowProbe);
        }
        let new = end.distance_from(next);
        if new <= 0 && self.fill_hole(seq, end) {
            self.bytes += u64::from(segment.payload_len);
            notes.push(Note::FillsGap);
            return;
        }
        if new <= 0 {
            self.retransmitted_segments += 1;
            self.retransmitted_bytes += u64::from(segment.payload_len);
            notes.push(Note::Retransmission);
            // An acknowledgement could be of either copy (Karn's algorithm).
            self.timed = None;
            return;
        }
        match ahead {
            0 => {}
            1.. => {
                // More holes than that and the capture is too lossy to say anything.
                if self.holes.len() < 1024 {
                    self.holes.push((next, seq));
                }
                notes.push(Note::Gap);
            }
            _ => {
                self.retransmitted_segments += 1;
                self.retransmitted_bytes += u64::from(ahead.unsigned_abs());
                notes.push(Note::PartialRetransmission);
            }
        }
        self.bytes += u64::from(segment.payload_len.min(new.unsigned_abs()));
        self.is_finished |= segment.is_fin;
        self.next = Some(end);
        if self.timed.is_none() {
            self.timed = Some((end, time));
        }
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

    /// Notes about the acknowledgement and window that a segment carries to `receiver`, the sender of the data.
    fn on_ack_sent(&mut self, segment: &Segment, receiver: &Self, notes: &mut Vec<Note>) {
        if segment.is_syn || segment.is_rst {
            self.last_window = Some(segment.window);
            self.last_ack = segment.ack.map(SeqNum);
            return;
        }
        let Some(ack) = segment.ack.map(SeqNum) else { return };
        let is_same = self.last_ack == Some(ack) && self.last_window == Some(segment.window);
        let is_outstanding = receiver.next.is_some_and(|next| next.distance_from(ack) > 0);
        if is_same && is_outstanding && segment.sequence_len() == 0 {
            self.duplicate_acks += 1;
            notes.push(Note::DuplicateAck);
        }
        if segment.window == 0 {
            self.zero_windows += 1;
            notes.push(Note::ZeroWindow);
        }
        self.last_ack = Some(ack);
        self.last_window = Some(segment.window);
    }

    /// The other side acknowledged this side's data up to `ack`.
    fn on_acked(&mut self, time: Duration, ack: SeqNum, notes: &mut Vec<Note>) {
        match self.next {
            Some(next) if ack.distance_from(next) > 0 => {
                notes.push(Note::AckOfUnseenData);
                self.next = Some(ack);
            }
            _ => {}
        }
        if let Some((end, sent)) = self.timed
            && ack.distance_from(end) >= 0
        {
            self.rtt.add(time.saturating_sub(sent));
            self.timed = None;
        }
    }
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;
