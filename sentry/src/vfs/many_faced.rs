//! Files with several inodes.
//!
//! A directory of the host can be mounted twice, by two containers or at two places of one. Each mount has inodes of its own,
//! and what is not stored in the file (locks, watches, the pipe of a FIFO, the endpoint bound to a socket) is the file's.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::vfs::inode::Shared;

/// Tells a file from all others: the host's numbers of its device and of the inode there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// The state of files that somebody uses.
#[derive(Default)]
pub struct ManyFaced {
    states: Mutex<HashMap<FileIdentity, Weak<Shared>>>,
    /// How many there are, to be asked without the lock.
    count: AtomicUsize,
}

/// How a state is found. Takes itself off the list.
pub(super) struct Entry {
    files: Weak<ManyFaced>,
    identity: FileIdentity,
}

impl ManyFaced {
    /// What the inodes of a file share.
    pub(super) fn state_of(self: &Arc<Self>, identity: FileIdentity) -> Arc<Shared> {
        let mut states = self.states.lock();
        if let Some(found) = states.get(&identity).and_then(Weak::upgrade) {
            return found;
        }
        let made = Arc::new(Shared::found_by(Entry { files: Arc::downgrade(self), identity }));
        states.insert(identity, Arc::downgrade(&made));
        // Relaxed, as below: who has to see it comes after it by way of something else, such as a lock that was granted.
        self.count.store(states.len(), Ordering::Relaxed);
        made
    }

    /// What the inodes of a file share, where somebody uses it.
    pub(super) fn find(&self, identity: FileIdentity) -> Option<Arc<Shared>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.states.lock().get(&identity).and_then(Weak::upgrade)
    }

    /// A file has lost its last name: the host may use the number for another one, while this one is still open.
    pub(crate) fn forget(&self, identity: FileIdentity) {
        self.remove_if(identity, |_| true);
    }

    fn remove_if(&self, identity: FileIdentity, is_meant: impl FnOnce(&Weak<Shared>) -> bool) {
        let mut states = self.states.lock();
        if let Slot::Occupied(slot) = states.entry(identity)
            && is_meant(slot.get())
        {
            slot.remove();
        }
        self.count.store(states.len(), Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(files) = self.files.upgrade() {
            // Another one may have taken the place.
            files.remove_if(self.identity, |state| state.strong_count() == 0);
        }
    }
}

impl std::fmt::Debug for ManyFaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManyFaced").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileIdentity = FileIdentity { dev: 1, ino: 2 };

    #[test]
    fn a_state_lives_as_long_as_somebody_uses_it() {
        let files = Arc::<ManyFaced>::default();
        assert!(files.find(FILE).is_none());
        let one = files.state_of(FILE);
        assert!(Arc::ptr_eq(&one, &files.state_of(FILE)));
        assert!(Arc::ptr_eq(&one, &files.find(FILE).unwrap()));
        assert!(files.find(FileIdentity { ino: 3, ..FILE }).is_none());
        drop(one);
        assert!(files.find(FILE).is_none());
        assert!(files.states.lock().is_empty());
    }

    #[test]
    fn a_number_that_is_used_again_is_another_file() {
        let files = Arc::<ManyFaced>::default();
        let old = files.state_of(FILE);
        files.forget(FILE);
        let new = files.state_of(FILE);
        assert!(!Arc::ptr_eq(&old, &new));
        drop(old);
        assert!(Arc::ptr_eq(&new, &files.find(FILE).unwrap()));
    }
}
