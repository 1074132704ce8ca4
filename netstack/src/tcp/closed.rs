//! The answer to a segment that belongs to no connection (RFC 9293 section 3.10.7.1).

use super::segment::{Ecn, Payload, SegmentIn, Transmit};
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpOptions, TcpRepr};

/// Returns the RST that answers `segment`; `None` if that was a RST itself.
///
/// "If the ACK bit is off, sequence number zero is used, `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`; if the ACK bit is
/// on, `<SEQ=SEG.ACK><CTL=RST>`."
#[must_use]
pub fn reset_reply(segment: &SegmentIn) -> Option<Transmit> {
    let repr = &segment.repr;
    if repr.flags.contains(TcpFlags::RST) {
        return None;
    }
    let (seq, ack, flags) = if repr.flags.contains(TcpFlags::ACK) {
        (repr.ack, SeqNum(0), TcpFlags::RST)
    } else {
        (SeqNum(0), segment.end(), TcpFlags::RST | TcpFlags::ACK)
    };
    let repr = TcpRepr {
        src_port: repr.dst_port,
        dst_port: repr.src_port,
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    };
    Some(Transmit { repr, payload: Payload::new(), gso_size: None, ecn: Ecn::NotCapable })
}
