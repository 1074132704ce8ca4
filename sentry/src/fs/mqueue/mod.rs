//! The file system of POSIX message queues (`mq_overview(7)`): one per IPC namespace, one file per queue.

mod file;
mod inode;

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::mqueue::inode::{Directory, QueueInode};
use crate::fs::pseudo::PseudoFs;
use crate::ipc::{Capacity, Maker, Queue, QueueAccounts};
use crate::vfs::change::owned_by;
use crate::vfs::permission::check_access;
use crate::vfs::{Access, Caller, File, Mount, MountFlags, NewKind, OpenFlags, SuperBlock, VfsPath, open};

/// `statfs(2)`.
const MQUEUE_MAGIC: u64 = 0x1980_0202;

/// The queues of one namespace.
#[derive(Debug)]
pub(crate) struct QueueFs {
    /// Where `mq_open(2)` looks; no path leads here.
    mount: Arc<Mount>,
    accounts: Arc<QueueAccounts>,
}

impl QueueFs {
    pub(crate) fn new() -> Self {
        let accounts = Arc::<QueueAccounts>::default();
        let root = Directory::inode(accounts.clone());
        let fs = PseudoFs { name: "mqueue", magic: MQUEUE_MAGIC, is_dynamic: false };
        let (_, root) = SuperBlock::new(Box::new(fs), root);
        Self { mount: Mount::new(root, b"mqueue", MountFlags::empty()), accounts }
    }

    /// The directory of all queues.
    pub(crate) fn root(&self) -> VfsPath {
        self.mount.root_path()
    }

    pub(crate) fn accounts(&self) -> &QueueAccounts {
        &self.accounts
    }

    /// The queue with a name.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES` for what is no name, `ENAMETOOLONG`.
    pub(crate) fn find(&self, caller: &Caller<'_>, name: &[u8]) -> Result<VfsPath, Errno> {
        check_name(name)?;
        let root = self.root();
        let dentry = root.dentry.lookup(caller, name)?;
        Ok(root.with_dentry(dentry))
    }

    /// Makes a queue where there is none of the name, and opens it.
    ///
    /// # Errors
    /// `EEXIST`; as [`QueueAccounts::open`].
    pub(crate) fn create(
        &self,
        caller: &Caller<'_>,
        name: &[u8],
        wanted: Option<Capacity>,
        maker: Maker,
        (mode, flags): (u32, OpenFlags),
    ) -> Result<Arc<File>, Errno> {
        let root = self.root();
        let locked = root.inode().dir_lock.lock();
        match root.dentry.lookup_locked(caller, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        check_access(caller, root.inode(), Access::WRITE | Access::EXEC)?;
        let new = owned_by(caller, root.inode(), NewKind::Regular, mode)?;
        let directory = root.inode().downcast::<Directory>().ok_or(Errno::EIO)?;
        let inode = directory.add(name, &new, self.accounts.open(wanted, maker)?);
        root.dentry.forget(name);
        let dentry = root.dentry.adopt(name, inode);
        drop(locked);
        let place = root.with_dentry(dentry);
        let ops = place.inode().ops().open(place.inode(), flags, caller)?;
        Ok(File::at(ops, open::status_flags(flags), place))
    }
}

/// Linux's `lookup_noperm`: no path, no `.` and no `..`.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"." | b".." => Err(Errno::EACCES),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// The queue that an open file is.
pub(crate) fn queue_of(file: &File) -> Option<&Arc<Queue>> {
    Some(file.inode().downcast::<QueueInode>()?.queue())
}
