//! What a process changed for as long as it lives (`semop(2)`, `SEM_UNDO`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::ipc::SemaphoreSet;

/// Names the adjustments of one process, or of those that share them (`CLONE_SYSVSEM`), in the sets. They are applied
/// when the last one lets go.
#[derive(Debug)]
pub(crate) struct SemaphoreUndo {
    id: u64,
    pid: i32,
    sets: Mutex<Vec<Weak<SemaphoreSet>>>,
}

impl SemaphoreUndo {
    /// Nothing to undo yet, for process `pid`.
    pub(crate) fn new(pid: i32) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, pid, sets: Mutex::default() })
    }

    /// What a set knows it by.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Remembers a set that has adjustments.
    pub(crate) fn note(&self, set: &Arc<SemaphoreSet>) {
        let set = Arc::downgrade(set);
        let mut sets = self.sets.lock();
        sets.retain(|known| known.strong_count() > 0);
        if !sets.iter().any(|known| known.ptr_eq(&set)) {
            sets.push(set);
        }
    }
}

impl Drop for SemaphoreUndo {
    fn drop(&mut self) {
        for set in self.sets.get_mut().drain(..).filter_map(|set| set.upgrade()) {
            // A set that was removed has nothing to be undone.
            if let Ok(mut state) = set.lock() {
                state.apply_adjustments(self.id, self.pid);
            }
        }
    }
}
