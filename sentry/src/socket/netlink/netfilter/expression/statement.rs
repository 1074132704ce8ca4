//! Expressions that decide what happens to a packet or flow.

use netstack::filter::machine::{
    AddressFamily, Expression, LogRule, NatKind, NatRule, ProxyRule, Register, RejectRule,
};
use netstack::filter::{LogPrefix, Ports, RejectWith};

use super::optional_register;
use crate::errno::Errno;
use crate::socket::netlink::message::Attributes;
use crate::socket::netlink::netfilter::attributes::{Outcome, Refused, needed, number};
use crate::socket::netlink::netfilter::constants::{FAMILY_INET, FAMILY_V4, FAMILY_V6};

/// The family of a table, as rules have it.
fn family_of(family: u8) -> AddressFamily {
    match family {
        FAMILY_V4 => AddressFamily::V4,
        FAMILY_V6 => AddressFamily::V6,
        _ => AddressFamily::Both,
    }
}

/// A pair of registers, of which the second may be missing.
fn pair(data: Attributes<'_>, first: u16, last: u16, len: usize) -> Outcome<Option<(Register, Register)>> {
    let Some(start) = optional_register(data, first, len)? else { return Ok(None) };
    Ok(Some((start, optional_register(data, last, len)?.unwrap_or(start))))
}

fn choice(flags: u32) -> Outcome<Ports> {
    match flags {
        // NF_NAT_RANGE_MASK.
        flags if flags & !0x7f != 0 => Err(Errno::EOPNOTSUPP.into()),
        // NF_NAT_RANGE_PROTO_RANDOM_ALL.
        flags if flags & 0x14 != 0 => Ok(Ports::Random),
        _ => Ok(Ports::Near),
    }
}

