//! `/proc/PID/fd` and `/proc/PID/fdinfo`.

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::proc::task::{check_may_inspect, owned};
use crate::fs::pseudo::{Text, TextInode};
use crate::task::Task;
use crate::vfs::Access;
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DirEntry, Fd, FdFlags, File, FileOps, FileType, Inode, InodeOps, LinkTarget, OpenFlags, Stat,
};

/// What the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FdDirKind {
    /// Links to the open files.
    Links,
    /// Texts about them.
    Info,
}

/// A directory with an entry for each descriptor.
pub(super) struct FdDir {
    task: Arc<Task>,
    kind: FdDirKind,
    ino: u64,
}

impl FdDir {
    pub(super) fn inode(task: &Arc<Task>, kind: FdDirKind, ino: u64) -> Arc<Inode> {
        Inode::new(FileType::Directory, Box::new(Self { task: task.clone(), kind, ino }))
    }
}

impl InodeOps for FdDir {
    fn stat(&self) -> Result<Stat, Errno> {
        let permissions = if self.kind == FdDirKind::Links { 0o500 } else { 0o555 };
        Ok(owned(&self.task, FileType::Directory, permissions, self.ino))
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let fd: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if fd.to_string() != text {
            return Err(Errno::ENOENT);
        }
        let fd = Fd(fd);
        let file = self.task.files().get(fd).map_err(|_| Errno::ENOENT)?;
        let ino = self.ino + (1 << 20) + u64::from(fd.0.unsigned_abs());
        Ok(match self.kind {
            FdDirKind::Links => {
                let flags = file.flags();
                let mut permissions = 0;
                permissions |= if flags.is_readable() { 0o500 } else { 0o100 };
                permissions |= if flags.is_writable() { 0o300 } else { 0o100 };
                let link = FdLink { task: self.task.clone(), fd, permissions, ino };
                Inode::new(FileType::Symlink, Box::new(link))
            }
            FdDirKind::Info => {
                let stat = owned(&self.task, FileType::Regular, 0o444, ino);
                TextInode::with_stat(stat, FdInfo { task: self.task.clone(), fd })
            }
        })
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn check_access(&self, caller: &Caller<'_>, _: Access) -> Option<Result<(), Errno>> {
        // The bits of `fdinfo` let everybody in (`proc_fdinfo_permission`).
        let is_guarded = self.kind == FdDirKind::Info;
        if is_guarded { check_may_inspect(caller, &self.task).err().map(Err) } else { None }
    }

    fn read_dir(&self, caller: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        check_may_inspect(caller, &self.task)?;
        let kind = if self.kind == FdDirKind::Links { FileType::Symlink } else { FileType::Regular };
        let entry = |fd: Fd| DirEntry {
            name: fd.0.to_string().into_bytes(),
            ino: self.ino + (1 << 20) + u64::from(fd.0.unsigned_abs()),
            kind,
        };
        Ok(self.task.files().open_fds().into_iter().map(entry).collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

/// `/proc/PID/fd/N`.
struct FdLink {
    task: Arc<Task>,
    fd: Fd,
    permissions: u32,
    ino: u64,
}

impl FdLink {
    fn file(&self) -> Result<Arc<File>, Errno> {
        self.task.files().get(self.fd).map_err(|_| Errno::ENOENT)
    }
}

impl InodeOps for FdLink {
    fn stat(&self) -> Result<Stat, Errno> {
        // The size is a constant on Linux as well.
        Ok(Stat { size: 64, ..owned(&self.task, FileType::Symlink, self.permissions, self.ino) })
    }

    fn read_link(&self, caller: &Caller<'_>) -> Result<LinkTarget, Errno> {
        check_may_inspect(caller, &self.task)?;
        Ok(LinkTarget::Object(self.file()?.path().clone()))
    }

    fn link_text(&self, caller: &Caller<'_>) -> Result<Vec<u8>, Errno> {
        check_may_inspect(caller, &self.task)?;
        let root = caller.task.unwrap_or(&self.task).fs().root();
        Ok(self.file()?.path().text(&root).for_proc())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Err(Errno::ELOOP)
    }
}

/// `/proc/PID/fdinfo/N`.
struct FdInfo {
    task: Arc<Task>,
    fd: Fd,
}

impl Text for FdInfo {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let (file, fd_flags) = self.task.files().get_with_flags(self.fd).map_err(|_| Errno::ENOENT)?;
        let mut flags = file.flags().bits();
        if fd_flags.contains(FdFlags::CLOEXEC) {
            flags |= OpenFlags::CLOEXEC.bits();
        }
        let pos = *file.position();
        let mount = file.path().mount.id().0;
        let ino = file.stat()?.ino;
        let extra = file.ops().fdinfo(&file);
        Ok(format!("pos:\t{pos}\nflags:\t{flags:#o}\nmnt_id:\t{mount}\nino:\t{ino}\n{extra}")
            .replace("0o", "0")
            .into_bytes())
    }
}
