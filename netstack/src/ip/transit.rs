//! An IP packet on its way through: headers that may be edited, and the rest that is only carried.
//!
//! Forwarding and the packet filter take packets apart into this form; [`Transit::send`] puts them together again and
//! takes them to the edge: whole, in segments or in fragments.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::{self, Ipv4Repr};
use netstack_wire::ipv6::{self, Extensions, FragmentRepr, Ipv6Repr};
use netstack_wire::{checksum, ethernet, icmpv4, tcp, udp};
use smallvec::SmallVec;

use crate::MacAddr;
use crate::ip::{Egress, Fragmenting, IpOutput, OutputError, edge, gso, output};
use crate::outbox::Outbox;
use crate::packet::{Body, Checksum, Gso, HEADROOM, Packet};
use crate::route::{PacketFacts, RuleList};
use crate::stack::Core;

/// A packet in parts.
#[derive(Debug, Clone)]
pub(crate) struct Transit {
    /// The IP header with its options or extension headers.
    l3: SmallVec<[u8; 64]>,
    /// From the transport header on; the header is in the head, if it is there and known.
    pub(crate) packet: Packet,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// The transport protocol.
    pub(crate) protocol: Protocol,
    /// A fragment other than the first: what follows the headers is no transport header.
    pub(crate) is_later_fragment: bool,
    /// It came in fragments, and may leave in fragments.
    pub(crate) is_reassembled: bool,
    /// Our own members of the group get it too.
    pub(crate) loops: bool,
    /// The Ethernet address that it came from.
    pub(crate) link_source: Option<MacAddr>,
}

impl Transit {
    /// Takes apart a packet whose IP header, checked before, is at its `l3_offset`. `None` if the headers do not fit it.
    pub(crate) fn new(mut packet: Packet) -> Option<Self> {
        let start = usize::from(packet.meta.l3_offset);
        let version = packet.contiguous(start).first()? >> 4;
        let parsed = match version {
            4 => parse_v4(&mut packet, start)?,
            _ => parse_v6(&mut packet, start)?,
        };
        let Parsed { source, destination, protocol, l3_len, is_later_fragment } = parsed;
        let mut l3 = SmallVec::from_elem(0, l3_len);
        if packet.copy_to(start, &mut l3) < l3_len {
            return None;
        }
        let link_source = link_source(&packet, start);
        packet.trim_front(start + l3_len);
        packet.meta.l3_offset = 0;
        if let Checksum::Partial { start: from, offset } = packet.meta.checksum {
            // A sum that starts elsewhere than at the transport header is none of ours.
            let from = usize::from(from).checked_sub(start + l3_len).filter(|&from| from == 0)?;
            packet.meta.checksum = Checksum::Partial { start: u16::try_from(from).ok()?, offset };
        }
        if !is_later_fragment {
            lift_transport_header(&mut packet, protocol);
        }
        Some(Self {
            l3,
            packet,
            source,
            destination,
            protocol,
            is_later_fragment,
            is_reassembled: false,
            loops: false,
            link_source,
        })
    }

