//! What a thread has decided under locks and does after releasing them: packets to send and packets that come back.
//!
//! Each entry into the stack (a batch of frames, a socket call, the timers) has one outbox. Everything that happens
//! meanwhile puts its packets there; [`Outbox::flush`] sends them in batches per NIC and carries packets for our own
//! addresses through the receive path, whose answers go to the same outbox, until nothing is left. So a round trip over
//! loopback runs to completion on the thread that started it, with no lock held and no recursion.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::interface::Interface;
use crate::ip;
use crate::link::LinkError;
use crate::nic::NicId;
use crate::packet::Packet;
use crate::stack::Core;
use crate::tcp_endpoint::{Held, TcpEndpoint, release_held};

/// Packets on their way out of a thread.
#[derive(Default)]
pub(crate) struct Outbox {
    batches: Vec<Batch>,
    looped: VecDeque<Looped>,
    /// Connections that got segments and still have to answer and to wake their users.
    pub(crate) touched: Vec<Arc<TcpEndpoint>>,
    /// The last segment of the batch, which the next one may join.
    pub(crate) held: Option<Held>,
}

/// Packets for one NIC.
struct Batch {
    interface: Arc<Interface>,
    packets: Vec<Packet>,
}

/// A packet for ourselves.
struct Looped {
    nic: NicId,
    packet: Packet,
}

impl Outbox {
    /// Puts in a complete packet for a link.
    pub(crate) fn send(&mut self, interface: &Arc<Interface>, packet: Packet) {
        let found = self.batches.iter_mut().find(|batch| Arc::ptr_eq(&batch.interface, interface));
        match found {
            Some(batch) => batch.packets.push(packet),
            None => self.batches.push(Batch { interface: Arc::clone(interface), packets: vec![packet] }),
        }
    }

    /// Puts in an IP packet for one of our own addresses, seen as arriving on `nic`.
    pub(crate) fn loop_back(&mut self, nic: NicId, packet: Packet) {
        self.looped.push_back(Looped { nic, packet });
    }

    /// Takes the frames that were put in for links.
    pub(crate) fn take_frames(&mut self) -> impl Iterator<Item = Packet> {
        std::mem::take(&mut self.batches).into_iter().flat_map(|batch| batch.packets)
    }

    /// Does all that is pending. No lock may be held.
    pub(crate) fn flush(&mut self, core: &Arc<Core>) {
        loop {
            release_held(core, self);
            self.finish_touched(core);
            if self.looped.is_empty() {
                break;
            }
            let mut looped = std::mem::take(&mut self.looped);
            ip::input_looped(core, looped.drain(..).map(|looped| (looped.nic, looped.packet)), self);
            if self.looped.is_empty() {
                // Keeps the allocation for the next round.
                self.looped = looped;
            }
        }
        for batch in &mut self.batches {
            transmit(&batch.interface, &mut batch.packets);
        }
        self.batches.clear();
    }

    fn finish_touched(&mut self, core: &Arc<Core>) {
        while !self.touched.is_empty() {
            let mut touched = std::mem::take(&mut self.touched);
            for endpoint in touched.drain(..) {
                endpoint.finish(core, self);
            }
            if self.touched.is_empty() {
                self.touched = touched;
            }
        }
    }
}

fn transmit(interface: &Interface, packets: &mut [Packet]) {
    let counters = &interface.counters;
    let mut rest = packets;
    while !rest.is_empty() {
        if !interface.is_up() {
            counters.tx_dropped_down.add(rest.len() as u64);
            return;
        }
        // The link may take the packets out of the slice, so they are measured before.
        let sizes: smallvec::SmallVec<[usize; 64]> = rest.iter().map(Packet::len).collect();
        let dropped = match interface.link.send_batch(rest) {
            Ok(0) | Err(LinkError::Full) => {
                counters.tx_dropped_full.add(rest.len() as u64);
                return;
            }
            Ok(taken) => {
                let taken = taken.min(rest.len());
                counters.tx_packets.add(taken as u64);
                counters.tx_bytes.add(sizes[..taken].iter().sum::<usize>() as u64);
                taken
            }
            Err(LinkError::TooLarge) => {
                counters.tx_dropped_too_large.increment();
                1
            }
            Err(LinkError::Down | LinkError::Gone) => {
                counters.tx_dropped_down.add(rest.len() as u64);
                return;
            }
        };
        rest = &mut rest[dropped..];
    }
}
