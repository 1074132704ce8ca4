//! `/proc/PID/mem`: the memory of a process, whatever its protection.

use std::sync::{Arc, Weak};

use crate::errno::Errno;
use crate::fs::proc::task::owned;
use crate::io::{IoDst, IoSrc};
use crate::mm::{Debugged, MemoryManager, PAGE_SIZE, UserAddr};
use crate::task::Task;
use crate::task::trace::{AccessMode, check_access};
use crate::vfs::{Caller, File, FileOps, FileType, Inode, InodeOps, OpenFlags, Seek, Stat};

/// The file.
pub(super) struct MemoryFileInode {
    task: Arc<Task>,
    ino: u64,
}

impl MemoryFileInode {
    pub(super) fn inode(task: &Arc<Task>, ino: u64) -> Arc<Inode> {
        Inode::new(FileType::Regular, Box::new(Self { task: task.clone(), ino }))
    }
}

impl InodeOps for MemoryFileInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Regular, 0o600, self.ino))
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, caller: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        if let Some(task) = caller.task {
            check_access(task, caller.creds, &self.task, AccessMode::FsCreds).map_err(|_| Errno::EACCES)?;
        }
        // The memory is that of the program at this time, and is not kept by the file (proc(5)).
        Ok(Box::new(Memory(self.task.mm().as_ref().map_or_else(Weak::new, Arc::downgrade))))
    }
}

struct Memory(Weak<MemoryManager>);

impl Memory {
    fn memory(&self) -> Option<(Arc<MemoryManager>, Debugged)> {
        let memory = self.0.upgrade()?;
        let debugged = Debugged::new(&memory);
        Some((memory, debugged))
    }
}

/// How much is copied at a time.
const CHUNK: usize = PAGE_SIZE as usize;

impl FileOps for Memory {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        // The end of the process is the end of the file.
        let Some((memory, _debugged)) = self.memory() else { return Ok(0) };
        let mut buf = [0; CHUNK];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = dst.remaining().min(CHUNK);
            let there = memory.read_forced(UserAddr(*pos), &mut buf[..want]);
            if there == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let stored = dst.put(&buf[..there])?;
            *pos = pos.wrapping_add(stored as u64);
            done += stored;
            if stored < want {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let Some((memory, _debugged)) = self.memory() else { return Ok(0) };
        let mut buf = [0; CHUNK];
        let mut done = 0;
        while src.remaining() > 0 {
            let want = src.remaining().min(CHUNK);
            let given = src.take(&mut buf[..want])?;
            let stored = memory.write_forced(UserAddr(*pos), &buf[..given]);
            *pos = pos.wrapping_add(stored as u64);
            done += stored;
            if stored < given || given == 0 {
                src.untake(given - stored);
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        match to {
            Seek::Set(at) => Ok(at.cast_unsigned()),
            Seek::Current(by) => Ok(pos.wrapping_add_signed(by)),
            _ => Err(Errno::EINVAL),
        }
    }
}
