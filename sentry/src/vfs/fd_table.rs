//! The descriptor table of a process (`clone(2)` `CLONE_FILES`).

use std::sync::Arc;

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

/// Descriptors to open files. Shared by threads through `Arc`.
#[derive(Debug, Default)]
pub struct FdTable {
    slots: RwLock<Vec<Option<Slot>>>,
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A copy with the same open files (`fork(2)`).
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self { slots: RwLock::new(self.slots.read().clone()) })
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
        let slot = slots.get(at).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
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
        let at = (min..slots.len()).find(|&i| slots[i].is_none()).unwrap_or(slots.len().max(min));
        if at >= limit {
            return Err(Errno::EMFILE);
        }
        if at >= slots.len() {
            slots.resize(at + 1, None);
        }
        slots[at] = Some(Slot { file, flags });
        i32::try_from(at).map(Fd).map_err(|_| Errno::EMFILE)
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
        if at >= slots.len() {
            slots.resize(at + 1, None);
        }
        Ok(slots[at].replace(Slot { file, flags }).map(|slot| slot.file))
    }

    /// Takes `fd` out of the table; the caller flushes and drops the file with no lock held.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let slot = slots.get_mut(at).and_then(Option::take).ok_or(Errno::EBADF)?;
        Ok(slot.file)
    }

    /// Sets the descriptor's flags.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn set_flags(&self, fd: Fd, flags: FdFlags) -> Result<(), Errno> {
        let at = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        slots.get_mut(at).and_then(Option::as_mut).ok_or(Errno::EBADF)?.flags = flags;
        Ok(())
    }

    /// Removes every descriptor for which `which` holds and returns the files, to be dropped outside the lock.
    pub fn remove_if(&self, mut which: impl FnMut(Fd, FdFlags) -> bool) -> Vec<Arc<File>> {
        let mut removed = Vec::new();
        for (at, slot) in self.slots.write().iter_mut().enumerate() {
            let fd = Fd(i32::try_from(at).unwrap_or(i32::MAX));
            if slot.as_ref().is_some_and(|s| which(fd, s.flags)) {
                removed.extend(slot.take().map(|s| s.file));
            }
        }
        removed
    }

    /// The open descriptors in ascending order.
    #[must_use]
    pub fn open_fds(&self) -> Vec<Fd> {
        let slots = self.slots.read();
        let open = slots.iter().enumerate().filter(|(_, s)| s.is_some());
        open.filter_map(|(at, _)| i32::try_from(at).ok().map(Fd)).collect()
    }
}
