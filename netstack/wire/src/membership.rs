//! Multicast membership messages: IGMPv1 (RFC 1112), IGMPv2 (RFC 2236), IGMPv3 (RFC 3376) and their IPv6 twins MLDv1 (RFC
//! 2710) and MLDv2 (RFC 3810), without the checksum.
//!
//! ```text
//! IGMP query:     type 0x11, max response, checksum (2), group (4) [, flags and QRV, QQIC, count (2), sources]
//! IGMP v1/v2:     type, max response, checksum (2), group (4)
//! IGMPv3 report:  type 0x22, 0, checksum (2), 0 (2), count (2), records
//! MLD query:      type 130, code, checksum (2), max response (2), 0 (2), group (16) [, flags and QRV, QQIC, count (2), ..]
//! MLDv1:          type, code, checksum (2), max response (2), 0 (2), group (16)
//! MLDv2 report:   type 143, 0, checksum (2), 0 (2), count (2), records
//! record:         type, 0, count (2), group, sources
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// Where both families have their checksum.
pub const CHECKSUM_OFFSET: usize = 2;

const IGMP_QUERY: u8 = 0x11;
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const IGMP_V3_REPORT: u8 = 0x22;
/// Whether an ICMPv6 message of that type belongs to MLD.
pub fn is_mld_kind(kind: u8) -> bool {
    matches!(kind, MLD_QUERY | MLD_V1_REPORT | MLD_DONE | MLD_V2_REPORT)
}

const MLD_QUERY: u8 = 130;
const MLD_V1_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD_V2_REPORT: u8 = 143;

/// A message as values. Versions count as IGMP's: MLDv1 is 2 and MLDv2 is 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipRepr {
    /// A router asks.
    Query(MembershipQuery),
    /// A member of a group reports, in version 1 or 2.
    Report {
        /// 1 or 2.
        version: u8,
        /// The group.
        group: IpAddr,
    },
    /// A member leaves a group, in version 2.
    Leave {
        /// The group.
        group: IpAddr,
    },
    /// A host reports, in version 3.
    Records(Vec<GroupRecord>),
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipQuery {
    /// 1, 2 or 3.
    pub version: u8,
    /// The time in which to answer.
    pub max_response: Duration,
    /// The group asked for; all if not set.
    pub group: Option<IpAddr>,
    /// The sources asked for; all if empty.
    pub sources: Vec<IpAddr>,
    /// The querier's robustness variable, if it tells.
    pub robustness: Option<u8>,
    /// The querier's query interval, if it tells.
    pub interval: Option<Duration>,
}

/// What a host says of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// What kind of statement.
    pub kind: RecordKind,
    /// The group.
    pub group: IpAddr,
    /// The sources, of the group's family.
    pub sources: Vec<IpAddr>,
}

/// The record types (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// Asked, and only these sources are wanted.
    IsInclude = 1,
    /// Asked, and all but these sources are wanted.
    IsExclude = 2,
    /// From now on only these.
    ToInclude = 3,
    /// From now on all but these.
    ToExclude = 4,
    /// These in addition.
    Allow = 5,
    /// These no more.
    Block = 6,
}

impl RecordKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::IsInclude,
            2 => Self::IsExclude,
            3 => Self::ToInclude,
            4 => Self::ToExclude,
            5 => Self::Allow,
            6 => Self::Block,
            _ => return None,
        })
    }
}

