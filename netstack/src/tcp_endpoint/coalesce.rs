//! Receive coalescing: consecutive segments of a batch become one before a machine sees them, with the rules of Linux's
//! `tcp_gro_receive`. The payloads stay where they are; only the list of ranges grows.

use netstack_wire::tcp::TcpFlags;

use crate::nic::NicId;
use crate::tcp::{Flow, SegmentIn};

/// A segment that the next ones may join. It is kept for the rest of the batch at most.
pub(crate) struct Held {
    pub(super) flow: Flow,
    pub(super) nic: NicId,
    pub(super) segment: SegmentIn,
}

/// Tells whether more may follow a segment: plain data, not pushed, not at the limit.
#[inline]
pub(super) fn can_grow(segment: &SegmentIn) -> bool {
    let SegmentIn { repr, payload, merged, .. } = segment;
    if repr.flags != TcpFlags::ACK || payload.is_empty() {
        return false;
    }
    // A shorter one ends a run; the first one's size says what is short.
    let size = payload.len() / usize::from(*merged).max(1);
    payload.len() == size * usize::from(*merged)
        && payload.len() + size <= MAX_LEN
        && usize::from(*merged) < MAX_SEGMENTS
}

impl Held {
    /// Takes the next segment in, or gives it back.
    pub(super) fn merge(&mut self, flow: &Flow, next: SegmentIn) -> Option<SegmentIn> {
        let held = &self.segment;
        let size = held.payload.len() / usize::from(held.merged).max(1);
        let joins = self.flow == *flow
            && can_grow(held)
            && next.repr.seq == held.end()
            && next.repr.ack == held.repr.ack
            && next.repr.options == held.repr.options
            && next.ecn == held.ecn
            && next.merged == 1
            && (1..=size).contains(&next.payload.len())
            && (next.repr.flags == TcpFlags::ACK || next.repr.flags == TcpFlags::ACK | TcpFlags::PSH);
        if !joins {
            return Some(next);
        }
        let SegmentIn { repr, payload, ecn: _, merged, true_size, headers: _ } = next;
        let held = &mut self.segment;
        held.repr.flags = repr.flags;
        held.repr.window = repr.window;
        for range in payload.into_ranges() {
            held.payload.push(range);
        }
        held.merged += merged;
        held.true_size = held.true_size.saturating_add(true_size);
        None
    }
}

/// As the largest packet.
const MAX_LEN: usize = 65_535;
/// A full run of 1448-byte segments; also bounds the list of ranges.
const MAX_SEGMENTS: usize = 45;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use netstack_wire::seq::SeqNum;
    use netstack_wire::tcp::{TcpOptions, TcpRepr};
    use std::net::IpAddr;

    const FLOW: Flow = Flow {
        local_addr: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        remote_addr: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        local_port: 1,
        remote_port: 2,
        zone: 0,
    };

    fn segment(seq: u32, data: &'static [u8]) -> SegmentIn {
        let repr = TcpRepr {
            src_port: 2,
            dst_port: 1,
            seq: SeqNum(seq),
            ack: SeqNum(1),
            flags: TcpFlags::ACK,
            window: 100,
            urgent: 0,
            options: TcpOptions::default(),
        };
        SegmentIn::new(repr, Bytes::from_static(data).into())
    }

    fn held() -> Held {
        Held { flow: FLOW, nic: NicId::from_index(1).unwrap(), segment: segment(10, b"abcd") }
    }

    #[test]
    fn a_run_ends_with_a_short_or_pushed_segment() {
        let mut held = held();
        assert!(can_grow(&held.segment));
        assert!(held.merge(&FLOW, segment(14, b"efgh")).is_none());
        assert!(held.merge(&FLOW, segment(18, b"ij")).is_none());
        assert!(!can_grow(&held.segment));
        assert!(held.merge(&FLOW, segment(20, b"klmn")).is_some());
        assert_eq!((held.segment.payload.to_vec(), held.segment.merged), (b"abcdefghij".to_vec(), 3));
        let mut held = self::held();
        let mut pushed = segment(14, b"efgh");
        pushed.repr.flags |= TcpFlags::PSH;
        pushed.repr.window = 90;
        assert!(held.merge(&FLOW, pushed).is_none());
        assert!(!can_grow(&held.segment));
        assert_eq!(held.segment.repr.window, 90);
    }

    #[test]
    fn others_do_not_join() {
        let other = Flow { remote_port: 3, ..FLOW };
        assert!(held().merge(&other, segment(14, b"efgh")).is_some());
        assert!(held().merge(&FLOW, segment(15, b"efgh")).is_some());
        assert!(held().merge(&FLOW, segment(14, b"longer")).is_some());
        assert!(held().merge(&FLOW, segment(14, b"")).is_some());
        let changes: [fn(&mut SegmentIn); 4] = [
            |next| next.repr.ack = SeqNum(2),
            |next| next.repr.flags |= TcpFlags::FIN,
            |next| next.repr.options.sack_permitted = true,
            |next| next.ecn = crate::tcp::Ecn::CongestionExperienced,
        ];
        for change in changes {
            let mut next = segment(14, b"efgh");
            change(&mut next);
            assert!(held().merge(&FLOW, next).is_some());
        }
    }
}
