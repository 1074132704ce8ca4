//! The descriptor table of a process (`clone(2)` `CLONE_FILES`).

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::errno::Errno;
use crate::vfs::File;

/// A descriptor number as the guest passes it; negative ones are never open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub i32);

bitflags::bitflags! {
    /// Flags of the descriptor itself (`fcntl(F_GETFD)`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct FdFlags: u32 {
        /// Closed by `execve(2)`.
        const CLOEXEC = 1;
    }
}

/// Linux's `fs.nr_open`: no table grows beyond it whatever `RLIMIT_NOFILE` says.
const NR_OPEN: i32 = 1 << 20;

#[derive(Debug, Clone)]
struct Slot {
    file: Arc<File>,
    flags: FdFlags,
}

/// Names a table for as long as the sandbox runs: the owner of record locks (Linux's `files_struct`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FdTableId(pub u64);

/// Descriptors to open files. Tasks have it by an [`FdTableUser`] each; whoever only looks at it has an `Arc`.
#[derive(Debug)]
pub struct FdTable {
    id: FdTableId,
    slots: RwLock<Slots>,
    /// How many tasks use it.
    users: AtomicUsize,
}

/// A task's part in a table. When the last one goes, whatever is open is closed, whether somebody looks at the table or not.
#[derive(Debug)]
pub struct FdTableUser(Arc<FdTable>);

impl FdTableUser {
    /// The only part in an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Slots::default())
    }

    fn with(slots: Slots) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = FdTableId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Arc::new(FdTable { id, slots: RwLock::new(slots), users: AtomicUsize::new(1) }))
    }

    /// One for another task (`CLONE_FILES`).
    #[must_use]
    pub fn share(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&self.0))
    }

    /// Whether other tasks use the table. Only they could make it so.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.users.load(Ordering::SeqCst) > 1
    }
}

impl Default for FdTableUser {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for FdTableUser {
    type Target = Arc<FdTable>;

    fn deref(&self) -> &Arc<FdTable> {
        &self.0
    }
}

impl Drop for FdTableUser {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            for file in self.0.remove_if(|_, _| true) {
                file.descriptor_closed(self.0.id);
            }
        }
    }
}

/// The slots, and where to look for a free one.
#[derive(Debug, Clone, Default)]
struct Slots {
    list: Vec<Option<Slot>>,
    /// No slot below this one is free, so that the lowest free one is found without looking at all of them.
    first_free: usize,
}

impl FdTable {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> FdTableId {
        self.id
    }

    /// A copy with the same open files (`fork(2)`).
    #[must_use]
    pub fn fork(&self) -> FdTableUser {
        FdTableUser::with(self.slots.read().clone())
    }

