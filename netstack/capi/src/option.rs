//! `setsockopt` and `getsockopt`: a table of options with Linux's names, units and errors.

mod ip;
mod ipv6;
mod membership;
mod socket_level;
mod tcp;
mod tcp_more;
mod udp;
pub(crate) mod value;

use std::ops::Deref;

use libc::{c_int, c_void, socklen_t};

use crate::descriptor::Socket;
use crate::errno::{Errno, answer};
use crate::frame::{bytes, bytes_mut};
use crate::packet_option;
use crate::socket::{lookup, packets};
use crate::stack::ns_stack;

/// Sets an option, as `setsockopt(2)`. `-ENOPROTOOPT` for what this stack does not have: nothing is ignored silently.
///
/// # Safety
/// `stack` is a valid stack and `value` points to `len` readable bytes; a program in them (`SO_ATTACH_FILTER`,
/// `PACKET_FANOUT_DATA`) is as long as they say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_setsockopt(
    stack: *const ns_stack,
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let (found, value) = unsafe { (lookup(stack, socket), bytes(value.cast(), len as usize)) };
    // SAFETY: as required of the caller.
    if let Some((handle, packets)) = unsafe { packets(stack, socket) } {
        // SAFETY: as required of the caller.
        let set = |value| unsafe { packet_option::set(handle, &packets, (level, name), value) };
        return answer(value.and_then(set).map(|()| 0));
    }
    let set = || {
        let ((handle, socket), value) = (found?, value?);
        let row = row(level, name)?;
        (row.set.ok_or(Errno(libc::ENOPROTOOPT))?)(&Subject { handle, socket: &socket }, value)?;
        Ok(0)
    };
    answer(set())
}

/// Reads an option, as `getsockopt(2)`: the value is cut to `*len` bytes, and `*len` says how many were written.
///
/// # Safety
/// `stack` is a valid stack, `len` points to a length and `value` to that many writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_getsockopt(
    stack: *const ns_stack,
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let (found, len) = unsafe { (lookup(stack, socket), len.as_mut()) };
    // SAFETY: as required of the caller.
    let packets = unsafe { packets(stack, socket) };
    let get = || {
        // As on Linux, the descriptor is looked at first, then the length.
        let other = if packets.is_none() { Some(found?) } else { None };
        let len = len.ok_or(Errno(libc::EFAULT))?;
        let known = match (packets, other) {
            (Some((_, packets)), _) => packet_option::get(&packets, (level, name))?,
            (None, Some((handle, socket))) => {
                let get = row(level, name)?.get.ok_or(Errno(libc::ENOPROTOOPT))?;
                get(&Subject { handle, socket: &socket })?
            }
            (None, None) => return Err(Errno(libc::EBADF)),
        };
        // SAFETY: as required of the caller.
        let out = unsafe { bytes_mut(value.cast(), *len as usize) }?;
        let count = known.len().min(out.len());
        out[..count].copy_from_slice(&known[..count]);
        // No option is that long.
        *len = count as socklen_t;
        Ok(0)
    };
    answer(get())
}

/// Whose option it is.
struct Subject<'a> {
    handle: &'a ns_stack,
    socket: &'a Socket,
}

impl Deref for Subject<'_> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        self.socket
    }
}

type Get = fn(&Subject<'_>) -> Result<Vec<u8>, Errno>;
type Set = fn(&Subject<'_>, &[u8]) -> Result<(), Errno>;

/// One option.
struct Row {
    level: c_int,
    name: c_int,
    get: Option<Get>,
    set: Option<Set>,
}

fn row(level: c_int, name: c_int) -> Result<&'static Row, Errno> {
    let mut rows = TABLES.iter().copied().flatten();
    rows.find(|row| (row.level, row.name) == (level, name)).ok_or(Errno(libc::ENOPROTOOPT))
}

const TABLES: [&[Row]; 7] =
    [socket_level::ROWS, ip::ROWS, ipv6::ROWS, tcp::ROWS, tcp_more::ROWS, udp::ROWS, membership::ROWS];

const fn both(level: c_int, name: c_int, get: Get, set: Set) -> Row {
    Row { level, name, get: Some(get), set: Some(set) }
}

const fn read_only(level: c_int, name: c_int, get: Get) -> Row {
    Row { level, name, get: Some(get), set: None }
}

const fn write_only(level: c_int, name: c_int, set: Set) -> Row {
    Row { level, name, get: None, set: Some(set) }
}
