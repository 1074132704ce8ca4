//! What option values are made of, and the fields of sockets behind them.

use std::time::Duration;

use libc::c_int;
use netstack::options::SocketOptions;

use crate::control::Receive;
use crate::descriptor::{Settings, Socket, each};
use crate::errno::Errno;

pub(super) fn options_of(socket: &Socket) -> SocketOptions {
    each!(&socket.kind, socket => socket.options())
}

pub(super) fn change(socket: &Socket, change: impl FnOnce(&mut SocketOptions)) -> Result<(), Errno> {
    each!(&socket.kind, socket => socket.set_options(change));
    Ok(())
}

pub(super) fn flag(socket: &Socket, get: impl FnOnce(&SocketOptions) -> bool) -> Vec<u8> {
    int_value(get(&options_of(socket)).into())
}

pub(super) fn set_flag(
    socket: &Socket,
    value: &[u8],
    set: impl FnOnce(&mut SocketOptions, bool),
) -> Result<(), Errno> {
    let on = int(value)? != 0;
    change(socket, |options| set(options, on))
}

/// Whether a control message is wanted.
pub(super) fn wanted(socket: &Socket, switch: Receive) -> Vec<u8> {
    int_value(socket.settings.lock().receive.contains(switch).into())
}

pub(super) fn want(socket: &Socket, value: &[u8], switch: Receive) -> Result<(), Errno> {
    let on = int(value)? != 0;
    socket.settings.lock().receive.set(switch, on);
    Ok(())
}

pub(super) fn count(socket: &Socket, get: impl FnOnce(&SocketOptions) -> usize) -> Vec<u8> {
    int_value(saturate(get(&options_of(socket))))
}

/// A buffer's size, doubled as Linux does to make up for what a packet costs besides its data (`socket(7)`).
pub(super) fn set_buffer(
    socket: &Socket,
    value: &[u8],
    least: usize,
    set: impl FnOnce(&mut SocketOptions, usize),
) -> Result<(), Errno> {
    let size = usize::try_from(int(value)?).unwrap_or(0).saturating_mul(2).max(least);
    change(socket, |options| set(options, size))
}

pub(super) fn set_time(
    socket: &Socket,
    value: &[u8],
    set: impl FnOnce(&mut Settings, Option<Duration>),
) -> Result<(), Errno> {
    set(&mut socket.settings.lock(), read_time(value)?);
    Ok(())
}

/// A `struct timeval`; zero is no limit.
pub(crate) fn read_time(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let word = |index: usize| {
        let bytes = value.get(index..index + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(i64::from_ne_bytes).ok_or(Errno(libc::EINVAL))
    };
    let (seconds, microseconds) = (word(0)?, word(8)?);
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno(libc::EDOM));
    }
    // A negative time is none at all on Linux; it is the shortest here.
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        + Duration::from_micros(microseconds.unsigned_abs());
    Ok((!limit.is_zero()).then_some(limit))
}

pub(crate) fn time(limit: Option<Duration>) -> Vec<u8> {
    let limit = limit.unwrap_or_default();
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    [seconds.to_ne_bytes(), i64::from(limit.subsec_micros()).to_ne_bytes()].concat()
}

/// A TTL or hop limit; -1 asks for the default.
pub(super) fn hops(value: &[u8], least: c_int) -> Result<Option<u8>, Errno> {
    match int(value)? {
        -1 => Ok(None),
        hops if hops >= least => u8::try_from(hops).map(Some).map_err(|_| Errno(libc::EINVAL)),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn octet(value: &[u8]) -> Result<u8, Errno> {
    u8::try_from(int(value)?).map_err(|_| Errno(libc::EINVAL))
}

/// `TCP_KEEPIDLE` and the like, up to Linux's MAX_TCP_KEEPIDLE.
pub(super) fn keepalive_time(value: &[u8]) -> Result<Duration, Errno> {
    match int(value)? {
        seconds @ 1..=32767 => Ok(Duration::from_secs(u64::from(seconds.unsigned_abs()))),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// `TCP_KEEPCNT` and `TCP_SYNCNT`, up to Linux's MAX_TCP_KEEPCNT.
pub(super) fn small_count(value: &[u8]) -> Result<u8, Errno> {
    match u8::try_from(int(value)?) {
        Ok(count @ 1..=127) => Ok(count),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn seconds(span: Duration) -> Vec<u8> {
    int_value(saturate(span.as_secs()))
}

pub(crate) fn int(value: &[u8]) -> Result<c_int, Errno> {
    let bytes = value.get(..4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(c_int::from_ne_bytes).ok_or(Errno(libc::EINVAL))
}

pub(crate) fn int_value(value: c_int) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

pub(crate) fn saturate(value: impl TryInto<c_int>) -> c_int {
    value.try_into().unwrap_or(c_int::MAX)
}

/// Bytes of a structure, in the order in which they are there.
pub(crate) fn field<const N: usize>(value: &[u8], at: usize) -> Result<[u8; N], Errno> {
    let bytes = value.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(Errno(libc::EINVAL))
}

/// The stack's TTL where a socket sets none.
pub(super) const DEFAULT_TTL: u8 = 64;
