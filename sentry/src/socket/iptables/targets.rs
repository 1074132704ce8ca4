//! What entries do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use netstack::filter::{
    ConnMarkAction, LogPrefix, MssTarget, NatRange, Ports, ProxyTarget, RejectWith, Target, TtlAction,
};
use netstack::options::Family;

use super::blob::{Extension, half, text, word};
use super::matches::ip;
use crate::errno::Errno;

/// The targets with their revisions.
pub(in crate::socket) const TARGETS: &[(&str, u8, Option<Family>)] = &[
    ("", 0, None),
    ("ERROR", 0, None),
    ("REJECT", 0, None),
    ("REDIRECT", 0, None),
    ("MASQUERADE", 0, None),
    ("SNAT", 0, Some(Family::V4)),
    ("SNAT", 1, None),
    ("DNAT", 0, Some(Family::V4)),
    ("DNAT", 1, None),
    ("DNAT", 2, None),
    ("NETMAP", 0, None),
    ("MARK", 2, None),
    ("CONNMARK", 1, None),
    ("CONNMARK", 2, None),
    ("NOTRACK", 0, None),
    ("CT", 0, None),
    ("CT", 1, None),
    ("CT", 2, None),
    ("DSCP", 0, None),
    ("TOS", 1, None),
    ("TTL", 0, Some(Family::V4)),
    ("HL", 0, Some(Family::V6)),
    ("TCPMSS", 0, None),
    ("LOG", 0, None),
    ("NFLOG", 0, None),
    ("CHECKSUM", 0, None),
    ("TPROXY", 0, Some(Family::V4)),
    ("TPROXY", 1, None),
];

/// A standard target's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    /// Goes on at an offset of the table.
    Jump(usize),
}

