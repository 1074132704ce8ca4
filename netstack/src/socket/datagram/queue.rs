//! The receive queue of a datagram socket, and how datagrams in a row become one (`UDP_GRO`).

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::ip::{IpExtra, IpMeta};
use crate::nic::NicId;
use crate::packet::{self, Body};
use crate::socket::datagram::body_len;
use crate::time::Instant;

/// A received datagram.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) data: Body,
    /// The length of the data.
    pub(crate) len: usize,
    pub(crate) source: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) destination: IpAddr,
    pub(crate) destination_port: u16,
    pub(crate) nic: NicId,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) flow_label: u32,
    pub(crate) arrival: Instant,
    /// The size of the datagrams that this one was made of, not zero; the last of them may be shorter.
    pub(crate) segment_size: Option<u16>,
    /// The options of its IPv4 header, or its extension headers.
    pub(crate) extra: Option<Box<IpExtra>>,
    /// How many the socket had dropped when it was queued.
    pub(crate) dropped_before: u32,
    /// The firewall mark.
    pub(crate) mark: u32,
    /// The priority.
    pub(crate) priority: u32,
    /// Somebody has seen it, and left it.
    pub(crate) is_peeked: bool,
}

/// What became of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    Yes,
    /// The receive buffer is full.
    Full,
}

/// The datagrams that wait to be received.
#[derive(Debug, Default)]
pub(super) struct ReceiveQueue {
    queue: VecDeque<Queued>,
    charged: usize,
}

impl Queued {
    /// What came in a packet, from a port to a port.
    pub(crate) fn new(ip: &IpMeta, source_port: u16, destination_port: u16, data: Body) -> Self {
        Self {
            len: body_len(&data),
            data,
            source: ip.source,
            source_port,
            destination: ip.destination,
            destination_port,
            nic: ip.nic,
            ttl: ip.ttl,
            tos: ip.tos,
            flow_label: ip.flow_label,
            arrival: ip.arrival,
            segment_size: None,
            extra: None,
            dropped_before: 0,
            mark: 0,
            priority: 0,
            is_peeked: false,
        }
    }

    /// The datagram with the mark and the priority of its packet.
    pub(crate) fn with_tags(self, (mark, priority): (u32, u32)) -> Self {
        Self { mark, priority, ..self }
    }

    /// The datagram with the options of its IPv4 header, or its extension headers.
    pub(crate) fn with_options(self, extra: Option<Box<IpExtra>>) -> Self {
        Self { extra, ..self }
    }

    /// The datagrams that it was made of.
    pub(super) fn parts(self, size: u16) -> impl Iterator<Item = Self> {
        let whole = Self { data: Body::new(), segment_size: None, ..self };
        let parts = packet::cut(self.data, usize::from(size)).into_iter();
        parts.map(move |data| Self { len: body_len(&data), data, ..whole.clone() })
    }

    /// How many datagrams it was made of.
    fn count(&self) -> usize {
        self.segment_size.map_or(1, |size| self.len.div_ceil(usize::from(size)))
    }

    /// Takes the next datagram in, or gives it back. The rules are those of Linux (`udp_gro_receive_segment`): as long
    /// as the first, or shorter and then the last; alike in what the IP header says.
    #[expect(clippy::result_large_err, reason = "it goes into the queue next, where it is moved anyway")]
    fn merge(&mut self, next: Self) -> Result<(), Self> {
        let size = self.segment_size.map_or(self.len, usize::from);
        let joins = next.segment_size.is_none()
            && (1..=size).contains(&next.len)
            && self.len.is_multiple_of(size)
            && self.len + next.len <= MAX_LEN
            && self.count() < MAX_COUNT
            && (self.ttl, self.tos, self.flow_label) == (next.ttl, next.tos, next.flow_label)
            && self.extra.is_none()
            && next.extra.is_none();
        match u16::try_from(size) {
            Ok(size) if joins => {
                self.segment_size = Some(size);
                self.len += next.len;
                self.data.extend(next.data);
                Ok(())
            }
            _ => Err(next),
        }
    }

    /// What it costs: its data, and about what Linux charges for the bookkeeping of each of its parts.
    fn true_size(&self) -> usize {
        self.len + self.count() * QUEUE_OVERHEAD
    }
}

impl ReceiveQueue {
    /// The cost of all that waits.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.queue.front()
    }

    /// The datagram behind `skip` bytes, and how many of these are in it. Without data it is passed over once somebody has
    /// seen it (Linux's `__skb_try_recv_from_queue`).
    pub(super) fn look(&mut self, skip: Option<usize>) -> Option<(&Queued, usize)> {
        let mut left = skip.unwrap_or(0);
        let datagram = self.queue.iter_mut().find(|datagram| {
            let is_behind = skip.is_none() || left < datagram.len || (left == 0 && !datagram.is_peeked);
            left -= if is_behind { 0 } else { datagram.len };
            is_behind
        })?;
        datagram.is_peeked = true;
        Some((datagram, left))
    }

    pub(super) fn push(&mut self, datagram: Queued) {
        self.charged += datagram.true_size();
        self.queue.push_back(datagram);
    }

    /// Puts in a datagram of the same flow as the last one.
    pub(super) fn push_or_merge(&mut self, datagram: Queued) {
        let Some(last) = self.queue.back_mut() else { return self.push(datagram) };
        let before = last.true_size();
        match last.merge(datagram) {
            Ok(()) => self.charged = self.charged - before + last.true_size(),
            Err(datagram) => self.push(datagram),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let datagram = self.queue.pop_front()?;
        self.charged -= datagram.true_size();
        Some(datagram)
    }

    /// Puts back what was taken out too early.
    pub(super) fn unread(&mut self, datagrams: impl DoubleEndedIterator<Item = Queued>) {
        for datagram in datagrams.rev() {
            self.charged += datagram.true_size();
            self.queue.push_front(datagram);
        }
    }
}

