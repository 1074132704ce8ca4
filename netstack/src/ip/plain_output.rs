//! The fast path of output: a TCP segment to a neighbour that is known, with all its headers written in one go.
//!
//! Taken is a segment with all of these; any other goes through `output.rs` and `edge.rs`, which make the same frame of it:
//! - from an address to another one of its family by unicast, through an Ethernet or IP link that is up;
//! - not a super-segment, and short enough for the path, so that it can say "don't fragment" and needs no identification;
//! - no rules and no packet sockets that want to see it;
//! - the next hop's station address can be used without further ado.
//!
//! Headers are built as big-endian words in registers: their sums are there then without reading what was just written.

use std::net::IpAddr;
use std::sync::Arc;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ethernet::{self, EtherType, MacAddr};
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{CHECKSUM_OFFSET, TcpFlags, TcpOptions, TcpRepr, Timestamps};
use netstack_wire::{ipv4, ipv6};

use crate::cidr::family_of;
use crate::hint::likely;
use crate::ip::{Delivery, Egress};
use crate::link::Medium;
use crate::options::Family;
use crate::outbox::Outbox;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;
use crate::tcp::{Flow, PlainTransmit};

/// What a connection says about its IP headers, besides its addresses: those are read where the connection has them, since a
/// copy that was just written in wide pieces is waited for by whoever reads a word of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainHeader {
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Zero in IPv4.
    pub(crate) flow_label: u32,
}

/// How the frame of a plain segment begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkHeader {
    Ethernet { destination: MacAddr, source: MacAddr },
    Absent,
}

/// Says how the frame begins if a segment of that length, header included and no super-segment, can go this way.
#[inline]
pub(crate) fn plain_way(
    core: &Arc<Core>,
    egress: &mut Egress,
    tcp_len: usize,
    outbox: &mut Outbox,
) -> Option<LinkHeader> {
    // A path's MTU may exceed what fits a packet.
    let most = egress.mtu.min(u32::from(u16::MAX));
    let family = family_of(egress.next_hop);
    let is_plain = likely(egress.delivery == Delivery::Unicast)
        && likely(u32::try_from(ip_len(family) + tcp_len).is_ok_and(|total| total <= most))
        && likely(egress.interface.is_up())
        && likely(!core.filter.is_active(family))
        && likely(core.packet_sockets.is_empty());
    if is_plain { link_header(core, egress, outbox) } else { None }
}

