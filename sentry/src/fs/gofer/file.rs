//! An open regular file of the host: reads, writes and mappings go straight to its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use sentry_platform::MemoryFileError;

use crate::errno::Errno;
use crate::fs::gofer::node::Node;
use crate::io::{self, Direct, IoDst, IoSrc, SliceDst};
use crate::vfs::{Allocate, Backing, File, FileOps, FileTime, Mappable, MappedRange, OpenFlags, Seek};

/// An open file.
pub(super) struct GoferFile {
    node: Arc<Node>,
    fd: Arc<OwnedFd>,
}

/// What cannot be read or written in place is copied through a buffer of this size.
const BOUNCE: usize = 128 * 1024;

impl GoferFile {
    pub(super) fn new(node: Arc<Node>, fd: Arc<OwnedFd>) -> Self {
        Self { node, fd }
    }

    fn host(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// As `read`, for what is no memory of the sandbox: a mapped host file, a buffer of the sentry.
    fn read_through_buffer(&self, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let mut bounce = vec![0; BOUNCE.min(dst.remaining())];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = bounce.len().min(dst.remaining());
            let n = match nix::sys::uio::pread(self.host(), &mut bounce[..want], offset(*pos)?) {
                Ok(0) => break,
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) if done > 0 => break,
                Err(e) => return Err(errno(e)),
            };
            match dst.put(&bounce[..n]) {
                Ok(stored) => {
                    *pos += stored as u64;
                    done += stored;
                    if stored < n || n < want {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// As `write`, likewise.
    fn write_through_buffer(&self, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let mut bounce = vec![0; BOUNCE.min(src.remaining())];
        let mut done = 0;
        while src.remaining() > 0 {
            let want = bounce.len().min(src.remaining());
            let taken = match src.take(&mut bounce[..want]) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            let wrote = match nix::sys::uio::pwrite(self.host(), &bounce[..taken], offset(*pos)?) {
                Ok(n) => n,
                Err(e) => {
                    src.untake(taken);
                    if done > 0 || e == nix::errno::Errno::EINTR {
                        break;
                    }
                    return Err(errno(e));
                }
            };
            *pos += wrote as u64;
            done += wrote;
            if wrote < taken {
                src.untake(taken - wrote);
                break;
            }
            if taken < want {
                break;
            }
        }
        Ok(done)
    }

    /// The length of the file now.
    fn size(&self) -> Result<u64, Errno> {
        if self.node.shared.is_shared() {
            let stat = sentry_hostio::tree::stat(self.host()).map_err(errno)?;
            return u64::try_from(stat.st_size).map_err(|_| Errno::EIO);
        }
        Ok(self.node.stat()?.size)
    }
}

/// The host's error for the guest.
fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_code(error as i32).unwrap_or(Errno::EIO)
}

/// The host's error of a direct transfer for the guest.
fn memory_errno(error: MemoryFileError) -> Errno {
    match error {
        MemoryFileError::Host { source, .. } => {
            source.raw_os_error().and_then(Errno::from_code).unwrap_or(Errno::EIO)
        }
        // The offset of the file is too large for the host.
        MemoryFileError::OutOfRange { .. } | MemoryFileError::Full { .. } => Errno::EINVAL,
    }
}

fn is_interrupted(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Interrupted
}

/// An error after `done` bytes is told next time.
fn or_done(done: usize, result: Result<usize, Errno>) -> Result<usize, Errno> {
    match result {
        Err(_) if done > 0 => Ok(0),
        result => result,
    }
}

fn offset(at: u64) -> Result<i64, Errno> {
    i64::try_from(at).map_err(|_| Errno::EINVAL)
}

impl FileOps for GoferFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let start = *pos;
        let direct = io::move_directly(
            dst.remaining(),
            |len, fill| dst.put_direct(len, fill),
            |done, memory, pieces| loop {
                match memory.read_from_fd(self.host(), start + done as u64, pieces) {
                    Err(MemoryFileError::Host { source, .. }) if is_interrupted(&source) => {}
                    result => return result.map_err(memory_errno),
                }
            },
        );
        let direct = match direct {
            // At the end of the file there is nothing to store, so bad memory does not matter.
            Err(Errno::EFAULT) => {
                return self
                    .read_through_buffer(&mut SliceDst::new(&mut [0]), &mut { start })
                    .and_then(|there| if there == 0 { Ok(0) } else { Err(Errno::EFAULT) });
            }
            direct => direct?,
        };
        match direct {
            Direct::Moved(done) => {
                *pos += done as u64;
                Ok(done)
            }
            Direct::NeedsBuffer(done) => {
                *pos += done as u64;
                Ok(done + or_done(done, self.read_through_buffer(dst, pos))?)
            }
        }
    }

    fn write(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        if file.flags().contains(OpenFlags::APPEND) {
            *pos = self.size()?;
        }
        let start = *pos;
        let direct = io::move_directly(
            src.remaining(),
            |len, drain| src.take_direct(len, drain),
            |done, memory, pieces| {
                memory.write_to_fd(self.host(), start + done as u64, pieces).map_err(memory_errno)
            },
        )?;
        let done = match direct {
            Direct::Moved(done) => {
                *pos += done as u64;
                done
            }
            Direct::NeedsBuffer(done) => {
                *pos += done as u64;
                done + or_done(done, self.write_through_buffer(src, pos))?
            }
        };
        if done > 0 {
            let end = *pos;
            self.node.update(|stat| {
                let now = FileTime::now();
                stat.size = stat.size.max(end);
                stat.blocks = stat.blocks.max(stat.size.div_ceil(512));
                stat.mtime = now;
                stat.ctime = now;
            });
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        use nix::unistd::{Whence, lseek};
        let (base, by) = match to {
            Seek::Set(at) => (0, at),
            Seek::Current(by) => (pos, by),
            Seek::End(by) => (self.size()?, by),
            Seek::Data(at) | Seek::Hole(at) => {
                let whence = if matches!(to, Seek::Data(_)) { Whence::SeekData } else { Whence::SeekHole };
                // The position of the donated descriptor means nothing to anybody.
                let found = lseek(self.host(), at, whence).map_err(errno)?;
                return u64::try_from(found).map_err(|_| Errno::EIO);
            }
        };
        let base = i64::try_from(base).map_err(|_| Errno::EINVAL)?;
        base.checked_add(by).and_then(|n| u64::try_from(n).ok()).ok_or(Errno::EINVAL)
    }

    fn mappable(&self, _: &File) -> Result<Arc<dyn Mappable>, Errno> {
        Ok(Arc::new(HostMapping { node: self.node.clone(), fd: self.fd.clone() }))
    }

    fn sync(&self, _: &File) -> Result<(), Errno> {
        nix::unistd::fsync(self.host()).map_err(errno)
    }

    fn truncate(&self, _: &File, size: u64) -> Result<(), Errno> {
        nix::unistd::ftruncate(self.host(), offset(size)?).map_err(errno)?;
        self.node.update(|stat| {
            let now = FileTime::now();
            stat.size = size;
            stat.mtime = now;
            stat.ctime = now;
        });
        Ok(())
    }

    fn allocate(&self, file: &File, mode: Allocate, at: u64, len: u64) -> Result<(), Errno> {
        use nix::fcntl::{FallocateFlags, fallocate};
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (flags, grows) = match mode {
            Allocate::Extend => (FallocateFlags::empty(), true),
            Allocate::KeepSize => (keep, false),
            Allocate::PunchHole => (FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep, false),
            Allocate::Zero => (FallocateFlags::FALLOC_FL_ZERO_RANGE, true),
            Allocate::ZeroKeepSize => (FallocateFlags::FALLOC_FL_ZERO_RANGE | keep, false),
        };
        fallocate(self.host(), flags, offset(at)?, offset(len)?).map_err(errno)?;
        if grows {
            let end = at.saturating_add(len);
            self.node.update(|stat| stat.size = stat.size.max(end));
        }
        let _ = file;
        Ok(())
    }
}

/// A file of the host as guests map it.
struct HostMapping {
    node: Arc<Node>,
    fd: Arc<OwnedFd>,
}

impl Mappable for HostMapping {
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<MappedRange, Errno> {
        let end = self.size().next_multiple_of(crate::mm::PAGE_SIZE);
        if offset >= end {
            return Err(Errno::ENXIO);
        }
        Ok(MappedRange { backing: Backing::Host(self.fd.clone(), offset), len: len.min(end - offset) })
    }

    fn size(&self) -> u64 {
        if self.node.shared.is_shared() {
            let stat = sentry_hostio::tree::stat(self.fd.as_fd());
            return stat.ok().and_then(|s| u64::try_from(s.st_size).ok()).unwrap_or(0);
        }
        self.node.stat().map_or(0, |stat| stat.size)
    }
}
