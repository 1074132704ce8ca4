//! Changing addresses and ports of packets, with their checksums (RFC 1624).

use std::net::IpAddr;

use netstack_wire::ip::Protocol;
use netstack_wire::{checksum, icmpv4, tcp, udp};

use crate::conntrack::{Side, Tuple};
use crate::ip::Transit;
use crate::packet::Checksum;

/// Makes one side of a packet look as `wanted` says.
pub(super) fn rewrite(transit: &mut Transit, side: Side, wanted: &Tuple) {
    let (source, destination) = match side {
        Side::Source => (wanted.source, transit.destination),
        Side::Destination => (transit.source, wanted.destination),
    };
    let mut delta = Delta::default();
    delta.addresses(transit.source, source);
    delta.addresses(transit.destination, destination);
    let addresses = delta;
    transit.set_addresses(source, destination);
    if transit.is_later_fragment {
        return;
    }
    let protocol = transit.protocol;
    let is_unfinished = matches!(transit.packet.meta.checksum, Checksum::Partial { .. });
    let header = transit.packet.head_mut();
    if let Some((at, id)) = id_field(protocol, side, wanted)
        && let Some(field) = header.get_mut(at..at + 2)
    {
        delta.replace(field, &id.to_be_bytes());
        field.copy_from_slice(&id.to_be_bytes());
    }
    let Some(at) = checksum_offset(protocol) else { return };
    let Some(field) = header.get_mut(at..at + 2) else { return };
    let value = u16::from_be_bytes([field[0], field[1]]);
    let value = if is_unfinished {
        // The field holds the sum of the pseudo-header alone, and not its complement.
        addresses.applied(value)
    } else if protocol == Protocol::UDP && value == 0 {
        return;
    } else {
        // ICMPv4 has no pseudo-header.
        let delta = if protocol == Protocol::ICMP { delta.without(addresses) } else { delta };
        let value = !delta.applied(!value);
        if protocol == Protocol::UDP { udp::checksum_on_wire(value) } else { value }
    };
    field.copy_from_slice(&value.to_be_bytes());
}

/// Changes the transport checksum after the addresses have changed.
pub(super) fn follow_addresses(transit: &mut Transit, (source, destination): (IpAddr, IpAddr)) {
    let mut delta = Delta::default();
    delta.addresses(source, transit.source);
    delta.addresses(destination, transit.destination);
    let protocol = transit.protocol;
    let has_pseudo_header = protocol != Protocol::ICMP && !transit.is_later_fragment;
    if (source, destination) == (transit.source, transit.destination) || !has_pseudo_header {
        return;
    }
    let is_unfinished = matches!(transit.packet.meta.checksum, Checksum::Partial { .. });
    let header = transit.packet.head_mut();
    let field = checksum_offset(protocol).and_then(|at| header.get_mut(at..at + 2));
    let Some(field) = field else { return };
    let value = u16::from_be_bytes([field[0], field[1]]);
    let value = match (is_unfinished, protocol) {
        (true, _) => delta.applied(value),
        (false, Protocol::UDP) if value == 0 => return,
        (false, Protocol::UDP) => udp::checksum_on_wire(!delta.applied(!value)),
        (false, _) => !delta.applied(!value),
    };
    field.copy_from_slice(&value.to_be_bytes());
}

/// Replaces bytes of a transport header, with its checksum. Beyond what is there nothing happens.
pub(super) fn replace_in_transport(transit: &mut Transit, at: usize, new: &[u8]) {
    let protocol = transit.protocol;
    let is_unfinished = matches!(transit.packet.meta.checksum, Checksum::Partial { .. });
    let header = transit.packet.head_mut();
    let Some(field) = header.get_mut(at..at + new.len()) else { return };
    // Sums are over words of two bytes: a change in the middle of one is a change of the word.
    let mut delta = Delta::default();
    let (start, end) = (at & !1, (at + new.len()).next_multiple_of(2));
    let old_field = field.to_vec();
    let mut before = header.get(start..end.min(header.len())).unwrap_or_default().to_vec();
    header[at..at + new.len()].copy_from_slice(new);
    let mut after = header.get(start..end.min(header.len())).unwrap_or_default().to_vec();
    before.resize(end - start, 0);
    after.resize(end - start, 0);
    delta.replace(&before, &after);
    let Some(sum_at) = checksum_offset(protocol) else { return };
    if is_unfinished || old_field == new || (at..at + new.len()).contains(&sum_at) {
        return;
    }
    let Some(field) = header.get_mut(sum_at..sum_at + 2) else { return };
    let value = u16::from_be_bytes([field[0], field[1]]);
    if protocol == Protocol::UDP && value == 0 {
        return;
    }
    let value = !delta.applied(!value);
    let value = if protocol == Protocol::UDP { udp::checksum_on_wire(value) } else { value };
    field.copy_from_slice(&value.to_be_bytes());
}

