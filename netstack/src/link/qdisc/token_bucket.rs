//! A token bucket: a rate on average, with bursts.

use std::time::Duration;

use super::{Dequeued, Fifo, QdiscStats};
use crate::packet::Packet;
use crate::time::Instant;

/// A queue that lets bytes out at a rate.
#[derive(Debug)]
pub struct TokenBucket {
    queue: Fifo,
    bytes_per_second: u64,
    burst: u64,
    /// In bytes times 10^9, so that nothing is lost by rounding.
    tokens: u128,
    /// Up to when tokens were added.
    filled: Option<Instant>,
}

impl TokenBucket {
    /// A rate in bytes per second, at least one; what may leave at once after a silence; and how many packets may wait.
    /// A packet larger than the burst leaves when the bucket is full, and the debt is paid afterwards.
    pub fn new(bytes_per_second: u64, burst: u64, max_packets: usize) -> Self {
        let burst = burst.max(1);
        Self {
            queue: Fifo::new(max_packets, usize::MAX),
            bytes_per_second: bytes_per_second.max(1),
            burst,
            tokens: u128::from(burst) * SCALE,
            filled: None,
        }
    }

    pub(super) fn enqueue(&mut self, packet: Packet) {
        self.queue.enqueue(packet);
    }

    pub(super) fn dequeue(&mut self, now: Instant) -> Dequeued {
        let Some(len) = self.queue.peek_len() else { return Dequeued::Empty };
        self.fill(now);
        // A packet is at most 64 KiB long.
        let len = len as u64;
        let needed = u128::from(len.min(self.burst)) * SCALE;
        if self.tokens < needed {
            let missing = needed - self.tokens;
            let nanos = missing.div_ceil(u128::from(self.bytes_per_second));
            return Dequeued::Wait(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        self.tokens = self.tokens.saturating_sub(u128::from(len) * SCALE);
        if len > self.burst {
            // The rest is owed: the clock of the bucket runs ahead by it.
            let nanos = u128::from(len - self.burst) * SCALE / u128::from(self.bytes_per_second);
            self.filled = Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        self.queue.dequeue().map_or(Dequeued::Empty, Dequeued::Packet)
    }

    pub(super) fn stats(&self) -> QdiscStats {
        self.queue.stats()
    }

    fn fill(&mut self, now: Instant) {
        let filled = *self.filled.get_or_insert(now);
        let elapsed = now.as_nanos().saturating_sub(filled.as_nanos());
        if elapsed > 0 {
            let fresh = u128::from(elapsed) * u128::from(self.bytes_per_second);
            self.tokens = (self.tokens + fresh).min(u128::from(self.burst) * SCALE);
            self.filled = Some(now);
        }
    }
}

const SCALE: u128 = 1_000_000_000;
