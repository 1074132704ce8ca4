//! What all host links have in common: a descriptor to wait on and one reader at a time.

use std::os::fd::BorrowedFd;

use netstack::link::Link;
use netstack::packet::Packet;
use parking_lot::MutexGuard;

use crate::error::ReceiveError;
use crate::receive::Receiver;

/// A link whose frames come from a descriptor of the host.
pub trait HostLink: Link {
    /// The descriptor; readable when frames wait.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Becomes the link's reader, waiting until the one before has left.
    fn lead(&self) -> Leader<'_>;

    /// Becomes the link's reader if there is none.
    fn try_lead(&self) -> Option<Leader<'_>>;
}

/// The right to read a link, given back when dropped.
///
/// Deliver what was read before giving it back: frames of one connection must reach the stack in order.
pub struct Leader<'a> {
    fd: BorrowedFd<'a>,
    receiver: MutexGuard<'a, Receiver>,
}

impl<'a> Leader<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, receiver: MutexGuard<'a, Receiver>) -> Self {
        Self { fd, receiver }
    }

    /// Reads frames that wait, without waiting for any, and appends them to `frames`. Returns how many there were; it
    /// may leave some for the next call.
    pub fn receive(&mut self, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError> {
        self.receiver.receive(self.fd, frames)
    }
}
