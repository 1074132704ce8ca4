//! Reading and writing option values.

use std::time::Duration;

use sentry_abi::time::Timeval;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::Errno;
use crate::socket::option::Value;

/// An `int` value.
///
/// # Errors
/// `EINVAL` when there are fewer than four bytes.
pub(super) fn int(value: &[u8]) -> Result<i32, Errno> {
    let bytes = value.get(..4).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// An `int` that is a switch.
///
/// # Errors
/// `EINVAL` when there are fewer than four bytes.
pub(super) fn switch(value: &[u8]) -> Result<bool, Errno> {
    int(value).map(|n| n != 0)
}

/// The value of an option of `SOL_IP`, which may be an `int`, a single byte, or nothing, which is zero
/// (`do_ip_setsockopt`).
pub(super) fn int_or_byte(value: &[u8]) -> i32 {
    int(value).unwrap_or_else(|_| value.first().copied().map_or(0, i32::from))
}

/// The value of a struct.
///
/// # Errors
/// `EINVAL` when it is too short.
pub(super) fn object<T: FromBytes>(value: &[u8]) -> Result<T, Errno> {
    T::read_from_prefix(value).map(|(object, _)| object).map_err(|_| Errno::EINVAL)
}

/// Bytes of a value.
pub(in crate::socket) fn bytes<T: IntoBytes + Immutable + ?Sized>(value: &T) -> Value {
    Value::from_slice(value.as_bytes())
}

/// The bytes of an `int`.
pub(super) fn of_int(value: i32) -> Result<Value, Errno> {
    Ok(bytes(&value))
}

/// The bytes of a switch.
pub(super) fn of_bool(value: bool) -> Result<Value, Errno> {
    of_int(i32::from(value))
}

/// A number as a non-negative `int`.
pub(super) fn saturate(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

/// A timeout of `SO_RCVTIMEO`; zero is none.
///
/// # Errors
/// `EINVAL` when it is too short, `EDOM` for microseconds out of range.
pub(super) fn timeout(value: &[u8]) -> Result<Duration, Errno> {
    let time: Timeval = object(value)?;
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EDOM);
    }
    // sock_set_timeout: negative seconds do not wait at all.
    let Ok(sec) = u64::try_from(time.sec) else { return Ok(Duration::from_nanos(1)) };
    Ok(Duration::from_secs(sec) + Duration::from_micros(time.usec.unsigned_abs()))
}

/// A timeout as `struct timeval`.
pub(super) fn of_timeout(timeout: Duration) -> Result<Value, Errno> {
    Ok(bytes(&Timeval::from_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_linux_reads_them() {
        assert_eq!(int(&[1, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(int(&[1, 0, 0, 0, 9]), Ok(1));
        assert_eq!((int_or_byte(&[7]), int_or_byte(&[]), int_or_byte(&[1, 1, 0, 0])), (7, 0, 257));
        let tv = |sec: i64, usec: i64| [sec.to_ne_bytes(), usec.to_ne_bytes()].concat();
        assert_eq!(timeout(&tv(1, 500)), Ok(Duration::from_micros(1_000_500)));
        assert_eq!(timeout(&tv(1, 1_000_000)), Err(Errno::EDOM));
        assert_eq!(timeout(&tv(-1, 0)), Ok(Duration::from_nanos(1)));
        assert_eq!(timeout(&tv(0, 0)), Ok(Duration::ZERO));
        assert_eq!(timeout(&[0; 8]), Err(Errno::EINVAL));
    }
}