impl MembershipRepr {
    /// Reads an IGMP message; `None` for other types and malformed ones.
    #[must_use]
    pub fn parse_igmp(message: &[u8]) -> Option<Self> {
        let &[kind, response, _, _, a, b, c, d] = message.first_chunk()?;
        let group = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        Some(match kind {
            IGMP_QUERY => {
                let named = (!group.is_unspecified()).then_some(group);
                // RFC 3376 section 7.1: the length tells version 3, a zero response time version 1.
                let query = match (message.len(), response) {
                    (8, 0) => old_query(1, Duration::from_secs(10), named),
                    (8, tenths) => old_query(2, tenths_of_seconds(u32::from(tenths)), named),
                    (12.., code) => new_query(&message[8..], 4, tenths_of_seconds(expand_byte(code)), named)?,
                    _ => return None,
                };
                Self::Query(query)
            }
            IGMP_V1_REPORT => Self::Report { version: 1, group },
            IGMP_V2_REPORT => Self::Report { version: 2, group },
            IGMP_LEAVE => Self::Leave { group },
            IGMP_V3_REPORT => Self::Records(parse_records(message, 4)?),
            _ => return None,
        })
    }

    /// Reads an MLD message, an ICMPv6 one; `None` for other types and malformed ones.
    #[must_use]
    pub fn parse_mld(message: &[u8]) -> Option<Self> {
        let &kind = message.first()?;
        if kind == MLD_V2_REPORT {
            return Some(Self::Records(parse_records(message, 16)?));
        }
        let response = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
        let group = address(message.get(8..24)?)?;
        Some(match kind {
            MLD_QUERY => {
                let named = (!group.is_unspecified()).then_some(group);
                let milliseconds = |value: u32| Duration::from_millis(u64::from(value));
                let query = match message.len() {
                    24 => old_query(2, milliseconds(u32::from(response)), named),
                    28.. => new_query(&message[24..], 16, milliseconds(expand_word(response)), named)?,
                    _ => return None,
                };
                Self::Query(query)
            }
            MLD_V1_REPORT => Self::Report { version: 2, group },
            MLD_DONE => Self::Leave { group },
            _ => return None,
        })
    }

    /// Returns the message for the family of `group`s in it, with a zero checksum. Queries are written with their times
    /// rounded to what the format can say.
    #[must_use]
    pub fn to_vec(&self, is_v4: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let simple = |out: &mut Vec<u8>, kind: u8, group: &IpAddr| {
            out.extend([kind, 0, 0, 0]);
            if !is_v4 {
                out.extend([0; 4]);
            }
            push_address(out, *group);
        };
        match self {
            Self::Query(query) => push_query(&mut out, query, is_v4),
            Self::Report { version: 1, group } if is_v4 => simple(&mut out, IGMP_V1_REPORT, group),
            Self::Report { group, .. } => {
                simple(&mut out, if is_v4 { IGMP_V2_REPORT } else { MLD_V1_REPORT }, group);
            }
            Self::Leave { group } => simple(&mut out, if is_v4 { IGMP_LEAVE } else { MLD_DONE }, group),
            Self::Records(records) => {
                // The caller splits lists that exceed a packet, which is far below 2^16 entries.
                let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
                out.extend([if is_v4 { IGMP_V3_REPORT } else { MLD_V2_REPORT }, 0, 0, 0, 0, 0]);
                out.extend(count.to_be_bytes());
                for GroupRecord { kind, group, sources } in records {
                    let count = u16::try_from(sources.len()).unwrap_or(u16::MAX);
                    out.extend([*kind as u8, 0]);
                    out.extend(count.to_be_bytes());
                    push_address(&mut out, *group);
                    sources.iter().for_each(|source| push_address(&mut out, *source));
                }
            }
        }
        out
    }
}

fn old_query(version: u8, max_response: Duration, group: Option<IpAddr>) -> MembershipQuery {
    MembershipQuery { version, max_response, group, sources: Vec::new(), robustness: None, interval: None }
}

/// What version 3 adds to a query.
fn new_query(
    rest: &[u8],
    width: usize,
    max_response: Duration,
    group: Option<IpAddr>,
) -> Option<MembershipQuery> {
    let &[flags, interval, high, low] = rest.first_chunk()?;
    let count = usize::from(u16::from_be_bytes([high, low]));
    let sources = rest.get(4..4 + count * width)?.chunks_exact(width).filter_map(address).collect();
    let robustness = flags & 7;
    Some(MembershipQuery {
        version: 3,
        max_response,
        group,
        sources,
        robustness: (robustness != 0).then_some(robustness),
        interval: (interval != 0).then(|| Duration::from_secs(u64::from(expand_byte(interval)))),
    })
}