    /// Makes the packet that a transport of ours sends: transport header in the head.
    pub(crate) fn of_output(output: &IpOutput, ident: u16, mut packet: Packet) -> Self {
        if packet.head().is_empty() {
            lift_transport_header(&mut packet, output.protocol);
        }
        let mut l3 = SmallVec::from_elem(0, output.header_len());
        output.emit_header(ident, packet.len(), &mut l3);
        let IpOutput { source, destination, protocol, loops, .. } = *output;
        Self {
            l3,
            packet,
            source,
            destination,
            protocol,
            is_later_fragment: false,
            is_reassembled: false,
            loops,
            link_source: None,
        }
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The length of the whole packet.
    pub(crate) fn len(&self) -> usize {
        self.l3.len() + self.packet.len()
    }

    /// The IP header with what belongs to it.
    pub(crate) fn l3(&self) -> &[u8] {
        &self.l3
    }

    /// Puts options, of a multiple of four bytes, into an IPv4 header without any.
    pub(crate) fn insert_options(&mut self, options: &[u8]) {
        if !self.is_v4() || self.l3.len() != ipv4::MIN_HEADER_LEN {
            return;
        }
        self.l3.extend_from_slice(options);
        // At most 60 bytes, in words.
        self.l3[0] = 0x40 | (self.l3.len() / 4) as u8;
    }

    /// The options of an IPv4 packet.
    pub(crate) fn options_mut(&mut self) -> &mut [u8] {
        let is_v4 = self.is_v4();
        self.l3.get_mut(ipv4::MIN_HEADER_LEN..).filter(|_| is_v4).unwrap_or_default()
    }

    /// The TTL or hop limit.
    pub(crate) fn ttl(&self) -> u8 {
        self.l3[self.ttl_offset()]
    }

    pub(crate) fn set_ttl(&mut self, ttl: u8) {
        let offset = self.ttl_offset();
        self.l3[offset] = ttl;
    }

    /// The type of service or traffic class.
    pub(crate) fn tos(&self) -> u8 {
        match self.is_v4() {
            true => self.l3[1],
            false => (self.l3[0] << 4) | (self.l3[1] >> 4),
        }
    }

    /// What rules may look at, if any does. It has no user: those are known where a socket sends.
    pub(crate) fn facts(&self, rules: &RuleList) -> PacketFacts {
        if !rules.are_particular() {
            return PacketFacts::default();
        }
        let mut transport = [0; 8];
        let len = if self.is_fragment() { 0 } else { self.packet.copy_to(0, &mut transport) };
        PacketFacts::of_packet(self.protocol.0, self.tos(), &transport[..len])
    }

    /// Whether it is one of several pieces of a packet.
    fn is_fragment(&self) -> bool {
        if self.is_v4() {
            return Ipv4Repr::parse_unchecked(&self.l3).is_ok_and(|repr| repr.is_fragment());
        }
        let first = Protocol(self.l3[ipv6::NEXT_HEADER_OFFSET]);
        let mut chain = Extensions::new(first, &self.l3[ipv6::HEADER_LEN..]);
        chain.any(|extension| extension.is_ok_and(|extension| extension.kind == Protocol::FRAGMENT))
    }

    pub(crate) fn set_tos(&mut self, tos: u8) {
        if self.is_v4() {
            self.l3[1] = tos;
        } else {
            self.l3[0] = (self.l3[0] & 0xf0) | (tos >> 4);
            self.l3[1] = (self.l3[1] & 0x0f) | (tos << 4);
        }
    }

    /// Copies bytes of the packet, counted from the IP header; returns how many there were.
    pub(crate) fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let head = self.l3.get(offset..).unwrap_or_default();
        let first = head.len().min(out.len());
        out[..first].copy_from_slice(&head[..first]);
        let rest = offset.saturating_sub(self.l3.len());
        first + self.packet.copy_to(rest, &mut out[first..])
    }

    /// Changes bytes of the IP header. `None` for bytes that are not there, and for changes of what says where headers and the
    /// packet end. Transport checksums are the caller's business.
    pub(crate) fn set_network_bytes(&mut self, at: usize, value: &[u8]) -> Option<()> {
        let is_v4 = self.is_v4();
        let old = self.l3.get(at..at.checked_add(value.len())?)?;
        let is_free = |at: usize, old: u8, new: u8| match (is_v4, at) {
            (true, 1 | 4 | 5 | 8 | 10..20) => true,
            // The flow label, and the class with the version before it.
            (false, 0) => old >> 4 == new >> 4,
            (false, 1..4 | 7..40) => true,
            _ => old == new,
        };
        let all_free = (at..).zip(old.iter().zip(value)).all(|(at, (old, new))| is_free(at, *old, *new));
        all_free.then_some(())?;
        self.l3[at..at + value.len()].copy_from_slice(value);
        (self.source, self.destination) = match is_v4 {
            true => {
                let repr = Ipv4Repr::parse_unchecked(&self.l3).ok()?;
                (IpAddr::V4(repr.source), IpAddr::V4(repr.destination))
            }
            false => {
                let repr = Ipv6Repr::parse_unchecked(&self.l3).ok()?;
                (IpAddr::V6(repr.source), IpAddr::V6(repr.destination))
            }
        };
        Some(())
    }

    fn ttl_offset(&self) -> usize {
        if self.is_v4() { ipv4::TTL_OFFSET } else { ipv6::HOP_LIMIT_OFFSET }
    }

