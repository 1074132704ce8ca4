//! What the VFS asks of a tree of the host.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::gofer::file::GoferFile;
use crate::fs::gofer::node::{GoferInode, Node};
use crate::fs::gofer::protocol::{MakeKind, Op, OpenFor, Owner, RenameHow, Reply};
use crate::vfs::open::open_directory;
use crate::vfs::{
    Caller, DirEntry, FileIdentity, FileOps, FileType, Inode, InodeOps, LinkTarget, ManyFaced, NewInode,
    NewKind, OpenFlags, RenameEnd, RenameMode, SetAttr, Stat,
};

impl GoferInode {
    fn node(inode: &Inode) -> Result<&Arc<Node>, Errno> {
        inode.downcast::<Self>().map(|inode| &inode.0).ok_or(Errno::EXDEV)
    }
}

impl InodeOps for GoferInode {
    fn stat(&self) -> Result<Stat, Errno> {
        self.0.stat()
    }

    fn known_stat(&self) -> Result<Stat, Errno> {
        Ok(self.0.known_stat())
    }

    fn identity(&self) -> Option<(&Arc<ManyFaced>, FileIdentity)> {
        self.0.identity()
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        self.0.set_attr(attr)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        if self.0.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.0.lookup(name)
    }

    fn prefetch(&self, names: &[&[u8]]) {
        if !self.0.shared.is_shared() {
            self.0.prefetch(names);
        }
    }

    fn still_there(&self, name: &[u8], child: &Arc<Inode>) -> bool {
        let Ok(child) = Self::node(child) else { return false };
        match self.0.shared.call(Op::Walk(self.0.path(), vec![name.to_vec()])) {
            Ok((Reply::Walked(found, _), _)) => found.first().is_some_and(|attr| {
                let same = child.kind() == attr.file_type()
                    && child.known_stat().ino == self.0.shared.ino(attr)
                    && child.link() == attr.link;
                if same {
                    child.store(attr);
                }
                same
            }),
            _ => false,
        }
    }

    fn create(&self, _: &Arc<Inode>, name: &[u8], new: &NewInode) -> Result<Arc<Inode>, Errno> {
        let kind = match &new.kind {
            NewKind::Regular => MakeKind::Regular,
            NewKind::Directory => MakeKind::Directory,
            NewKind::Symlink(target) => MakeKind::Symlink(target.clone()),
            NewKind::Fifo => MakeKind::Fifo,
            NewKind::Socket => MakeKind::Socket,
            // Device nodes of the host are none of the guest's business.
            NewKind::CharDevice(_) | NewKind::BlockDevice(_) => return Err(Errno::EPERM),
        };
        let mode = new.kind.file_type().mode_bits() | new.mode;
        let owner = Owner { mode, uid: new.uid, gid: new.gid };
        self.0.forget(name);
        let (reply, fd) = self.0.shared.call(Op::Make(self.0.path_of(name), kind, owner))?;
        let Reply::Attr(attr) = reply else { return Err(Errno::EIO) };
        self.0.touch(i32::from(new.kind == NewKind::Directory));
        let inode = self.0.child(name, attr);
        if let Some(fd) = fd {
            Self::node(&inode)?.keep_fd(OpenFor::ReadWrite, Arc::<OwnedFd>::new(fd));
        }
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<Inode>) -> Result<(), Errno> {
        let target = Self::node(target)?;
        self.0.forget(name);
        let (reply, _) = self.0.shared.call(Op::Link(target.path(), self.0.path_of(name)))?;
        if let Reply::Attr(attr) = reply {
            target.store(&attr);
        }
        self.0.touch(0);
        Ok(())
    }

    fn unlink(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        let child = Self::node(child)?;
        // While the file is open it must stay readable; a descriptor taken now keeps it.
        if child.kind() == FileType::Regular {
            let _ = child.fd(OpenFor::ReadWrite).or_else(|_| child.fd(OpenFor::Read));
        }
        self.0.forget(name);
        self.0.shared.call(Op::Unlink(self.0.path_of(name)))?;
        child.removed();
        self.0.touch(0);
        Ok(())
    }

    fn rmdir(&self, name: &[u8], child: &Arc<Inode>) -> Result<(), Errno> {
        self.0.forget(name);
        self.0.shared.call(Op::RemoveDir(self.0.path_of(name)))?;
        Self::node(child)?.removed();
        self.0.touch(-1);
        Ok(())
    }

    fn rename(&self, from: RenameEnd<'_>, to: RenameEnd<'_>, mode: RenameMode) -> Result<(), Errno> {
        let to_dir = Self::node(to.dir)?;
        let how = match mode {
            RenameMode::Replace => RenameHow::Replace,
            RenameMode::NoReplace => RenameHow::NoReplace,
            RenameMode::Exchange => RenameHow::Exchange,
            // A device, which nobody makes on the host.
            RenameMode::Whiteout { .. } => return Err(Errno::EINVAL),
        };
        if let (Some(replaced), RenameMode::Replace) = (to.inode, mode)
            && replaced.kind() == FileType::Regular
        {
            let replaced = Self::node(replaced)?;
            let _ = replaced.fd(OpenFor::ReadWrite).or_else(|_| replaced.fd(OpenFor::Read));
        }
        self.0.forget(from.name);
        to_dir.forget(to.name);
        let op = Op::Rename(self.0.path_of(from.name), to_dir.path_of(to.name), how);
        self.0.shared.call(op)?;
        if let Some(moved) = from.inode {
            Self::node(moved)?.moved(to_dir.clone(), to.name);
        }
        if let Some(other) = to.inode {
            let other = Self::node(other)?;
            if mode == RenameMode::Exchange {
                other.moved(self.0.clone(), from.name);
            } else {
                other.removed();
            }
        }
        let is_dir = from.inode.is_some_and(|inode| inode.is_dir());
        let crosses = !Arc::ptr_eq(&self.0, to_dir);
        self.0.touch(if is_dir && crosses { -1 } else { 0 });
        to_dir.touch(if is_dir && crosses { 1 } else { 0 });
        Ok(())
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        self.0.listing().map(|listing| listing.to_vec())
    }

    fn read_link(&self, _: &Caller<'_>) -> Result<LinkTarget, Errno> {
        self.0.link().map(LinkTarget::Path).ok_or(Errno::EINVAL)
    }

    fn open(&self, _: &Arc<Inode>, flags: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        match self.0.kind() {
            FileType::Directory => Ok(open_directory()),
            FileType::Regular => {
                let how = if flags.is_writable() { OpenFor::ReadWrite } else { OpenFor::Read };
                let fd = self.0.fd(how)?;
                Ok(Box::new(GoferFile::new(self.0.clone(), fd)))
            }
            _ => Err(Errno::ENXIO),
        }
    }
}
