//! Expressions that look at registers only.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use netstack::filter::machine::{BitwiseOp, Comparison, Expression, REGISTER_BYTES, Shift};

use super::{DATA_VALUE, byte, register};
use crate::errno::Errno;
use crate::socket::netlink::message::Attributes;
use crate::socket::netlink::netfilter::attributes::{
    Outcome, Refused, needed, nested, number as find_number,
};

/// The bytes of a value.
fn value<'a>(data: Attributes<'a>, kind: u16) -> Outcome<&'a [u8]> {
    let bytes = nested(data, kind).and_then(|value| value.find(DATA_VALUE));
    let fits = |bytes: &&[u8]| !bytes.is_empty() && bytes.len() <= REGISTER_BYTES;
    bytes.filter(fits).ok_or(Errno::EINVAL.into())
}

pub(super) fn compare(data: Attributes<'_>) -> Outcome<Expression> {
    let bytes = value(data, COMPARE_DATA)?;
    let comparison = match needed(data, COMPARE_OP)? {
        0 => Comparison::Equal,
        1 => Comparison::NotEqual,
        2 => Comparison::Less,
        3 => Comparison::LessOrEqual,
        4 => Comparison::Greater,
        5 => Comparison::GreaterOrEqual,
        _ => return Err(Errno::EINVAL.into()),
    };
    let register = register(data, COMPARE_REGISTER, bytes.len())?;
    Ok(Expression::Compare { register, comparison, bytes: bytes.to_vec() })
}

pub(super) fn range(data: Attributes<'_>) -> Outcome<Expression> {
    let (first, last) = (value(data, RANGE_FROM)?, value(data, RANGE_TO)?);
    let is_inverted = match needed(data, RANGE_OP)? {
        0 => false,
        1 => true,
        _ => return Err(Errno::EINVAL.into()),
    };
    if first.len() != last.len() {
        return Err(Errno::EINVAL.into());
    }
    let register = register(data, RANGE_REGISTER, first.len())?;
    Ok(Expression::Range { register, range: (first.to_vec(), last.to_vec()), is_inverted })
}

pub(super) fn bitwise(data: Attributes<'_>) -> Outcome<Expression> {
    let len = byte(data, BITWISE_LEN)?;
    let shift = |shift| -> Outcome<BitwiseOp> {
        let bits = value(data, BITWISE_DATA)?.try_into().map(u32::from_ne_bytes);
        match bits {
            Ok(bits @ 0..32) => Ok(BitwiseOp::Shift(shift, bits)),
            _ => Err(Errno::EINVAL.into()),
        }
    };
    let op = match find_number(data, BITWISE_OP).unwrap_or(0) {
        0 => {
            let (mask, xor) = (value(data, BITWISE_MASK)?, value(data, BITWISE_XOR)?);
            if mask.len() != usize::from(len) || xor.len() != usize::from(len) {
                return Err(Errno::EINVAL.into());
            }
            BitwiseOp::MaskXor(mask.to_vec(), xor.to_vec())
        }
        1 => shift(Shift::Left)?,
        2 => shift(Shift::Right)?,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let room = usize::from(len).next_multiple_of(4);
    let (from, to) = (register(data, BITWISE_SOURCE, room)?, register(data, BITWISE_REGISTER, room)?);
    Ok(Expression::Bitwise { from, to, len, op })
}

pub(super) fn byte_order(data: Attributes<'_>) -> Outcome<Expression> {
    let (len, size) = (byte(data, ORDER_LEN)?, byte(data, ORDER_SIZE)?);
    // From the network's order and to it is the same.
    if needed(data, ORDER_OP)? > 1 || !matches!(size, 2 | 4 | 8) {
        return Err(Errno::EINVAL.into());
    }
    let (from, to) =
        (register(data, ORDER_SOURCE, usize::from(len))?, register(data, ORDER_REGISTER, usize::from(len))?);
    Ok(Expression::SwapBytes { from, to, len, size })
}

pub(super) fn number(data: Attributes<'_>) -> Outcome<Expression> {
    let modulus = needed(data, NUMBER_MODULUS)?;
    let offset = find_number(data, NUMBER_OFFSET).unwrap_or(0);
    if modulus == 0 {
        return Err(Errno::ERANGE.into());
    }
    if offset.checked_add(modulus - 1).is_none() {
        return Err(Refused::from(Errno::EOVERFLOW));
    }
    let count = match needed(data, NUMBER_TYPE)? {
        // It counts up before it is looked at: the first number is 0.
        0 => Some(Arc::new(AtomicU32::new(modulus - 1))),
        1 => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(Expression::Number { to: register(data, NUMBER_REGISTER, 4)?, modulus, offset, count })
}

const COMPARE_REGISTER: u16 = 1;
const COMPARE_OP: u16 = 2;
const COMPARE_DATA: u16 = 3;
const RANGE_REGISTER: u16 = 1;
const RANGE_OP: u16 = 2;
const RANGE_FROM: u16 = 3;
const RANGE_TO: u16 = 4;
const BITWISE_SOURCE: u16 = 1;
const BITWISE_REGISTER: u16 = 2;
const BITWISE_LEN: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const BITWISE_OP: u16 = 6;
const BITWISE_DATA: u16 = 7;
const ORDER_SOURCE: u16 = 1;
const ORDER_REGISTER: u16 = 2;
const ORDER_OP: u16 = 3;
const ORDER_LEN: u16 = 4;
const ORDER_SIZE: u16 = 5;
const NUMBER_REGISTER: u16 = 1;
const NUMBER_MODULUS: u16 = 2;
const NUMBER_TYPE: u16 = 3;
const NUMBER_OFFSET: u16 = 4;
