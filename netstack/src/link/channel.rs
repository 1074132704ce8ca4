//! The channel link: what the stack sends waits in a queue until the program takes it. For tests and embedders.

use std::sync::Arc;

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
    wait_queue: WaitQueue,
}

impl ChannelLink {
    /// Makes a link whose queue holds `capacity` packets; more are refused with [`LinkError::Full`].
    pub fn new(medium: Medium, mtu: usize, capabilities: Capabilities, capacity: usize) -> Arc<Self> {
        let queue = Mutex::default();
        Arc::new(Self { medium, mtu, capabilities, capacity, queue, wait_queue: WaitQueue::new() })
    }

    /// Takes the packets that the stack sent, oldest first.
    pub fn take(&self) -> Vec<Packet> {
        std::mem::take(&mut *self.queue.lock())
    }

    /// Moves the packets that the stack sent to the end of `out`, without an allocation if it has room.
    pub fn take_into(&self, out: &mut Vec<Packet>) {
        let mut queue = self.queue.lock();
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
            taken
        };
        if taken == 0 && !packets.is_empty() {
            return Err(LinkError::Full);
        }
        self.wait_queue.notify(Readiness::IN);
        Ok(taken)
    }
}
