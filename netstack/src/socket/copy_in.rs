//! From the application's memory into packet memory, once, with no lock held.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::buffer::{Fault, Source};
use crate::pool::Pool;
use crate::tcp::{self, Connection};
use crate::tcp_endpoint::SMALL_WRITE;
use crate::time::Instant;

/// What one call to send has copied. It stays where it is while it is filled and read: the array is no small matter to
/// move.
pub(super) struct Copied {
    /// A few bytes, which the connection puts behind its others.
    small: [u8; SMALL],
    small_len: usize,
    /// Otherwise buffers that the connection takes as they are, in order.
    parts: SmallVec<[Bytes; 4]>,
}

impl Copied {
    pub(super) fn new() -> Self {
        Self { small: [0; SMALL], small_len: 0, parts: SmallVec::new() }
    }

    /// What was copied already, at most [`SMALL_WRITE`] bytes.
    pub(super) fn of_few(few: &[u8]) -> Self {
        let mut copied = Self::new();
        copied.small[..few.len()].copy_from_slice(few);
        copied.small_len = few.len();
        copied
    }

    /// Copies the next `len` bytes of `data`: large parts into blocks of the pool, the rest into memory of their size. If
    /// the application's memory fails on the way, what was copied before counts.
    pub(super) fn copy_in(
        &mut self,
        pool: &Arc<Pool>,
        data: &mut dyn Source,
        len: usize,
    ) -> Result<(), Fault> {
        if len <= SMALL {
            data.read_into(&mut self.small[..len])?;
            self.small_len = len;
            return Ok(());
        }
        let mut left = len;
        while left > 0 {
            let count = left.min(BLOCK_LEN);
            match copy_part(pool, data, count) {
                Ok(part) => self.parts.push(part),
                Err(fault) if self.parts.is_empty() => return Err(fault),
                Err(_) => break,
            }
            left -= count;
        }
        Ok(())
    }

    /// Queues everything: the bytes are consumed, so that the connection takes them even if the room that was there
    /// before copying is gone. Of nothing, the connection says what it thinks of sending.
    pub(super) fn send(&mut self, machine: &mut Connection, now: Instant) -> Result<usize, tcp::SendError> {
        if self.small_len > 0 {
            return machine.send_copied(now, &self.small[..self.small_len]).map(|()| self.small_len);
        }
        if self.parts.is_empty() {
            return machine.send_bytes(now, &Bytes::new());
        }
        let mut sent = 0;
        for part in self.parts.drain(..) {
            let count = part.len();
            machine.send_admitted(now, part)?;
            sent += count;
        }
        Ok(sent)
    }
}

fn copy_part(pool: &Arc<Pool>, data: &mut dyn Source, count: usize) -> Result<Bytes, Fault> {
    if count < POOL_FROM {
        let mut part = vec![0; count];
        data.read_into(&mut part)?;
        return Ok(part.into());
    }
    let mut block = pool.take();
    data.read_into(&mut block[..count])?;
    Ok(pool.share(block, count))
}

/// The pool that [`Copied::copy_in`] wants.
pub(crate) fn send_pool() -> Arc<Pool> {
    Pool::new(BLOCK_LEN, MAX_FREE)
}

/// About one super-segment.
const BLOCK_LEN: usize = 64 << 10;

/// Up to here the bytes go over the stack rather than through an allocation.
const SMALL: usize = SMALL_WRITE;

/// A block is used for no less than half of it, so that no queue holds more than twice what it is charged for.
const POOL_FROM: usize = BLOCK_LEN / 2;

/// Blocks kept free, 4 MiB: what a full window of a fast stream gives back.
const MAX_FREE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order() {
        let data: Vec<u8> = (0..200_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut copied = Copied::new();
        copied.copy_in(&send_pool(), &mut &data[..], 150_000).unwrap();
        assert_eq!(copied.parts.concat(), &data[..150_000]);
        assert_eq!(copied.parts.iter().map(Bytes::len).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
        let mut copied = Copied::new();
        copied.copy_in(&send_pool(), &mut &data[..], 100).unwrap();
        assert_eq!(&copied.small[..copied.small_len], &data[..100]);
    }

    /// Memory whose second block cannot be read.
    struct HalfMapped(usize);

    impl Source for HalfMapped {
        fn remaining(&self) -> usize {
            1 << 20
        }

        fn read_into(&mut self, _out: &mut [u8]) -> Result<(), Fault> {
            self.0 += 1;
            if self.0 == 1 { Ok(()) } else { Err(Fault) }
        }
    }

    #[test]
    fn fault_after_the_first_part_shortens_the_call() {
        let mut copied = Copied::new();
        copied.copy_in(&send_pool(), &mut HalfMapped(0), 150_000).unwrap();
        assert_eq!(copied.parts.len(), 1);
        assert!(Copied::new().copy_in(&send_pool(), &mut HalfMapped(1), 150_000).is_err());
    }
}
