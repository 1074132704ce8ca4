//! What entries do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use netstack::filter::{NatRange, RejectWith, Target};
use netstack::options::Family;

use super::blob::{Extension, half, word};
use crate::errno::Errno;

/// The targets, with the highest revision of each. Those with more than one are asked for from the highest down.
pub(super) const TARGETS: &[(&str, u8, Option<Family>)] = &[
    ("", 0, None),
    ("ERROR", 0, None),
    ("REJECT", 0, None),
    ("REDIRECT", 0, None),
    ("MASQUERADE", 0, None),
    ("SNAT", 0, Some(Family::V4)),
    ("DNAT", 0, Some(Family::V4)),
    ("SNAT", 1, Some(Family::V6)),
    ("DNAT", 1, Some(Family::V6)),
    ("MARK", 2, None),
    ("NOTRACK", 0, None),
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
pub(super) fn target(family: Family, target: &Extension<'_>) -> Result<Target, Errno> {
    let Extension { name, revision, data } = *target;
    Ok(match (name, revision, family) {
        ("REJECT", 0, _) => Target::Reject(reject(family, word(data, 0))?),
        ("REDIRECT", 0, _) => Target::Redirect { ports: range(family, data)?.ports },
        ("MASQUERADE", 0, _) => Target::Masquerade { ports: range(family, data)?.ports },
        ("SNAT", 0, Family::V4) | ("SNAT", 1, Family::V6) => Target::SourceNat(range(family, data)?),
        ("DNAT", 0, Family::V4) | ("DNAT", 1, Family::V6) => Target::DestinationNat(range(family, data)?),
        ("MARK", 2, _) => mark(word(data, 0), word(data, 4))?,
        ("NOTRACK", 0, _) => Target::NoTrack,
        _ => return Err(Errno::ENOENT),
    })
}

/// `mark = (mark & ~mask) ^ value`: setting bits outside of the mask is toggling, which the filter has not.
fn mark(value: u32, mask: u32) -> Result<Target, Errno> {
    if value & !mask != 0 { Err(Errno::EINVAL) } else { Ok(Target::Mark { value, mask }) }
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

/// `struct nf_nat_ipv4_multi_range_compat` with one range, or `struct nf_nat_range`. Ports are in network order.
fn range(family: Family, data: &[u8]) -> Result<NatRange, Errno> {
    let (flags, addresses, ports_at): (u32, RangeInclusive<IpAddr>, usize) = match family {
        Family::V4 => {
            if data.len() < 20 || word(data, 0) != 1 {
                return Err(Errno::EINVAL);
            }
            let address = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(word(data, at).swap_bytes()));
            (word(data, 4), address(8)..=address(12), 16)
        }
        Family::V6 => {
            if data.len() < 40 {
                return Err(Errno::EINVAL);
            }
            let address = |at: usize| {
                let bytes: [u8; 16] = data[at..at + 16].try_into().unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from(bytes))
            };
            (word(data, 0), address(4)..=address(20), 36)
        }
    };
    let port = |at: usize| u16::try_from(half(data, at)).unwrap_or(0).swap_bytes();
    Ok(NatRange {
        addresses: (flags & MAP_ADDRESSES != 0).then_some(addresses),
        ports: (flags & MAP_PORTS != 0).then(|| port(ports_at)..=port(ports_at + 2)),
    })
}

/// `NF_NAT_RANGE_MAP_IPS`.
const MAP_ADDRESSES: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const MAP_PORTS: u32 = 2;
