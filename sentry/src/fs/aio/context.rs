//! One context: its ring, and the requests that are under way.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::aio::poll::AioPoll;
use crate::fs::aio::ring::{Event, Ring};
use crate::fs::aio::{AioAccount, Charge};
use crate::fs::event::eventfd::EventFd;
use crate::mm::{MapRequest, MemoryManager, Placement, Prot, UserAddr};
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

/// A request as its completion names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Its address.
    pub(crate) at: u64,
    /// `aio_data`.
    pub(crate) data: u64,
}

/// A place for the completion of one request, given back where it is not used.
pub(crate) struct Completion {
    context: Arc<AioContext>,
    is_used: bool,
}

/// A context.
pub(crate) struct AioContext {
    /// Weak: it has the context.
    mm: Weak<MemoryManager>,
    bytes: u64,
    state: Mutex<State>,
    events: WaitQueue,
    _charge: Charge,
    id: u64,
}

struct State {
    ring: Ring,
    /// Requests that have a place in the ring and no event in it.
    pending: u32,
    polls: Vec<Arc<AioPoll>>,
    is_closed: bool,
}

impl AioContext {
    /// A context for `requests` at a time in address space `mm`.
    ///
    /// # Errors
    /// `EAGAIN` for none and for too many, `ENOMEM`.
    pub(crate) fn new(
        account: &Arc<AioAccount>,
        mm: &Arc<MemoryManager>,
        requests: u32,
    ) -> Result<Arc<Self>, Errno> {
        let charge = account.charge(requests.into())?;
        let bytes = Ring::bytes_for(requests);
        let id = mm.map(&MapRequest::anonymous(Placement::Hint(0), bytes, Prot::READ | Prot::WRITE))?;
        let ring = Ring::new(mm, id, bytes)?;
        Ok(Arc::new(Self {
            mm: Arc::downgrade(mm),
            bytes,
            state: Mutex::new(State { ring, pending: 0, polls: Vec::new(), is_closed: false }),
            events: WaitQueue::default(),
            _charge: charge,
            id,
        }))
    }

    /// What the program calls it: the address of the ring.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Told of completions.
    pub(crate) fn events(&self) -> &WaitQueue {
        &self.events
    }

    /// Reserves a place in the ring.
    ///
    /// # Errors
    /// `EAGAIN` where all are taken.
    pub(crate) fn reserve(self: &Arc<Self>, mm: &MemoryManager) -> Result<Completion, Errno> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Errno::EINVAL);
        }
        if state.ring.len(mm) + state.pending >= state.ring.capacity() {
            return Err(Errno::EAGAIN);
        }
        state.pending += 1;
        drop(state);
        Ok(Completion { context: self.clone(), is_used: false })
    }

    /// Moves up to `most` events to the program's array at `to`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(crate) fn take(&self, mm: &MemoryManager, most: u64, to: UserAddr) -> Result<u64, Errno> {
        self.state.lock().ring.take(mm, most, to)
    }

    /// Keeps a poll until it ends.
    pub(super) fn keep(&self, poll: Arc<AioPoll>) {
        let is_closed = {
            let mut state = self.state.lock();
            if !state.is_closed {
                state.polls.push(poll.clone());
            }
            state.is_closed
        };
        if is_closed {
            drop(poll.end());
        }
    }

    /// Lets go of a poll that has ended.
    pub(super) fn forget(&self, poll: &AioPoll) {
        let mut state = self.state.lock();
        let at = state.polls.iter().position(|kept| std::ptr::eq(Arc::as_ptr(kept), poll));
        let kept = at.map(|at| state.polls.swap_remove(at));
        drop(state);
        drop(kept);
    }

    /// Ends the poll of the request at `block`; its completion has no readiness. False where there is none.
    pub(crate) fn cancel(&self, block: u64) -> bool {
        let poll = self.state.lock().polls.iter().find(|poll| poll.block().at == block).cloned();
        poll.is_some_and(|poll| poll.finish(Readiness::empty()))
    }

    /// Ends all requests without telling anybody.
    pub(super) fn close(&self) {
        let polls = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.polls)
        };
        for poll in polls {
            drop(poll.end());
        }
        // Whoever waits for events finds out that there will be none.
        self.events.notify(Readiness::IN);
    }

    /// Whether it was destroyed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Removes the ring from the address space.
    pub(crate) fn unmap(&self) {
        if let Some(mm) = self.mm.upgrade() {
            let base = self.state.lock().ring.base();
            // The program may have done it.
            let _ = mm.unmap(base, self.bytes);
        }
    }
}

impl Completion {
    /// The address space in which it is told.
    pub(super) fn context(&self) -> &Arc<AioContext> {
        &self.context
    }

    /// Tells that `block` ended with `result`, in the ring and by `eventfd`.
    pub(crate) fn complete(mut self, block: Block, result: i64, eventfd: Option<&File>) {
        self.is_used = true;
        {
            let mut state = self.context.state.lock();
            state.pending -= 1;
            if state.is_closed {
                return;
            }
            let event = Event { data: block.data, block: block.at, result, result2: 0 };
            // An address space that is gone has nobody to tell.
            let Some(mm) = self.context.mm.upgrade() else { return };
            state.ring.push(&mm, &event);
        }
        if let Some(event) = eventfd.and_then(File::downcast::<EventFd>) {
            event.signal();
        }
        self.context.events.notify(Readiness::IN);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.is_used {
            self.context.state.lock().pending -= 1;
        }
    }
}
