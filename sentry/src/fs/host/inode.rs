//! The inode of an imported descriptor: what fstat(2) says outside.

use std::sync::{Arc, LazyLock};

use nix::sys::stat::{FileStat, fstat};

use crate::errno::Errno;
use crate::fs::host::description::{Description, Kind};
use crate::fs::host::file::{HostFile, errno};
use crate::vfs::{
    Caller, Dentry, DeviceId, FileOps, FileSystem, FileTime, FileType, Inode, InodeOps, Mount, MountFlags,
    OpenFlags, SetAttr, Stat, StatFs, SuperBlock, VfsPath,
};

pub(super) struct HostInode {
    description: Arc<Description>,
}

impl HostInode {
    pub(super) fn description(&self) -> &Arc<Description> {
        &self.description
    }
}

impl InodeOps for HostInode {
    fn stat(&self) -> Result<Stat, Errno> {
        fstat(self.description.fd()).map(|stat| convert(&stat)).map_err(|error| errno(&error.into()))
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        match attr.size {
            // open(2) with O_TRUNC of /dev/stdout that is a file, and ftruncate(2).
            Some(size) if self.description.kind() == Kind::Regular => {
                let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
                nix::unistd::ftruncate(self.description.fd(), size).map_err(|error| errno(&error.into()))
            }
            // Owner and mode are the host's.
            _ => Err(Errno::EPERM),
        }
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(Box::new(HostFile::new(self.description.clone())))
    }
}

/// A place for the description outside every mount that the guest can name.
pub(super) fn place(description: &Arc<Description>) -> Result<VfsPath, Errno> {
    let inode = HostInode { description: description.clone() };
    let stat = inode.stat()?;
    let kind = stat.file_type();
    let name = match kind {
        FileType::Fifo => format!("pipe:[{}]", stat.ino),
        FileType::Socket => format!("socket:[{}]", stat.ino),
        _ => format!("host:[{}]", stat.ino),
    };
    let inode = Inode::new(kind, Box::new(inode));
    let mount = HOSTFS.clone();
    let dentry = Dentry::new_detached(mount.superblock().clone(), inode, name.as_bytes());
    Ok(VfsPath::new(mount, dentry))
}

fn convert(stat: &FileStat) -> Stat {
    // Sizes and counts of fstat(2) are never negative.
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let time = |sec: i64, nsec: i64| FileTime { sec, nsec: u32::try_from(nsec).unwrap_or(0) };
    Stat {
        dev: stat.st_dev,
        ino: stat.st_ino,
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: DeviceId::decode(stat.st_rdev),
        size: unsigned(stat.st_size),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        blocks: unsigned(stat.st_blocks),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        btime: None,
    }
}

struct HostFs;

impl FileSystem for HostFs {
    fn type_name(&self) -> &'static str {
        "hostfs"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        // PIPEFS_MAGIC of statfs(2): what a container's standard streams usually are.
        Ok(StatFs::pseudo(0x5049_5045))
    }
}

/// Root of the file system, which no path leads to.
struct Root;

impl InodeOps for Root {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat::new(FileType::Directory, 0o555, 1))
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }
}

/// Process-wide, like the mounts of pipes and sockets.
static HOSTFS: LazyLock<Arc<Mount>> = LazyLock::new(|| {
    let root = Inode::new(FileType::Directory, Box::new(Root));
    let (_, root) = SuperBlock::new(Box::new(HostFs), root);
    Mount::new(root, b"hostfs", MountFlags::empty())
});
