//! The stack: interfaces, addresses, routes, sockets and time put together.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::nic::NicId;
use crate::packet::Packet;
use crate::tcp;
use crate::time::Instant;
use crate::topology::TopologyCell;

mod builder;
mod control;

pub use builder::StackBuilder;

/// A TCP/IP stack. Cheap to clone; all clones are the same stack, which lives as long as a clone or a socket does.
///
/// # Threads
/// A stack has no threads. The thread that reads a link calls [`deliver`](Self::deliver), which carries each frame to
/// its socket, answers it and notifies observers before it returns. A socket call transmits on its caller's thread.
/// Somebody calls [`run_timers`](Self::run_timers) when [`next_deadline`](Self::next_deadline) has come: a
/// [`Driver`](crate::Driver) thread, an event loop, or a test through [`advance_to`](Self::advance_to).
///
/// # Manual mode
/// With [`StackBuilder::manual_clock`] the stack never reads a clock: time moves by `advance_to` only and everything is
/// deterministic. The code that runs is the same.
#[derive(Clone)]
pub struct Stack {
    pub(crate) core: Arc<Core>,
}

/// What all handles share.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) topology: TopologyCell,
    pub(crate) tcp_config: parking_lot::RwLock<Arc<tcp::Config>>,
}

impl Stack {
    /// Starts to describe a stack.
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }

    /// The stack's time.
    pub fn now(&self) -> Instant {
        self.core.clock.now()
    }

    /// Takes frames that arrived on a NIC: whole Ethernet frames or IP packets, as its medium says.
    ///
    /// Empties `frames`. Give what is there as one batch: acknowledgments and wake-ups are merged over it.
    pub fn deliver(&self, nic: NicId, frames: &mut Vec<Packet>) {
        todo!()
    }

    /// Takes one frame that arrived on a NIC.
    pub fn inject(&self, nic: NicId, frame: impl Into<Bytes>) {
        self.deliver(nic, &mut vec![Packet::from_frame(frame.into())]);
    }

    /// When [`run_timers`](Self::run_timers) has something to do; `None` if nothing is pending.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Runs what is due now.
    pub fn run_timers(&self) {
        todo!()
    }

    /// Manual mode: moves the time to `now`, stopping at each deadline on the way to run what is due then. Earlier
    /// times are ignored, as is the whole call when the stack has a real clock.
    pub fn advance_to(&self, now: Instant) {
        todo!()
    }

    /// Sets who is called when the earliest deadline moves closer, from whichever thread caused it. It must not block.
    pub fn set_timer_waker(&self, waker: Arc<dyn Fn() + Send + Sync>) {
        todo!()
    }

    /// The TCP settings that new connections and listeners start with.
    pub fn tcp_config(&self) -> Arc<tcp::Config> {
        Arc::clone(&self.core.tcp_config.read())
    }

    /// Changes the TCP settings of later connections and listeners.
    pub fn set_tcp_config(&self, config: tcp::Config) {
        *self.core.tcp_config.write() = Arc::new(config);
    }
}
