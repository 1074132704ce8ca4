//! `/proc/PID/uid_map`, `gid_map`, `projid_map` and `setgroups` (`user_namespaces(7)`).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::proc::task::owned;
use crate::io::{IoDst, IoSrc};
use crate::kernel::UserNamespace;
use crate::kernel::user_namespace::IdKind;
use crate::mm::PAGE_SIZE;
use crate::task::{Capabilities, Credentials, Task, current_task};
use crate::vfs::{Caller, File, FileOps, FileType, Inode, InodeOps, OpenFlags, Seek, SetAttr, Stat};

/// The names of the files.
pub(super) const NAMES: &[&str] = &["gid_map", "projid_map", "setgroups", "uid_map"];

/// Most bytes of a word for `setgroups`.
const SETGROUPS_SIZE: usize = 8;

/// One of the files.
pub(super) struct IdMapInode {
    task: Arc<Task>,
    what: What,
    ino: u64,
}

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Map(IdKind),
    SetGroups,
}

impl IdMapInode {
    pub(super) fn inode(task: &Arc<Task>, name: &str, ino: u64) -> Arc<Inode> {
        let what = match name {
            "uid_map" => What::Map(IdKind::User),
            "gid_map" => What::Map(IdKind::Group),
            "projid_map" => What::Map(IdKind::Project),
            _ => What::SetGroups,
        };
        Inode::new(FileType::Regular, Box::new(Self { task: task.clone(), what, ino }))
    }
}

impl InodeOps for IdMapInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(owned(&self.task, FileType::Regular, 0o644, self.ino))
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        // O_TRUNC is harmless; nothing else changes.
        if *attr == (SetAttr { size: attr.size, ..SetAttr::default() }) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn open(&self, _: &Arc<Inode>, flags: OpenFlags, caller: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        let namespace = self.task.creds().user_ns.clone();
        if self.what == What::SetGroups
            && flags.is_writable()
            && !caller.creds.has_in(&namespace, Capabilities::SYS_ADMIN)
        {
            return Err(Errno::EACCES);
        }
        // Who opens the file is asked again when it is written to: it may have been handed to somebody with more rights.
        Ok(Box::new(IdMapFile { namespace, what: self.what, opener: caller.creds.clone() }))
    }
}

struct IdMapFile {
    namespace: Arc<UserNamespace>,
    what: What,
    opener: Credentials,
}

impl IdMapFile {
    fn text(&self) -> String {
        let What::Map(kind) = self.what else {
            return if self.namespace.may_set_groups() { "allow\n" } else { "deny\n" }.to_owned();
        };
        let mut text = String::new();
        for extent in self.namespace.show_map(kind, &self.opener.user_ns) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:>10} {:>10} {:>10}", extent.first, extent.lower, extent.count);
        }
        text
    }

    fn set_groups(&self, word: &[u8]) -> Result<(), Errno> {
        let word = word.trim_ascii_end();
        match word {
            b"allow" => self.namespace.set_may_set_groups(true),
            b"deny" => self.namespace.set_may_set_groups(false),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl FileOps for IdMapFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let text = self.text();
        let from = usize::try_from(*pos).unwrap_or(usize::MAX).min(text.len());
        let n = dst.put(&text.as_bytes()[from..])?;
        *pos += n as u64;
        Ok(n)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let limit = if self.what == What::SetGroups { SETGROUPS_SIZE as u64 } else { PAGE_SIZE };
        // The whole map in one call, below a page.
        if *pos != 0 || src.remaining() as u64 >= limit {
            return Err(Errno::EINVAL);
        }
        let mut data = vec![0; src.remaining()];
        let n = src.take(&mut data)?;
        match self.what {
            What::SetGroups => self.set_groups(&data[..n])?,
            What::Map(kind) => {
                // Where nobody writes, as in tests, who opened the file does.
                let writer = current_task().map(|task| task.creds());
                let writer = writer.as_deref().unwrap_or(&self.opener);
                self.namespace.write_map(kind, &data[..n], &self.opener, writer)?;
            }
        }
        *pos += n as u64;
        Ok(n)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        to.without_end(pos)
    }
}