/// Sends a segment with that header, and metadata and payload in `packet`, which [`plain_way`] said can go.
#[inline]
pub(crate) fn send_plain(
    core: &Arc<Core>,
    egress: &Egress,
    link: LinkHeader,
    (flow, ip): (&Flow, &PlainHeader),
    repr: &TcpRepr,
    mut packet: Packet,
    outbox: &mut Outbox,
) {
    let family = family_of(flow.remote_addr);
    let tcp_at = link.len() + ip_len(family);
    let payload_len = packet.len();
    let has_only_timestamps =
        repr.options == TcpOptions { timestamps: repr.options.timestamps, ..TcpOptions::default() };
    let words = (has_only_timestamps && repr.urgent == 0).then(|| TcpWords::of(repr));
    let header_len = words.as_ref().map_or_else(|| repr.header_len(), TcpWords::len);
    let is_finished_by_link = egress.interface.capabilities().tx_checksum;
    let mut payload = Accumulator::default();
    if !is_finished_by_link {
        packet.slices().for_each(|piece| payload.add(piece));
    }
    let header = packet.push_room(tcp_at + header_len);
    // At most the MTU.
    let tcp_len = u16::try_from(header_len + payload_len).unwrap_or(u16::MAX);
    let (link_part, rest) = header.split_at_mut(link.len());
    link.emit(link_part, family);
    let (ip_part, tcp_part) = rest.split_at_mut(ip_len(family));
    let pseudo = ip.emit((&flow.local_addr, &flow.remote_addr), tcp_len, ip_part);
    let header_sum = match words {
        Some(words) => {
            words.emit(tcp_part);
            words.wide_sum()
        }
        None => {
            // The slice is as long as the header.
            let _ = repr.emit(tcp_part);
            if is_finished_by_link { 0 } else { checksum::sum(tcp_part).into() }
        }
    };
    let field = match is_finished_by_link {
        true => checksum::fold(pseudo),
        false => !checksum::fold(pseudo + header_sum + u64::from(payload.sum())),
    };
    tcp_part[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
    if is_finished_by_link {
        packet.meta.checksum = partial(tcp_at);
    }
    count(core);
    outbox.send_unseen(&egress.interface, packet);
}

/// Makes the frame of a segment with a few bytes, which [`plain_way`] said can go, of an empty packet: all of it in the
/// header buffer.
#[inline]
pub(crate) fn plain_frame(
    packet: &mut Packet,
    core: &Core,
    egress: &Egress,
    link: LinkHeader,
    ip: &PlainHeader,
    (flow, segment): (&Flow, &PlainTransmit),
    data: &[u8],
) {
    let words = TcpWords::new(
        (flow.local_port, flow.remote_port),
        [segment.seq.0, segment.ack.0],
        segment.flags,
        segment.window,
        segment.timestamps,
    );
    let family = family_of(flow.remote_addr);
    let tcp_at = link.len() + ip_len(family);
    let frame = packet.push_room(tcp_at + words.len() + data.len());
    let (link_part, rest) = frame.split_at_mut(link.len());
    link.emit(link_part, family);
    let (ip_part, tcp_part) = rest.split_at_mut(ip_len(family));
    // A few bytes.
    let tcp_len = u16::try_from(tcp_part.len()).unwrap_or(u16::MAX);
    let pseudo = ip.emit((&flow.local_addr, &flow.remote_addr), tcp_len, ip_part);
    let (header, payload) = tcp_part.split_at_mut(words.len());
    words.emit(header);
    payload.copy_from_slice(data);
    let is_finished_by_link = egress.interface.capabilities().tx_checksum;
    let field = match is_finished_by_link {
        true => checksum::fold(pseudo),
        false => !checksum::fold(pseudo + words.wide_sum() + u64::from(checksum::sum(data))),
    };
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
    if is_finished_by_link {
        packet.meta.checksum = partial(tcp_at);
    }
    count(core);
}

fn partial(tcp_at: usize) -> Checksum {
    // Both are below 64.
    Checksum::Partial { start: tcp_at as u16, offset: CHECKSUM_OFFSET as u16 }
}

#[inline]
fn count(core: &Core) {
    let counters = core.counters.lane();
    counters.add(|it| &it.tcp_out_segs, 1);
    counters.add(|it| &it.ip_out_requests, 1);
}

fn ip_len(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::MIN_HEADER_LEN,
        Family::V6 => ipv6::HEADER_LEN,
    }
}

/// What the link wants in front, if that is known.
#[inline]
fn link_header(core: &Arc<Core>, egress: &mut Egress, outbox: &mut Outbox) -> Option<LinkHeader> {
    match egress.interface.medium() {
        Medium::Ethernet(source) => {
            let destination = egress.neighbour(core, outbox)?.published_mac()?;
            Some(LinkHeader::Ethernet { destination, source })
        }
        Medium::Ip => Some(LinkHeader::Absent),
        Medium::Loopback => None,
    }
}

impl LinkHeader {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Ethernet { .. } => ethernet::HEADER_LEN,
            Self::Absent => 0,
        }
    }

    #[inline]
    fn emit(self, out: &mut [u8], family: Family) {
        let (Self::Ethernet { destination, source }, Some(out)) =
            (self, out.first_chunk_mut::<{ ethernet::HEADER_LEN }>())
        else {
            return;
        };
        let ether_type = match family {
            Family::V4 => EtherType::IPV4,
            Family::V6 => EtherType::IPV6,
        };
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination.0, source.0);
        let [m, n] = ether_type.0.to_be_bytes();
        *out = [a, b, c, d, e, f, g, h, i, j, k, l, m, n];
    }
}

