//! Reading, writing and waiting for an imported descriptor.

use std::io;
use std::sync::Arc;

use nix::unistd::{Whence, lseek};
use sentry_hostio::nowait;

use crate::errno::{Errno, SysResult};
use crate::fs::host::description::{Description, Kind};
use crate::fs::host::{inode, terminal};
use crate::io::{IoDst, IoSrc};
use crate::task::{CurrentTask, Tid};
use crate::vfs::{File, FileOps, OpenFlags, Seek};
use crate::wait::{Observer, Readiness, WaitId};

/// Bytes moved per call of the host; a pipe holds as many.
const CHUNK: usize = 64 << 10;

/// An imported descriptor as a guest's open file.
pub(super) struct HostFile {
    description: Arc<Description>,
}

/// A guest file over `description`.
pub(super) fn open(description: &Arc<Description>) -> io::Result<Arc<File>> {
    let place =
        inode::place(description).map_err(|errno| io::Error::from_raw_os_error(errno.code().into()))?;
    Ok(File::at(Box::new(HostFile::new(description.clone())), description.flags()?, place))
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

    /// Reads from a terminal what was typed behind all keys whose signals have been sent: those come by another way,
    /// and whoever they end or interrupt must not get the text.
    fn read_typed(&self, file: &File, dst: &mut dyn IoDst) -> Result<usize, Errno> {
        let watched = self.description.watched();
        let is_ready = watched.readiness().contains(Readiness::IN);
        if is_ready && self.description.settle_keys() > 0 && !file.is_nonblocking() {
            // The reader looks whether it is interrupted, and comes back if it is not.
            watched.queue().notify(Readiness::IN);
            return Err(Errno::EAGAIN);
        }
        let done = self.read_from(dst, None);
        // In between there may have been another key, whose signal the reader meets before it sees what it has read.
        if is_ready || done.is_ok_and(|count| count > 0) {
            self.description.settle_keys();
        }
        done
    }

    /// Reads what fits into `dst`. A regular file is read at `pos`, or where the host has its position.
    fn read_chunk(&self, chunk: &mut [u8], pos: Option<u64>) -> io::Result<usize> {
        let fd = self.description.fd();
        match (self.description.kind(), pos) {
            (Kind::Regular, Some(pos)) => Ok(nix::sys::uio::pread(fd, chunk, offset(pos)?)?),
            (Kind::Regular, None) => Ok(nix::unistd::read(fd, chunk)?),
            (Kind::Stream | Kind::Terminal, _) => nowait::read(fd, chunk),
        }
    }

    fn write_chunk(&self, chunk: &[u8], pos: Option<u64>, flags: OpenFlags) -> io::Result<usize> {
        let fd = self.description.fd();
        match (self.description.kind(), pos) {
            // The host appends by itself where its own description says so, and only then.
            (Kind::Regular, Some(pos)) if !flags.contains(OpenFlags::APPEND) => {
                Ok(nix::sys::uio::pwrite(fd, chunk, offset(pos)?)?)
            }
            (Kind::Regular, _) => Ok(nix::unistd::write(fd, chunk)?),
            (Kind::Stream | Kind::Terminal, _) => nowait::write(fd, chunk),
        }
    }

    /// Reads at `pos`, or where the host has the file's position.
    fn read_from(&self, dst: &mut dyn IoDst, pos: Option<u64>) -> Result<usize, Errno> {
        let mut chunk = vec![0; CHUNK.min(dst.remaining())];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = chunk.len().min(dst.remaining());
            let got = match self.read_chunk(&mut chunk[..want], pos.map(|pos| pos + done as u64)) {
                Ok(0) => break,
                Ok(got) => got,
                Err(_) if done > 0 => break,
                Err(error) => return Err(errno(&error)),
            };
            // What does not fit any more (EFAULT half-way) is lost for streams, as a fault in read(2) loses it.
            let taken = dst.put(&chunk[..got]);
            let missed = got - taken.unwrap_or(0);
            if pos.is_none() && missed > 0 && self.description.kind() == Kind::Regular {
                // Below 64 KiB. It was read from there, so that it can go back.
                let _ = lseek(self.description.fd(), -(missed as i64), Whence::SeekCur);
            }
            let taken = match taken {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += taken;
            // Streams give what is there; asking again would wait or tear a message apart.
            if self.description.kind() != Kind::Regular || taken < want {
                break;
            }
        }
        Ok(done)
    }

    /// Writes at `pos`, or where the host has the file's position.
    fn write_from(&self, file: &File, src: &mut dyn IoSrc, pos: Option<u64>) -> Result<usize, Errno> {
        let mut chunk = vec![0; CHUNK.min(src.remaining())];
        let mut done = 0;
        while src.remaining() > 0 {
            let want = chunk.len().min(src.remaining());
            let taken = match src.take(&mut chunk[..want]) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let at = pos.map(|pos| pos + done as u64);
            let written = match self.write_chunk(&chunk[..taken], at, file.flags()) {
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
            if written < taken {
                break;
            }
        }
        Ok(done)
    }
}

impl FileOps for HostFile {
    fn read(&self, file: &File, dst: &mut dyn IoDst, pos: &mut u64) -> Result<usize, Errno> {
        if self.description.kind() == Kind::Terminal {
            return self.read_typed(file, dst);
        }
        let done = self.read_from(dst, Some(*pos))?;
        *pos += done as u64;
        Ok(done)
    }

    fn write(&self, file: &File, src: &mut dyn IoSrc, pos: &mut u64) -> Result<usize, Errno> {
        let done = self.write_from(file, src, Some(*pos))?;
        *pos += done as u64;
        Ok(done)
    }

    // Programs outside read and write at the same position, beside the guest and after it.
    fn read_on(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        self.read_from(dst, None)
    }

    fn write_on(&self, file: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        self.write_from(file, src, None)
    }

    fn shared_position(&self) -> Option<u64> {
        if self.description.kind() != Kind::Regular {
            return None;
        }
        lseek(self.description.fd(), 0, Whence::SeekCur).ok()?.try_into().ok()
    }

    fn is_seekable(&self) -> bool {
        self.description.kind() == Kind::Regular
    }

    fn seek(&self, _: &File, _: u64, to: Seek) -> Result<u64, Errno> {
        if self.description.kind() != Kind::Regular {
            return Err(Errno::ESPIPE);
        }
        let (offset, whence) = match to {
            Seek::Set(offset) => (offset, Whence::SeekSet),
            Seek::Current(offset) => (offset, Whence::SeekCur),
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

    fn is_terminal(&self) -> bool {
        self.description.kind() == Kind::Terminal
    }

    fn foreground(&self) -> Option<Tid> {
        self.terminal()?.control().foreground()
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
