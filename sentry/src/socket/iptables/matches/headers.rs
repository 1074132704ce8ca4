//! Matches that look at headers.

use std::ops::RangeInclusive;

use netstack::filter::{Test, U32Step, U32Test};
use netstack::options::Family;
use netstack::wire::tcp::TcpFlags;

use super::{Tested, ip};
use crate::errno::Errno;
use crate::socket::iptables::blob::{half, word};

fn port(data: &[u8], at: usize) -> u16 {
    u16::try_from(half(data, at)).unwrap_or(u16::MAX)
}

/// Ranges of source and destination ports, which `tcp` and `udp` begin with; the lowest flags invert them.
fn ports(data: &[u8], inverted: u8, tests: &mut Vec<Tested>) {
    let (source, destination) = (port(data, 0)..=port(data, 2), port(data, 4)..=port(data, 6));
    let all = 0..=u16::MAX;
    if source != all || inverted & 1 != 0 {
        tests.push((Test::SourcePort(vec![source]), inverted & 1 != 0));
    }
    if destination != all || inverted & 2 != 0 {
        tests.push((Test::DestinationPort(vec![destination]), inverted & 2 != 0));
    }
}

/// `struct xt_udp`.
pub(super) fn udp(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    ports(data, data.get(8).copied().ok_or(Errno::EINVAL)?, tests);
    Ok(())
}

/// `struct xt_tcp`.
pub(super) fn tcp(data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let &[option, mask, set, inverted] = data.get(8..12).ok_or(Errno::EINVAL)? else {
        return Err(Errno::EINVAL);
    };
    ports(data, inverted, tests);
    if mask != 0 || inverted & 4 != 0 {
        let (mask, set) = (TcpFlags::from_bits_retain(mask), TcpFlags::from_bits_retain(set));
        tests.push((Test::TcpFlags { mask, set }, inverted & 4 != 0));
    }
    if option != 0 {
        tests.push((Test::TcpOption(option), inverted & 8 != 0));
    }
    Ok(())
}

/// `struct ipt_icmp`, `struct ip6t_icmp`.
pub(super) fn icmp(data: &[u8]) -> Result<Tested, Errno> {
    let &[kind, first, last, inverted] = data.get(..4).ok_or(Errno::EINVAL)? else {
        return Err(Errno::EINVAL);
    };
    let inverted = inverted & 1 != 0;
    // 255 is any.
    Ok(match kind {
        u8::MAX => (Test::Length(0..=u16::MAX), inverted),
        kind => (Test::Icmp { kind, codes: first..=last }, inverted),
    })
}

/// `struct xt_multiport`, `struct xt_multiport_v1`.
pub(super) fn multiport(data: &[u8], revision: u8) -> Result<Tested, Errno> {
    let &[which, count, ..] = data else { return Err(Errno::EINVAL) };
    let count = usize::from(count);
    if count > 15 || data.len() < if revision == 0 { 32 } else { 48 } {
        return Err(Errno::EINVAL);
    }
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    let mut index = 0;
    while index < count {
        // A mark at a port says that it is the beginning of a range, which the next one ends.
        let is_range = revision == 1 && data[32 + index] != 0;
        let last = if is_range { index + 1 } else { index };
        ranges.push(port(data, 2 + 2 * index)..=port(data, 2 + 2 * last));
        index = last + 1;
    }
    let inverted = revision == 1 && data[47] != 0;
    let test = match which {
        0 => Test::SourcePort(ranges),
        1 => Test::DestinationPort(ranges),
        2 => Test::EitherPort(ranges),
        _ => return Err(Errno::EINVAL),
    };
    Ok((test, inverted))
}

/// `struct xt_iprange_mtinfo`.
pub(super) fn address_range(family: Family, data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let flags = *data.get(64).ok_or(Errno::EINVAL)?;
    let len = if family == Family::V4 { 4 } else { 16 };
    let address = |at: usize| ip(&data[at..at + len]);
    if flags & 1 != 0 {
        tests.push((Test::SourceRange(address(0)?..=address(16)?), flags & 0x10 != 0));
    }
    if flags & 2 != 0 {
        tests.push((Test::DestinationRange(address(32)?..=address(48)?), flags & 0x20 != 0));
    }
    Ok(())
}