impl PlainHeader {
    /// Writes the header of a packet between these addresses of one family, with that much behind it, and returns the sum of
    /// TCP's pseudo-header, to be folded.
    #[inline(always)]
    fn emit(&self, (source, destination): (&IpAddr, &IpAddr), tcp_len: u16, out: &mut [u8]) -> u64 {
        let Self { ttl, tos, flow_label } = *self;
        let (protocol, len) = (u32::from(Protocol::TCP.0), u32::from(tcp_len));
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = [source.to_bits(), destination.to_bits()];
                // An atomic packet (RFC 6864 section 4.1: its identification may have any value).
                let first = VERSION_4 << 24 | u32::from(tos) << 16 | (len + ipv4::MIN_HEADER_LEN as u32);
                let third = u32::from(ttl) << 24 | protocol << 16;
                let address_sum = checksum::wide_sum_of(&addresses);
                let fixed = checksum::wide_sum_of(&[first, DONT_FRAGMENT, third]);
                let sum = !checksum::fold(fixed + address_sum);
                emit_words(&[first, DONT_FRAGMENT, third | u32::from(sum), addresses[0], addresses[1]], out);
                address_sum + u64::from(protocol + len)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let first = VERSION_6 << 28 | u32::from(tos) << 20 | flow_label;
                let second = len << 16 | protocol << 8 | u32::from(ttl);
                let [(a, b, c, d), (e, f, g, h)] =
                    [source, destination].map(|address| words_of(address.to_bits()));
                emit_words(&[first, second, a, b, c, d, e, f, g, h], out);
                checksum::wide_sum_of(&[a, b, c, d, e, f, g, h, protocol + len])
            }
            // Connections have addresses of one family.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
        }
    }
}

fn words_of(address: u128) -> (u32, u32, u32, u32) {
    let word = |shift: u32| ((address >> shift) & u128::from(u32::MAX)) as u32;
    (word(96), word(64), word(32), word(0))
}

/// A TCP header with no options but timestamps and a zero checksum, as big-endian words.
struct TcpWords {
    words: [u32; MAX_WORDS],
    has_timestamps: bool,
}

impl TcpWords {
    #[inline]
    fn new(
        (source, destination): (u16, u16),
        [seq, ack]: [u32; 2],
        flags: TcpFlags,
        window: u16,
        timestamps: Option<Timestamps>,
    ) -> Self {
        let ports = u32::from(source) << 16 | u32::from(destination);
        let rest = u32::from(flags.bits()) << 16 | u32::from(window);
        let (len, options) = match timestamps {
            Some(Timestamps { value, echo }) => (8, [TIMESTAMPS, value, echo]),
            None => (5, [0; 3]),
        };
        let [first, second, third] = options;
        let words = [ports, seq, ack, len << 28 | rest, 0, first, second, third];
        Self { words, has_timestamps: timestamps.is_some() }
    }

    #[inline]
    fn of(repr: &TcpRepr) -> Self {
        let &TcpRepr { src_port, dst_port, seq, ack, flags, window, urgent: _, ref options } = repr;
        Self::new((src_port, dst_port), [seq.0, ack.0], flags, window, options.timestamps)
    }

    #[inline]
    fn len(&self) -> usize {
        if self.has_timestamps { 4 * MAX_WORDS } else { 4 * MIN_WORDS }
    }

    /// The sum, to be folded.
    #[inline]
    fn wide_sum(&self) -> u64 {
        checksum::wide_sum_of(&self.words)
    }

    /// Writes it into a slice of its length.
    #[inline]
    fn emit(&self, out: &mut [u8]) {
        match self.words.split_first_chunk::<MIN_WORDS>() {
            Some((words, _)) if !self.has_timestamps => emit_words(words, out),
            _ => emit_words(&self.words, out),
        }
    }
}

