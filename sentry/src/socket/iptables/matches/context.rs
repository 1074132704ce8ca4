//! Matches that look at what is known besides a packet's bytes and its flow, and those that remember.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netstack::MacAddr;
use netstack::filter::{
    AddressKinds, HashLimit, HashLimitKey, OwnerTest, PacketKind, RecentAction, RecentTest, Side, SocketTest,
    StatisticMode, Test,
};
use netstack::options::Family;
use netstack::route::MarkMatch;

use super::{Tested, ip};
use crate::errno::Errno;
use crate::socket::iptables::blob::{half, long, text, word};

/// `struct xt_mark_mtinfo1`.
pub(super) fn mark(data: &[u8]) -> Result<Tested, Errno> {
    let inverted = *data.get(8).ok_or(Errno::EINVAL)? != 0;
    Ok((Test::Mark(MarkMatch { value: word(data, 0), mask: word(data, 4) }), inverted))
}

/// `struct xt_owner_match_info`.
pub(super) fn owner(data: &[u8]) -> Result<Tested, Errno> {
    let &[wanted, inverted] = data.get(16..18).ok_or(Errno::EINVAL)? else { return Err(Errno::EINVAL) };
    // Supplementary groups are not known to the stack.
    if wanted & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let has = |flag: u8| wanted & flag != 0;
    let not = |flag: u8| inverted & flag != 0;
    let test = OwnerTest {
        exists: has(4).then(|| !not(4)),
        users: has(1).then(|| (word(data, 0)..=word(data, 4), not(1))),
        groups: has(2).then(|| (word(data, 8)..=word(data, 12), not(2))),
    };
    Ok((Test::Owner(test), false))
}

/// `struct xt_socket_mtinfo1` to `3`, each of which knows one flag more.
pub(super) fn socket(data: &[u8], revision: u8) -> Result<Tested, Errno> {
    let flags = *data.first().ok_or(Errno::EINVAL)?;
    if flags >> revision != 0 {
        return Err(Errno::EINVAL);
    }
    let test =
        SocketTest { transparent: flags & 1 != 0, even_anywhere: flags & 2 != 0, takes_mark: flags & 4 != 0 };
    Ok((Test::Socket(test), false))
}

/// `struct xt_addrtype_info`, `struct xt_addrtype_info_v1`.
pub(super) fn address_kind(data: &[u8], revision: u8, tests: &mut Vec<Tested>) -> Result<(), Errno> {
    let (source, destination) = (half(data, 0), half(data, 2));
    let (not_source, not_destination, limited_to) = match revision {
        0 => (word(data, 4) != 0, word(data, 8) != 0, None),
        _ => {
            let flags = word(data, 4);
            let limited_to = match flags & 0xc {
                0 => None,
                4 => Some(Side::Source),
                8 => Some(Side::Destination),
                _ => return Err(Errno::EINVAL),
            };
            (flags & 1 != 0, flags & 2 != 0, limited_to)
        }
    };
    for (mask, side, inverted) in
        [(source, Side::Source, not_source), (destination, Side::Destination, not_destination)]
    {
        if mask != 0 {
            let kinds = AddressKinds::from_bits_truncate(u16::try_from(mask).unwrap_or(0));
            tests.push((Test::AddressKind { side, kinds, limited_to }, inverted));
        }
    }
    Ok(())
}

/// `struct xt_mac_info`.
pub(super) fn mac(data: &[u8]) -> Result<Tested, Errno> {
    let address: [u8; 6] = data.get(..6).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok((Test::SourceMac(MacAddr(address)), word(data, 8) != 0))
}

/// `struct xt_pkttype_info`.
pub(super) fn packet_kind(data: &[u8]) -> Result<Tested, Errno> {
    let kind = match word(data, 0) {
        0 => PacketKind::Unicast,
        1 => PacketKind::Broadcast,
        2 => PacketKind::Multicast,
        _ => return Err(Errno::EINVAL),
    };
    Ok((Test::Kind(kind), word(data, 4) != 0))
}

/// `struct xt_rateinfo`, in ten-thousandths of a second (XT_LIMIT_SCALE).
pub(super) fn limit(data: &[u8]) -> Result<Tested, Errno> {
    let interval = Duration::from_micros(u64::from(word(data, 0)) * 100);
    Ok((Test::Limit { interval, burst: word(data, 4) }, false))
}

/// What the names of a family's tables begin with: the families share no tables of limits.
pub(in crate::socket) fn hash_limit_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4:",
        Family::V6 => "v6:",
    }
}

