//! A file system in the sandbox's memory (`tmpfs(5)`), and memfds (`memfd_create(2)`).

mod file;
mod inode;
mod memfd;
mod pages;
mod size;

pub use inode::TmpfsInode;
pub use memfd::{SealError, Seals, create_memfd, memfd_seals};
pub use size::SizeLimit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::mm::PAGE_SIZE;
use crate::vfs::{Dentry, FileSystem, StatFs, SuperBlock};

/// Mount options of a tmpfs.
#[derive(Debug, Clone, Copy)]
pub struct TmpfsOptions {
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The most bytes that files can hold.
    pub size: SizeLimit,
    /// The most inodes.
    pub inodes: Option<u64>,
}

impl Default for TmpfsOptions {
    fn default() -> Self {
        Self { mode: 0o1777, uid: 0, gid: 0, size: SizeLimit::Unlimited, inodes: None }
    }
}

impl TmpfsOptions {
    /// Parses the data of `mount(2)`: `size=64m,mode=1777,uid=0,gid=0,nr_inodes=100k`.
    ///
    /// # Errors
    /// `EINVAL` for unknown options and bad numbers.
    pub fn parse(data: &str) -> Result<Self, Errno> {
        let mut options = Self { size: SizeLimit::DEFAULT, ..Self::default() };
        for part in data.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "mode" => options.mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777,
                "uid" => options.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => options.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                "size" => options.size = SizeLimit::parse(value)?,
                "nr_blocks" => options.size = SizeLimit::parse_blocks(value)?,
                "nr_inodes" => options.inodes = Some(size::parse_number(value)?).filter(|n| *n > 0),
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// One tmpfs.
pub struct Tmpfs {
    shared: Arc<TmpfsShared>,
}

/// What the inodes of one tmpfs share.
pub(crate) struct TmpfsShared {
    memory: Arc<MemoryFile>,
    size: SizeLimit,
    size_limit: Option<u64>,
    inode_limit: Option<u64>,
    used_pages: AtomicU64,
    used_inodes: AtomicU64,
    next_ino: AtomicU64,
}

impl Tmpfs {
    /// An empty file system whose pages are in `memory`; returns the dentry of its root.
    #[must_use]
    pub fn create(memory: Arc<MemoryFile>, options: &TmpfsOptions) -> Arc<Dentry> {
        let shared = TmpfsShared::new(memory, options);
        let root = TmpfsInode::root(&shared, options);
        let (_, root) = SuperBlock::new(Box::new(Self { shared }), root);
        root
    }
}

impl TmpfsShared {
    pub(crate) fn new(memory: Arc<MemoryFile>, options: &TmpfsOptions) -> Arc<Self> {
        let size_limit = options.size.bytes(memory.limit());
        Arc::new(Self {
            memory,
            size: options.size,
            size_limit,
            inode_limit: options.inodes,
            used_pages: AtomicU64::new(0),
            used_inodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        })
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Charges `pages` pages.
    pub(crate) fn charge(&self, pages: u64) -> Result<(), Errno> {
        let limit = self.size_limit.map_or(u64::MAX, |bytes| bytes / PAGE_SIZE);
        let add = |used: u64| used.checked_add(pages).filter(|n| *n <= limit);
        let charged = self.used_pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        charged.map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    pub(crate) fn uncharge(&self, pages: u64) {
        self.used_pages.fetch_sub(pages, Ordering::Relaxed);
    }

    /// Charges one inode and numbers it.
    pub(crate) fn new_ino(&self) -> Result<u64, Errno> {
        let limit = self.inode_limit.unwrap_or(u64::MAX);
        let add = |used: u64| used.checked_add(1).filter(|n| *n <= limit);
        self.used_inodes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map_err(|_| Errno::ENOSPC)?;
        Ok(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn drop_ino(&self) {
        self.used_inodes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileSystem for Tmpfs {
    fn type_name(&self) -> &'static str {
        "tmpfs"
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        let shared = &self.shared;
        let used = shared.used_pages.load(Ordering::Relaxed);
        let memory = &shared.memory;
        let room = memory.limit().saturating_sub(memory.in_use()) / PAGE_SIZE;
        let blocks = shared.size_limit.map_or(memory.limit(), |n| n.min(memory.limit())) / PAGE_SIZE;
        let free = blocks.saturating_sub(used).min(room);
        let files = shared.inode_limit.unwrap_or(1 << 20);
        let files_free = files.saturating_sub(shared.used_inodes.load(Ordering::Relaxed));
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE,
            blocks,
            free,
            available: free,
            files,
            files_free,
            name_max: 255,
        })
    }

    fn show_options(&self) -> String {
        // As `shmem_show_options`: what is the default goes without saying.
        let told = self.shared.size_limit.filter(|_| self.shared.size != SizeLimit::DEFAULT);
        told.map_or_else(String::new, |n| format!("size={}k", n / 1024))
    }

    fn caches_absence(&self) -> bool {
        true
    }
}

/// `statfs(2)`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
