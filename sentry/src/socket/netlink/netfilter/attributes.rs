//! Attributes as this subsystem writes them: numbers in network order, and errors that say which attribute is bad.

use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder};

use super::constants::{EXPR_DATA, EXPR_NAME, NAME_MAX};

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) errno: Errno,
    /// Where the value of the bad attribute is in memory: the distance to the message's beginning tells the offset.
    pub(super) attribute: Option<usize>,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, attribute: None }
    }
}

impl Refused {
    /// With the value of the attribute that is to blame.
    pub(super) fn at(errno: Errno, value: Option<&[u8]>) -> Self {
        Self { errno, attribute: value.map(|value| value.as_ptr().addr()) }
    }
}

/// What handling a message gives.
pub(super) type Outcome<T = ()> = Result<T, Refused>;

/// A 32-bit number in network order.
pub(super) fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    attributes.find(kind).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
}

/// A 64-bit number in network order.
pub(super) fn long(attributes: Attributes<'_>, kind: u16) -> Option<u64> {
    attributes.find(kind).and_then(|value| value.try_into().ok()).map(u64::from_be_bytes)
}

/// A number that must be there.
pub(super) fn needed(attributes: Attributes<'_>, kind: u16) -> Outcome<u32> {
    number(attributes, kind).ok_or(Refused::from(Errno::EINVAL))
}

/// The attributes in an attribute.
pub(super) fn nested(attributes: Attributes<'_>, kind: u16) -> Option<Attributes<'_>> {
    attributes.find(kind).map(Attributes::within)
}

/// A name that must be there.
pub(super) fn name(attributes: Attributes<'_>, kind: u16) -> Outcome<&str> {
    let text = attributes.str(kind).ok_or(Refused::from(Errno::EINVAL))?;
    if text.is_empty() || text.len() >= NAME_MAX {
        return Err(Refused::at(Errno::EINVAL, attributes.find(kind)));
    }
    Ok(text)
}

/// The name and the data of an expression.
pub(super) fn expression(attributes: Attributes<'_>) -> Outcome<(&str, Attributes<'_>)> {
    let data = nested(attributes, EXPR_DATA).unwrap_or(Attributes::within(&[]));
    Ok((name(attributes, EXPR_NAME)?, data))
}

/// Adds a 32-bit number in network order.
pub(super) fn put(builder: &mut Builder, kind: u16, value: u32) {
    builder.attr(kind, &value.to_be_bytes());
}

/// Adds a 64-bit number in network order.
pub(super) fn put_long(builder: &mut Builder, kind: u16, value: u64) {
    builder.attr(kind, &value.to_be_bytes());
}
