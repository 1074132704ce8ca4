//! Queue disciplines at the edge of a link: a limit, a rate, or fair queues that keep delays short.
//!
//! [`QdiscLink`] wraps a link. Packets that the discipline holds back leave when their time comes: after
//! [`QdiscLink::attach`] the stack's timers see to that.
//!
//! ```
//! use netstack::link::qdisc::{Discipline, FqCodel, QdiscLink};
//! use netstack::link::{Capabilities, Medium, channel::ChannelLink};
//!
//! let stack = netstack::Stack::builder().manual_clock().build();
//! let device = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 64);
//! let shaped = QdiscLink::new(device, Discipline::FqCodel(FqCodel::default()));
//! let nic = stack.add_nic("tun0", shaped.clone()).unwrap();
//! shaped.attach(&stack);
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::Mutex;

use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::stack::{Core, Stack};
use crate::time::Instant;
use crate::timer::{TimerSlot, TimerTarget};

mod codel;
mod fifo;
mod flow;
mod token_bucket;

pub use codel::FqCodel;
pub use fifo::Fifo;
pub use token_bucket::TokenBucket;

/// How packets wait.
#[derive(Debug)]
pub enum Discipline {
    /// In one queue, with a limit (`pfifo`, `bfifo`).
    Fifo(Fifo),
    /// In one queue, at a rate (`tbf`).
    TokenBucket(TokenBucket),
    /// In a queue per flow, with short delays (`fq_codel`, RFC 8290).
    FqCodel(FqCodel),
}

/// What a queue gives.
#[derive(Debug)]
pub(crate) enum Dequeued {
    Packet(Packet),
    /// Nothing before that time.
    Wait(Instant),
    Empty,
}

/// What a discipline counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QdiscStats {
    /// Packets that left.
    pub sent: u64,
    /// Packets dropped because a limit was reached.
    pub overlimit: u64,
    /// Packets dropped because they had waited too long.
    pub dropped_late: u64,
    /// Packets marked instead of dropped (ECN).
    pub marked: u64,
    /// Packets that wait.
    pub backlog: usize,
}

impl Discipline {
    fn enqueue(&mut self, now: Instant, packet: Packet) {
        match self {
            Self::Fifo(queue) => queue.enqueue(packet),
            Self::TokenBucket(queue) => queue.enqueue(packet),
            Self::FqCodel(queue) => queue.enqueue(now, packet),
        }
    }

    fn dequeue(&mut self, now: Instant) -> Dequeued {
        match self {
            Self::Fifo(queue) => queue.dequeue().map_or(Dequeued::Empty, Dequeued::Packet),
            Self::TokenBucket(queue) => queue.dequeue(now),
            Self::FqCodel(queue) => queue.dequeue(now).map_or(Dequeued::Empty, Dequeued::Packet),
        }
    }

    fn stats(&self) -> QdiscStats {
        match self {
            Self::Fifo(queue) => queue.stats(),
            Self::TokenBucket(queue) => queue.stats(),
            Self::FqCodel(queue) => queue.stats(),
        }
    }
}

/// A link behind a queue.
pub struct QdiscLink {
    inner: Arc<dyn Link>,
    queue: Mutex<Queue>,
    /// Held by whoever sends, so that packets leave in their order.
    sending: Mutex<()>,
    slot: TimerSlot,
    this: Weak<Self>,
}

struct Queue {
    discipline: Discipline,
    /// What the link did not take; goes first.
    refused: VecDeque<Packet>,
    core: Weak<Core>,
}

impl QdiscLink {
    /// Puts a queue before a link.
    pub fn new(inner: Arc<dyn Link>, discipline: Discipline) -> Arc<Self> {
        let queue = Queue { discipline, refused: VecDeque::new(), core: Weak::new() };
        Arc::new_cyclic(|this| Self {
            inner,
            queue: Mutex::new(queue),
            sending: Mutex::new(()),
            slot: TimerSlot::default(),
            this: Weak::clone(this),
        })
    }

    /// Takes the time from a stack, and lets its timers send what waits. Until then packets pass straight through.
    pub fn attach(&self, stack: &Stack) {
        self.queue.lock().core = Arc::downgrade(&stack.core);
    }

    /// What the discipline counted.
    pub fn stats(&self) -> QdiscStats {
        self.queue.lock().discipline.stats()
    }

    /// Sends what may leave now.
    fn run(&self, core: &Core) {
        // Somebody else is at it: their loop sees what was put in before they look a last time, and the timer the rest.
        let Some(_sending) = self.sending.try_lock() else { return self.look_again(core) };
        let now = core.clock.now();
        loop {
            let mut batch: Vec<Packet> = Vec::new();
            let wait = {
                let mut queue = self.queue.lock();
                batch.extend(queue.refused.drain(..));
                loop {
                    if batch.len() >= BATCH {
                        break None;
                    }
                    match queue.discipline.dequeue(now) {
                        Dequeued::Packet(packet) => batch.push(packet),
                        Dequeued::Wait(at) => break Some(at),
                        Dequeued::Empty => break None,
                    }
                }
            };
            if let Some(at) = wait {
                self.arm(core, at);
            }
            if batch.is_empty() {
                return;
            }
            let taken = match self.inner.send_batch(&mut batch) {
                Ok(taken) => taken.min(batch.len()),
                Err(LinkError::Full) => 0,
                // What it can never take is gone.
                Err(LinkError::TooLarge) => 1,
                Err(LinkError::Down | LinkError::Gone) => batch.len(),
            };
            if taken < batch.len() {
                self.queue.lock().refused.extend(batch.drain(taken..));
                if taken == 0 {
                    return self.look_again(core);
                }
            }
        }
    }

    /// The link is full, and does not tell when it is not: looks again in a while.
    fn look_again(&self, core: &Core) {
        self.arm(core, core.clock.now() + RETRY);
    }

    fn arm(&self, core: &Core, at: Instant) {
        if let Some(this) = self.this.upgrade() {
            core.timers.arm(&this, Some(at));
        }
    }
}

impl Link for QdiscLink {
    fn medium(&self) -> Medium {
        self.inner.medium()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let core = {
            let mut queue = self.queue.lock();
            let Some(core) = queue.core.upgrade() else {
                drop(queue);
                return self.inner.send_batch(packets);
            };
            let now = core.clock.now();
            for packet in packets.iter_mut() {
                queue.discipline.enqueue(now, std::mem::take(packet));
            }
            core
        };
        self.run(&core);
        Ok(packets.len())
    }
}

impl TimerTarget for QdiscLink {
    fn slot(&self) -> &TimerSlot {
        &self.slot
    }

    fn on_timer(self: Arc<Self>, core: &Arc<Core>, _now: Instant, _outbox: &mut Outbox) {
        self.run(core);
    }
}

impl std::fmt::Debug for QdiscLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QdiscLink").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Packets that go to the link at once: as many as links send with one call.
const BATCH: usize = 64;
/// About the time that a gigabit link takes for a hundred packets.
const RETRY: Duration = Duration::from_millis(1);

#[cfg(test)]
#[path = "qdisc/tests.rs"]
mod tests;
