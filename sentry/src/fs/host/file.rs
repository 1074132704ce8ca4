//! Reading, writing and waiting for an imported descriptor.

use std::io;
use std::sync::Arc;

use nix::unistd::{Whence, lseek};
use sentry_hostio::nowait;

use crate::errno::{Errno, SysResult};
use crate::fs::host::description::{Description, Kind};
use crate::fs::host::{inode, terminal};
use crate::io::{IoDst, IoSrc};
use crate::task::CurrentTask;
use crate::vfs::{File, FileOps, OpenFlags, Seek};
use crate::wait::{Observer, Readiness, WaitId};

/// Bytes moved per call of the host; a pipe holds as many.
const CHUNK: usize = 64 << 10;

/// An imported descriptor as a guest's open file.
pub(super) struct HostFile {
    description: Arc<Description>,
}

/// A guest file over `description`, at the position at which the host has it.
pub(super) fn open(description: &Arc<Description>) -> io::Result<Arc<File>> {
    let place =
        inode::place(description).map_err(|errno| io::Error::from_raw_os_error(errno.code().into()))?;
    let file = File::at(Box::new(HostFile::new(description.clone())), description.flags()?, place);
    if description.kind() == Kind::Regular {
        let position = lseek(description.fd(), 0, Whence::SeekCur)?;
        *file.position() = u64::try_from(position).unwrap_or(0);
    }
    Ok(file)
}

/// The guest's errno for an error of the host's.
pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().and_then(Errno::from_code).unwrap_or(Errno::EIO)
}

impl HostFile {
    pub(super) fn new(description: Arc<Description>) -> Self {
        Self { description }
    }

    /// The description, where it is a terminal.
    pub(super) fn terminal(&self) -> Option<&Arc<Description>> {
        Some(&self.description).filter(|description| description.kind() == Kind::Terminal)
    }

    /// Reads what fits into `dst`; a regular file at `pos`.
    fn read_chunk(&self, chunk: &mut [u8], pos: u64) -> io::Result<usize> {
        let fd = self.description.fd();
        match self.description.kind() {
            Kind::Regular => Ok(nix::sys::uio::pread(fd, chunk, offset(pos)?)?),
            Kind::Stream | Kind::Terminal => nowait::read(fd, chunk),
        }
    }

    fn write_chunk(&self, chunk: &[u8], pos: u64, flags: OpenFlags) -> io::Result<usize> {
        let fd = self.description.fd();
        match self.description.kind() {
            // The host appends by itself where its own description says so, and only then.
            Kind::Regular if flags.contains(OpenFlags::APPEND) => Ok(nix::unistd::write(fd, chunk)?),
            Kind::Regular => Ok(nix::sys::uio::pwrite(fd, chunk, offset(pos)?)?),
            Kind::Stream | Kind::Terminal => nowait::write(fd, chunk),
        }
    }

    /// The programs that share the file outside go on where the guest stopped.
    fn leave_position(&self, pos: u64) {
        if self.description.kind() == Kind::Regular
            && let Ok(offset) = i64::try_from(pos)
        {
            // A file that could be read at a position has one.
            let _ = lseek(self.description.fd(), offset, Whence::SeekSet);
        }
    }
}

impl FileOps for HostFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        let mut chunk = vec![0; CHUNK.min(dst.remaining())];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = chunk.len().min(dst.remaining());
            let got = match self.read_chunk(&mut chunk[..want], *pos) {
                Ok(0) => break,
                Ok(got) => got,
                Err(_) if done > 0 => break,
                Err(error) => return Err(errno(&error)),
            };
            // What does not fit any more (EFAULT half-way) is lost for streams, as a fault in read(2) loses it.
            let taken = dst.put(&chunk[..got])?;
            done += taken;
            *pos += taken as u64;
            // Streams give what is there; asking again would wait or tear a message apart.
            if self.description.kind() != Kind::Regular || taken < want {
                break;
            }
        }
        self.leave_position(*pos);
        Ok(done)
    }

    fn write(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let mut chunk = vec![0; CHUNK.min(src.remaining())];
        let mut done = 0;
        while src.remaining() > 0 {
            let want = chunk.len().min(src.remaining());
            let taken = match src.take(&mut chunk[..want]) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let written = match self.write_chunk(&chunk[..taken], *pos, file.flags()) {
                Ok(written) => written,
                Err(_) if done > 0 => {
                    src.untake(taken);
                    break;
                }
                Err(error) => {
                    src.untake(taken);
                    return Err(errno(&error));
                }
            };
            src.untake(taken - written);
            done += written;
            *pos += written as u64;
            if written < taken {
                break;
            }
        }
        if !file.flags().contains(OpenFlags::APPEND) {
            self.leave_position(*pos);
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        self.description.kind() == Kind::Regular
    }

    fn seek(&self, _: &File, pos: u64, to: Seek) -> Result<u64, Errno> {
        if self.description.kind() != Kind::Regular {
            return Err(Errno::ESPIPE);
        }
        let (offset, whence) = match to {
            Seek::Set(offset) => (offset, Whence::SeekSet),
            // Against the guest's position: the host's is shared with others.
            Seek::Current(offset) => {
                let pos = i64::try_from(pos).map_err(|_| Errno::EOVERFLOW)?;
                (pos.checked_add(offset).ok_or(Errno::EOVERFLOW)?, Whence::SeekSet)
            }
            Seek::End(offset) => (offset, Whence::SeekEnd),
            Seek::Data(offset) => (offset, Whence::SeekData),
            Seek::Hole(offset) => (offset, Whence::SeekHole),
        };
        let at = lseek(self.description.fd(), offset, whence).map_err(|error| errno(&error.into()))?;
        u64::try_from(at).map_err(|_| Errno::EOVERFLOW)
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        terminal::ioctl(&self.description, task, request, arg)
    }

    fn readiness(&self, _: &File) -> Readiness {
        if self.description.kind() == Kind::Regular {
            return Readiness::IN | Readiness::OUT;
        }
        self.description.watched().readiness()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        if self.description.kind() == Kind::Regular {
            return None;
        }
        let id = self.description.watched().queue().register(interest, observer);
        self.description.watched().watch();
        Some(id)
    }

    fn unregister(&self, id: WaitId) {
        self.description.watched().queue().unregister(id);
    }

    fn sync(&self, _: &File) -> Result<(), Errno> {
        nix::unistd::fsync(self.description.fd()).map_err(|error| errno(&error.into()))
    }

    fn truncate(&self, _: &File, size: u64) -> Result<(), Errno> {
        if self.description.kind() != Kind::Regular {
            return Err(Errno::EINVAL);
        }
        let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(self.description.fd(), size).map_err(|error| errno(&error.into()))
    }
}

fn offset(pos: u64) -> io::Result<i64> {
    i64::try_from(pos).map_err(|_| io::Error::from_raw_os_error(Errno::EINVAL.code().into()))
}
