//! What entries test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::IpCidr;
use netstack::filter::{Side, SocketTest, Test};
use netstack::options::Family;
use netstack::wire::ip::Protocol;

use super::blob::{Entry, Extension, Layout, half, text};
use crate::errno::Errno;

mod context;
mod flow;
mod headers;
mod measure;

pub(in crate::socket) use context::hash_limit_prefix;

/// A test, and whether it must fail.
pub(in crate::socket) type Tested = (Test, bool);

/// The matches with their revisions.
pub(in crate::socket) const MATCHES: &[(&str, u8, Option<Family>)] = &[
    ("tcp", 0, None),
    ("udp", 0, None),
    ("icmp", 0, Some(Family::V4)),
    ("icmp6", 0, Some(Family::V6)),
    ("multiport", 0, None),
    ("multiport", 1, None),
    ("state", 0, None),
    ("conntrack", 3, None),
    ("connmark", 1, None),
    ("mark", 1, None),
    ("limit", 0, None),
    ("hashlimit", 1, None),
    ("hashlimit", 2, None),
    ("hashlimit", 3, None),
    ("recent", 0, None),
    ("recent", 1, None),
    ("comment", 0, None),
    ("ttl", 0, Some(Family::V4)),
    ("hl", 0, Some(Family::V6)),
    ("owner", 1, None),
    ("addrtype", 0, Some(Family::V4)),
    ("addrtype", 1, None),
    ("iprange", 1, None),
    ("length", 0, None),
    ("dscp", 0, None),
    ("tos", 1, None),
    ("mac", 0, None),
    ("pkttype", 0, None),
    ("statistic", 0, None),
    ("quota", 0, None),
    ("tcpmss", 0, None),
    ("u32", 0, None),
    ("string", 1, None),
    ("connbytes", 0, None),
    ("connlimit", 1, None),
    ("time", 0, None),
    ("socket", 0, Some(Family::V4)),
    ("socket", 1, None),
    ("socket", 2, None),
    ("socket", 3, None),
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
    // In IPv6 the protocol has a flag, and so has a type of service, which no program sets.
    let known = match family {
        Family::V4 => FLAG_FRAGMENT | FLAG_GOTO_V4,
        Family::V6 => FLAG_V6_PROTOCOL | FLAG_GOTO_V6,
    };
    if flags & !known != 0 || inverted & INVERT_TOS != 0 {
        return Err(Errno::EINVAL);
    }
    if family == Family::V4 && (flags & FLAG_FRAGMENT != 0 || inverted & INVERT_FRAGMENT != 0) {
        tests.push((Test::LaterFragment, inverted & INVERT_FRAGMENT != 0));
    }
    let len = layout.address_len;
    let address = |index: usize| &head[index * len..(index + 1) * len];
    if let Some(test) = network(address(0), address(2), Side::Source)? {
        tests.push((test, inverted & INVERT_SOURCE != 0));
    }
    if let Some(test) = network(address(1), address(3), Side::Destination)? {
        tests.push((test, inverted & INVERT_DESTINATION != 0));
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

/// An address under a mask, as a test of one side; nothing for a mask of no bits.
fn network(address: &[u8], mask: &[u8], side: Side) -> Result<Option<Test>, Errno> {
    let (address, mask) = (ip(address)?, ip(mask)?);
    let (bits, width) = match mask {
        IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, 32),
        IpAddr::V6(mask) => (mask.to_bits(), 128),
    };
    let ones = bits.leading_ones();
    Ok(match (bits.count_ones() == ones, side) {
        _ if bits == 0 => None,
        (true, _) => {
            let len = u8::try_from(ones.min(width)).map_err(|_| Errno::EINVAL)?;
            let network = IpCidr::new(address, len).ok_or(Errno::EINVAL)?;
            Some(if side == Side::Source { Test::Source(network) } else { Test::Destination(network) })
        }
        (false, Side::Source) => Some(Test::MaskedSource(address, mask)),
        (false, Side::Destination) => Some(Test::MaskedDestination(address, mask)),
    })
}

/// An address of the family that its length tells.
pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr, Errno> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(bytes).map(|v6| IpAddr::V6(Ipv6Addr::from(v6))).map_err(|_| Errno::EINVAL)
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

/// What a match tests.
///
/// # Errors
/// `ENOENT` for a match that there is not; `EINVAL` for one that cannot be honoured.
pub(in crate::socket) fn one(
    family: Family,
    extension: &Extension<'_>,
    tests: &mut Vec<Tested>,
) -> Result<(), Errno> {
    let Extension { name, revision, data } = *extension;
    let tested = match (name, revision) {
        ("tcp", 0) => return headers::tcp(data, tests),
        ("udp", 0) => return headers::udp(data, tests),
        ("iprange", 1) => return headers::address_range(family, data, tests),
        ("conntrack", 3) => return flow::conntrack(family, data, tests),
        ("addrtype", 0 | 1) => return context::address_kind(data, revision, tests),
        ("comment", 0) => return Ok(()),
        ("icmp", 0) if family == Family::V4 => headers::icmp(data)?,
        ("icmp6", 0) if family == Family::V6 => headers::icmp(data)?,
        ("multiport", 0 | 1) => headers::multiport(data, revision)?,
        ("length", 0) => headers::length(data)?,
        ("dscp", 0) => headers::dscp(data)?,
        ("tos", 1) => headers::tos(data)?,
        ("tcpmss", 0) => headers::mss(data)?,
        ("u32", 0) => headers::words(data)?,
        ("ttl", 0) if family == Family::V4 => headers::ttl(data)?,
        ("hl", 0) if family == Family::V6 => headers::ttl(data)?,
        ("state", 0) => flow::state(data)?,
        ("connmark", 1) => flow::mark(data)?,
        ("mark", 1) => context::mark(data)?,
        ("owner", 1) => context::owner(data)?,
        ("mac", 0) => context::mac(data)?,
        ("pkttype", 0) => context::packet_kind(data)?,
        ("limit", 0) => context::limit(data)?,
        ("hashlimit", 1..=3) => context::hash_limit(family, data, revision)?,
        ("recent", 0 | 1) => context::recent(family, data, revision)?,
        ("statistic", 0) => context::statistic(data)?,
        ("quota", 0) => context::quota(data)?,
        ("string", 1) => measure::string(data)?,
        ("connbytes", 0) => measure::bytes(data)?,
        ("connlimit", 1) => measure::connections(family, data)?,
        ("time", 0) => measure::time(data)?,
        ("socket", 0) if family == Family::V4 => (Test::Socket(SocketTest::default()), false),
        ("socket", 1..=3) => context::socket(data, revision)?,
        _ => return Err(Errno::ENOENT),
    };
    tests.push(tested);
    Ok(())
}

const FLAG_FRAGMENT: u8 = 1;
/// `IPT_F_GOTO`.
pub(super) const FLAG_GOTO_V4: u8 = 2;
/// `IP6T_F_GOTO`.
pub(super) const FLAG_GOTO_V6: u8 = 4;
const FLAG_V6_PROTOCOL: u8 = 1;
const INVERT_INPUT: u8 = 1;
const INVERT_OUTPUT: u8 = 2;
const INVERT_TOS: u8 = 4;
const INVERT_SOURCE: u8 = 8;
const INVERT_DESTINATION: u8 = 0x10;
const INVERT_FRAGMENT: u8 = 0x20;
const INVERT_PROTOCOL: u8 = 0x40;
