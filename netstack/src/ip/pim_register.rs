//! PIM register messages for a multicast router: packets for groups that another router sends here, each in a message of its own
//! (RFC 7761 section 4.9.3).
//!
//! Making such messages is the routing program's business ([`UpcallKind::WholePacket`](crate::multicast_route::UpcallKind)); taking
//! them apart is the network layer's, as in Linux (`pim_rcv`, `pim6_rcv`). The packet inside is routed as if it had come in through
//! the virtual interface that stands for the program.

use std::net::IpAddr;

use bytes::Bytes;
use netstack_wire::checksum::{Accumulator, pseudo_header};
use netstack_wire::ip::Protocol;
use netstack_wire::ipv4::Ipv4Repr;
use netstack_wire::ipv6::{self, Ipv6Repr};
use netstack_wire::{checksum, ipv4};

use crate::cidr::family_of;
use crate::filter;
use crate::ip::{IpMeta, Rx, Transit, input_v4, input_v6, multicast_forward};
use crate::packet::Packet;

/// Takes a message of PIM for us. Those of other kinds are for the routing program's socket, which has had them.
pub(super) fn input(rx: &mut Rx<'_>, ip: &IpMeta, packet: &Packet) {
    if !rx.core.multicast_forwarding(family_of(ip.source)).is_active() {
        return;
    }
    let mut message = packet.clone();
    message.trim_front(ip.offset);
    message.truncate(ip.len);
    let message = message.to_bytes();
    if message.first() != Some(&REGISTER) {
        return;
    }
    match registered(rx, ip, &message).and_then(|inner| Transit::new(Packet::from_frame(inner))) {
        Some(mut transit) => {
            let is_filtered = rx.core.filter.is_active(family_of(ip.source));
            let passage = match is_filtered {
                true => {
                    // As Linux: rules see the packet as one of a device of its own, `pimreg`.
                    let nic = rx.core.multicast_forwarding(family_of(ip.source)).register_nic();
                    let interface = nic.and_then(|nic| rx.topology.interface(nic)).unwrap_or(rx.interface);
                    let Some(passage) = filter::prerouting_on(rx, interface, &mut transit) else { return };
                    Some(passage)
                }
                false => None,
            };
            multicast_forward::route_registered(rx, transit, passage);
        }
        None => rx.core.counters.multicast_register_errors.increment(),
    }
}

/// The packet in a register message, if the message is right and the packet is one that may be routed.
fn registered(rx: &Rx<'_>, ip: &IpMeta, message: &Bytes) -> Option<Bytes> {
    let header = message.first_chunk::<HEADER_LEN>()?;
    if header[4] & NULL_REGISTER != 0 || !has_right_checksum(ip, message) {
        return None;
    }
    let inner = message.slice(HEADER_LEN..);
    let len = match ip.source {
        IpAddr::V4(_) => {
            let repr = Ipv4Repr::parse_unchecked(&inner).ok()?;
            let is_right = checksum::sum(inner.get(..repr.header_len())?) == 0xffff
                && multicast_forward::is_wide_group(repr.destination.into())
                && !input_v4::is_martian(rx, repr.source, repr.destination);
            is_right.then_some(repr.header_len() + usize::from(repr.payload_len))?
        }
        IpAddr::V6(_) => {
            let repr = Ipv6Repr::parse_unchecked(&inner).ok()?;
            let is_right = repr.payload_len > 0
                && multicast_forward::is_wide_group(repr.destination.into())
                && !input_v6::is_martian(rx, repr.source, repr.destination);
            is_right.then_some(ipv6::HEADER_LEN + usize::from(repr.payload_len))?
        }
    };
    (len >= ipv4::MIN_HEADER_LEN && len <= inner.len()).then(|| inner.slice(..len))
}

/// RFC 7761 section 4.9: "the checksum for Registers is done only on the first 8 bytes of the packet [...] For interoperability
/// reasons, a message carrying a checksum calculated over the entire PIM Register message should also be accepted." In IPv6 the
/// pseudo-header counts as well.
fn has_right_checksum(ip: &IpMeta, message: &[u8]) -> bool {
    [HEADER_LEN, message.len()].into_iter().any(|len| {
        // At most 64 KiB.
        let of_pseudo = u32::try_from(len).unwrap_or(u32::MAX);
        let mut sum = match ip.source {
            IpAddr::V4(_) => Accumulator::default(),
            IpAddr::V6(_) => {
                Accumulator::new(pseudo_header(ip.source, ip.destination, Protocol::PIM.0, of_pseudo))
            }
        };
        sum.add(&message[..len]);
        sum.is_valid()
    })
}

/// Version 2, type 1.
const REGISTER: u8 = 0x21;
const HEADER_LEN: usize = 8;
/// The message asks whether the group is still wanted, and has at most the header of a packet in it.
const NULL_REGISTER: u8 = 0x40;
