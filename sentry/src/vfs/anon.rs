//! Files without a name: pipes, sockets, eventfds. They live in file systems of their own that no path leads to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use crate::errno::Errno;
use crate::vfs::{
    BareInode, Dentry, FileSystem, FileType, Inode, Mount, MountFlags, Stat, StatFs, SuperBlock, VfsPath,
};

/// What kind of anonymous file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonKind {
    /// `socket:[INO]`.
    Socket,
    /// `pipe:[INO]`.
    Pipe,
    /// `anon_inode:[NAME]`.
    Other(&'static str),
}

/// A new place for an anonymous file. Pipes attach their buffer to its inode, so that `/proc/PID/fd/N` can open it
/// again.
#[must_use]
pub fn path(kind: AnonKind) -> VfsPath {
    let ino = NEXT_INO.fetch_add(1, Ordering::Relaxed);
    let (mount, file_type, permissions, name) = match kind {
        AnonKind::Socket => (&*SOCKFS, FileType::Socket, 0o777, format!("socket:[{ino}]")),
        AnonKind::Pipe => (&*PIPEFS, FileType::Fifo, 0o600, format!("pipe:[{ino}]")),
        AnonKind::Other(name) => (&*ANON_INODEFS, FileType::Regular, 0o600, format!("anon_inode:[{name}]")),
    };
    let mut stat = Stat::new(file_type, permissions, ino);
    if let AnonKind::Other(_) = kind {
        // anon_inodefs files have permission bits only (`stat -L /proc/self/fd/N`).
        stat.mode &= crate::vfs::attr::MODE_MASK;
    }
    let inode = Inode::new(file_type, Box::new(BareInode::new(stat)));
    let dentry = Dentry::new_detached(mount.superblock().clone(), inode, name.as_bytes());
    VfsPath::new(mount.clone(), dentry)
}

struct AnonFs {
    name: &'static str,
    magic: u64,
}

impl FileSystem for AnonFs {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs::pseudo(self.magic))
    }
}

fn mount(name: &'static str, magic: u64) -> Arc<Mount> {
    let stat = Stat::new(FileType::Directory, 0o555, 1);
    let root = Inode::new(FileType::Directory, Box::new(BareInode::new(stat)));
    let (_, root) = SuperBlock::new(Box::new(AnonFs { name, magic }), root);
    Mount::new(root, name.as_bytes(), MountFlags::empty())
}

// Process-wide like Linux's kernel mounts: they hold no state but device numbers. Magic numbers: statfs(2).
static SOCKFS: LazyLock<Arc<Mount>> = LazyLock::new(|| mount("sockfs", 0x534f_434b));
static PIPEFS: LazyLock<Arc<Mount>> = LazyLock::new(|| mount("pipefs", 0x5049_5045));
static ANON_INODEFS: LazyLock<Arc<Mount>> = LazyLock::new(|| mount("anon_inodefs", 0x0904_1934));
static NEXT_INO: AtomicU64 = AtomicU64::new(2);
