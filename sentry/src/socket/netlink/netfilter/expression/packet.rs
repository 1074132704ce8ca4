//! Expressions that load from packets or change them.

use netstack::filter::machine::{
    ConnField, Expression, ExtensionKind, FibInput, FibResult, FlowDirection, MetaField, Payload,
    PayloadBase, RouteField, SocketField,
};

use super::{byte, optional_register, register};
use crate::errno::Errno;
use crate::socket::netlink::message::Attributes;
use crate::socket::netlink::netfilter::attributes::{Outcome, Refused, needed, number};
use crate::socket::netlink::netfilter::constants::{FAMILY_INET, FAMILY_V4, FAMILY_V6};

pub(super) fn payload(data: Attributes<'_>) -> Outcome<Expression> {
    let len = byte(data, PAYLOAD_LEN)?;
    let base = match needed(data, PAYLOAD_BASE)? {
        0 => PayloadBase::Link,
        1 => PayloadBase::Network,
        2 => PayloadBase::Transport,
        3 => PayloadBase::Inner,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let payload = Payload { base, offset: needed(data, PAYLOAD_OFFSET)?, len };
    if payload.offset > u32::from(u16::MAX) {
        return Err(Errno::ERANGE.into());
    }
    if let Some(from) = optional_register(data, PAYLOAD_SOURCE, usize::from(len))? {
        // Checksums are kept right without being told where they are. Frames and what transports carry cannot be changed.
        return match base {
            PayloadBase::Network | PayloadBase::Transport => Ok(Expression::Store { to: payload, from }),
            PayloadBase::Link | PayloadBase::Inner => Err(Errno::EOPNOTSUPP.into()),
        };
    }
    Ok(Expression::Load { from: payload, to: register(data, PAYLOAD_REGISTER, usize::from(len))? })
}

pub(super) fn extension(data: Attributes<'_>) -> Outcome<Expression> {
    let kind = match number(data, EXTENSION_OP).unwrap_or(0) {
        0 => ExtensionKind::Ipv6,
        1 => ExtensionKind::Tcp,
        2 => ExtensionKind::Ipv4,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let option = *data.find(EXTENSION_TYPE).and_then(<[u8]>::first).ok_or(Refused::from(Errno::EINVAL))?;
    let (offset, len) = (byte(data, EXTENSION_OFFSET)?, byte(data, EXTENSION_LEN)?);
    if let Some(from) = optional_register(data, EXTENSION_SOURCE, usize::from(len))? {
        let can_be_changed = kind == ExtensionKind::Tcp && matches!(len, 2 | 4) && offset >= 2;
        return match can_be_changed {
            true => Ok(Expression::StoreExtension { number: option, offset, len, from }),
            false => Err(Errno::EOPNOTSUPP.into()),
        };
    }
    let is_presence = number(data, EXTENSION_FLAGS).unwrap_or(0) & 1 != 0;
    let to = register(data, EXTENSION_REGISTER, usize::from(len).max(1))?;
    Ok(Expression::LoadExtension { kind, number: option, offset, len: (!is_presence).then_some(len), to })
}

pub(super) fn meta(data: Attributes<'_>) -> Outcome<Expression> {
    let key = needed(data, META_KEY)?;
    if let Some(from) = optional_register(data, META_SOURCE, 4)? {
        return Ok(match key {
            3 => Expression::SetMark(from),
            // The queueing priority, traces and packet types have no effect on what is sent.
            2 | 12 => Expression::Ignore(from),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        });
    }
    let field = match key {
        0 => MetaField::Length,
        1 => MetaField::Protocol,
        2 => MetaField::Priority,
        3 => MetaField::Mark,
        4 => MetaField::InputIndex,
        5 => MetaField::OutputIndex,
        6 => MetaField::InputName,
        7 => MetaField::OutputName,
        8 => MetaField::InputType,
        9 => MetaField::OutputType,
        10 => MetaField::User,
        11 => MetaField::Group,
        15 => MetaField::Family,
        16 => MetaField::TransportProtocol,
        19 => MetaField::PacketKind,
        20 => MetaField::Processor,
        21 | 22 => MetaField::InterfaceGroup,
        24 => MetaField::Random,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let len = match field {
        MetaField::InputName | MetaField::OutputName => 16,
        _ => 4,
    };
    Ok(Expression::Meta { field, to: register(data, META_REGISTER, len)? })
}

pub(super) fn flow(data: Attributes<'_>) -> Outcome<Expression> {
    let key = needed(data, FLOW_KEY)?;
    if let Some(from) = optional_register(data, FLOW_SOURCE, 4)? {
        return match key {
            3 => Ok(Expression::SetFlowMark(from)),
            _ => Err(Errno::EOPNOTSUPP.into()),
        };
    }
    let direction = match data.find(FLOW_DIRECTION).and_then(<[u8]>::first) {
        None => None,
        Some(0) => Some(FlowDirection::Original),
        Some(1) => Some(FlowDirection::Reply),
        Some(_) => return Err(Errno::EINVAL.into()),
    };
    let field = match key {
        0 => ConnField::State,
        1 => ConnField::Direction,
        2 => ConnField::Status,
        3 => ConnField::Mark,
        // There are no security marks, helpers, labels or zones.
        4 => ConnField::Nothing(4),
        5 => ConnField::Expiration,
        6 | 13 => ConnField::Nothing(16),
        7 => ConnField::Family,
        8 | 19 | 21 => ConnField::Source,
        9 | 20 | 22 => ConnField::Destination,
        10 => ConnField::Protocol,
        11 => ConnField::SourcePort,
        12 => ConnField::DestinationPort,
        14 => ConnField::Packets,
        17 => ConnField::Nothing(2),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let needs_direction = matches!(key, 8 | 9 | 11 | 12 | 19..=22);
    if needs_direction && direction.is_none() {
        return Err(Errno::EINVAL.into());
    }
    let len = match field {
        ConnField::Source | ConnField::Destination if !matches!(key, 19 | 20) => 16,
        ConnField::Nothing(len) => usize::from(len),
        ConnField::Packets => 8,
        _ => 4,
    };
    Ok(Expression::Flow { field, direction, to: register(data, FLOW_REGISTER, len)? })
}

pub(super) fn route(data: Attributes<'_>) -> Outcome<Expression> {
    let (field, len) = match needed(data, ROUTE_KEY)? {
        0 => (RouteField::Realm, 4),
        1 => (RouteField::NextHopV4, 4),
        2 => (RouteField::NextHopV6, 16),
        3 => (RouteField::Mss, 4),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    Ok(Expression::Route { field, to: register(data, ROUTE_REGISTER, len)? })
}

pub(super) fn socket(family: u8, data: Attributes<'_>) -> Outcome<Expression> {
    if !matches!(family, FAMILY_INET | FAMILY_V4 | FAMILY_V6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let (field, len) = match needed(data, SOCKET_KEY)? {
        0 => (SocketField::Transparent, 1),
        1 => (SocketField::Mark, 4),
        2 => (SocketField::Wildcard, 1),
        // Control groups of sockets are not known to the stack.
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    Ok(Expression::Socket { field, to: register(data, SOCKET_REGISTER, len)? })
}

pub(super) fn fib(data: Attributes<'_>) -> Outcome<Expression> {
    let flags = needed(data, FIB_FLAGS)?;
    let has = |flag: u32| flags & flag != 0;
    // One of source and destination, and at most one of the NICs.
    if flags == 0 || flags & !0x3f != 0 || has(1) == has(2) || (has(8) && has(16)) {
        return Err(Errno::EINVAL.into());
    }
    let input = FibInput { is_source: has(1), with_mark: has(4), with_input: has(8), with_output: has(16) };
    let (result, len) = match needed(data, FIB_RESULT)? {
        1 if has(32) => (FibResult::Presence, 1),
        1 => (FibResult::Index, 4),
        2 if has(32) => (FibResult::Presence, 1),
        2 => (FibResult::Name, 16),
        3 => (FibResult::Kind, 4),
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Expression::Fib { input, result, to: register(data, FIB_REGISTER, len)? })
}

const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LEN: u16 = 4;
const PAYLOAD_SOURCE: u16 = 5;
const EXTENSION_REGISTER: u16 = 1;
const EXTENSION_TYPE: u16 = 2;
const EXTENSION_OFFSET: u16 = 3;
const EXTENSION_LEN: u16 = 4;
const EXTENSION_FLAGS: u16 = 5;
const EXTENSION_OP: u16 = 6;
const EXTENSION_SOURCE: u16 = 7;
const META_REGISTER: u16 = 1;
const META_KEY: u16 = 2;
const META_SOURCE: u16 = 3;
const FLOW_REGISTER: u16 = 1;
const FLOW_KEY: u16 = 2;
const FLOW_DIRECTION: u16 = 3;
const FLOW_SOURCE: u16 = 4;
const ROUTE_REGISTER: u16 = 1;
const ROUTE_KEY: u16 = 2;
const SOCKET_KEY: u16 = 1;
const SOCKET_REGISTER: u16 = 2;
const FIB_REGISTER: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
