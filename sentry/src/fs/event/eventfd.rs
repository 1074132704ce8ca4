//! A counter as a file (`eventfd(2)`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::vfs::anon::AnonKind;
use crate::vfs::{File, FileOps, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// The largest value of the counter.
const MAX: u64 = u64::MAX - 1;

/// What a read does to the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Takes all of it.
    Whole,
    /// Takes 1 (`EFD_SEMAPHORE`).
    Semaphore,
}

/// An eventfd.
pub struct EventFd {
    count: Mutex<u64>,
    mode: ReadMode,
    queue: WaitQueue,
}

/// Makes an eventfd.
#[must_use]
pub fn create(initial: u32, mode: ReadMode, flags: OpenFlags) -> Arc<File> {
    let event = EventFd { count: Mutex::new(initial.into()), mode, queue: WaitQueue::default() };
    let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    File::anonymous(Box::new(event), flags, AnonKind::Other("[eventfd]"))
}

impl EventFd {
    /// Adds 1, as the kernel does: a full counter stays full.
    pub(crate) fn signal(&self) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(1).min(MAX);
        }
        self.queue.notify_next(Readiness::IN);
    }
}

impl FileOps for EventFd {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = {
            let mut count = self.count.lock();
            if *count == 0 {
                return Err(Errno::EAGAIN);
            }
            let value = if self.mode == ReadMode::Semaphore { 1 } else { *count };
            *count -= value;
            value
        };
        // Who waits to add much must not stand before who adds little.
        self.queue.notify(Readiness::OUT);
        dst.put(&value.to_ne_bytes())
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if src.take(&mut bytes)? != 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        {
            let mut count = self.count.lock();
            if value > MAX - *count {
                src.untake(8);
                return Err(Errno::EAGAIN);
            }
            *count += value;
        }
        self.queue.notify_next(Readiness::IN);
        Ok(8)
    }

    fn readiness(&self, _: &File) -> Readiness {
        let count = *self.count.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, count > 0);
        ready.set(Readiness::OUT, count < MAX);
        ready
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.queue.unregister(id);
    }

    fn turns(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("eventfd-count: {:16x}\n", *self.count.lock())
    }
}
