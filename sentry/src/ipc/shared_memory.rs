//! Shared memory segments (`shmget(2)`, `shmop(2)`, `shmctl(2)`).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::sysv_ipc::{IPC_PRIVATE, ShmidDs, shm};

use crate::errno::Errno;
use crate::ipc::{IpcId, IpcObject, Permission, Registry, now};
use crate::mm::{Frames, PAGE_SIZE, SharedMemory};
use crate::vfs::{Mappable, MappedRange};

/// The smallest segment, in bytes.
pub(crate) const SHMMIN: u64 = 1;

/// A segment. It goes when it was removed and nobody has it attached.
#[derive(Debug)]
pub(crate) struct ShmSegment {
    id: IpcId,
    /// As asked for; the pages are more.
    size: u64,
    pages: Arc<SharedMemory>,
    home: Weak<Registry<Self>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    permission: Permission,
    attached_at: i64,
    detached_at: i64,
    changed_at: i64,
    creator: i32,
    last: i32,
    attachments: Vec<Weak<ShmAttachment>>,
    is_removed: bool,
    is_locked: bool,
}

impl State {
    /// One for each area that shows the segment.
    fn attach_count(&self) -> u64 {
        self.attachments.iter().map(|a| a.strong_count() as u64).sum()
    }
}

impl ShmSegment {
    /// A segment of `size` bytes, made by process `pid`.
    ///
    /// # Errors
    /// `EINVAL` for a size that overflows.
    pub(crate) fn new(
        home: &Arc<Registry<Self>>,
        frames: &Arc<Frames>,
        id: IpcId,
        size: u64,
        permission: Permission,
        pid: i32,
    ) -> Result<Arc<Self>, Errno> {
        let room = size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        let state = State {
            permission,
            attached_at: 0,
            detached_at: 0,
            changed_at: now(),
            creator: pid,
            last: 0,
            attachments: Vec::new(),
            is_removed: false,
            is_locked: false,
        };
        let pages = SharedMemory::new(frames, room);
        Ok(Arc::new(Self { id, size, pages, home: Arc::downgrade(home), state: Mutex::new(state) }))
    }

    /// The size asked for, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The pages that it counts against `shmall`.
    pub(crate) fn page_count(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    /// Bytes that have pages.
    pub(crate) fn resident(&self) -> u64 {
        self.pages.resident()
    }

    /// Something to map for process `pid` (`shmat(2)`).
    pub(crate) fn attach(self: &Arc<Self>, pid: i32) -> Arc<ShmAttachment> {
        let attachment = Arc::new(ShmAttachment { segment: self.clone() });
        let mut state = self.state.lock();
        state.attachments.retain(|a| a.strong_count() > 0);
        state.attachments.push(Arc::downgrade(&attachment));
        state.attached_at = now();
        state.last = pid;
        attachment
    }

    /// Notes that process `pid` let go (`shmdt(2)`).
    pub(crate) fn note_detach(&self, pid: i32) {
        let mut state = self.state.lock();
        state.last = pid;
        state.detached_at = now();
    }

    /// Removes it, or marks it for the last one who has it attached (`IPC_RMID`).
    pub(crate) fn remove(&self) {
        let is_unused = {
            let mut state = self.state.lock();
            state.is_removed = true;
            state.permission.key = IPC_PRIVATE;
            state.attach_count() == 0
        };
        if let Some(home) = self.home.upgrade() {
            if is_unused { home.remove(self.id) } else { home.forget_key(self.id) }
        }
    }

    /// Changes owner and mode (`IPC_SET`).
    ///
    /// # Errors
    /// Those of `change`.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&mut Permission) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.state.lock();
        change(&mut state.permission)?;
        state.changed_at = now();
        Ok(())
    }

    /// `SHM_LOCK`, `SHM_UNLOCK`: the flag; memory of the sandbox is not paged by it.
    pub(crate) fn set_locked(&self, is_locked: bool) {
        self.state.lock().is_locked = is_locked;
    }

    /// `struct shmid64_ds`.
    pub(crate) fn stat(&self) -> ShmidDs {
        let state = self.state.lock();
        let mut perm = state.permission.to_abi(self.id);
        perm.mode |= if state.is_removed { shm::SHM_DEST } else { 0 };
        perm.mode |= if state.is_locked { shm::SHM_LOCKED } else { 0 };
        ShmidDs {
            perm,
            segsz: self.size,
            atime: state.attached_at,
            dtime: state.detached_at,
            ctime: state.changed_at,
            cpid: state.creator,
            lpid: state.last,
            nattch: state.attach_count(),
            unused: [0; 2],
        }
    }
}

impl IpcObject for ShmSegment {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

/// One `shmat(2)`: what its areas map, those of children and those that were split off included.
#[derive(Debug)]
pub(crate) struct ShmAttachment {
    segment: Arc<ShmSegment>,
}

impl ShmAttachment {
    /// What is attached.
    pub(crate) fn segment(&self) -> &Arc<ShmSegment> {
        &self.segment
    }
}

impl Mappable for ShmAttachment {
    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<MappedRange, Errno> {
        self.segment.pages.translate(offset, len, write)
    }

    fn size(&self) -> u64 {
        Mappable::size(&*self.segment.pages)
    }
}

impl Drop for ShmAttachment {
    fn drop(&mut self) {
        let is_last = {
            let mut state = self.segment.state.lock();
            state.detached_at = now();
            state.is_removed && state.attach_count() == 0
        };
        if is_last && let Some(home) = self.segment.home.upgrade() {
            home.remove(self.segment.id);
        }
    }
}