fn parse_records(message: &[u8], width: usize) -> Option<Vec<GroupRecord>> {
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut rest = message.get(8..)?;
    let mut records = Vec::new();
    for _ in 0..count {
        let &[kind, auxiliary, high, low] = rest.first_chunk()?;
        let sources = usize::from(u16::from_be_bytes([high, low]));
        let end = 4 + width + sources * width;
        let group = address(rest.get(4..4 + width)?)?;
        let listed = rest.get(4 + width..end)?.chunks_exact(width).filter_map(address).collect();
        // RFC 3376 section 4.2.12: unrecognized types are silently ignored.
        if let Some(kind) = RecordKind::from_byte(kind) {
            records.push(GroupRecord { kind, group, sources: listed });
        }
        rest = rest.get(end + usize::from(auxiliary) * 4..)?;
    }
    Some(records)
}

fn push_query(out: &mut Vec<u8>, query: &MembershipQuery, is_v4: bool) {
    let MembershipQuery { version, max_response, group, sources, robustness, interval } = query;
    let millis = u32::try_from(max_response.as_millis()).unwrap_or(u32::MAX);
    if is_v4 {
        let tenths = millis / 100;
        let code = match version {
            1 => 0,
            // Below 256.
            2 => tenths.clamp(1, 255) as u8,
            _ => shrink_byte(tenths),
        };
        out.extend([IGMP_QUERY, code, 0, 0]);
        push_address(out, group.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    } else {
        let code = match version {
            3 => shrink_word(millis),
            // RFC 2710 section 3.4: plain milliseconds.
            _ => u16::try_from(millis).unwrap_or(u16::MAX),
        };
        out.extend([MLD_QUERY, 0, 0, 0]);
        out.extend(code.to_be_bytes());
        out.extend([0; 2]);
        push_address(out, group.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }
    if *version == 3 {
        let seconds = interval.map_or(0, |interval| u32::try_from(interval.as_secs()).unwrap_or(u32::MAX));
        let count = u16::try_from(sources.len()).unwrap_or(u16::MAX);
        out.extend([robustness.unwrap_or(0) & 7, shrink_byte(seconds)]);
        out.extend(count.to_be_bytes());
        sources.iter().for_each(|source| push_address(out, *source));
    }
}

fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|octets: [u8; 4]| IpAddr::from(octets)),
        _ => bytes.try_into().ok().map(|octets: [u8; 16]| IpAddr::from(octets)),
    }
}

fn tenths_of_seconds(tenths: u32) -> Duration {
    Duration::from_millis(u64::from(tenths) * 100)
}

/// RFC 3376 section 4.1.1: values from 128 on are floating point, three bits of exponent and four of mantissa.
fn expand_byte(code: u8) -> u32 {
    match code {
        0..128 => u32::from(code),
        _ => (u32::from(code & 0xf) | 0x10) << ((code >> 4 & 7) + 3),
    }
}

fn shrink_byte(value: u32) -> u8 {
    if value < 128 {
        return value as u8;
    }
    let exponent = (value.ilog2() - 4 - 3).min(7);
    // Four bits of mantissa below the leading one.
    let mantissa = (value >> (exponent + 3)).min(0x1f) & 0xf;
    0x80 | (exponent << 4) as u8 | mantissa as u8
}

