//! What goes into and comes out of a machine: segments with their payload as shared byte ranges.

use crate::packet::{Body, Head, INLINE_PAYLOAD};
use bytes::{Buf, Bytes};
use core::num::NonZeroU16;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpOptions, TcpRepr, Timestamps};
use std::sync::Arc;

/// A received segment, or several consecutive ones merged by GRO.
#[derive(Clone, Debug)]
pub struct SegmentIn {
    /// The header. For merged segments: sequence number of the first; acknowledgment, window, flags and timestamps of
    /// the last (the rules of GRO make the rest equal).
    pub repr: TcpRepr,
    /// The payload.
    pub payload: Payload,
    /// The ECN codepoint of the IP header (the worst of merged ones).
    pub ecn: Ecn,
    /// How many wire segments were merged; 1 without GRO.
    pub merged: u16,
    /// The memory that holding `payload` pins, at least its length; it is what the receive buffer is charged. A
    /// payload far smaller than its backing block is copied out by the machine.
    pub true_size: u32,
    /// The headers of a SYN as they came, for listeners that keep them (`TCP_SAVE_SYN`), and those of any segment with
    /// options of IPv4.
    pub headers: Option<Arc<SynHeaders>>,
}

/// The headers of a SYN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SynHeaders {
    /// From the link layer's header, if there is one, to the end of the TCP header.
    pub bytes: Vec<u8>,
    /// Where the IP header begins.
    pub network_offset: usize,
}

impl SegmentIn {
    /// Makes a plain segment: one wire segment, not ECN-capable, charged its length.
    #[must_use]
    pub fn new(repr: TcpRepr, payload: Payload) -> Self {
        let true_size = payload.len_u32();
        Self { repr, payload, ecn: Ecn::NotCapable, merged: 1, true_size, headers: None }
    }

    /// Returns the length in sequence space: payload, SYN and FIN.
    #[must_use]
    pub fn sequence_len(&self) -> u32 {
        let flags = self.repr.flags;
        self.payload.len_u32()
            + u32::from(flags.contains(TcpFlags::SYN))
            + u32::from(flags.contains(TcpFlags::FIN))
    }

    /// What the flags of a SYN ask for. RFC 3168 section 6.1.1: a SYN is not ECN-capable itself; where it arrives as such,
    /// somebody on the way writes that field (Linux's `tcp_ecn_create_request`).
    pub(super) fn syn_flags(&self) -> TcpFlags {
        match self.ecn {
            Ecn::NotCapable => self.repr.flags,
            _ => self.repr.flags - (TcpFlags::ECE | TcpFlags::CWR),
        }
    }

    /// The segment as a plain one, if it is one without payload.
    #[must_use]
    pub fn as_bare(&self) -> Option<PlainSegment<'static>> {
        let Self { repr, payload, ecn, merged, true_size: _, headers: _ } = self;
        let special = TcpFlags::all().difference(TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN);
        let is_plain = repr.flags.contains(TcpFlags::ACK)
            && !repr.flags.intersects(special)
            && payload.is_empty()
            && *ecn == Ecn::NotCapable
            && *merged == 1
            && repr.options.is_usual();
        is_plain.then_some(PlainSegment {
            seq: repr.seq,
            ack: repr.ack,
            window: repr.window,
            is_pushed: repr.flags.contains(TcpFlags::PSH),
            has_fin: repr.flags.contains(TcpFlags::FIN),
            timestamps: repr.options.timestamps,
            payload: &[],
        })
    }

    /// Returns the sequence number after the segment.
    #[must_use]
    pub fn end(&self) -> SeqNum {
        self.repr.seq + self.sequence_len()
    }
}

/// A received segment with nothing special about it: ACK and perhaps PSH or FIN, no options but timestamps, not marked by
/// ECN, and a few bytes or none. Most segments of most connections are like this.
#[derive(Clone, Copy, Debug)]
pub struct PlainSegment<'a> {
    /// The sequence number of the first byte.
    pub seq: SeqNum,
    /// The acknowledgment number.
    pub ack: SeqNum,
    /// The window field, unscaled.
    pub window: u16,
    /// PSH is set.
    pub is_pushed: bool,
    /// FIN is set.
    pub has_fin: bool,
    /// The timestamps option.
    pub timestamps: Option<Timestamps>,
    /// At most [`PlainSegment::MAX_PAYLOAD`] bytes, still in the frame.
    pub payload: &'a [u8],
}

impl PlainSegment<'_> {
    /// Payloads up to this length are always copied into the receive queue.
    pub const MAX_PAYLOAD: usize = 127;
}

/// A segment to send; with `gso_size` a super-segment for the link (or software GSO) to cut.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The header, of the first segment for a super-segment (PSH and FIN belong on the last one, CWR on the first).
    pub repr: TcpRepr,
    /// Ranges of the send queue, not copies.
    pub payload: Payload,
    /// The payload length of each wire segment, when there is more than one.
    pub gso_size: Option<NonZeroU16>,
    /// The ECN codepoint that the IP header shall carry.
    pub ecn: Ecn,
}

/// A segment to send with nothing special about it: no options but timestamps, and some bytes that whoever sends it has
/// already, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainTransmit {
    /// The sequence number of the first byte.
    pub seq: SeqNum,
    /// The acknowledgment number.
    pub ack: SeqNum,
    /// The control bits; ACK is one of them, SYN and URG are not.
    pub flags: TcpFlags,
    /// The window field, scaled.
    pub window: u16,
    /// The timestamps option.
    pub timestamps: Option<Timestamps>,
    /// The ECN codepoint that the IP header shall carry.
    pub ecn: Ecn,
}

