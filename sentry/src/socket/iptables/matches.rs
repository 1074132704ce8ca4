//! What entries test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use netstack::IpCidr;
use netstack::filter::{ConnState, Test};
use netstack::options::Family;
use netstack::route::MarkMatch;
use netstack::wire::ip::Protocol;
use netstack::wire::tcp::TcpFlags;

use super::blob::{Entry, Extension, Layout, half, text, word};
use crate::errno::Errno;

/// A test, and whether it must fail.
pub(super) type Tested = (Test, bool);

/// The matches, with the highest revision of each.
pub(super) const MATCHES: &[(&str, u8, Option<Family>)] = &[
    ("tcp", 0, None),
    ("udp", 0, None),
    ("icmp", 0, Some(Family::V4)),
    ("icmp6", 0, Some(Family::V6)),
    ("multiport", 1, None),
    ("state", 0, None),
    ("conntrack", 3, None),
    ("mark", 1, None),
    ("limit", 0, None),
    ("comment", 0, None),
    ("ttl", 0, Some(Family::V4)),
    ("hl", 0, Some(Family::V6)),
];

/// All that an entry tests.
///
/// # Errors
/// `ENOENT` for a match that there is not; `EINVAL` for one that cannot be honoured.
pub(super) fn tests(family: Family, layout: Layout, entry: &Entry<'_>) -> Result<Vec<Tested>, Errno> {
    let mut tests = Vec::new();
    head(family, layout, entry.head, &mut tests)?;
    for extension in &entry.matches {
        one(family, extension, &mut tests)?;
    }
    Ok(tests)
}

/// Whether an entry is for all packets.
pub(super) fn is_unconditional(layout: Layout, entry: &Entry<'_>) -> bool {
    entry.matches.is_empty() && entry.head[..layout.tests_end()].iter().all(|byte| *byte == 0)
}

/// The fixed part: addresses, interfaces, protocol.
fn head(family: Family, layout: Layout, head: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let (flags, inverted) = (head[layout.flags_at], head[layout.flags_at + 1]);
    // Later fragments only, and types of service: the filter sees whole packets.
    let known = if family == Family::V6 { FLAG_V6_PROTOCOL } else { 0 };
    if flags & !known != 0 || inverted & (INVERT_TOS | INVERT_FRAGMENT) != 0 {
        return Err(Errno::EINVAL);
    }
    let len = layout.address_len;
    let address = |index: usize| &head[index * len..(index + 1) * len];
    if let Some(network) = network(address(0), address(2))? {
        tests.push((Test::Source(network), inverted & INVERT_SOURCE != 0));
    }
    if let Some(network) = network(address(1), address(3))? {
        tests.push((Test::Destination(network), inverted & INVERT_DESTINATION != 0));
    }
    let names = &head[layout.names_at()..layout.names_at() + 64];
    if let Some(name) = interface(&names[..16], &names[32..48])? {
        tests.push((Test::InputNic(name), inverted & INVERT_INPUT != 0));
    }
    if let Some(name) = interface(&names[16..32], &names[48..])? {
        tests.push((Test::OutputNic(name), inverted & INVERT_OUTPUT != 0));
    }
    let protocol = half(head, layout.protocol_at());
    let protocol = u8::try_from(protocol).map_err(|_| Errno::EINVAL)?;
    if protocol != 0 {
        tests.push((Test::Protocol(Protocol(protocol)), inverted & INVERT_PROTOCOL != 0));
    }
    Ok(())
}

fn network(address: &[u8], mask: &[u8]) -> Result<Option<IpCidr>, Errno> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
    let unused = 128 - 8 * u32::try_from(mask.len()).map_err(|_| Errno::EINVAL)?;
    let ones = (number(mask) << unused).leading_ones();
    if number(mask).count_ones() != ones {
        // A mask with holes.
        return Err(Errno::EINVAL);
    }
    if ones == 0 {
        return Ok(None);
    }
    let address = match *address {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number(address))),
    };
    IpCidr::new(address, u8::try_from(ones).map_err(|_| Errno::EINVAL)?).map(Some).ok_or(Errno::EINVAL)
}

/// A name whose mask covers its end, or the beginning of one.
fn interface(name: &[u8], mask: &[u8]) -> Result<Option<String>, Errno> {
    let len = mask.iter().take_while(|byte| **byte == 0xff).count();
    if mask[len..].iter().any(|byte| *byte != 0) {
        return Err(Errno::EINVAL);
    }
    let name = text(name)?;
    Ok(match len {
        0 => None,
        _ if name.len() < len => Some(name.to_owned()),
        _ => Some(format!("{}+", name.get(..len).ok_or(Errno::EINVAL)?)),
    })
}

fn one(family: Family, extension: &Extension<'_>, tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let Extension { name, revision, data } = *extension;
    match (name, revision) {
        ("tcp", 0) => tcp(data, tests),
        ("udp", 0) => {
            ports(data, data.get(8).copied().ok_or(Errno::EINVAL)?, tests);
            Ok(())
        }
        ("icmp", 0) | ("icmp6", 0) => icmp(data, tests),
        ("multiport", 0 | 1) => multiport(data, revision, tests),
        ("state", 0) => {
            tests.push((Test::State(states(word(data, 0), 1 << 6)?), false));
            Ok(())
        }
        ("conntrack", 3) => conntrack(data, tests),
        ("mark", 1) => {
            let inverted = *data.get(8).ok_or(Errno::EINVAL)? != 0;
            let mark = MarkMatch { value: word(data, 0), mask: word(data, 4) };
            tests.push((Test::Mark(mark), inverted));
            Ok(())
        }
        ("limit", 0) => {
            // In ten-thousandths of a second (XT_LIMIT_SCALE).
            let interval = Duration::from_micros(u64::from(word(data, 0)) * 100);
            tests.push((Test::Limit { interval, burst: word(data, 4) }, false));
            Ok(())
        }
        ("comment", 0) => Ok(()),
        ("ttl", 0) if family == Family::V4 => ttl(data, tests),
        ("hl", 0) if family == Family::V6 => ttl(data, tests),
        _ => Err(Errno::ENOENT),
    }
}