/// `struct xt_length_info`.
pub(super) fn length(data: &[u8]) -> Result<Tested, Errno> {
    let inverted = *data.get(4).ok_or(Errno::EINVAL)? != 0;
    Ok((Test::Length(port(data, 0)..=port(data, 2)), inverted))
}

/// `struct xt_dscp_info`.
pub(super) fn dscp(data: &[u8]) -> Result<Tested, Errno> {
    let &[dscp, inverted, ..] = data else { return Err(Errno::EINVAL) };
    if dscp > 0x3f {
        return Err(Errno::EINVAL);
    }
    Ok((Test::Tos { value: dscp << 2, mask: 0xfc }, inverted != 0))
}

/// `struct xt_tos_match_info`.
pub(super) fn tos(data: &[u8]) -> Result<Tested, Errno> {
    let &[mask, value, inverted, ..] = data else { return Err(Errno::EINVAL) };
    Ok((Test::Tos { value, mask }, inverted != 0))
}

/// `struct xt_tcpmss_match_info`.
pub(super) fn mss(data: &[u8]) -> Result<Tested, Errno> {
    let inverted = *data.get(4).ok_or(Errno::EINVAL)? != 0;
    Ok((Test::Mss(port(data, 0)..=port(data, 2)), inverted))
}

/// `struct ipt_ttl_info`, `struct ip6t_hl_info`.
pub(super) fn ttl(data: &[u8]) -> Result<Tested, Errno> {
    let &[mode, ttl, ..] = data else { return Err(Errno::EINVAL) };
    let (range, inverted) = match (mode, ttl) {
        (0 | 1, _) => (ttl..=ttl, mode == 1),
        // Less than 0 and more than 255 are never.
        (2, 0) => (0..=u8::MAX, true),
        (2, _) => (0..=ttl - 1, false),
        (3, u8::MAX) => (0..=u8::MAX, true),
        (3, _) => (ttl + 1..=u8::MAX, false),
        _ => return Err(Errno::EINVAL),
    };
    Ok((Test::Ttl(range), inverted))
}

/// `struct xt_u32`: eleven tests, each with eleven steps and eleven ranges.
pub(super) fn words(data: &[u8]) -> Result<Tested, Errno> {
    const MOST: usize = 11;
    const TEST_LEN: usize = MOST * 8 + MOST * 8 + 4;
    let &[count, inverted] = data.get(MOST * TEST_LEN..MOST * TEST_LEN + 2).ok_or(Errno::EINVAL)? else {
        return Err(Errno::EINVAL);
    };
    let mut tests = Vec::new();
    for index in 0..usize::from(count) {
        let test = data.get(index * TEST_LEN..(index + 1) * TEST_LEN).ok_or(Errno::EINVAL)?;
        let (steps, ranges) = (usize::from(test[MOST * 16]), usize::from(test[MOST * 16 + 1]));
        if index >= MOST || steps > MOST || ranges > MOST {
            return Err(Errno::EINVAL);
        }
        let mut wanted = U32Test { start: word(test, 0), steps: Vec::new(), ranges: Vec::new() };
        for step in 1..steps {
            let number = word(test, step * 8);
            wanted.steps.push(match test[step * 8 + 4] {
                0 => U32Step::And(number),
                1 => U32Step::Left(number),
                2 => U32Step::Right(number),
                3 => U32Step::At(number),
                _ => return Err(Errno::EINVAL),
            });
        }
        for range in 0..ranges {
            let at = MOST * 8 + range * 8;
            wanted.ranges.push(word(test, at)..=word(test, at + 4));
        }
        tests.push(wanted);
    }
    Ok((Test::U32(tests), inverted != 0))
}
