//! What all host links have in common: a descriptor to wait on and one reader at a time.

use std::os::fd::BorrowedFd;

use netstack::link::Link;
use netstack::packet::Packet;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::error::ReceiveError;

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
    receiver: MappedMutexGuard<'a, dyn Receive>,
}

/// The receiving half of a link.
pub(crate) trait Receive {
    /// Reads what is there, up to a batch, and appends it to `frames`. Does not wait.
    fn receive(&mut self, fd: BorrowedFd<'_>, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError>;
}

impl<'a> Leader<'a> {
    /// Waits for the right to read with `receiver` from `fd`.
    pub(crate) fn wait(fd: BorrowedFd<'a>, receiver: &'a Mutex<impl Receive + 'static>) -> Self {
        Self::new(fd, receiver.lock())
    }

    /// Takes the right to read if nobody has it.
    pub(crate) fn try_now(fd: BorrowedFd<'a>, receiver: &'a Mutex<impl Receive + 'static>) -> Option<Self> {
        Some(Self::new(fd, receiver.try_lock()?))
    }

    fn new(fd: BorrowedFd<'a>, receiver: MutexGuard<'a, impl Receive + 'static>) -> Self {
        Self { fd, receiver: MutexGuard::map(receiver, |own| own as &mut dyn Receive) }
    }

    /// Reads frames that wait, without waiting for any, and appends them to `frames`. Returns how many there were; it
    /// may leave some for the next call.
    pub fn receive(&mut self, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError> {
        self.receiver.receive(self.fd, frames)
    }
}
