//! `RLIMIT_FSIZE` (`getrlimit(2)`): how much of a write a file takes.

use crate::errno::Errno;
use crate::io::{IoSrc, Transfer};
use crate::syscall::file::context::raise;
use crate::task::{CurrentTask, Limit, Resource};
use crate::vfs::{File, OpenFlags};

const SIGXFSZ: i32 = 25;

/// How many bytes may be written at `at`, or at the file's position; `None` is any number.
///
/// # Errors
/// `EFBIG` with `SIGXFSZ` where it is none.
pub(super) fn room(task: &CurrentTask, file: &File, at: Option<u64>) -> Result<Option<usize>, Errno> {
    let limit = task.rlimit(Resource::Fsize).soft;
    if limit == Limit::INFINITY {
        return Ok(None);
    }
    let at = match at {
        Some(at) => at,
        None if file.flags().contains(OpenFlags::APPEND) => file.stat()?.size,
        None => *file.position(),
    };
    if at >= limit {
        raise(task, SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(Some(usize::try_from(limit - at).unwrap_or(usize::MAX)))
}

/// The beginning of a source (`generic_write_checks_count`).
pub(super) struct Beginning<'a> {
    src: &'a mut dyn IoSrc,
    left: usize,
}

impl<'a> Beginning<'a> {
    /// At most `len` bytes of `src`.
    pub(super) fn new(src: &'a mut dyn IoSrc, len: usize) -> Self {
        Self { src, left: len }
    }
}

impl IoSrc for Beginning<'_> {
    fn remaining(&self) -> usize {
        self.src.remaining().min(self.left)
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let len = buf.len().min(self.left);
        let n = self.src.take(&mut buf[..len])?;
        self.left -= n;
        Ok(n)
    }

    fn untake(&mut self, n: usize) {
        self.src.untake(n);
        self.left += n;
    }

    fn take_direct(&mut self, len: usize, drain: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        let moved = self.src.take_direct(len.min(self.left), drain)?;
        self.left -= moved.unwrap_or(0);
        Ok(moved)
    }
}