/// Reads a standard target.
///
/// # Errors
/// `EINVAL` for verdicts that there are not.
pub(super) fn verdict(target: &Extension<'_>) -> Result<Verdict, Errno> {
    let number = word(target.data, 0).cast_signed();
    match number {
        -1 => Ok(Verdict::Drop),
        -2 => Ok(Verdict::Accept),
        -5 => Ok(Verdict::Return),
        0.. => usize::try_from(number).map(Verdict::Jump).map_err(|_| Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

/// Reads any other target.
///
/// # Errors
/// `ENOENT` for a target that there is not; `EINVAL` for one that cannot be honoured.
pub(in crate::socket) fn target(family: Family, target: &Extension<'_>) -> Result<Target, Errno> {
    let Extension { name, revision, data } = *target;
    Ok(match (name, revision, family) {
        ("REJECT", 0, _) => Target::Reject(reject(family, word(data, 0))?),
        ("REDIRECT", 0, _) => {
            let NatRange { ports, choice, addresses: _ } = old_range(family, data)?;
            Target::Redirect { ports, choice }
        }
        ("MASQUERADE", 0, _) => {
            let NatRange { ports, choice, addresses: _ } = old_range(family, data)?;
            Target::Masquerade { ports, choice }
        }
        ("NETMAP", 0, _) => Target::NetMap(old_range(family, data)?.addresses.ok_or(Errno::EINVAL)?),
        ("SNAT", 0, Family::V4) => Target::SourceNat(old_range(family, data)?),
        ("DNAT", 0, Family::V4) => Target::DestinationNat(old_range(family, data)?),
        ("SNAT", 1, _) => Target::SourceNat(range(family, data)?),
        ("DNAT", 1 | 2, _) => Target::DestinationNat(range(family, data)?),
        ("MARK", 2, _) => Target::Mark { value: word(data, 0), mask: word(data, 4) },
        ("CONNMARK", 1 | 2, _) => conn_mark(data, revision)?,
        ("NOTRACK", 0, _) => Target::NoTrack,
        ("CT", 0..=2, _) => tracking(data)?,
        ("DSCP", 0, _) => match data {
            [dscp @ 0..=0x3f, ..] => Target::Tos { value: dscp << 2, mask: 0xfc },
            _ => return Err(Errno::EINVAL),
        },
        ("TOS", 1, _) => match data {
            [value, mask, ..] => Target::Tos { value: *value, mask: *mask },
            _ => return Err(Errno::EINVAL),
        },
        ("TTL", 0, Family::V4) | ("HL", 0, Family::V6) => Target::Ttl(match data {
            [0, ttl, ..] => TtlAction::Set(*ttl),
            [1, by, ..] if *by > 0 => TtlAction::Increase(*by),
            [2, by, ..] if *by > 0 => TtlAction::Decrease(*by),
            _ => return Err(Errno::EINVAL),
        }),
        ("TCPMSS", 0, _) => Target::Mss(match u16::try_from(half(data, 0)).unwrap_or(0) {
            u16::MAX => MssTarget::ClampToPath,
            mss => MssTarget::Set(mss),
        }),
        ("TPROXY", 0, Family::V4) | ("TPROXY", 1, _) => proxy(family, data, revision)?,
        ("LOG", 0, _) => log(data)?,
        // Nobody listens to the group; checksums are always right.
        ("NFLOG" | "CHECKSUM", 0, _) => Target::Continue,
        _ => return Err(Errno::ENOENT),
    })
}

/// `struct xt_connmark_tginfo1` and `2`.
fn conn_mark(data: &[u8], revision: u8) -> Result<Target, Errno> {
    let (value, flow_mask, packet_mask) = (word(data, 0), word(data, 4), word(data, 8));
    let mode = match (revision, data.get(12..15).ok_or(Errno::EINVAL)?) {
        (1, [mode, ..]) => *mode,
        // Marks that are shifted on their way are not built.
        (_, [_, 0, mode]) => *mode,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Target::ConnMark(match mode {
        0 => ConnMarkAction::Set { value, mask: flow_mask },
        1 => ConnMarkAction::Save { packet_mask, flow_mask },
        2 => ConnMarkAction::Restore { packet_mask, flow_mask },
        _ => return Err(Errno::EINVAL),
    }))
}

/// `struct xt_ct_target_info`: only "no tracking", or nothing at all. Zones, helpers and timeouts are not built.
fn tracking(data: &[u8]) -> Result<Target, Errno> {
    let (flags, zone) = (half(data, 0), half(data, 2));
    let helper = data.get(12..28).ok_or(Errno::EINVAL)?;
    match (flags & !2, zone, helper[0]) {
        (1, 0, 0) => Ok(Target::NoTrack),
        (0, 0, 0) => Ok(Target::Continue),
        (_, 0, 1..) => Err(Errno::ENOENT),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct xt_tproxy_target_info`, and `_v1`, in which the address has room for both families. No address is zero.
fn proxy(family: Family, data: &[u8], revision: u8) -> Result<Target, Errno> {
    let (address_at, len) = if revision == 0 { (8, 16) } else { (8, 28) };
    let data = data.get(..len).ok_or(Errno::EINVAL)?;
    let (mask, mark) = (word(data, 0), word(data, 4));
    let (address, port_at) = match (revision, family) {
        (0, _) => (ip(&data[address_at..address_at + 4])?, 12),
        (_, Family::V4) => (ip(&data[address_at..address_at + 4])?, 24),
        (_, Family::V6) => (ip(&data[address_at..address_at + 16])?, 24),
    };
    let port = u16::from_be_bytes([data[port_at], data[port_at + 1]]);
    let address = Some(address).filter(|address| !address.is_unspecified());
    Ok(Target::Proxy(ProxyTarget { address, port, mark, mask }))
}

/// `struct xt_log_info`. Of the flags, those of what else to write are not built: the line is as without.
fn log(data: &[u8]) -> Result<Target, Errno> {
    let level = *data.first().ok_or(Errno::EINVAL)?;
    let prefix = text(data.get(2..32).ok_or(Errno::EINVAL)?)?;
    if level >= 8 {
        return Err(Errno::EINVAL);
    }
    Ok(Target::Log(LogPrefix { level, prefix: prefix.to_owned() }))
}

/// `enum ipt_reject_with`, `enum ip6t_reject_with`.
fn reject(family: Family, with: u32) -> Result<RejectWith, Errno> {
    Ok(match (family, with) {
        (Family::V4, 0) | (Family::V6, 0) => RejectWith::NetUnreachable,
        (Family::V4, 1) | (Family::V6, 3) => RejectWith::HostUnreachable,
        (Family::V4, 2) => RejectWith::ProtocolUnreachable,
        (Family::V4, 3) | (Family::V6, 4) => RejectWith::PortUnreachable,
        (Family::V4, 5) => RejectWith::NetProhibited,
        (Family::V4, 6) => RejectWith::HostProhibited,
        (Family::V4, 7) | (Family::V6, 6) => RejectWith::TcpReset,
        (Family::V4, 8) | (Family::V6, 1) => RejectWith::AdminProhibited,
        (Family::V6, 7) => RejectWith::PolicyFailed,
        (Family::V6, 8) => RejectWith::RejectRoute,
        _ => return Err(Errno::EINVAL),
    })
}

/// `struct nf_nat_ipv4_multi_range_compat` with one range, or `struct nf_nat_range`.
fn old_range(family: Family, data: &[u8]) -> Result<NatRange, Errno> {
    if family == Family::V6 {
        return range(family, data);
    }
    if data.len() < 20 || word(data, 0) != 1 {
        return Err(Errno::EINVAL);
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(word(data, at).swap_bytes()));
    nat_range(word(data, 4), address(8)..=address(12), &data[16..20])
}

/// `struct nf_nat_range`, `struct nf_nat_range2`.
fn range(family: Family, data: &[u8]) -> Result<NatRange, Errno> {
    if data.len() < 40 {
        return Err(Errno::EINVAL);
    }
    let address = |at: usize| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(word(data, at).swap_bytes())),
        Family::V6 => {
            let bytes: [u8; 16] = data[at..at + 16].try_into().unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    };
    nat_range(word(data, 0), address(4)..=address(20), &data[36..])
}

/// `ports` are in network order: the first, the last, and where to count from.
fn nat_range(flags: u32, addresses: RangeInclusive<IpAddr>, ports: &[u8]) -> Result<NatRange, Errno> {
    let port = |at: usize| ports.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let (first, last) = (port(0).unwrap_or(0), port(2).unwrap_or(0));
    let choice = match flags {
        flags if flags & OFFSET != 0 => Ports::Offset(port(4).ok_or(Errno::EINVAL)?),
        flags if flags & RANDOM != 0 => Ports::Random,
        _ => Ports::Near,
    };
    Ok(NatRange {
        addresses: (flags & MAP_ADDRESSES != 0).then_some(addresses),
        ports: (flags & MAP_PORTS != 0).then_some(first..=last),
        choice,
    })
}

/// `NF_NAT_RANGE_MAP_IPS`.
const MAP_ADDRESSES: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const MAP_PORTS: u32 = 2;
/// `NF_NAT_RANGE_PROTO_RANDOM_ALL`.
const RANDOM: u32 = 4 | 16;
/// `NF_NAT_RANGE_PROTO_OFFSET`.
const OFFSET: u32 = 32;
