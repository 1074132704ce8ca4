//! What is known about an inode: type, mode, owner, size, times (`inode(7)`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The type of a file, `S_IFMT` of the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of inode(7)")]
pub enum FileType {
    Fifo,
    CharDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

impl FileType {
    /// The `S_IFMT` bits.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The type in a mode; `None` for a pattern that Linux does not define.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & S_IFMT {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// The `d_type` of `getdents64(2)`.
    #[must_use]
    pub const fn dirent_type(self) -> u8 {
        // DT_* is S_IFMT shifted down by 12 (dirent.h, IFTODT).
        (self.mode_bits() >> 12) as u8
    }
}

/// The type bits of a mode.
pub const S_IFMT: u32 = 0o170_000;
/// Set-user-ID.
pub const S_ISUID: u32 = 0o4000;
/// Set-group-ID.
pub const S_ISGID: u32 = 0o2000;
/// Restricted deletion (sticky).
pub const S_ISVTX: u32 = 0o1000;
/// Group execute, which makes `S_ISGID` mean set-group-ID.
pub const S_IXGRP: u32 = 0o010;
/// All bits that `chmod(2)` can change.
pub const MODE_MASK: u32 = 0o7777;

/// A point in time as inodes store it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds, below one thousand million.
    pub nsec: u32,
}

impl FileTime {
    /// The present time. This is the one place where file systems read a clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
    }
}

/// A device number, split as `makedev(3)` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceId {
    /// The class of device.
    pub major: u32,
    /// Which one of the class.
    pub minor: u32,
}

impl DeviceId {
    /// The device with these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The 64-bit form that `stat(2)` reports.
    #[must_use]
    pub fn encode(self) -> u64 {
        let (major, minor) = (u64::from(self.major), u64::from(self.minor));
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }

    /// From the 64-bit form.
    #[must_use]
    pub fn decode(dev: u64) -> Self {
        let major = ((dev >> 8) & 0xfff) | ((dev >> 32) & 0xffff_f000);
        let minor = (dev & 0xff) | ((dev >> 12) & 0xffff_ff00);
        // Both are 32-bit fields by construction of the masks.
        Self { major: (major & 0xffff_ffff) as u32, minor: (minor & 0xffff_ffff) as u32 }
    }
}

/// The attributes of an inode. `dev` is filled in by the mount layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The device of the file system.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// How many names.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Which device, for device files.
    pub rdev: DeviceId,
    /// Length in bytes.
    pub size: u64,
    /// Preferred I/O size.
    pub blksize: u32,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Last access.
    pub atime: FileTime,
    /// Last change of the contents.
    pub mtime: FileTime,
    /// Last change of the inode.
    pub ctime: FileTime,
    /// Creation.
    pub btime: Option<FileTime>,
}

impl Stat {
    /// Attributes of a new, empty inode of root's with the present time.
    #[must_use]
    pub fn new(kind: FileType, permissions: u32, ino: u64) -> Self {
        let now = FileTime::now();
        Self {
            dev: 0,
            ino,
            mode: kind.mode_bits() | (permissions & MODE_MASK),
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            rdev: DeviceId::default(),
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: Some(now),
        }
    }

    /// The type; a mode without a defined type counts as a regular file.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }

    /// The permission bits with set-id and sticky.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & MODE_MASK
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == FileType::Directory.mode_bits()
    }
}

/// A time to set with `utimensat(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`.
    Now,
    /// A given time.
    At(FileTime),
}

impl SetTime {
    /// The time to store.
    #[must_use]
    pub fn resolve(self, now: FileTime) -> FileTime {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

/// Attributes to change; `None` leaves one as it is. Permissions were checked by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits with set-id and sticky.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The length of a regular file.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
}

impl SetAttr {
    /// Applies everything but the size to `stat` and stamps `ctime`.
    pub fn apply(&self, stat: &mut Stat) {
        let Self { mode, uid, gid, size: _, atime, mtime } = *self;
        if let Some(mode) = mode {
            stat.mode = (stat.mode & S_IFMT) | (mode & MODE_MASK);
        }
        stat.uid = uid.unwrap_or(stat.uid);
        stat.gid = gid.unwrap_or(stat.gid);
        // One reading: programs compare the three.
        let now = FileTime::now();
        stat.atime = atime.map_or(stat.atime, |time| time.resolve(now));
        stat.mtime = mtime.map_or(stat.mtime, |time| time.resolve(now));
        stat.ctime = now;
    }
}

/// The answer to `statfs(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// `f_type`, a magic number of `statfs(2)`.
    pub magic: u64,
    /// Block size.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// The longest name.
    pub name_max: u64,
}

impl StatFs {
    /// A file system without storage (proc, devpts, ...).
    #[must_use]
    pub fn pseudo(magic: u64) -> Self {
        Self {
            magic,
            block_size: 4096,
            blocks: 0,
            free: 0,
            available: 0,
            files: 0,
            files_free: 0,
            name_max: 255,
        }
    }
}