pub(super) fn nat(table: u8, data: Attributes<'_>) -> Outcome<Expression> {
    let kind = match needed(data, NAT_TYPE)? {
        0 => NatKind::Source,
        1 => NatKind::Destination,
        _ => return Err(Errno::EINVAL.into()),
    };
    let family = match u8::try_from(needed(data, NAT_FAMILY)?) {
        Ok(FAMILY_V4) if table != FAMILY_V6 => AddressFamily::V4,
        Ok(FAMILY_V6) if table != FAMILY_V4 => AddressFamily::V6,
        Ok(_) if family_of(table) == AddressFamily::Both && data.find(NAT_ADDRESS_FIRST).is_none() => {
            AddressFamily::Both
        }
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let address_len = if family == AddressFamily::V4 { 4 } else { 16 };
    let flags = number(data, NAT_FLAGS).unwrap_or(0);
    Ok(Expression::Nat(NatRule {
        kind,
        family,
        addresses: pair(data, NAT_ADDRESS_FIRST, NAT_ADDRESS_LAST, address_len)?,
        ports: pair(data, NAT_PORT_FIRST, NAT_PORT_LAST, 2)?,
        choice: choice(flags)?,
        // NF_NAT_RANGE_NETMAP.
        keeps_host: flags & 0x40 != 0,
    }))
}

pub(super) fn proxy(table: u8, data: Attributes<'_>) -> Outcome<Expression> {
    if !matches!(table, FAMILY_INET | FAMILY_V4 | FAMILY_V6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let has_address = data.find(PROXY_ADDRESS).is_some();
    if !has_address && data.find(PROXY_PORT).is_none() {
        return Err(Errno::EINVAL.into());
    }
    let family = match u8::try_from(needed(data, PROXY_FAMILY)?) {
        Ok(FAMILY_V4) if table != FAMILY_V6 => AddressFamily::V4,
        Ok(FAMILY_V6) if table != FAMILY_V4 => AddressFamily::V6,
        // An address says which family it is of.
        Ok(0) if table == FAMILY_INET && !has_address => AddressFamily::Both,
        Ok(0 | FAMILY_V4 | FAMILY_V6) => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let address_len = if family == AddressFamily::V4 { 4 } else { 16 };
    Ok(Expression::Proxy(ProxyRule {
        family,
        address: optional_register(data, PROXY_ADDRESS, address_len)?,
        port: optional_register(data, PROXY_PORT, 2)?,
    }))
}

pub(super) fn masquerade(table: u8, data: Attributes<'_>) -> Outcome<Expression> {
    Ok(Expression::Nat(NatRule {
        kind: NatKind::Masquerade,
        family: family_of(table),
        addresses: None,
        ports: pair(data, MASQ_PORT_FIRST, MASQ_PORT_LAST, 2)?,
        choice: choice(number(data, MASQ_FLAGS).unwrap_or(0))?,
        keeps_host: false,
    }))
}

pub(super) fn redirect(table: u8, data: Attributes<'_>) -> Outcome<Expression> {
    Ok(Expression::Nat(NatRule {
        kind: NatKind::Redirect,
        family: family_of(table),
        addresses: None,
        ports: pair(data, REDIR_PORT_FIRST, REDIR_PORT_LAST, 2)?,
        choice: choice(number(data, REDIR_FLAGS).unwrap_or(0))?,
        keeps_host: false,
    }))
}

pub(super) fn reject(table: u8, data: Attributes<'_>) -> Outcome<Expression> {
    let code = data.find(REJECT_CODE).and_then(<[u8]>::first).copied();
    let rule = match needed(data, REJECT_TYPE)? {
        0 => {
            let code = code.ok_or(Refused::from(Errno::EINVAL))?;
            match table {
                FAMILY_V4 => RejectRule::With(v4(code)?),
                FAMILY_V6 => RejectRule::With(v6(code)?),
                // Rules for both families look at the family first: the code is in the terms of that one.
                _ => {
                    let either = (v4(code), v6(code));
                    let (a, b) = match either {
                        (Ok(a), Ok(b)) => (a, b),
                        (Ok(a), Err(_)) => (a, RejectWith::PortUnreachable),
                        (Err(_), Ok(b)) => (RejectWith::PortUnreachable, b),
                        (Err(refused), Err(_)) => return Err(refused),
                    };
                    RejectRule::ByFamily(a, b)
                }
            }
        }
        1 => RejectRule::With(RejectWith::TcpReset),
        // NFT_REJECT_ICMPX_UNREACH: codes that both families have.
        2 => RejectRule::With(match code {
            Some(0) => RejectWith::NetUnreachable,
            Some(1) => RejectWith::PortUnreachable,
            Some(2) => RejectWith::HostUnreachable,
            Some(3) => RejectWith::AdminProhibited,
            _ => return Err(Errno::EINVAL.into()),
        }),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Expression::Reject(rule))
}

/// Codes of ICMP's "destination unreachable".
fn v4(code: u8) -> Outcome<RejectWith> {
    Ok(match code {
        0 => RejectWith::NetUnreachable,
        1 => RejectWith::HostUnreachable,
        2 => RejectWith::ProtocolUnreachable,
        3 => RejectWith::PortUnreachable,
        9 => RejectWith::NetProhibited,
        10 => RejectWith::HostProhibited,
        13 => RejectWith::AdminProhibited,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    })
}

/// The same of ICMPv6.
fn v6(code: u8) -> Outcome<RejectWith> {
    Ok(match code {
        0 => RejectWith::NetUnreachable,
        1 => RejectWith::AdminProhibited,
        3 => RejectWith::HostUnreachable,
        4 => RejectWith::PortUnreachable,
        5 => RejectWith::PolicyFailed,
        6 => RejectWith::RejectRoute,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    })
}

pub(super) fn log(data: Attributes<'_>) -> Outcome<Expression> {
    if data.find(LOG_GROUP).is_some() {
        return Ok(Expression::Log(LogRule::Elsewhere));
    }
    let prefix = data.str(LOG_PREFIX).unwrap_or_default();
    // NFT_LOGLEVEL_WARNING unless it is said; the audit system is not there.
    let level = number(data, LOG_LEVEL).unwrap_or(4);
    let level = u8::try_from(level).ok().filter(|level| *level < 8).ok_or(Refused::from(Errno::EINVAL))?;
    if prefix.len() > 127 {
        return Err(Errno::EINVAL.into());
    }
    Ok(Expression::Log(LogRule::Line(LogPrefix { level, prefix: prefix.to_owned() })))
}

const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS_FIRST: u16 = 3;
const NAT_ADDRESS_LAST: u16 = 4;
const NAT_PORT_FIRST: u16 = 5;
const NAT_PORT_LAST: u16 = 6;
const NAT_FLAGS: u16 = 7;
const PROXY_FAMILY: u16 = 1;
const PROXY_ADDRESS: u16 = 2;
const PROXY_PORT: u16 = 3;
const MASQ_FLAGS: u16 = 1;
const MASQ_PORT_FIRST: u16 = 2;
const MASQ_PORT_LAST: u16 = 3;
const REDIR_PORT_FIRST: u16 = 1;
const REDIR_PORT_LAST: u16 = 2;
const REDIR_FLAGS: u16 = 3;
const REJECT_TYPE: u16 = 1;
const REJECT_CODE: u16 = 2;
const LOG_GROUP: u16 = 1;
const LOG_PREFIX: u16 = 2;
const LOG_LEVEL: u16 = 5;
