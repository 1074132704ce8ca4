//! An open directory.

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::io::IoDst;
use crate::vfs::{Caller, DirEntry, File, FileOps, FileType, Seek};

/// A directory's listing, taken when the position is at its start and served from memory after that (POSIX leaves
/// open whether later changes show up).
#[derive(Debug, Default)]
pub struct DirFile {
    listing: Mutex<Option<Vec<DirEntry>>>,
}

impl FileOps for DirFile {
    fn read(&self, _: &File, _: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        to.without_end(pos)
    }

    fn read_dir(
        &self,
        file: &File,
        caller: &Caller<'_>,
        pos: &mut u64,
        emit: &mut dyn FnMut(&DirEntry, u64) -> bool,
    ) -> Result<(), Errno> {
        if file.path().dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        while *pos < 2 {
            if !emit(&dot_entry(file, *pos)?, *pos + 1) {
                return Ok(());
            }
            *pos += 1;
        }
        let mut listing = self.listing.lock();
        if listing.is_none() || *pos == 2 {
            *listing = Some(file.inode().ops().read_dir(caller)?);
        }
        let entries = listing.as_deref().unwrap_or_default();
        let first = usize::try_from(*pos - 2).unwrap_or(usize::MAX);
        for entry in entries.iter().skip(first) {
            if !emit(entry, *pos + 1) {
                break;
            }
            *pos += 1;
        }
        Ok(())
    }

    fn sync(&self, _: &File) -> Result<(), Errno> {
        Ok(())
    }
}

/// `.` at position 0, `..` at position 1.
fn dot_entry(file: &File, pos: u64) -> Result<DirEntry, Errno> {
    let here = &file.path().dentry;
    let (name, ino) = if pos == 0 {
        (&b"."[..], here.stat()?.ino)
    } else {
        let parent = here.parent().unwrap_or_else(|| here.clone());
        (&b".."[..], parent.stat()?.ino)
    };
    Ok(DirEntry { name: name.to_vec(), ino, kind: FileType::Directory })
}
