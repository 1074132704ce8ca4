//! The directory of the queues of a namespace, and the queues in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::mqueue::file::QueueFile;
use crate::ipc::{Maker, Queue, QueueAccounts};
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DirEntry, FileOps, FileTime, FileType, Inode, InodeOps, NewInode, NewKind, OpenFlags, SetAttr,
    Stat,
};

/// What `stat(2)` gives as the size of a queue (`FILENT_SIZE`), and per entry as that of the directory
/// (`DIRENT_SIZE`).
const FILE_SIZE: u64 = 80;
const ENTRY_SIZE: u64 = 20;

/// `RLIMIT_MSGQUEUE` of who makes a queue by open(2), where it is Linux's usual one (`MQ_BYTES_MAX`).
const USUAL_LIMIT: u64 = 819_200;

/// The directory.
pub(super) struct Directory {
    accounts: Arc<QueueAccounts>,
    stat: Mutex<Stat>,
    entries: Mutex<BTreeMap<Vec<u8>, Arc<Inode>>>,
    next_ino: AtomicU64,
}

impl Directory {
    pub(super) fn inode(accounts: Arc<QueueAccounts>) -> Arc<Inode> {
        let directory = Self {
            accounts,
            stat: Mutex::new(Stat::new(FileType::Directory, 0o1777, 1)),
            entries: Mutex::default(),
            next_ino: AtomicU64::new(2),
        };
        Inode::new(FileType::Directory, Box::new(directory))
    }

    /// Gives `queue` a name; the directory is locked and has none of it.
    pub(super) fn add(&self, name: &[u8], new: &NewInode, queue: Arc<Queue>) -> Arc<Inode> {
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let mut stat = Stat { uid: new.uid, gid: new.gid, ..Stat::new(FileType::Regular, new.mode, ino) };
        stat.size = FILE_SIZE;
        let inode = Inode::new(FileType::Regular, Box::new(QueueInode { queue, stat: Mutex::new(stat) }));
        self.entries.lock().insert(name.to_vec(), inode.clone());
        self.changed();
        inode
    }

    fn changed(&self) {
        let entries = self.entries.lock().len() as u64;
        let mut stat = self.stat.lock();
        stat.size = entries * ENTRY_SIZE;
        stat.mtime = FileTime::now();
        stat.ctime = stat.mtime;
        stat.atime = stat.mtime;
    }
}

impl InodeOps for Directory {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(*self.stat.lock())
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        attr.apply(&mut self.stat.lock());
        Ok(())
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        self.entries.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn create(&self, _: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        if new.kind != NewKind::Regular {
            return Err(Errno::EPERM);
        }
        let maker = Maker { uid: new.uid, is_privileged: false, limit: USUAL_LIMIT };
        Ok(self.add(name, new, self.accounts.open(None, maker)?))
    }

    fn unlink(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        self.entries.lock().remove(name).ok_or(Errno::ENOENT)?;
        if let Some(queue) = child.downcast::<QueueInode>() {
            queue.stat.lock().nlink = 0;
        }
        self.changed();
        Ok(())
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let entries = self.entries.lock();
        let list = entries.iter().map(|(name, inode)| {
            let ino = inode.downcast::<QueueInode>().map_or(0, |queue| queue.stat.lock().ino);
            DirEntry { name: name.clone(), ino, kind: FileType::Regular }
        });
        Ok(list.collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

/// A queue.
pub(super) struct QueueInode {
    queue: Arc<Queue>,
    stat: Mutex<Stat>,
}

impl QueueInode {
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl InodeOps for QueueInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(*self.stat.lock())
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        // O_TRUNC and truncate(2) set a size that nothing has; Linux's simple_setattr keeps it.
        attr.apply(&mut self.stat.lock());
        Ok(())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(Box::new(QueueFile::new(self.queue.clone())))
    }
}
