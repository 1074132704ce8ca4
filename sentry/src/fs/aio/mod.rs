//! Linux AIO (`io_setup(2)`, `io_submit(2)`): contexts, whose completions a program finds in a ring in its own memory.
//!
//! Reads and writes are carried out by the call that submits them, as Linux does for files whose data is in its page
//! cache: completion is never late, and what is submitted together is done in order. Polls complete on their own.

mod context;
mod poll;
mod ring;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::errno::Errno;

pub(crate) use context::{AioContext, Block, Completion};
pub(crate) use poll::AioPoll;

/// The contexts of an address space, by the address of their rings.
#[derive(Default)]
pub(crate) struct AioContexts(Mutex<HashMap<u64, Arc<AioContext>>>);

impl AioContexts {
    /// The context that a program calls `id`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn find(&self, id: u64) -> Result<Arc<AioContext>, Errno> {
        self.0.lock().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    pub(crate) fn add(&self, context: Arc<AioContext>) {
        self.0.lock().insert(context.id(), context);
    }

    /// Takes a context out; its polls end, and nothing of theirs is told.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(crate) fn remove(&self, id: u64) -> Result<Arc<AioContext>, Errno> {
        let context = self.0.lock().remove(&id).ok_or(Errno::EINVAL)?;
        context.close();
        Ok(context)
    }
}

impl Drop for AioContexts {
    fn drop(&mut self) {
        for context in self.0.get_mut().values() {
            context.close();
        }
    }
}

/// Requests for which all contexts have room (`/proc/sys/fs/aio-nr`, `aio-max-nr`).
#[derive(Debug)]
pub(crate) struct AioAccount {
    used: AtomicU64,
    most: AtomicU64,
}

impl Default for AioAccount {
    /// Linux's.
    fn default() -> Self {
        Self { used: AtomicU64::new(0), most: AtomicU64::new(65_536) }
    }
}

impl AioAccount {
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(crate) fn set_most(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts `requests` more, until the value is dropped.
    ///
    /// # Errors
    /// `EAGAIN` beyond the limit.
    fn charge(self: &Arc<Self>, requests: u64) -> Result<Charge, Errno> {
        let most = self.most();
        let add = |used: u64| used.checked_add(requests).filter(|&sum| sum <= most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Errno::EAGAIN)?;
        Ok(Charge { account: self.clone(), requests })
    }
}

struct Charge {
    account: Arc<AioAccount>,
    requests: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.requests, Ordering::Relaxed);
    }
}