/// `struct xt_hashlimit_mtinfo1` to `3`.
pub(super) fn hash_limit(family: Family, data: &[u8], revision: u8) -> Result<Tested, Errno> {
    let name_len = if revision == 1 { 16 } else { 255 };
    let name = text(data.get(..name_len).ok_or(Errno::EINVAL)?)?;
    // The configuration is aligned to what it begins with, and revision 1 begins with the mode.
    let (mode_at, masks_at, at) = match revision {
        1 => (0, 28, 16),
        2 => (16, 36, 256),
        _ => (16, 40, 256),
    };
    let config = data.get(at..at + masks_at + 2).ok_or(Errno::EINVAL)?;
    let (average, burst) = match revision {
        1 => (u64::from(word(config, 4)), u64::from(word(config, 8))),
        _ => (long(config, 0), long(config, 8)),
    };
    let number = |index: usize| word(config, if revision == 1 { 12 } else { 20 } + 4 * index);
    let mode = word(config, mode_at);
    // Limits of bytes and rates that are matched are not built.
    if mode & !0x1f != 0 || average == 0 {
        return Err(Errno::EINVAL);
    }
    // Ten-thousandths of a second, and millionths since revision 2.
    let unit = if revision == 1 { Duration::from_micros(100) } else { Duration::from_micros(1) };
    let interval = unit.checked_mul(u32::try_from(average).unwrap_or(u32::MAX)).ok_or(Errno::ERANGE)?;
    let bits = if family == Family::V4 { 32 } else { 128 };
    let limit = HashLimit {
        name: format!("{}{name}", hash_limit_prefix(family)),
        key: HashLimitKey::from_bits_truncate(u8::try_from(mode & 0xf).unwrap_or(0)),
        source_bits: config[masks_at].min(bits),
        destination_bits: config[masks_at + 1].min(bits),
        interval,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
        expires: Duration::from_millis(u64::from(number(3))),
        max: match number(1) {
            // As many as Linux has buckets for a machine of a gigabyte, times eight.
            0 => 65_536,
            max => usize::try_from(max).unwrap_or(usize::MAX).min(MAX_HASHED),
        },
    };
    Ok((Test::HashLimit(limit), mode & 0x10 != 0))
}

/// `struct xt_recent_mtinfo`, `struct xt_recent_mtinfo_v1`.
pub(super) fn recent(family: Family, data: &[u8], revision: u8) -> Result<Tested, Errno> {
    let &[flags, inverted] = data.get(8..10).ok_or(Errno::EINVAL)? else { return Err(Errno::EINVAL) };
    let name = text(data.get(10..210).ok_or(Errno::EINVAL)?)?;
    let side = if *data.get(210).ok_or(Errno::EINVAL)? == 0 { Side::Source } else { Side::Destination };
    let mask = match (family, revision) {
        (Family::V4, 0) => IpAddr::V4(Ipv4Addr::BROADCAST),
        (Family::V6, 0) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        (Family::V4, _) => ip(data.get(212..216).ok_or(Errno::EINVAL)?)?,
        (Family::V6, _) => ip(data.get(212..228).ok_or(Errno::EINVAL)?)?,
    };
    let action = match flags & 0xf {
        1 => RecentAction::Check,
        2 => RecentAction::Set,
        4 => RecentAction::Update,
        8 => RecentAction::Remove,
        _ => return Err(Errno::EINVAL),
    };
    let (seconds, hits) = (word(data, 0), word(data, 4));
    let counts = matches!(action, RecentAction::Check | RecentAction::Update);
    if (!counts && (seconds != 0 || hits != 0)) || hits >= 256 || name.is_empty() || name.contains('/') {
        return Err(Errno::EINVAL);
    }
    let test = RecentTest {
        name: name.to_owned(),
        side,
        mask,
        action,
        within: (seconds != 0).then(|| Duration::from_secs(seconds.into())),
        hits,
        same_ttl: flags & 0x10 != 0,
    };
    Ok((Test::Recent(test), inverted != 0))
}

/// `struct xt_statistic_info`.
pub(super) fn statistic(data: &[u8]) -> Result<Tested, Errno> {
    let mode = match half(data, 0) {
        0 => StatisticMode::Random(word(data, 4)),
        1 => {
            // Where the count begins, and not the packet, is what Linux goes by.
            let (every, count) = (word(data, 4), word(data, 12));
            StatisticMode::Nth { every, packet: every.saturating_sub(count) }
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok((Test::Statistic(mode), half(data, 2) & 1 != 0))
}

/// `struct xt_quota_info`.
pub(super) fn quota(data: &[u8]) -> Result<Tested, Errno> {
    if data.len() < 16 {
        return Err(Errno::EINVAL);
    }
    Ok((Test::Quota(long(data, 8)), word(data, 0) & 1 != 0))
}

/// Bounds the memory of a table.
const MAX_HASHED: usize = 1 << 20;
