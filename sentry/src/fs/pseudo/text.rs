//! Files whose contents are made when they are read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::task::Task;
use crate::vfs::{Caller, File, FileOps, FileType, Inode, InodeOps, OpenFlags, Seek, SetAttr, Stat};

/// What a generated file shows.
pub(crate) trait Text: Send + Sync + 'static {
    /// The whole contents now.
    ///
    /// # Errors
    /// `ESRCH` where what it is about is gone.
    fn render(&self) -> Result<Vec<u8>, Errno>;

    /// Takes what was written, one call of `write(2)` at a time.
    ///
    /// # Errors
    /// `EINVAL` for a bad value, `EACCES` where it cannot be written.
    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let _ = data;
        Err(Errno::EACCES)
    }

    /// Whether `caller` may open the file, beyond what the mode says.
    ///
    /// # Errors
    /// `EACCES`.
    fn check_open(&self, caller: &Caller<'_>) -> Result<(), Errno> {
        let _ = caller;
        Ok(())
    }

    /// The text that `task` gets by opening the file, where that depends on the namespaces it is in.
    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        let _ = task;
        None
    }
}

impl<F: Fn() -> Vec<u8> + Send + Sync + 'static> Text for F {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(self())
    }
}

/// The inode of a generated file.
pub(crate) struct TextInode {
    stat: Stat,
    text: Arc<dyn Text>,
}

impl TextInode {
    /// A file of root's with these permission bits.
    pub(crate) fn inode(permissions: u32, text: impl Text) -> Arc<Inode> {
        Self::with_stat(super::pseudo_stat(FileType::Regular, permissions), text)
    }

    /// Takes what would be written to the file.
    pub(crate) fn store(&self, data: &[u8]) -> Result<(), Errno> {
        self.text.store(data)
    }

    /// A file with these attributes.
    pub(crate) fn with_stat(stat: Stat, text: impl Text) -> Arc<Inode> {
        Inode::new(FileType::Regular, Box::new(Self { stat, text: Arc::new(text) }))
    }
}

impl InodeOps for TextInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        // O_TRUNC is harmless; nothing else changes.
        let SetAttr { mode, uid, gid, size: _, atime, mtime } = *attr;
        let rest = (mode, uid, gid, atime, mtime);
        if rest == (None, None, None, None, None) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, caller: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        self.text.check_open(caller)?;
        let own = caller.task.and_then(|task| self.text.opened_by(task));
        let text = own.unwrap_or_else(|| self.text.clone());
        Ok(Box::new(TextFile { text, shown: Mutex::default() }))
    }
}

/// An open generated file: the contents are those of the moment when reading began.
struct TextFile {
    text: Arc<dyn Text>,
    shown: Mutex<Option<Vec<u8>>>,
}

/// The most bytes that one write can store.
const MAX_STORE: usize = 4096;

impl FileOps for TextFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let mut shown = self.shown.lock();
        if *pos == 0 || shown.is_none() {
            *shown = Some(self.text.render()?);
        }
        let all = shown.as_deref().unwrap_or_default();
        let from = usize::try_from(*pos).unwrap_or(usize::MAX).min(all.len());
        let n = dst.put(&all[from..])?;
        *pos += n as u64;
        Ok(n)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let mut data = vec![0; src.remaining().min(MAX_STORE)];
        let n = src.take(&mut data)?;
        self.text.store(&data[..n])?;
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
