//! `sendmmsg` and `recvmmsg`: several messages with one call.

use libc::{c_int, c_uint, mmsghdr, ssize_t};
use netstack::UdpSocket;

use crate::errno::{Errno, answer_count};
use crate::message::{ns_recvmsg, ns_sendmsg};
use crate::stack::ns_stack;

/// Sends messages one after the other, as `sendmmsg(2)`: at most 1024, each as with `ns_sendmsg`, whose lengths go to `msg_len`. The
/// link gets datagrams in batches unless the call may wait. Returns how many were sent; an error only of the first.
///
/// # Safety
/// `stack` is a valid stack, and `messages` points to `count` structures as for `ns_sendmsg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_sendmmsg(
    stack: *const ns_stack,
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let Ok(messages) = (unsafe { slice(messages, count) }) else {
        return answer_count(Err(Errno(libc::EFAULT)));
    };
    let mut send_all = || {
        for (at, message) in messages.iter_mut().enumerate() {
            // SAFETY: as required of the caller.
            let sent = unsafe { ns_sendmsg(stack, socket, &raw const message.msg_hdr, flags) };
            match c_uint::try_from(sent) {
                Ok(len) => message.msg_len = len,
                Err(_) if at > 0 => return counted(at),
                Err(_) => return sent,
            }
        }
        counted(messages.len())
    };
    match flags & libc::MSG_DONTWAIT {
        0 => send_all(),
        _ => UdpSocket::batched(&mut send_all),
    }
}

/// Receives messages one after the other, as `recvmmsg(2)` without a limit of time: at most 1024, each as with `ns_recvmsg`, whose
/// lengths go to `msg_len`. With `MSG_WAITFORONE`, only the first is waited for. Returns how many came; an error only if none did.
///
/// # Safety
/// `stack` is a valid stack, and `messages` points to `count` structures as for `ns_recvmsg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_recvmmsg(
    stack: *const ns_stack,
    socket: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let Ok(messages) = (unsafe { slice(messages, count) }) else {
        return answer_count(Err(Errno(libc::EFAULT)));
    };
    let mut how = flags & !libc::MSG_WAITFORONE;
    for (at, message) in messages.iter_mut().enumerate() {
        // SAFETY: as required of the caller.
        let received = unsafe { ns_recvmsg(stack, socket, &raw mut message.msg_hdr, how) };
        match c_uint::try_from(received) {
            Ok(len) => message.msg_len = len,
            Err(_) if at > 0 => return counted(at),
            Err(_) => return received,
        }
        if flags & libc::MSG_WAITFORONE != 0 {
            how |= libc::MSG_DONTWAIT;
        }
    }
    counted(messages.len())
}

/// At most [`MAX_MESSAGES`].
fn counted(count: usize) -> ssize_t {
    ssize_t::try_from(count).unwrap_or(ssize_t::MAX)
}

/// The messages of a call.
///
/// # Safety
/// `messages` is null or points to `count` structures that nobody else uses during `'a`.
unsafe fn slice<'a>(messages: *mut mmsghdr, count: c_uint) -> Result<&'a mut [mmsghdr], Errno> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_MESSAGES);
    match (messages.is_null(), count) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: as required of the caller.
        (false, count) => Ok(unsafe { std::slice::from_raw_parts_mut(messages, count) }),
    }
}

/// Linux's `UIO_MAXIOV`.
const MAX_MESSAGES: usize = 1024;
