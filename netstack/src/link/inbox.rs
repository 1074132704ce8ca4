//! Frames on their way from one stack of the process to another, on the sender's thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, RwLock};

use crate::link::LinkError;
use crate::nic::NicId;
use crate::packet::Packet;
use crate::stack::{Core, Stack};

/// What waits to be delivered to the NIC of one stack.
///
/// The answers that a delivery causes come back on the same thread, one level deep: an inbox that is being delivered from
/// only queues what comes meanwhile, and the deliverer takes it when it is done.
#[derive(Default)]
pub(super) struct Inbox {
    home: RwLock<Option<Home>>,
    queue: Mutex<Queue>,
}

/// Where the frames go.
struct Home {
    /// Weak: the stack owns the link.
    core: Weak<Core>,
    nic: NicId,
}

#[derive(Default)]
struct Queue {
    frames: Vec<Packet>,
    /// Some thread delivers frames here and will look again.
    is_delivering: bool,
}

impl Inbox {
    /// Tells which NIC the frames are for.
    pub(super) fn attach(&self, stack: &Stack, nic: NicId) {
        *self.home.write() = Some(Home { core: Arc::downgrade(&stack.core), nic });
    }

    /// Whether the NICs of both belong to one stack.
    pub(super) fn is_of_same_stack(&self, other: &Self) -> bool {
        let core = |inbox: &Self| inbox.home.read().as_ref().map(|home| Weak::clone(&home.core));
        core(self).zip(core(other)).is_some_and(|(this, that)| this.ptr_eq(&that))
    }

    /// Queues frames from the front of `packets`, as many as there is room for, and delivers them unless somebody is at
    /// it.
    pub(super) fn send(self: &Arc<Self>, packets: &mut [Packet]) -> Result<usize, LinkError> {
        if self.home.read().is_none() {
            return Err(LinkError::Down);
        }
        let taken = {
            let mut queue = self.queue.lock();
            let taken = BACKLOG.saturating_sub(queue.frames.len()).min(packets.len());
            queue.frames.extend(packets[..taken].iter_mut().map(std::mem::take));
            taken
        };
        self.deliver();
        if taken == 0 && !packets.is_empty() { Err(LinkError::Full) } else { Ok(taken) }
    }

    /// Delivers what is queued, on this thread, unless it is deep in deliveries to other stacks already: each may send to
    /// the next one. Then the outermost delivery sees to it.
    fn deliver(self: &Arc<Self>) {
        let Some(depth) = enter() else { return defer(self) };
        self.work_off();
        leave();
        while depth == 0
            && let Some(next) = deferred()
        {
            next.deliver();
        }
    }

    fn work_off(&self) {
        let home = self.home.read().as_ref().and_then(|home| Some((home.core.upgrade()?, home.nic)));
        let Some((core, nic)) = home else { return };
        let stack = Stack { core };
        loop {
            let mut frames = {
                let mut queue = self.queue.lock();
                if queue.is_delivering || queue.frames.is_empty() {
                    return;
                }
                queue.is_delivering = true;
                std::mem::take(&mut queue.frames)
            };
            stack.deliver(nic, &mut frames);
            self.queue.lock().is_delivering = false;
        }
    }
}

/// What a thread delivers at the moment.
#[derive(Default)]
struct Deliveries {
    depth: usize,
    deferred: VecDeque<Arc<Inbox>>,
}

thread_local! {
    static DELIVERIES: RefCell<Deliveries> = RefCell::default();
}

/// Begins a delivery within those of the thread and tells how many those are; `None` if there are too many. While the thread
/// ends, nothing is delivered.
fn enter() -> Option<usize> {
    let begin = |deliveries: &RefCell<Deliveries>| {
        let depth = &mut deliveries.borrow_mut().depth;
        *depth += 1;
        if *depth > MAX_DEPTH {
            *depth -= 1;
            return None;
        }
        Some(*depth - 1)
    };
    DELIVERIES.try_with(begin).ok().flatten()
}

fn leave() {
    // Fails while the thread ends, when nothing was begun.
    let _ = DELIVERIES.try_with(|deliveries| deliveries.borrow_mut().depth -= 1);
}

fn defer(inbox: &Arc<Inbox>) {
    let _ = DELIVERIES.try_with(|deliveries| {
        let deferred = &mut deliveries.borrow_mut().deferred;
        if !deferred.iter().any(|waiting| Arc::ptr_eq(waiting, inbox)) {
            deferred.push_back(Arc::clone(inbox));
        }
    });
}

fn deferred() -> Option<Arc<Inbox>> {
    DELIVERIES.try_with(|deliveries| deliveries.borrow_mut().deferred.pop_front()).ok().flatten()
}

/// Deliveries within deliveries: each takes some KiB of the thread's stack.
const MAX_DEPTH: usize = 8;
/// Linux's `net.core.netdev_max_backlog`.
const BACKLOG: usize = 1000;