/// Where the number of a side is, and what it shall be.
fn id_field(protocol: Protocol, side: Side, wanted: &Tuple) -> Option<(usize, u16)> {
    match (protocol, side) {
        (Protocol::TCP | Protocol::UDP, Side::Source) => Some((0, wanted.source_id)),
        (Protocol::TCP | Protocol::UDP, Side::Destination) => Some((2, wanted.destination_id)),
        // The identifier is the source's; both directions carry the same.
        (Protocol::ICMP | Protocol::ICMPV6, _) => Some((ECHO_IDENT_OFFSET, wanted.source_id)),
        _ => None,
    }
}

fn checksum_offset(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::TCP => Some(tcp::CHECKSUM_OFFSET),
        Protocol::UDP => Some(udp::CHECKSUM_OFFSET),
        Protocol::ICMP | Protocol::ICMPV6 => Some(icmpv4::CHECKSUM_OFFSET),
        _ => None,
    }
}

/// Rewrites the packet that an ICMP error quotes, as far as it is there, so that it looks as `wanted` says. Its
/// transport checksum is changed if it is there and counts on it.
pub(super) fn rewrite_quoted(quoted: &mut [u8], transport_offset: usize, protocol: Protocol, wanted: &Tuple) {
    let mut addresses = Delta::default();
    match (wanted.source, wanted.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let Some(field) = quoted.get_mut(12..20) else { return };
            let new = [source.octets(), destination.octets()].concat();
            addresses.replace(field, &new);
            field.copy_from_slice(&new);
            let sum = !addresses.applied(!u16::from_be_bytes([quoted[10], quoted[11]]));
            quoted[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let Some(field) = quoted.get_mut(8..40) else { return };
            let new = [source.octets(), destination.octets()].concat();
            addresses.replace(field, &new);
            field.copy_from_slice(&new);
        }
        _ => return,
    }
    let mut delta = addresses;
    let Some(header) = quoted.get_mut(transport_offset..) else { return };
    for side in [Side::Source, Side::Destination] {
        if let Some((at, id)) = id_field(protocol, side, wanted)
            && let Some(field) = header.get_mut(at..at + 2)
        {
            delta.replace(field, &id.to_be_bytes());
            field.copy_from_slice(&id.to_be_bytes());
        }
    }
    let field = checksum_offset(protocol).and_then(|at| header.get_mut(at..at + 2));
    let Some(field) = field else { return };
    let value = u16::from_be_bytes([field[0], field[1]]);
    if protocol == Protocol::UDP && value == 0 {
        return;
    }
    let delta = if protocol == Protocol::ICMP { delta.without(addresses) } else { delta };
    field.copy_from_slice(&(!delta.applied(!value)).to_be_bytes());
}

/// What a sum of 16-bit words changes by: RFC 1624's "~m + m'".
#[derive(Debug, Clone, Copy, Default)]
struct Delta(u64);

impl Delta {
    fn addresses(&mut self, old: IpAddr, new: IpAddr) {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => self.replace(&old.octets(), &new.octets()),
            (IpAddr::V6(old), IpAddr::V6(new)) => self.replace(&old.octets(), &new.octets()),
            _ => {}
        }
    }

    fn replace(&mut self, old: &[u8], new: &[u8]) {
        self.0 += u64::from(!checksum::sum(old)) + u64::from(checksum::sum(new));
    }

    /// What is left of this change when `part` of it is not made.
    fn without(self, part: Self) -> Self {
        Self(self.0 - part.0)
    }

    /// The sum after the change.
    fn applied(self, sum: u16) -> u16 {
        let mut total = self.0 + u64::from(sum);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        // Folded to 16 bits.
        total as u16
    }
}

const ECHO_IDENT_OFFSET: usize = 4;
