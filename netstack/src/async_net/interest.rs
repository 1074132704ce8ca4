//! How a task waits for one direction of a socket.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

use crate::net::Transient;
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// A direction of a socket, and the task that waits for it.
///
/// Registered with the socket's queue from the first wait until [`Interest::end`], so that waiting again costs one lock.
#[derive(Debug)]
pub(super) struct Interest {
    readiness: Readiness,
    slot: Arc<Slot>,
    registration: Option<WaitId>,
}

/// The waker of whoever waits.
#[derive(Debug, Default)]
struct Slot {
    waker: Mutex<Option<Waker>>,
}

impl Observer for Slot {
    fn notify(&self, _ready: Readiness) {
        // Taken first: waking runs code of the executor, which may poll us again.
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Interest {
    pub(super) fn new(readiness: Readiness) -> Self {
        Self { readiness, slot: Arc::default(), registration: None }
    }

    /// Tries an operation; if it would block, the task is woken when it may work.
    pub(super) fn poll<T, E: Transient>(
        &mut self,
        context: &Context<'_>,
        queue: &WaitQueue,
        mut operation: impl FnMut() -> Result<T, E>,
    ) -> Poll<io::Result<T>> {
        self.poll_option(context, queue, || match operation() {
            Err(error) if error.is_would_block() => None,
            result => Some(result.map_err(Into::into)),
        })
    }

    /// The same for an attempt that says by `None` that it is not done.
    pub(super) fn poll_option<T>(
        &mut self,
        context: &Context<'_>,
        queue: &WaitQueue,
        mut attempt: impl FnMut() -> Option<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(result) = attempt() {
            return Poll::Ready(result);
        }
        self.leave(context.waker(), queue);
        // What became possible before the waker was left has woken nobody.
        attempt().map_or(Poll::Pending, Poll::Ready)
    }

    fn leave(&mut self, waker: &Waker, queue: &WaitQueue) {
        {
            let mut slot = self.slot.waker.lock();
            match &mut *slot {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        if self.registration.is_none() {
            self.registration = Some(queue.register(self.readiness, Arc::clone(&self.slot) as _));
        }
    }

    /// Takes the registration back: the queue may outlive the handle, which must not keep a task alive.
    pub(super) fn end(&mut self, queue: &WaitQueue) {
        if let Some(id) = self.registration.take() {
            queue.unregister(id);
        }
    }
}
