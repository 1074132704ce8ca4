//! One queue with a limit of packets and bytes.

use std::collections::VecDeque;

use super::QdiscStats;
use crate::packet::Packet;

/// A queue that drops what exceeds its limits.
#[derive(Debug)]
pub struct Fifo {
    queue: VecDeque<Packet>,
    bytes: usize,
    max_packets: usize,
    max_bytes: usize,
    stats: QdiscStats,
}

impl Fifo {
    /// A queue for that many packets and bytes.
    pub fn new(max_packets: usize, max_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, max_packets, max_bytes, stats: QdiscStats::default() }
    }

    pub(super) fn enqueue(&mut self, packet: Packet) {
        let len = packet.len();
        if self.queue.len() >= self.max_packets || self.bytes + len > self.max_bytes {
            self.stats.overlimit += 1;
            return;
        }
        self.bytes += len;
        self.queue.push_back(packet);
    }

    pub(super) fn dequeue(&mut self) -> Option<Packet> {
        let packet = self.queue.pop_front()?;
        self.bytes -= packet.len();
        self.stats.sent += 1;
        Some(packet)
    }

    /// The length of the next packet.
    pub(super) fn peek_len(&self) -> Option<usize> {
        self.queue.front().map(Packet::len)
    }

    pub(super) fn stats(&self) -> QdiscStats {
        QdiscStats { backlog: self.queue.len(), ..self.stats }
    }
}

impl Default for Fifo {
    /// As Linux's `txqueuelen`: 1000 packets.
    fn default() -> Self {
        Self::new(1000, usize::MAX)
    }
}