    /// Whether nobody may fragment it: DF, and always in IPv6.
    pub(crate) fn is_unfragmentable(&self) -> bool {
        match self.is_v4() {
            true => self.l3[IPV4_FLAGS_OFFSET] & IPV4_DF != 0,
            false => !self.is_reassembled,
        }
    }

    /// The transport header, as far as it is there.
    pub(crate) fn transport(&self) -> &[u8] {
        if self.is_later_fragment { &[] } else { self.packet.head() }
    }

    /// Replaces the source and destination in the IP header. Transport checksums are the caller's business.
    pub(crate) fn set_addresses(&mut self, source: IpAddr, destination: IpAddr) {
        match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) if self.is_v4() => {
                self.l3[12..16].copy_from_slice(&from.octets());
                self.l3[16..20].copy_from_slice(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) if !self.is_v4() => {
                self.l3[8..24].copy_from_slice(&from.octets());
                self.l3[24..40].copy_from_slice(&to.octets());
            }
            _ => return,
        }
        (self.source, self.destination) = (source, destination);
    }

    /// Puts the packet together again, with its IP header at the front.
    pub(crate) fn into_packet(self) -> Packet {
        let len = self.packet.len();
        let Self { mut l3, packet, .. } = self;
        finish_l3(&mut l3, len);
        join(&l3, packet)
    }

    /// The packet's first bytes, for an ICMP error to quote.
    pub(crate) fn quote(&self) -> Bytes {
        Bytes::from(self.clone().into_packet().to_vec())
    }

    /// Takes the packet to the edge, in pieces if the MTU and `policy` want it.
    pub(crate) fn send(
        mut self,
        core: &Arc<Core>,
        egress: &mut Egress,
        policy: Fragmenting,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        if !egress.interface.is_up() {
            return Err(OutputError::NetworkDown);
        }
        if let Some(gso) = self.packet.meta.gso {
            return self.send_segments(core, egress, gso, outbox);
        }
        let mtu = to_usize(egress.mtu);
        let fits = self.len() <= mtu;
        if !fits && policy == Fragmenting::Forbidden {
            return Err(OutputError::TooLarge { mtu: egress.mtu });
        }
        if !fits || !(egress.is_local() || egress.interface.capabilities().tx_checksum) {
            output::finish_checksum(self.protocol, &mut self.packet);
        }
        if !fits {
            return self.send_fragments(core, egress, mtu, outbox);
        }
        let (destination, loops) = (self.destination, self.loops);
        output::deliver(core, egress, destination, loops, self.into_packet(), outbox)
    }

    /// Sends a super-segment whole if the link takes it, otherwise cut.
    fn send_segments(
        mut self,
        core: &Arc<Core>,
        egress: &mut Egress,
        gso: Gso,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let header_len = self.l3.len() + self.packet.head().len();
        if header_len + usize::from(gso.size) > to_usize(egress.mtu) {
            return Err(OutputError::TooLarge { mtu: egress.mtu });
        }
        // Each piece gets its own sum, so it must be unfinished.
        self.packet.meta.checksum = partial_checksum(self.protocol);
        self.begin_checksum();
        let headers_fit = self.l3.len() + self.packet.head().len() + LINK_HEADER <= HEADROOM;
        let passes_whole =
            egress.is_local() || (headers_fit && edge::takes_segments(egress, self.l3.len(), &self.packet));
        let (destination, loops) = (self.destination, self.loops);
        if passes_whole {
            return output::deliver(core, egress, destination, loops, self.into_packet(), outbox);
        }
        let Self { mut l3, packet, protocol, source, .. } = self;
        let keeps_sum_open = egress.interface.capabilities().tx_checksum;
        let first_ident = u16::from_be_bytes([l3[4], l3[5]]);
        for (index, mut segment) in (0_u16..).zip(gso::segments(packet)) {
            let len = segment.len();
            output::begin_checksum(source, destination, protocol, &mut segment, len);
            if !keeps_sum_open {
                output::finish_checksum(protocol, &mut segment);
            }
            if source.is_ipv4() {
                // As a sender of single segments would count.
                l3[4..6].copy_from_slice(&first_ident.wrapping_add(index).to_be_bytes());
            }
            finish_l3(&mut l3, len);
            output::deliver(core, egress, destination, loops, join(&l3, segment), outbox)?;
        }
        Ok(())
    }

    /// Cuts a datagram into fragments of `size` bytes behind the headers, as hardware once did (UFO): whatever its checksum was
    /// is replaced by the right one, and nobody is asked whether it may be fragmented.
    pub(crate) fn into_fragments(
        mut self,
        size: usize,
        ident: impl FnOnce(&Self) -> u32,
    ) -> Option<Vec<Packet>> {
        self.packet.meta.checksum = partial_checksum(self.protocol);
        self.begin_checksum();
        output::finish_checksum(self.protocol, &mut self.packet);
        let fragments = match self.is_v4() {
            true => {
                self.l3[IPV4_FLAGS_OFFSET] &= !IPV4_DF;
                let mtu = self.l3.len() + size;
                fragment_v4(self, mtu)
            }
            false => {
                let (mtu, ident) = (self.l3.len() + ipv6::FRAGMENT_HEADER_LEN + size, ident(&self));
                fragment_v6(self, mtu, ident)
            }
        };
        let packet =
            |(l3, data): (SmallVec<[u8; 64]>, _)| join(&l3, Packet::from_body(Body::from_iter([data])));
        Some(fragments?.into_iter().map(packet).collect())
    }

    /// Puts the pseudo-header's sum into an unfinished checksum.
    fn begin_checksum(&mut self) {
        let len = self.packet.len();
        output::begin_checksum(self.source, self.destination, self.protocol, &mut self.packet, len);
    }

    /// Cuts the packet, its checksum finished, into fragments.
    fn send_fragments(
        self,
        core: &Arc<Core>,
        egress: &mut Egress,
        mtu: usize,
        outbox: &mut Outbox,
    ) -> Result<(), OutputError> {
        let (destination, loops, meta) = (self.destination, self.loops, self.packet.meta.clone());
        let fragments = match self.is_v4() {
            true => fragment_v4(self, mtu),
            false => {
                let ident = core.next_fragment_ident_for(self.source, self.destination, self.protocol);
                fragment_v6(self, mtu, ident)
            }
        };
        let fragments = fragments.ok_or(OutputError::TooLarge { mtu: egress.mtu })?;
        core.counters.ip_frag_ok.increment();
        for (l3, data) in fragments {
            core.counters.ip_frag_creates.increment();
            let mut packet = Packet::from_body(Body::from_iter([data]));
            packet.meta = meta.clone();
            output::deliver(core, egress, destination, loops, join(&l3, packet), outbox)?;
        }
        Ok(())
    }
}

