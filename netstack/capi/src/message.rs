//! `sendmsg` and `recvmsg`: several buffers at once, and control messages beside the data.

use std::io::{IoSlice, IoSliceMut};

use libc::{c_int, iovec, msghdr, sockaddr, ssize_t};
use netstack::buffer::{Gather, Scatter};
use netstack::options::SendMeta;

use crate::address;
use crate::control::{self, Encoder};
use crate::descriptor::Socket;
use crate::errno::{Errno, answer_count};
use crate::error_queue;
use crate::frame::{bytes, bytes_mut};
use crate::packet;
use crate::socket::{lookup, packets};
use crate::stack::ns_stack;
use crate::transfer::{self, Outcome};

/// Sends, as `sendmsg(2)`: the buffers of `message` are one datagram, or follow one another on a stream. Flags as for `ns_send`.
///
/// Control messages, for datagrams: `IP_PKTINFO` and `IPV6_PKTINFO` (source address and interface), `IP_TTL`, `IP_TOS`,
/// `IPV6_HOPLIMIT`, `IPV6_TCLASS`, `UDP_SEGMENT`. Others of these levels and of `SOL_SOCKET` are `-EINVAL`, those of other levels
/// and those of streams are not looked at.
///
/// # Safety
/// `stack` is a valid stack, and `message` points to a structure whose pointers are null or point to as much readable memory
/// as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_sendmsg(
    stack: *const ns_stack,
    socket: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (found, message) = unsafe { (lookup(stack, socket), message.as_ref()) };
    // SAFETY: as required of the caller.
    let packets = unsafe { packets(stack, socket) };
    let send = || {
        // As on Linux, the descriptor is looked at first.
        let other = if packets.is_none() { Some(found?) } else { None };
        let message = message.ok_or(Errno(libc::EFAULT))?;
        // SAFETY: as required of the caller.
        let vectors = unsafe { vectors(message) }?;
        // SAFETY: as required of the caller.
        let slices = vectors.iter().map(|vector| unsafe { bytes(vector.iov_base.cast(), vector.iov_len) });
        let data = slices.map(|slice| slice.map(IoSlice::new)).collect::<Result<Vec<_>, _>>()?;
        if let Some((_, packets)) = packets {
            // SAFETY: as required of the caller.
            let control = unsafe { bytes(message.msg_control.cast(), message.msg_controllen) }?;
            control::check(control)?;
            let name = message.msg_name.cast::<sockaddr>().cast_const();
            // SAFETY: as required of the caller.
            let to = (!name.is_null()).then(|| unsafe { packet::read(name, message.msg_namelen) });
            return packets.send(&mut Gather::new(&data), to.transpose()?, flags);
        }
        let (handle, socket) = other.ok_or(Errno(libc::EBADF))?;
        let mut meta = SendMeta::default();
        if socket.tcp().is_none() {
            if !message.msg_name.is_null() {
                let name = message.msg_name.cast::<sockaddr>().cast_const();
                // SAFETY: as required of the caller.
                meta.to = Some(unsafe { address::read(name, message.msg_namelen) }?);
            }
            // SAFETY: as required of the caller.
            let control = unsafe { bytes(message.msg_control.cast(), message.msg_controllen) }?;
            control::apply(socket.family(), control, &mut meta)?;
        }
        transfer::send(handle, &socket, &data, &meta, flags)
    };
    answer_count(send())
}

