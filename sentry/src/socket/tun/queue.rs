//! What the stack sent and a file has not read yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netstack::packet::Packet;
use parking_lot::Mutex;

use crate::wait::{Readiness, WaitQueue};

/// The packets for one file, oldest first. It belongs to the file and is lent to a device.
#[derive(Default)]
pub(super) struct Queue {
    packets: Mutex<VecDeque<Packet>>,
    /// Written under the lock, for those who look often.
    is_filled: AtomicBool,
    wait: WaitQueue,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts packets in, from the front of `packets`, until there are `capacity`; how many.
    pub(super) fn push(&self, packets: &mut [Packet], capacity: usize) -> usize {
        let taken = {
            let mut waiting = self.packets.lock();
            let taken = capacity.saturating_sub(waiting.len()).min(packets.len());
            waiting.extend(packets[..taken].iter_mut().map(std::mem::take));
            self.is_filled.store(!waiting.is_empty(), Ordering::Release);
            taken
        };
        if taken > 0 {
            self.wait.notify(Readiness::IN);
        }
        taken
    }

    /// The oldest packet.
    pub(super) fn pop(&self) -> Option<Packet> {
        let mut waiting = self.packets.lock();
        let packet = waiting.pop_front();
        self.is_filled.store(!waiting.is_empty(), Ordering::Release);
        packet
    }

    /// Whether there is one.
    pub(super) fn is_filled(&self) -> bool {
        self.is_filled.load(Ordering::Acquire)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        let mut waiting = self.packets.lock();
        self.is_filled.store(false, Ordering::Release);
        let forgotten = std::mem::take(&mut *waiting);
        drop(waiting);
        drop(forgotten);
    }

    /// Who waits for the file.
    pub(super) fn wait(&self) -> &WaitQueue {
        &self.wait
    }
}
