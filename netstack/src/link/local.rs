//! A link for programs that carry their stacks' frames themselves, on the thread that calls into the stack: what a call has
//! made the stack send waits on that thread, without a lock, until the same thread takes it.
//!
//! Each frame is handed over as it is, headers in front of references to the sent data; what is short enough is in one
//! piece. Between two stacks of one thread it may go straight into [`Stack::deliver`](crate::Stack::deliver) of the other.
//!
//! Every thread that enters the stack (by a socket call, with frames, or to run timers) has to take what it caused. Where
//! threads send that do not know of the link, a [`ChannelLink`](super::channel::ChannelLink) is right.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::hint::unlikely;
use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::packet::Packet;

/// A queue of sent packets on each thread that sends.
pub struct LocalLink {
    medium: Medium,
    mtu: usize,
    capabilities: Capabilities,
    capacity: usize,
    /// Names the link in the lists of the threads.
    own: Weak<Self>,
}

impl LocalLink {
    /// Makes a link for which each thread holds up to `capacity` packets; more are refused with [`LinkError::Full`].
    pub fn new(medium: Medium, mtu: usize, capabilities: Capabilities, capacity: usize) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { medium, mtu, capabilities, capacity, own: own.clone() })
    }

    /// Where the link is, which no other is as long as a reference to it exists.
    #[inline]
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Uses the thread's queue.
    #[inline]
    fn with_queue<T>(
        &self,
        operation: impl FnOnce(&mut Vec<Packet>) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let result = QUEUES.try_with(|queues| {
            let mut queues = queues.borrow_mut();
            let index = queues.iter().position(|queue| queue.address == self.address());
            let index = index.unwrap_or_else(|| add_queue(&mut queues, &self.own));
            operation(&mut queues[index].packets)
        });
        // While the thread ends, nobody will take anything.
        result.unwrap_or(Err(LinkError::Gone))
    }

    /// Moves the packets that the stack sent on this thread to the end of `out`, without an allocation if it has room.
    pub fn take_into(&self, out: &mut Vec<Packet>) {
        // Fails while the thread ends.
        let _ = QUEUES.try_with(|queues| {
            let mut queues = queues.borrow_mut();
            let Some(queue) = queues.iter_mut().find(|queue| queue.address == self.address()) else { return };
            if queue.packets.is_empty() {
                return;
            }
            if out.is_empty() {
                std::mem::swap(out, &mut queue.packets);
            } else {
                out.append(&mut queue.packets);
            }
        });
    }
}

impl Link for LocalLink {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn is_queue(&self) -> bool {
        true
    }

    fn send(&self, packet: Packet) -> Result<(), LinkError> {
        // Moved once, into its place.
        let mut packet = Some(packet);
        self.with_queue(|queue| {
            if unlikely(queue.len() >= self.capacity) {
                return Err(LinkError::Full);
            }
            queue.extend(packet.take());
            Ok(())
        })
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        self.with_queue(|queue| {
            let taken = self.capacity.saturating_sub(queue.len()).min(packets.len());
            queue.extend(packets[..taken].iter_mut().map(std::mem::take));
            if taken == 0 && !packets.is_empty() { Err(LinkError::Full) } else { Ok(taken) }
        })
    }
}

/// What waits on a thread.
struct Queue {
    address: usize,
    /// Keeps the address from being used again.
    link: Weak<LocalLink>,
    packets: Vec<Packet>,
}

/// Gives the thread a queue for a link, and forgets those of links that are gone. Returns its place.
#[cold]
#[inline(never)]
fn add_queue(queues: &mut Vec<Queue>, link: &Weak<LocalLink>) -> usize {
    queues.retain(|queue| queue.link.strong_count() > 0);
    queues.push(Queue { address: link.as_ptr().addr(), link: Weak::clone(link), packets: Vec::new() });
    queues.len() - 1
}

thread_local! {
    /// As many as the thread has links: one or two.
    static QUEUES: RefCell<Vec<Queue>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(capacity: usize) -> Arc<LocalLink> {
        LocalLink::new(Medium::Ip, 1500, Capabilities::default(), capacity)
    }

    fn packet(byte: u8) -> Packet {
        Packet::from_frame(vec![byte].into())
    }

    fn taken(link: &LocalLink) -> Vec<u8> {
        let mut packets = Vec::new();
        link.take_into(&mut packets);
        packets.iter().map(|packet| packet.to_bytes()[0]).collect()
    }

    #[test]
    fn each_thread_takes_what_it_sent_on_each_link() {
        let (one, two) = (link(4), link(4));
        assert_eq!(one.send_batch(&mut [packet(1), packet(2)]), Ok(2));
        assert_eq!(two.send_batch(&mut [packet(3)]), Ok(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(taken(&one), []);
                assert_eq!(one.send_batch(&mut [packet(4)]), Ok(1));
                assert_eq!(taken(&one), [4]);
            });
        });
        assert_eq!(one.send_batch(&mut [packet(5)]), Ok(1));
        assert_eq!((taken(&one), taken(&two)), (vec![1, 2, 5], vec![3]));
        assert_eq!(taken(&one), []);
    }

    #[test]
    fn what_exceeds_the_capacity_is_refused() {
        let link = link(2);
        assert_eq!(link.send_batch(&mut [packet(1), packet(2), packet(3)]), Ok(2));
        assert_eq!(link.send_batch(&mut [packet(4)]), Err(LinkError::Full));
        assert_eq!(taken(&link), [1, 2]);
        assert_eq!(link.send_batch(&mut [packet(5)]), Ok(1));
    }

    #[test]
    fn packets_of_a_lost_link_go_when_the_thread_meets_another() {
        let lost = link(2);
        let frame = bytes::Bytes::from(vec![1]);
        assert_eq!(lost.send_batch(&mut [Packet::from_frame(frame.clone())]), Ok(1));
        drop(lost);
        assert!(!frame.is_unique());
        assert_eq!(link(2).send_batch(&mut [packet(1)]), Ok(1));
        assert!(frame.is_unique());
    }
}
