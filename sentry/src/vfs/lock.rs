//! Advisory locks: `flock(2)`, POSIX record locks and open file description locks (`fcntl_locking(2)`).

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::vfs::FdTableId;
use crate::wait::{Readiness, WaitQueue};

/// Whether others may hold the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Many readers.
    Shared,
    /// One writer.
    Exclusive,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockOwner {
    /// A process, by its descriptor table (Linux's `files_struct`) with the pid that `F_GETLK` reports.
    Process {
        /// The descriptor table.
        files: FdTableId,
        /// The process id.
        pid: i32,
    },
    /// An open file description, by its address (`flock(2)`, `F_OFD_SETLK`).
    Description(usize),
}

impl LockOwner {
    pub(crate) fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Process { files: a, pid: _ }, Self::Process { files: b, pid: _ }) => a == b,
            (Self::Description(a), Self::Description(b)) => a == b,
            _ => false,
        }
    }
}

/// A range of bytes; the end is exclusive and `u64::MAX` stands for "to the end, however long".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl LockRange {
    /// The range of `l_start` (absolute) and `l_len`.
    ///
    /// # Errors
    /// `EINVAL` for a negative begin, `EOVERFLOW` for an end beyond the largest offset.
    pub fn new(start: i64, len: i64) -> Result<Self, Errno> {
        let (begin, end) = match len {
            0 => (start, None),
            1.. => (start, Some(start.checked_add(len).ok_or(Errno::EOVERFLOW)?)),
            // A negative length locks what lies before the start.
            _ => (start.checked_add(len).ok_or(Errno::EINVAL)?, Some(start)),
        };
        let start = u64::try_from(begin).map_err(|_| Errno::EINVAL)?;
        let end = match end {
            None => u64::MAX,
            Some(end) => u64::try_from(end).map_err(|_| Errno::EINVAL)?,
        };
        Ok(Self { start, end })
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    /// Who.
    pub owner: LockOwner,
    /// How.
    pub kind: LockKind,
    /// What.
    pub range: LockRange,
}

/// The locks on one inode.
#[derive(Default)]
pub(crate) struct FileLocks {
    flocks: Mutex<Vec<(LockOwner, LockKind)>>,
    records: Mutex<Vec<HeldLock>>,
    /// Told whenever a lock ends.
    queue: WaitQueue,
}

impl FileLocks {
    /// Where those wait who could not get a lock; notified with `OUT`.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Takes, converts or (with `None`) drops the `flock(2)` lock of `owner`.
    ///
    /// # Errors
    /// `EAGAIN` while somebody else holds a conflicting one. As on Linux, converting is not atomic: the old lock is
    /// given up first.
    pub(crate) fn flock(&self, owner: LockOwner, kind: Option<LockKind>) -> Result<(), Errno> {
        let result = {
            let mut held = self.flocks.lock();
            let before = held.len();
            if let Some(kind) = kind
                && held.iter().any(|(o, k)| o.is_same(owner) && *k == kind)
            {
                return Ok(());
            }
            held.retain(|(o, _)| !o.is_same(owner));
            let released = held.len() != before;
            let result = match kind {
                None => Ok(()),
                Some(kind) => {
                    let conflict =
                        held.iter().any(|(_, k)| kind == LockKind::Exclusive || *k == LockKind::Exclusive);
                    if conflict {
                        Err(Errno::EAGAIN)
                    } else {
                        held.push((owner, kind));
                        Ok(())
                    }
                }
            };
            if !released {
                return result;
            }
            result
        };
        self.queue.notify(Readiness::OUT);
        result
    }

    /// The first lock that keeps `owner` from locking `range`.
    pub(crate) fn conflict(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> Option<HeldLock> {
        let records = self.records.lock();
        records.iter().find(|held| conflicts(held, owner, kind, range)).copied()
    }

    /// Takes or (with `None`) drops record locks of `owner` on `range`, splitting and merging its others.
    ///
    /// # Errors
    /// `EAGAIN` while somebody else holds a conflicting one.
    pub(crate) fn set_record(
        &self,
        owner: LockOwner,
        kind: Option<LockKind>,
        range: LockRange,
    ) -> Result<(), Errno> {
        {
            let mut records = self.records.lock();
            if let Some(kind) = kind
                && records.iter().any(|held| conflicts(held, owner, kind, range))
            {
                return Err(Errno::EAGAIN);
            }
            replace(&mut records, owner, kind, range);
        }
        self.queue.notify(Readiness::OUT);
        Ok(())
    }

    /// Drops everything that `owner` holds (`close(2)`).
    pub(crate) fn release(&self, owner: LockOwner) {
        let had = {
            let mut records = self.records.lock();
            let mut flocks = self.flocks.lock();
            let before = records.len() + flocks.len();
            records.retain(|held| !held.owner.is_same(owner));
            flocks.retain(|(o, _)| !o.is_same(owner));
            before != records.len() + flocks.len()
        };
        if had {
            self.queue.notify(Readiness::OUT);
        }
    }
}

fn conflicts(held: &HeldLock, owner: LockOwner, kind: LockKind, range: LockRange) -> bool {
    !held.owner.is_same(owner)
        && held.range.overlaps(range)
        && (kind == LockKind::Exclusive || held.kind == LockKind::Exclusive)
}

/// Replaces what `owner` holds in `range` by `kind`, keeping what lies outside.
fn replace(records: &mut Vec<HeldLock>, owner: LockOwner, kind: Option<LockKind>, range: LockRange) {
    let mut pieces = Vec::new();
    let mut merged = range;
    records.retain(|held| {
        if !held.owner.is_same(owner) {
            return true;
        }
        let touches = held.range.start <= merged.end && merged.start <= held.range.end;
        if Some(held.kind) == kind && touches {
            // Same kind and adjacent or overlapping: one lock.
            merged =
                LockRange { start: merged.start.min(held.range.start), end: merged.end.max(held.range.end) };
            return false;
        }
        if !held.range.overlaps(range) {
            return true;
        }
        if held.range.start < range.start {
            pieces.push(HeldLock { range: LockRange { end: range.start, ..held.range }, ..*held });
        }
        if held.range.end > range.end {
            pieces.push(HeldLock { range: LockRange { start: range.end, ..held.range }, ..*held });
        }
        false
    });
    records.append(&mut pieces);
    if let Some(kind) = kind {
        records.push(HeldLock { owner, kind, range: merged });
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
