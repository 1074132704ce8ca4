//! Frames by hand: what a channel interface sends is taken, what it is to receive is injected.

use std::collections::VecDeque;
use std::sync::Arc;

use libc::{c_int, c_uint, size_t, ssize_t};
use netstack::NicId;
use netstack::link::channel::ChannelLink;
use netstack::packet::Packet;
use parking_lot::Mutex;

use crate::errno::{Errno, answer, answer_count};
use crate::stack::ns_stack;

/// The sending side of a channel interface.
pub(crate) struct Outgoing {
    pub(crate) link: Arc<ChannelLink>,
    /// Taken from the link and not yet by the program.
    taken: Mutex<VecDeque<Packet>>,
}

impl Outgoing {
    pub(crate) fn new(link: Arc<ChannelLink>) -> Self {
        Self { link, taken: Mutex::default() }
    }

    /// Copies the oldest frame into `buffer`; it stays where it is if it does not fit.
    fn take(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut taken = self.taken.lock();
        if taken.is_empty() {
            taken.extend(self.link.take());
        }
        let len = taken.front().map(Packet::len).ok_or(Errno(libc::EAGAIN))?;
        let room = buffer.get_mut(..len).ok_or(Errno(libc::EMSGSIZE))?;
        let frame = taken.pop_front().ok_or(Errno(libc::EAGAIN))?;
        Ok(frame.copy_to(0, room))
    }
}

/// The interface behind a number of the program's.
pub(crate) fn nic_of(handle: &ns_stack, nic: c_uint) -> Result<NicId, Errno> {
    let known = NicId::from_index(nic).filter(|&nic| handle.stack.nic(nic).is_some());
    known.ok_or(Errno(libc::ENODEV))
}

/// Gives a channel interface a frame to receive: an Ethernet frame or an IP packet, as the interface was made. The
/// stack processes it, and answers it, before this returns. The frame is copied.
///
/// Returns 0, or `-ENODEV` if there is no such interface.
///
/// # Safety
/// `stack` is a valid stack and `frame` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_inject(
    stack: *const ns_stack,
    nic: c_uint,
    frame: *const u8,
    len: size_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer(handle.and_then(|handle| {
        let nic = nic_of(handle, nic)?;
        // SAFETY: as required of the caller.
        let frame = unsafe { bytes(frame, len) }?;
        handle.stack.inject(nic, frame.to_vec());
        Ok(0)
    }))
}

/// Takes the oldest frame that a channel interface has sent. Returns its length, `-EAGAIN` if there is none, `-EMSGSIZE`
/// if `buffer` is too small (the frame stays), `-ENODEV` if there is no such channel.
///
/// # Safety
/// `stack` is a valid stack and `buffer` points to `capacity` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_take(
    stack: *const ns_stack,
    nic: c_uint,
    buffer: *mut u8,
    capacity: size_t,
) -> ssize_t {
    // SAFETY: as required of the caller.
    let handle = unsafe { ns_stack::from_raw(stack) };
    answer_count(handle.and_then(|handle| {
        let nic = nic_of(handle, nic)?;
        let channel = handle.channels.lock().get(&nic).map(Arc::clone).ok_or(Errno(libc::ENODEV))?;
        // SAFETY: as required of the caller.
        channel.take(unsafe { bytes_mut(buffer, capacity) }?)
    }))
}

/// The bytes of a C buffer.
///
/// # Safety
/// `data` points to `len` readable bytes that nobody writes during `'a`; it may be null if `len` is zero.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: size_t) -> Result<&'a [u8], Errno> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: the caller says so; `isize::MAX` bounds every object of C as well.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts(data, len) }),
    }
}

/// The same, to be written.
///
/// # Safety
/// `data` points to `len` initialised bytes that are nobody else's during `'a`; it may be null if `len` is zero.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut u8, len: size_t) -> Result<&'a mut [u8], Errno> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: the caller says so. C's uninitialised bytes are only written to.
        (false, len) => Ok(unsafe { std::slice::from_raw_parts_mut(data, len) }),
    }
}
