//! The channel link: what the stack sends waits in a queue until the program takes it. For tests and embedders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;

use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::packet::Packet;
use crate::wait::{Readiness, WaitQueue};

/// A bounded queue of sent packets. Frames for the stack go in through [`Stack::deliver`](crate::Stack::deliver).
pub struct ChannelLink {
    medium: Medium,
    mtu: usize,
    capabilities: Capabilities,
    capacity: usize,
    queue: Mutex<Vec<Packet>>,
    /// The length of the queue, for those who look often. Written under the lock.
    len: AtomicUsize,
    wait_queue: WaitQueue,
}

impl ChannelLink {
    /// Makes a link whose queue holds `capacity` packets; more are refused with [`LinkError::Full`].
    pub fn new(medium: Medium, mtu: usize, capabilities: Capabilities, capacity: usize) -> Arc<Self> {
        let queue = Mutex::default();
        let (len, wait_queue) = (AtomicUsize::new(0), WaitQueue::new());
        Arc::new(Self { medium, mtu, capabilities, capacity, queue, len, wait_queue })
    }

    /// Takes the packets that the stack sent, oldest first.
    pub fn take(&self) -> Vec<Packet> {
        let mut queue = self.queue.lock();
        self.len.store(0, Ordering::Release);
        std::mem::take(&mut *queue)
    }

    /// Moves the packets that the stack sent to the end of `out`, without an allocation if it has room.
    pub fn take_into(&self, out: &mut Vec<Packet>) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        self.len.store(0, Ordering::Release);
        if out.is_empty() {
            std::mem::swap(out, &mut queue);
        } else {
            out.append(&mut queue);
        }
    }

    /// Notified with [`Readiness::IN`] when the stack has sent something.
    pub fn wait_queue(&self) -> &WaitQueue {
        &self.wait_queue
    }
}

impl Link for ChannelLink {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let taken = {
            let mut queue = self.queue.lock();
            let room = self.capacity.saturating_sub(queue.len());
            let taken = room.min(packets.len());
            queue.extend(packets[..taken].iter_mut().map(std::mem::take));
            self.len.store(queue.len(), Ordering::Release);
            taken
        };
        if taken == 0 && !packets.is_empty() {
            return Err(LinkError::Full);
        }
        // With the fence: who takes looks at `len` without the lock.
        self.wait_queue.notify(Readiness::IN);
        Ok(taken)
    }
}