/// Receives, as `recvmsg(2)`, into the buffers of `message` one after the other. Flags as for `ns_recv`. Writes `msg_namelen`,
/// `msg_controllen` and `msg_flags` (`MSG_TRUNC`, `MSG_CTRUNC`, `MSG_OOB`, `MSG_ERRQUEUE`).
///
/// Control messages come with datagrams as the options `IP_PKTINFO`, `IP_RECVTTL`, `IP_RECVTOS`, `IP_RECVORIGDSTADDR`,
/// `IPV6_RECVPKTINFO`, `IPV6_RECVHOPLIMIT`, `IPV6_RECVTCLASS`, `IPV6_RECVORIGDSTADDR`, `UDP_GRO`, `SO_TIMESTAMP` and
/// `SO_TIMESTAMPNS` say, and with frames as those two and `PACKET_AUXDATA` say; with `MSG_ERRQUEUE` it is `IP_RECVERR` or `IPV6_RECVERR` (`struct sock_extended_err` and the address of
/// who reported the error), and the address is where the datagram was going. Times are the host's, or with a manual clock the stack's.
///
/// # Safety
/// `stack` is a valid stack, and `message` points to a structure whose pointers are null or point to as much writable memory
/// as it says, which does not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_recvmsg(
    stack: *const ns_stack,
    socket: c_int,
    message: *mut msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let (found, message) = unsafe { (lookup(stack, socket), message.as_mut()) };
    // SAFETY: as required of the caller.
    let packets = unsafe { packets(stack, socket) };
    let receive = || {
        // As on Linux, the descriptor is looked at first.
        let other = if packets.is_none() { Some(found?) } else { None };
        let message = message.ok_or(Errno(libc::EFAULT))?;
        // SAFETY: as required of the caller.
        let vectors = unsafe { vectors(message) }?;
        // SAFETY: as required of the caller.
        let slices =
            vectors.iter().map(|vector| unsafe { bytes_mut(vector.iov_base.cast(), vector.iov_len) });
        let mut slices = slices.map(|slice| slice.map(IoSliceMut::new)).collect::<Result<Vec<_>, _>>()?;
        // SAFETY: as required of the caller.
        let control = unsafe { bytes_mut(message.msg_control.cast(), message.msg_controllen) }?;
        if let Some((handle, packets)) = packets {
            let frame = packets.receive(handle.is_manual, &mut Scatter::new(&mut slices), flags)?;
            let name = message.msg_name.cast::<sockaddr>();
            // SAFETY: as required of the caller.
            unsafe { packet::write(frame.from, name, &raw mut message.msg_namelen) }?;
            let mut encoder = Encoder::new(control.len());
            packets.describe(handle, &frame, &mut encoder);
            let cut = if frame.copied < frame.len { libc::MSG_TRUNC } else { 0 };
            put_control(message, control, encoder, cut);
            return Ok(packet::count(&frame, flags));
        }
        let (handle, socket) = other.ok_or(Errno(libc::EBADF))?;
        let outcome = transfer::receive(handle, &socket, &mut Scatter::new(&mut slices), flags)?;
        let name = message.msg_name.cast::<sockaddr>();
        match outcome.from() {
            // SAFETY: as required of the caller.
            Some(from) => unsafe { address::write(from, name, &raw mut message.msg_namelen) }?,
            None => message.msg_namelen = 0,
        }
        let mut encoder = Encoder::new(control.len());
        let told = tell(handle, &socket, &outcome, &mut encoder);
        put_control(message, control, encoder, told);
        Ok(outcome.count(flags))
    };
    answer_count(receive())
}

/// Writes control messages and flags.
fn put_control(message: &mut msghdr, room: &mut [u8], encoder: Encoder, flags: c_int) {
    let (told, is_truncated) = encoder.finish();
    room[..told.len()].copy_from_slice(&told);
    message.msg_controllen = told.len();
    message.msg_flags = flags | if is_truncated { libc::MSG_CTRUNC } else { 0 };
}

/// The control messages that go with what came, and the flags.
fn tell(handle: &ns_stack, socket: &Socket, outcome: &Outcome, encoder: &mut Encoder) -> c_int {
    match outcome {
        Outcome::Stream(_) => 0,
        Outcome::Urgent(_) => libc::MSG_OOB,
        Outcome::Datagram(datagram) => {
            let wanted = socket.settings.lock().receive;
            control::describe(handle, socket.family(), wanted, datagram, encoder);
            if datagram.copied < datagram.len { libc::MSG_TRUNC } else { 0 }
        }
        Outcome::Error { copied, error } => {
            error_queue::describe(socket.family(), error, encoder);
            let cut = if *copied < error.payload.len() { libc::MSG_TRUNC } else { 0 };
            libc::MSG_ERRQUEUE | cut
        }
    }
}

/// The buffers of a message.
///
/// # Safety
/// `msg_iov` is null or points to `msg_iovlen` vectors that nobody changes during `'a`.
unsafe fn vectors(message: &msghdr) -> Result<&[iovec], Errno> {
    match (message.msg_iov.is_null(), message.msg_iovlen) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        (false, count) if count > MAX_VECTORS => Err(Errno(libc::EMSGSIZE)),
        // SAFETY: as required of the caller.
        (false, count) => Ok(unsafe { std::slice::from_raw_parts(message.msg_iov, count) }),
    }
}

/// Linux's `UIO_MAXIOV`.
const MAX_VECTORS: usize = 1024;
