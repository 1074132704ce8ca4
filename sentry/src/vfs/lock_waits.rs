//! Who waits for which record lock, to find circles (`fcntl_locking(2)`, `EDEADLK`).

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::vfs::Inode;
use crate::vfs::lock::{LockKind, LockOwner, LockRange};

/// The owners that wait.
#[derive(Default)]
pub(crate) struct LockWaits(Mutex<Vec<Arc<Wanted>>>);

/// A lock that somebody waits for.
pub(crate) struct Wanted {
    /// Who waits.
    pub(crate) owner: LockOwner,
    /// For a lock on this,
    pub(crate) inode: Arc<Inode>,
    /// of this kind,
    pub(crate) kind: LockKind,
    /// there.
    pub(crate) range: LockRange,
}

/// A wait, until it is dropped.
pub(crate) struct LockWait<'a> {
    waits: &'a LockWaits,
    wanted: Arc<Wanted>,
}

impl Wanted {
    /// Who stands in the way now. Looked up anew each time: who held the lock when the wait began may be gone.
    fn holder(&self) -> Option<LockOwner> {
        self.inode.shared().locks.conflict(self.owner, self.kind, self.range).map(|held| held.owner)
    }
}

impl LockWaits {
    /// Begins to wait.
    ///
    /// # Errors
    /// `EDEADLK` where whoever holds the lock waits, perhaps by way of others, for one of `wanted.owner`.
    pub(crate) fn enter(&self, wanted: Wanted) -> Result<LockWait<'_>, Errno> {
        let mut waits = self.0.lock();
        let mut next = wanted.holder();
        for _ in 0..MAX_STEPS {
            let Some(holder) = next else { break };
            if holder.is_same(wanted.owner) {
                return Err(Errno::EDEADLK);
            }
            next = waits.iter().find(|wait| wait.owner.is_same(holder)).and_then(|wait| wait.holder());
        }
        let wanted = Arc::new(wanted);
        waits.push(Arc::clone(&wanted));
        Ok(LockWait { waits: self, wanted })
    }
}

impl Drop for LockWait<'_> {
    fn drop(&mut self) {
        self.waits.0.lock().retain(|wait| !Arc::ptr_eq(wait, &self.wanted));
    }
}

/// How long a circle may be to be found (Linux's `MAX_DEADLK_ITERATIONS`).
const MAX_STEPS: usize = 10;
