//! Blocks for payload: filled, given away as [`Bytes`], and taken back when the last reader dropped them.
//!
//! An allocator returns large blocks to the operating system and has each of their pages faulted in and zeroed anew,
//! which costs several times what copying a super-segment does. The pool hands out the block that came back last, so
//! that a stream whose reader keeps up stays within the cache.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::Mutex;
use bytes::Bytes;

/// Blocks of one size.
#[derive(Debug)]
pub struct Pool {
    block_len: usize,
    /// Blocks of a shelf kept for later; more go back to the allocator.
    max_free: usize,
    /// A thread takes from the same one all the time, and a block goes back where it was taken, so that threads with
    /// flows of their own do not meet.
    shelves: [Mutex<Vec<Box<[u8]>>>; SHELVES],
    /// Blocks that are shared buffers now.
    shared: AtomicUsize,
}

impl Pool {
    /// Makes a pool without blocks, which will keep at most `max_free` of each thread for later.
    pub fn new(block_len: usize, max_free: usize) -> Arc<Self> {
        let (shelves, shared) = (Default::default(), AtomicUsize::new(0));
        Arc::new(Self { block_len, max_free, shelves, shared })
    }

    /// A block with arbitrary content: bytes of earlier uses may be in it.
    pub fn take(&self) -> Box<[u8]> {
        let reused = self.shelves[own_shelf()].lock().pop();
        reused.unwrap_or_else(|| vec![0; self.block_len].into_boxed_slice())
    }

    /// Makes the first `len` bytes of a block of this pool a shared buffer (all, if it has fewer); the block comes back
    /// when the last view of it is dropped.
    pub fn share(self: &Arc<Self>, block: Box<[u8]>, len: usize) -> Bytes {
        self.shared.fetch_add(1, Ordering::Relaxed);
        let mut shared = Bytes::from_owner(Lease { block, pool: Arc::clone(self), shelf: own_shelf() });
        shared.truncate(len);
        shared
    }

    /// How many blocks are shared buffers whose last view is still alive.
    pub fn shared_blocks(&self) -> usize {
        self.shared.load(Ordering::Relaxed)
    }
}

/// A block in use.
struct Lease {
    block: Box<[u8]>,
    pool: Arc<Pool>,
    shelf: usize,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        &self.block
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.pool.shared.fetch_sub(1, Ordering::Relaxed);
        let mut free = self.pool.shelves[self.shelf].lock();
        if free.len() < self.pool.max_free {
            free.push(block);
        }
    }
}

/// The shelf of the calling thread.
pub(crate) fn own_shelf() -> usize {
    // Fails while the thread ends.
    let own = OWN.try_with(|own| {
        own.get().unwrap_or_else(|| {
            // Relaxed: threads only have to be spread.
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % SHELVES;
            own.set(Some(next));
            next
        })
    });
    own.unwrap_or(0)
}

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Few threads carry data at once.
const SHELVES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_comes_back_when_the_last_view_is_dropped() {
        let pool = Pool::new(8, 1);
        let mut block = pool.take();
        block[..3].copy_from_slice(b"abc");
        let address = block.as_ptr();
        let whole = pool.share(block, 3);
        let view = whole.slice(1..);
        drop(whole);
        assert_eq!(&view[..], b"bc");
        assert!(pool.shelves[own_shelf()].lock().is_empty());
        drop(view);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn pool_keeps_no_more_than_its_limit() {
        let pool = Pool::new(8, 1);
        let blocks = [pool.take(), pool.take()].map(|block| pool.share(block, 8));
        drop(blocks);
        assert_eq!(pool.shelves[own_shelf()].lock().len(), 1);
    }
}