    /// The file behind `fd`.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn get(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        self.get_with_flags(fd).map(|(file, _)| file)
    }

    /// The file behind `fd` and the descriptor's flags.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn get_with_flags(&self, fd: Fd) -> Result<(Arc<File>, FdFlags), Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let slots = self.slots.read();
        let slot = slots.list.get(at).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
        Ok((slot.file.clone(), slot.flags))
    }

    /// Installs `file` at the lowest free descriptor that is at least `min` and below `limit` (`RLIMIT_NOFILE`).
    ///
    /// # Errors
    /// `EMFILE` when there is none.
    pub fn install(&self, file: Arc<File>, flags: FdFlags, min: i32, limit: u64) -> Result<Fd, Errno> {
        let mut slots = self.slots.write();
        let limit = usize::try_from(limit.min(NR_OPEN.unsigned_abs().into())).unwrap_or(usize::MAX);
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        let from = min.max(slots.first_free);
        let len = slots.list.len();
        let at = (from..len).find(|&i| slots.list[i].is_none()).unwrap_or(len.max(from));
        if at >= limit {
            return Err(Errno::EMFILE);
        }
        if at >= len {
            slots.list.resize(at + 1, None);
        }
        slots.list[at] = Some(Slot { file, flags });
        if min <= slots.first_free {
            slots.first_free = at + 1;
        }
        i32::try_from(at).map(Fd).map_err(|_| Errno::EMFILE)
    }

    /// Whether a descriptor below `limit` (`RLIMIT_NOFILE`) is free now.
    ///
    /// # Errors
    /// `EMFILE` when there is none.
    pub fn check_room(&self, limit: u64) -> Result<(), Errno> {
        let slots = self.slots.read();
        let limit = usize::try_from(limit.min(NR_OPEN.unsigned_abs().into())).unwrap_or(usize::MAX);
        let is_free = |at: usize| slots.list.get(at).is_none_or(Option::is_none);
        if (slots.first_free..limit).any(is_free) { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Installs `file` at exactly `fd` and returns what was there (`dup2(2)`).
    ///
    /// # Errors
    /// `EBADF` when `fd` is negative or not below `limit`.
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<File>,
        flags: FdFlags,
        limit: u64,
    ) -> Result<Option<Arc<File>>, Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        if at as u64 >= limit.min(NR_OPEN.unsigned_abs().into()) {
            return Err(Errno::EBADF);
        }
        let mut slots = self.slots.write();
        if at >= slots.list.len() {
            slots.list.resize(at + 1, None);
        }
        Ok(slots.list[at].replace(Slot { file, flags }).map(|slot| slot.file))
    }

    /// Takes `fd` out of the table; the caller flushes and drops the file with no lock held.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let slot = slots.list.get_mut(at).and_then(Option::take).ok_or(Errno::EBADF)?;
        slots.first_free = slots.first_free.min(at);
        Ok(slot.file)
    }

    /// Sets the descriptor's flags.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn set_flags(&self, fd: Fd, flags: FdFlags) -> Result<(), Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        slots.list.get_mut(at).and_then(Option::as_mut).ok_or(Errno::EBADF)?.flags = flags;
        Ok(())
    }

    /// Removes every descriptor for which `which` holds and returns the files, to be dropped outside the lock.
    pub fn remove_if(&self, mut which: impl FnMut(Fd, FdFlags) -> bool) -> Vec<Arc<File>> {
        let mut removed = Vec::new();
        let mut slots = self.slots.write();
        let Slots { list, first_free } = &mut *slots;
        for (at, slot) in list.iter_mut().enumerate() {
            let fd = Fd(i32::try_from(at).unwrap_or(i32::MAX));
            if slot.as_ref().is_some_and(|s| which(fd, s.flags)) {
                removed.extend(slot.take().map(|s| s.file));
                *first_free = (*first_free).min(at);
            }
        }
        removed
    }

    /// The open descriptors in ascending order.
    #[must_use]
    pub fn open_fds(&self) -> Vec<Fd> {
        let slots = self.slots.read();
        let open = slots.list.iter().enumerate().filter(|(_, s)| s.is_some());
        open.filter_map(|(at, _)| i32::try_from(at).ok().map(Fd)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::pipe;
    use crate::vfs::OpenFlags;

    #[test]
    fn the_lowest_free_descriptor_is_found_after_any_close() {
        let (file, _other) = pipe::pair(OpenFlags::empty());
        let table = FdTableUser::new();
        let install = |min| table.install(file.clone(), FdFlags::empty(), min, 100).map(|fd| fd.0);
        assert_eq!((0..4).map(|_| install(0)).collect::<Result<Vec<_>, _>>(), Ok(vec![0, 1, 2, 3]));
        table.remove(Fd(1)).unwrap();
        assert_eq!(install(2), Ok(4));
        assert_eq!(install(10), Ok(10));
        assert_eq!(install(0), Ok(1));
        assert_eq!(install(0), Ok(5));
        assert_eq!(table.remove_if(|fd, _| fd.0 == 2 || fd.0 == 4).len(), 2);
        assert_eq!((install(0), install(0), install(0)), (Ok(2), Ok(4), Ok(6)));
        table.replace(Fd(7), file.clone(), FdFlags::empty(), 100).unwrap();
        assert_eq!(install(0), Ok(8));
        assert_eq!(install(99), Ok(99));
        assert_eq!(install(99), Err(Errno::EMFILE));
        // 9 is the only one left below 11.
        assert_eq!((table.check_room(0), table.check_room(9)), (Err(Errno::EMFILE), Err(Errno::EMFILE)));
        assert_eq!((table.check_room(10), table.check_room(11)), (Ok(()), Ok(())));
        assert_eq!(install(9), Ok(9));
        assert_eq!((table.check_room(11), table.check_room(12)), (Err(Errno::EMFILE), Ok(())));
    }
}
