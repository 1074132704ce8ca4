//! Choosing what a flow is translated to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use netstack_wire::ip::Protocol;

use super::rule::{NatRange, Ports};
use crate::conntrack::{Conn, Direction, Side, Tuple};
use crate::stack::Core;
use crate::time::Instant;

/// Maps one side of a new flow into a range, such that its answers can be told from those of all other flows. False if
/// there is no free tuple.
pub(super) fn map(core: &Core, conn: &Conn, side: Side, range: &NatRange, now: Instant) -> bool {
    // What its packets look like when they leave, as decided so far.
    let leaving = conn.translated(Direction::Original);
    let address = match side {
        Side::Source => leaving.source,
        Side::Destination => leaving.destination,
    };
    let address = match &range.addresses {
        Some(addresses) => pick_address(core, addresses, &leaving),
        None => address,
    };
    map_to(core, conn, side, address, range, now)
}

/// Maps one side of a new flow to an address of a network, keeping the part that tells hosts apart.
pub(super) fn map_network(core: &Core, conn: &Conn, side: Side, network: &NatRange, now: Instant) -> bool {
    let leaving = conn.translated(Direction::Original);
    let address = match side {
        Side::Source => leaving.source,
        Side::Destination => leaving.destination,
    };
    let Some(addresses) = &network.addresses else { return true };
    // The bits in which the ends differ are the host's.
    let address = match (*addresses.start(), *addresses.end(), address) {
        (IpAddr::V4(first), IpAddr::V4(last), IpAddr::V4(own)) => {
            let mask = !(first.to_bits() ^ last.to_bits());
            IpAddr::V4((first.to_bits() & mask | own.to_bits() & !mask).into())
        }
        (IpAddr::V6(first), IpAddr::V6(last), IpAddr::V6(own)) => {
            let mask = !(first.to_bits() ^ last.to_bits());
            IpAddr::V6((first.to_bits() & mask | own.to_bits() & !mask).into())
        }
        (_, _, own) => own,
    };
    map_to(core, conn, side, address, network, now)
}

fn map_to(core: &Core, conn: &Conn, side: Side, address: IpAddr, range: &NatRange, now: Instant) -> bool {
    let leaving = conn.translated(Direction::Original);
    let moved = match side {
        Side::Source => Tuple { source: address, ..leaving },
        Side::Destination => Tuple { destination: address, ..leaving },
    };
    match free_tuple(core, moved, side, range, now) {
        Some(tuple) => {
            conn.map(side, tuple.inverted());
            true
        }
        None => false,
    }
}

/// Keeps a new flow as it is, unless its answers could be taken for those of another one: then its source port changes.
/// (A socket of ours may use the port that a translated flow got.)
pub(super) fn keep_apart(core: &Core, conn: &Conn, now: Instant) -> bool {
    let leaving = conn.translated(Direction::Original);
    if !core.filter.conntrack.table.is_taken(&leaving.inverted(), now) {
        return true;
    }
    map(core, conn, Side::Source, &NatRange::default(), now)
}

/// Flows of one source stay on one address (Linux's persistent mapping).
fn pick_address(core: &Core, addresses: &RangeInclusive<IpAddr>, tuple: &Tuple) -> IpAddr {
    let hash = core.secrets.hash_pair(tuple.source, tuple.source, 0);
    match (*addresses.start(), *addresses.end()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            // A range the wrong way round is its beginning.
            let count = u64::from(last.to_bits().saturating_sub(first.to_bits())) + 1;
            // Below the count, which is at most 2^32.
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + (hash % count) as u32))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let count = last.to_bits().saturating_sub(first.to_bits()).saturating_add(1);
            IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + u128::from(hash) % count))
        }
        (first, _) => first,
    }
}

/// A tuple near `wanted` whose answers belong to no other flow.
fn free_tuple(core: &Core, wanted: Tuple, side: Side, range: &NatRange, now: Instant) -> Option<Tuple> {
    let NatRange { addresses: _, ports, choice } = range;
    let table = &core.filter.conntrack.table;
    let is_free = |tuple: &Tuple| !table.is_taken(&tuple.inverted(), now);
    let current = match side {
        Side::Source => wanted.source_id,
        Side::Destination => wanted.destination_id,
    };
    let fits = ports.as_ref().is_none_or(|ports| ports.contains(&current)) && *choice == Ports::Near;
    if !wanted.has_ids() {
        return is_free(&wanted).then_some(wanted);
    }
    // The destination's type of an echo is no number to choose.
    let is_echo = matches!(wanted.protocol, Protocol::ICMP | Protocol::ICMPV6);
    if fits && (side == Side::Destination || is_free(&wanted)) {
        // RFC 7857 and Linux: an unchanged destination port is right even if answers clash; confirming finds out.
        return Some(wanted);
    }
    if is_echo && side == Side::Destination {
        return Some(wanted);
    }
    if side == Side::Destination && ports.is_none() {
        // Linux chooses destination ports only from a range.
        return Some(wanted);
    }
    let range = ports.clone().unwrap_or_else(|| near(current, is_echo));
    let count = u32::from(*range.end()).saturating_sub(u32::from(*range.start())) + 1;
    let offset = match choice {
        Ports::Offset(base) => u32::from(current.wrapping_sub(*base)) % count,
        // A clash would be found by confirming: nothing is gained by looking for another one.
        Ports::Near | Ports::Random => core.secrets.random_below(count),
    };
    (0..count.min(MAX_ATTEMPTS)).find_map(|attempt| {
        // Within a range of ports.
        let id = range.start() + ((offset + attempt) % count) as u16;
        let tuple = match side {
            Side::Source => Tuple { source_id: id, ..wanted },
            Side::Destination => Tuple { destination_id: id, ..wanted },
        };
        is_free(&tuple).then_some(tuple)
    })
}

/// The ports that may stand for one: privileged ones stay privileged, as in Linux.
fn near(port: u16, is_echo: bool) -> RangeInclusive<u16> {
    match port {
        _ if is_echo => 0..=u16::MAX,
        0..512 => 1..=511,
        512..1024 => 600..=1023,
        1024.. => 1024..=u16::MAX,
    }
}

/// Bounds the time that a packet takes when nearly all ports are taken. Linux begins with as many.
const MAX_ATTEMPTS: u32 = 128;