impl PlainTransmit {
    /// The same as any other segment, without payload, between two ports.
    #[must_use]
    pub fn into_transmit(self, src_port: u16, dst_port: u16) -> Transmit {
        let Self { seq, ack, flags, window, timestamps, ecn } = self;
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        let repr = TcpRepr { src_port, dst_port, seq, ack, flags, window, urgent: 0, options };
        Transmit { repr, payload: Payload::new(), gso_size: None, ecn }
    }
}

/// The ECN field of the IP header (RFC 3168 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// Not-ECT.
    #[default]
    NotCapable,
    /// ECT(0).
    Capable0,
    /// ECT(1).
    Capable1,
    /// CE: congestion experienced.
    CongestionExperienced,
}

/// Payload bytes as a few shared ranges, or as a copy if they are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// A copy, where headers can be put in front of it. There are no ranges then.
    small: Head,
    ranges: Body,
    len: usize,
}

impl Payload {
    /// No bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of at most [`Self::SMALL`] bytes.
    ///
    /// # Panics
    /// If there are more.
    #[must_use]
    #[inline]
    pub(crate) fn small(bytes: &[u8]) -> Self {
        Self { small: Head::of_payload(bytes), ranges: Body::new(), len: bytes.len() }
    }

    /// The most bytes that are worth a copy rather than a reference.
    pub(crate) const SMALL: usize = INLINE_PAYLOAD;

    /// Appends a range; an empty one is left out.
    #[inline]
    pub fn push(&mut self, range: Bytes) {
        if !range.is_empty() {
            self.share_small();
            self.len += range.len();
            if self.ranges.len() == self.ranges.inline_size() && !self.ranges.spilled() {
                // Where two ranges come, more do: a run of segments, or of small writes.
                self.ranges.reserve(RANGES_AT_ONCE);
            }
            self.ranges.push(range);
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The length in bytes; a payload comes from an IP packet or a super-segment, both below 2^32 (saturating).
    #[must_use]
    pub fn len_u32(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in order, in pieces none of which is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let small = Some(self.small.as_slice()).filter(|small| !small.is_empty());
        small.into_iter().chain(self.ranges.iter().map(AsRef::as_ref))
    }

    /// A copy in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        self.slices().flatten().copied().collect()
    }

    /// Consumes the payload into its ranges.
    #[inline]
    pub fn into_ranges(mut self) -> Body {
        self.share_small();
        self.ranges
    }

    /// Consumes the payload into the part that headers can be put in front of, and the ranges behind it.
    #[inline]
    pub(crate) fn into_parts(self) -> (Head, Body) {
        (self.small, self.ranges)
    }

    /// Makes the copy a range like others.
    #[inline]
    fn share_small(&mut self) {
        if !self.small.is_empty() {
            let shared = Bytes::copy_from_slice(self.small.as_slice());
            self.small = Head::default();
            self.ranges.push(shared);
        }
    }

    /// Drops the first `count` bytes (all of them if there are fewer).
    pub fn advance(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        self.small.pull(left);
        let mut whole = 0;
        for range in &mut self.ranges {
            if range.len() > left {
                range.advance(left);
                break;
            }
            left -= range.len();
            whole += 1;
        }
        self.ranges.drain(..whole);
    }

    /// Keeps the first `count` bytes (all of them if there are fewer).
    pub fn truncate(&mut self, count: usize) {
        if count >= self.len {
            return;
        }
        self.share_small();
        self.len = count;
        let mut left = count;
        let mut kept = 0;
        for range in &mut self.ranges {
            if left == 0 {
                break;
            }
            range.truncate(left);
            left -= range.len();
            kept += 1;
        }
        self.ranges.truncate(kept);
    }

    /// Copies the bytes into one vector (tests, small control data).
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.slices().for_each(|slice| bytes.extend_from_slice(slice));
        bytes
    }
}

impl From<Body> for Payload {
    fn from(ranges: Body) -> Self {
        let mut payload = Self { small: Head::default(), len: ranges.iter().map(Bytes::len).sum(), ranges };
        if payload.ranges.iter().any(Bytes::is_empty) {
            payload.ranges.retain(|range| !range.is_empty());
        }
        payload
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let mut payload = Self::new();
        payload.push(bytes);
        payload
    }
}

/// Room for ranges made when the first one gets company.
const RANGES_AT_ONCE: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Payload {
        let mut payload = Payload::from(Bytes::from_static(b"abc"));
        payload.push(Bytes::new());
        payload.push(Bytes::from_static(b"defg"));
        payload
    }

    #[test]
    fn every_cut_leaves_the_right_bytes() {
        for make in [sample, || Payload::small(b"abcdefg")] {
            for start in 0..=8 {
                for end in start..=8 {
                    let mut payload = make();
                    payload.truncate(end);
                    payload.advance(start);
                    let whole = b"abcdefg";
                    assert_eq!(payload.to_vec(), &whole[start.min(7)..end.min(7)], "{start}..{end}");
                    assert_eq!(payload.len(), payload.to_vec().len());
                    assert!(payload.slices().all(|slice| !slice.is_empty()));
                }
            }
        }
    }

    #[test]
    fn small_copy_takes_ranges_behind_it() {
        let mut payload = Payload::small(b"abc");
        payload.advance(1);
        payload.push(Bytes::from_static(b"de"));
        assert_eq!((payload.to_vec(), payload.len()), (b"bcde".to_vec(), 4));
        assert_eq!(payload.into_ranges().concat(), b"bcde");
    }
}