/// Ranges of source and destination ports, which `tcp` and `udp` begin with; the lowest flags invert them.
fn ports(data: &[u8], inverted: u8, tests: &mut Vec<Tested>) {
    let port = |at: usize| u16::try_from(half(data, at)).unwrap_or(u16::MAX);
    let (source, destination) = (port(0)..=port(2), port(4)..=port(6));
    let all = 0..=u16::MAX;
    if source != all || inverted & 1 != 0 {
        tests.push((Test::SourcePort(vec![source]), inverted & 1 != 0));
    }
    if destination != all || inverted & 2 != 0 {
        tests.push((Test::DestinationPort(vec![destination]), inverted & 2 != 0));
    }
}

fn tcp(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let &[option, mask, set, inverted] = data.get(8..12).ok_or(Errno::EINVAL)? else {
        return Err(Errno::EINVAL);
    };
    // Tests for TCP options are not built.
    if option != 0 {
        return Err(Errno::EINVAL);
    }
    ports(data, inverted, tests);
    if mask != 0 || inverted & 4 != 0 {
        let (mask, set) = (TcpFlags::from_bits_retain(mask), TcpFlags::from_bits_retain(set));
        tests.push((Test::TcpFlags { mask, set }, inverted & 4 != 0));
    }
    Ok(())
}

fn icmp(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let &[kind, first, last, inverted] = data.get(..4).ok_or(Errno::EINVAL)? else {
        return Err(Errno::EINVAL);
    };
    let code = match (first, last) {
        (0, u8::MAX) => None,
        (first, last) if first == last => Some(first),
        _ => return Err(Errno::EINVAL),
    };
    // 255 is any.
    if kind != u8::MAX {
        tests.push((Test::Icmp { kind, code }, inverted & 1 != 0));
    }
    Ok(())
}

fn multiport(data: &[u8], revision: u8, tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let &[which, count, ..] = data else { return Err(Errno::EINVAL) };
    let count = usize::from(count);
    if count > 15 || data.len() < if revision == 0 { 32 } else { 48 } {
        return Err(Errno::EINVAL);
    }
    let port = |index: usize| u16::try_from(half(data, 2 + 2 * index)).unwrap_or(u16::MAX);
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    let mut index = 0;
    while index < count {
        // A mark at a port says that it is the beginning of a range, which the next one ends.
        let is_range = revision == 1 && data[32 + index] != 0;
        let last = if is_range { index + 1 } else { index };
        ranges.push(port(index)..=port(last));
        index = last + 1;
    }
    let inverted = revision == 1 && data[47] != 0;
    tests.push((
        match which {
            0 => Test::SourcePort(ranges),
            1 => Test::DestinationPort(ranges),
            2 => Test::EitherPort(ranges),
            _ => return Err(Errno::EINVAL),
        },
        inverted,
    ));
    Ok(())
}

/// `struct xt_conntrack_mtinfo3`, of which only the states are looked at.
fn conntrack(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    if data.len() < 154 || half(data, 146) & !CONNTRACK_STATE_ALIAS != CONNTRACK_STATE {
        return Err(Errno::EINVAL);
    }
    let mask = u32::try_from(half(data, 150)).map_err(|_| Errno::EINVAL)?;
    // The states of translation come between those of flows and "untracked".
    if mask & (3 << 6) != 0 {
        return Err(Errno::EINVAL);
    }
    tests.push((Test::State(states(mask, 1 << 8)?), half(data, 148) & CONNTRACK_STATE != 0));
    Ok(())
}

/// `XT_STATE_BIT`: invalid, then established, related and new.
fn states(mask: u32, untracked: u32) -> Result<ConnState, Errno> {
    let mut states = ConnState::empty();
    states.set(ConnState::INVALID, mask & 1 != 0);
    states.set(ConnState::ESTABLISHED, mask & (1 << 1) != 0);
    states.set(ConnState::RELATED, mask & (1 << 2) != 0);
    states.set(ConnState::NEW, mask & (1 << 3) != 0);
    states.set(ConnState::UNTRACKED, mask & untracked != 0);
    if states.is_empty() { Err(Errno::EINVAL) } else { Ok(states) }
}

/// `struct ipt_ttl_info`, `struct ip6t_hl_info`.
fn ttl(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let &[mode, ttl, ..] = data else { return Err(Errno::EINVAL) };
    let test = match (mode, ttl) {
        (0 | 1, _) => (ttl..=ttl, mode == 1),
        (2, 1..) => (0..=ttl - 1, false),
        (3, 0..=254) => (ttl + 1..=u8::MAX, false),
        _ => return Err(Errno::EINVAL),
    };
    tests.push((Test::Ttl(test.0), test.1));
    Ok(())
}

const FLAG_V6_PROTOCOL: u8 = 1;
const INVERT_INPUT: u8 = 1;
const INVERT_OUTPUT: u8 = 2;
const INVERT_TOS: u8 = 4;
const INVERT_SOURCE: u8 = 8;
const INVERT_DESTINATION: u8 = 0x10;
const INVERT_FRAGMENT: u8 = 0x20;
const INVERT_PROTOCOL: u8 = 0x40;
/// `XT_CONNTRACK_STATE`.
const CONNTRACK_STATE: usize = 1;
/// `XT_CONNTRACK_STATE_ALIAS`: it was written as the match `state`.
const CONNTRACK_STATE_ALIAS: usize = 1 << 13;