/// Close to the `truesize` of a small socket buffer on Linux (768 bytes with its shared info), so that a given
/// `SO_RCVBUF` holds a similar number of datagrams.
const QUEUE_OVERHEAD: usize = 512;

/// Linux's `UDP_GRO_CNT_MAX`.
const MAX_COUNT: usize = 64;
/// What fits one IPv4 packet behind its headers; Linux's `GRO_LEGACY_MAX_SIZE` is of the whole packet.
const MAX_LEN: usize = 65_535 - 28;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;

    use super::*;

    fn datagram(data: &'static [u8]) -> Queued {
        Queued {
            data: Body::from_iter([Bytes::from_static(data)]),
            len: data.len(),
            source: Ipv4Addr::LOCALHOST.into(),
            source_port: 1,
            destination: Ipv4Addr::LOCALHOST.into(),
            destination_port: 2,
            nic: NicId::from_index(1).unwrap(),
            ttl: 64,
            tos: 0,
            flow_label: 0,
            arrival: Instant::ZERO,
            segment_size: None,
            extra: None,
            dropped_before: 0,
            mark: 0,
            priority: 0,
            is_peeked: false,
        }
    }

    /// Lengths and sizes of what a receiver finds after these datagrams.
    #[track_caller]
    fn coalesced(datagrams: impl IntoIterator<Item = Queued>) -> Vec<(usize, Option<u16>)> {
        let mut queue = ReceiveQueue::default();
        datagrams.into_iter().for_each(|datagram| queue.push_or_merge(datagram));
        let found = std::iter::from_fn(|| queue.pop()).map(|one| (one.len, one.segment_size)).collect();
        assert_eq!(queue.charged(), 0);
        found
    }

    #[test]
    fn run_ends_with_a_shorter_datagram() {
        let run = [b"aaaa".as_slice(), b"bbbb", b"cc", b"dd", b"eeee"];
        let found = coalesced(run.map(datagram));
        assert_eq!(found, [(10, Some(4)), (2, None), (4, None)]);
    }

    #[test]
    fn datagrams_that_differ_stay_apart() {
        let other_tos = Queued { tos: 1, ..datagram(b"bbbb") };
        let other_ttl = Queued { ttl: 1, ..datagram(b"cccc") };
        let found = coalesced([datagram(b"aaaa"), other_tos, other_ttl, datagram(b""), datagram(b"")]);
        assert_eq!(found, [(4, None), (4, None), (4, None), (0, None), (0, None)]);
    }

    #[test]
    fn run_is_bounded_by_count_and_length() {
        let found = coalesced((0..65).map(|_| datagram(b"a")));
        assert_eq!(found, [(64, Some(1)), (1, None)]);
        static LONG: [u8; 40_000] = [0; 40_000];
        let found = coalesced([datagram(&LONG), datagram(&LONG)]);
        assert_eq!(found, [(40_000, None), (40_000, None)]);
    }

    #[test]
    fn super_datagram_falls_into_its_parts() {
        let whole = Queued { segment_size: Some(4), ..datagram(b"aaaabbbbcc") };
        let parts: Vec<_> = whole.parts(4).collect();
        let bytes: Vec<_> = parts.iter().map(|part| part.data.concat()).collect();
        assert_eq!(bytes, [b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()]);
        assert!(parts.iter().all(|part| part.segment_size.is_none() && part.len == body_len(&part.data)));
    }

    #[test]
    fn peeking_passes_over_what_was_seen() {
        let mut queue = ReceiveQueue::default();
        for data in [b"aaaa".as_slice(), b"", b"bb"] {
            queue.push(datagram(data));
        }
        let mut look = |skip| queue.look(skip).map(|(found, left)| (found.len, left));
        assert_eq!(look(Some(3)), Some((4, 3)));
        assert_eq!(look(Some(4)), Some((0, 0)));
        assert_eq!(look(Some(4)), Some((2, 0)), "the empty one was seen");
        assert_eq!(look(Some(5)), Some((2, 1)));
        assert_eq!(look(Some(6)), None);
        assert_eq!(look(None), Some((4, 0)));
    }

    #[test]
    fn what_is_put_back_comes_first_again() {
        let mut queue = ReceiveQueue::default();
        for data in [b"a".as_slice(), b"b", b"c"] {
            queue.push(datagram(data));
        }
        let taken: Vec<_> = [queue.pop(), queue.pop()].into_iter().flatten().collect();
        queue.unread(taken.into_iter());
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|one| one.data[0].clone()).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(queue.charged(), 0);
    }
}