/// The sender in the Ethernet header before the IP header, if there is one.
fn link_source(packet: &Packet, start: usize) -> Option<MacAddr> {
    let mut bytes = [0; 6];
    (start >= ethernet::HEADER_LEN && packet.copy_to(6, &mut bytes) == bytes.len()).then_some(MacAddr(bytes))
}

struct Parsed {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    l3_len: usize,
    is_later_fragment: bool,
}

fn parse_v4(packet: &mut Packet, start: usize) -> Option<Parsed> {
    let first = packet.contiguous(start).first().copied()?;
    let header_len = usize::from(first & 0x0f) * 4;
    packet.make_contiguous(start, header_len).then_some(())?;
    let repr = Ipv4Repr::parse_unchecked(packet.contiguous(start)).ok()?;
    Some(Parsed {
        source: IpAddr::V4(repr.source),
        destination: IpAddr::V4(repr.destination),
        protocol: repr.protocol,
        l3_len: repr.header_len(),
        is_later_fragment: repr.fragment_offset != 0,
    })
}

fn parse_v6(packet: &mut Packet, start: usize) -> Option<Parsed> {
    packet.make_contiguous(start, ipv6::HEADER_LEN).then_some(())?;
    let repr = Ipv6Repr::parse_unchecked(packet.contiguous(start)).ok()?;
    let mut parsed = Parsed {
        source: IpAddr::V6(repr.source),
        destination: IpAddr::V6(repr.destination),
        protocol: repr.next_header,
        l3_len: ipv6::HEADER_LEN,
        is_later_fragment: false,
    };
    if !repr.next_header.is_extension() {
        return Some(parsed);
    }
    let len = packet.len().checked_sub(start)?;
    packet.make_contiguous(start, len).then_some(())?;
    let chain = packet.contiguous(start + ipv6::HEADER_LEN);
    let mut extensions = Extensions::new(repr.next_header, chain);
    for extension in extensions.by_ref() {
        let extension = extension.ok()?;
        let fragment = (extension.kind == Protocol::FRAGMENT).then(|| FragmentRepr::parse(extension.bytes));
        parsed.is_later_fragment |= fragment.flatten().is_some_and(|fragment| fragment.offset != 0);
    }
    parsed.l3_len += extensions.offset();
    parsed.protocol = extensions.next_header();
    Some(parsed)
}