/// Writes words to the beginning of a slice that is long enough.
#[inline]
fn emit_words<const COUNT: usize>(words: &[u32; COUNT], out: &mut [u8]) {
    for (chunk, word) in out.as_chunks_mut::<4>().0[..COUNT].iter_mut().zip(words) {
        *chunk = word.to_be_bytes();
    }
}

const VERSION_4: u32 = 0x45;
const VERSION_6: u32 = 6;
/// In the word of identification, flags and fragment offset.
const DONT_FRAGMENT: u32 = 0x4000;
/// Two paddings and the head of the timestamps option (RFC 7323, appendix A).
const TIMESTAMPS: u32 = 0x0101_080a;
const MIN_WORDS: usize = 5;
const MAX_WORDS: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use netstack_wire::ipv4::Ipv4Repr;
    use netstack_wire::ipv6::Ipv6Repr;
    use netstack_wire::seq::SeqNum;

    use super::*;

    #[test]
    fn ip_headers_are_those_of_the_general_path() {
        let v4 = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 255, 254)];
        let v6 = ["fe80::1:ffff", "2001:db8:0:1:ffff:ffff:ffff:ffff"]
            .map(|text| text.parse::<Ipv6Addr>().unwrap());
        for (len, ttl, tos) in [(20, 64, 0), (1480, 1, 0xb8), (65_515, 255, 2)] {
            let (mut expected, mut header) = ([0; ipv4::MIN_HEADER_LEN], [0; ipv4::MIN_HEADER_LEN]);
            let repr = Ipv4Repr::new(v4[0], v4[1], Protocol::TCP, len);
            Ipv4Repr { ttl, tos, ..repr }.emit(&mut expected);
            let [source, destination] = v4.map(IpAddr::V4);
            let pseudo =
                PlainHeader { ttl, tos, flow_label: 0 }.emit((&source, &destination), len, &mut header);
            assert_eq!(header, expected);
            let expected = checksum::pseudo_header(source, destination, Protocol::TCP.0, len.into());
            assert_eq!(checksum::fold(pseudo), expected);

            let (mut expected, mut header) = ([0; ipv6::HEADER_LEN], [0; ipv6::HEADER_LEN]);
            let repr = Ipv6Repr {
                source: v6[0],
                destination: v6[1],
                next_header: Protocol::TCP,
                hop_limit: ttl,
                traffic_class: tos,
                flow_label: 0xa_bcde,
                payload_len: len,
            };
            repr.emit(&mut expected);
            let [source, destination] = v6.map(IpAddr::V6);
            let plain = PlainHeader { ttl, tos, flow_label: 0xa_bcde };
            let pseudo = plain.emit((&source, &destination), len, &mut header);
            assert_eq!(header, expected);
            let expected = checksum::pseudo_header(source, destination, Protocol::TCP.0, len.into());
            assert_eq!(checksum::fold(pseudo), expected);
        }
    }

    #[test]
    fn tcp_words_are_the_header_of_the_general_path() {
        for timestamps in [None, Some(Timestamps { value: 0xfedc_ba98, echo: 7 })] {
            let repr = TcpRepr {
                src_port: 0xff01,
                dst_port: 80,
                seq: SeqNum(0x8000_0001),
                ack: SeqNum(u32::MAX),
                flags: TcpFlags::ACK | TcpFlags::PSH,
                window: 0xfffe,
                urgent: 0,
                options: TcpOptions { timestamps, ..TcpOptions::default() },
            };
            let mut expected = vec![0; repr.header_len()];
            repr.emit(&mut expected).unwrap();
            let words = TcpWords::of(&repr);
            let mut header = vec![0xaa; words.len()];
            words.emit(&mut header);
            assert_eq!(header, expected);
            assert_eq!(checksum::fold(words.wide_sum()), checksum::sum(&header));
        }
    }
}