/// RFC 3810 section 5.1.3: the same with 16 bits, three of exponent and twelve of mantissa.
fn expand_word(code: u16) -> u32 {
    match code {
        0..0x8000 => u32::from(code),
        _ => (u32::from(code & 0xfff) | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

fn shrink_word(value: u32) -> u16 {
    if value < 0x8000 {
        return value as u16;
    }
    let exponent = (value.ilog2() - 12 - 3).min(7);
    // Twelve bits of mantissa below the leading one.
    let mantissa = (value >> (exponent + 3)).min(0x1fff) & 0xfff;
    0x8000 | (exponent << 12) as u16 | mantissa as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a fuzzer found: long response times of MLD were cut to half a minute.
    #[test]
    fn response_times_of_any_length_survive() {
        for code in 0..=u16::MAX {
            assert_eq!(shrink_word(expand_word(code)), code);
        }
        for (version, millis) in [(2, 65_535), (3, 65_536), (3, 109_504), (3, 8_387_584)] {
            let query = MembershipQuery {
                max_response: Duration::from_millis(millis),
                ..query(version, Some("ff3e::1"), &[])
            };
            let message = MembershipRepr::Query(query);
            assert_eq!(MembershipRepr::parse_mld(&message.to_vec(false)), Some(message));
        }
    }

    fn query(version: u8, group: Option<&str>, sources: &[&str]) -> MembershipQuery {
        MembershipQuery {
            version,
            max_response: Duration::from_millis(if version == 1 { 10_000 } else { 1_000 }),
            group: group.map(|group| group.parse().unwrap()),
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
            robustness: (version == 3).then_some(2),
            interval: (version == 3).then(|| Duration::from_secs(125)),
        }
    }

    #[test]
    fn messages_round_trip() {
        for (group, source, is_v4) in [("232.1.1.1", "192.0.2.1", true), ("ff3e::1", "2001:db8::1", false)] {
            let (ip, from): (IpAddr, IpAddr) = (group.parse().unwrap(), source.parse().unwrap());
            let records = vec![
                GroupRecord { kind: RecordKind::ToExclude, group: ip, sources: vec![] },
                GroupRecord { kind: RecordKind::Allow, group: ip, sources: vec![from, from] },
            ];
            for message in [
                MembershipRepr::Query(query(2, None, &[])),
                MembershipRepr::Query(query(2, Some(group), &[])),
                MembershipRepr::Query(query(3, Some(group), &[source])),
                MembershipRepr::Report { version: 2, group: ip },
                MembershipRepr::Leave { group: ip },
                MembershipRepr::Records(records),
            ] {
                let bytes = message.to_vec(is_v4);
                let parsed = match is_v4 {
                    true => MembershipRepr::parse_igmp(&bytes),
                    false => MembershipRepr::parse_mld(&bytes),
                };
                assert_eq!(parsed, Some(message.clone()));
                for len in 0..bytes.len() {
                    let cut = &bytes[..len];
                    let parsed =
                        if is_v4 { MembershipRepr::parse_igmp(cut) } else { MembershipRepr::parse_mld(cut) };
                    assert_ne!(parsed, Some(message.clone()), "{len} bytes");
                }
            }
        }
        let old = MembershipRepr::Query(query(1, None, &[]));
        assert_eq!(MembershipRepr::parse_igmp(&old.to_vec(true)), Some(old));
    }

    #[test]
    fn vectors() {
        let group = "239.1.2.3".parse().unwrap();
        let record = GroupRecord { kind: RecordKind::ToExclude, group, sources: Vec::new() };
        assert_eq!(
            MembershipRepr::Records(vec![record]).to_vec(true),
            [0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3]
        );
        assert_eq!(MembershipRepr::Report { version: 2, group }.to_vec(true), [0x16, 0, 0, 0, 239, 1, 2, 3]);
    }

    #[test]
    fn long_times_are_floating_point() {
        for (code, value) in [(0x7f, 127), (0x80, 128), (0x8f, 248), (0xff, 31_744)] {
            assert_eq!((expand_byte(code), shrink_byte(value)), (value, code));
        }
        assert_eq!(
            (expand_word(0x7fff), expand_word(0x8000), expand_word(0xffff)),
            (32_767, 32_768, 8_387_584)
        );
    }
}