/// Moves a transport header that may be edited from the body to the head.
fn lift_transport_header(packet: &mut Packet, protocol: Protocol) {
    let byte = |offset: usize| packet.contiguous(offset).first().copied();
    let wanted = match protocol {
        Protocol::TCP => byte(12).map_or(tcp::MIN_HEADER_LEN, |byte| usize::from(byte >> 4) * 4),
        Protocol::UDP => udp::HEADER_LEN,
        Protocol::ICMP | Protocol::ICMPV6 => icmpv4::HEADER_LEN,
        _ => return,
    };
    let mut header = [0; 60];
    let len = packet.copy_to(0, &mut header[..wanted.min(60)]);
    packet.trim_front(len);
    let checksum = std::mem::take(&mut packet.meta.checksum);
    packet.push_header(len).copy_from_slice(&header[..len]);
    packet.meta.checksum = checksum;
}

/// An unfinished checksum of a transport whose header is at the front.
fn partial_checksum(protocol: Protocol) -> Checksum {
    let offset = if protocol == Protocol::UDP { udp::CHECKSUM_OFFSET } else { tcp::CHECKSUM_OFFSET };
    // 6 or 16.
    Checksum::Partial { start: 0, offset: offset as u16 }
}

/// Writes the lengths, and for IPv4 the checksum, into an IP header.
fn finish_l3(l3: &mut [u8], transport_len: usize) {
    // Packets are at most 64 KiB long when they come, and become no longer.
    let len = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    if l3[0] >> 4 == 4 {
        let total = len(l3.len() + transport_len);
        l3[2..4].copy_from_slice(&total);
        l3[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2].fill(0);
        let sum = !checksum::sum(l3);
        l3[ipv4::CHECKSUM_OFFSET..ipv4::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
    } else {
        let payload = len(l3.len() - ipv6::HEADER_LEN + transport_len);
        l3[4..6].copy_from_slice(&payload);
    }
}

/// Prepends an IP header.
fn join(l3: &[u8], mut packet: Packet) -> Packet {
    if l3.len() + packet.head().len() + LINK_HEADER <= HEADROOM {
        packet.push_header(l3.len()).copy_from_slice(l3);
        return packet;
    }
    // Crafted headers: they go to the body.
    let mut meta = packet.meta.clone();
    if let Checksum::Partial { start, .. } = &mut meta.checksum {
        *start = start.saturating_add(u16::try_from(l3.len()).unwrap_or(u16::MAX));
    }
    let mut body = packet.into_payload(0);
    body.insert(0, Bytes::copy_from_slice(l3));
    let mut joined = Packet::from_body(body);
    joined.meta = meta;
    joined
}

type Fragments = Vec<(SmallVec<[u8; 64]>, Bytes)>;

/// RFC 791 section 3.2, for packets that may be fragments already.
fn fragment_v4(transit: Transit, mtu: usize) -> Option<Fragments> {
    let Transit { mut l3, packet, .. } = transit;
    let room = mtu.checked_sub(l3.len())? & !7;
    if room == 0 {
        return None;
    }
    let whole = packet.to_bytes();
    let field = u16::from_be_bytes([l3[IPV4_FLAGS_OFFSET], l3[IPV4_FLAGS_OFFSET + 1]]);
    let (flags, first) = (field & 0xe000, usize::from(field & 0x1fff) * 8);
    let mut fragments = Fragments::new();
    let mut at = 0;
    while at < whole.len() {
        let end = whole.len().min(at + room);
        let more = if end < whole.len() { IPV4_MORE } else { 0 };
        // The offset of a byte of a 64 KiB packet in units of eight.
        let offset = u16::try_from((first + at) / 8).ok().filter(|&offset| offset <= 0x1fff)?;
        l3[IPV4_FLAGS_OFFSET..IPV4_FLAGS_OFFSET + 2].copy_from_slice(&(flags | more | offset).to_be_bytes());
        finish_l3(&mut l3, end - at);
        fragments.push((l3.clone(), whole.slice(at..end)));
        if at == 0 {
            blank_uncopied_options(&mut l3[ipv4::MIN_HEADER_LEN..]);
        }
        at = end;
    }
    Some(fragments)
}

/// RFC 791 section 3.1: options without the copied flag stay in the first fragment. They become no-operations, so that
/// the headers keep their length.
fn blank_uncopied_options(options: &mut [u8]) {
    let mut at = 0;
    while at < options.len() {
        let len = match options[at] {
            OPTION_END => return,
            OPTION_NOP => 1,
            _ => usize::from(options.get(at + 1).copied().unwrap_or(0)).max(2),
        };
        let end = options.len().min(at + len);
        if options[at] & OPTION_COPIED == 0 {
            options[at..end].fill(OPTION_NOP);
        }
        at = end;
    }
}

/// RFC 8200 section 4.5, with all extension headers in the fragments' unfragmentable part.
fn fragment_v6(transit: Transit, mtu: usize, ident: u32) -> Option<Fragments> {
    let Transit { mut l3, packet, protocol, .. } = transit;
    let room = mtu.checked_sub(l3.len() + ipv6::FRAGMENT_HEADER_LEN)? & !7;
    if room == 0 {
        return None;
    }
    // The header that announces the transport announces the fragment header instead.
    let field = {
        let repr = Ipv6Repr::parse_unchecked(&l3).ok()?;
        let chain = Extensions::new(repr.next_header, &l3[ipv6::HEADER_LEN..]);
        let last = chain.filter_map(Result::ok).last();
        last.map_or(ipv6::NEXT_HEADER_OFFSET, |extension| ipv6::HEADER_LEN + extension.offset)
    };
    l3[field] = Protocol::FRAGMENT.0;
    let whole = packet.to_bytes();
    let mut fragments = Fragments::new();
    let mut at = 0;
    while at < whole.len() {
        let end = whole.len().min(at + room);
        let mut headers = l3.clone();
        let start = headers.len();
        headers.resize(start + ipv6::FRAGMENT_HEADER_LEN, 0);
        let offset = u16::try_from(at).ok()?;
        let header = FragmentRepr { next_header: protocol, offset, more: end < whole.len(), ident };
        header.emit(&mut headers[start..]);
        finish_l3(&mut headers, end - at);
        fragments.push((headers, whole.slice(at..end)));
        at = end;
    }
    Some(fragments)
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const IPV4_FLAGS_OFFSET: usize = 6;
/// In the flags' first byte.
const IPV4_DF: u8 = 0x40;
const IPV4_MORE: u16 = 0x2000;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_COPIED: u8 = 0x80;
/// Room for an Ethernet header with a VLAN tag.
const LINK_HEADER: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_without_the_copied_flag_become_no_operations() {
        let mut options = [0x94, 4, 0, 0, 7, 3, 4, 1, 0x83, 3, 4, 0];
        blank_uncopied_options(&mut options);
        assert_eq!(options, [0x94, 4, 0, 0, 1, 1, 1, 1, 0x83, 3, 4, 0]);
        for end in 1..options.len() {
            blank_uncopied_options(&mut options[..end]);
        }
    }

    #[test]
    fn a_fragment_is_cut_further() {
        let header = Ipv4Repr {
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
            protocol: Protocol::UDP,
            ttl: 9,
            tos: 0,
            ident: 77,
            dont_fragment: false,
            more_fragments: true,
            fragment_offset: 800,
            options_len: 0,
            payload_len: 24,
        };
        let mut bytes = vec![0xaa; 44];
        header.emit(&mut bytes);
        let transit = Transit::new(Packet::from_frame(bytes.into())).unwrap();
        assert!(transit.is_later_fragment && transit.transport().is_empty());
        let fragments = fragment_v4(transit, 36).unwrap();
        let seen: Vec<_> = fragments
            .iter()
            .map(|(l3, data)| {
                let repr = Ipv4Repr::parse(&[&l3[..], &data[..]].concat()).unwrap();
                (repr.fragment_offset, repr.more_fragments, repr.payload_len, repr.ident)
            })
            .collect();
        assert_eq!(seen, [(800, true, 16, 77), (816, true, 8, 77)]);
    }
}
