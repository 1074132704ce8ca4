//! `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`, `/dev/urandom` (`null(4)`, `full(4)`, `random(4)`).

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::vfs::{File, FileOps, Seek};

/// Swallows all of `src`.
fn swallow(src: &mut dyn IoSrc) -> usize {
    // The bytes are never looked at, so that an unreadable buffer is no error (as on Linux).
    src.remaining()
}

/// `/dev/null`.
pub(super) struct Null;

impl FileOps for Null {
    fn read(&self, _: &File, _: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        Ok(0)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        Ok(swallow(src))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: u64, _: Seek) -> Result<u64, Errno> {
        Ok(0)
    }
}

/// `/dev/zero`.
pub(super) struct Zero;

impl FileOps for Zero {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        let want = dst.remaining();
        dst.put_zeros(want)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        Ok(swallow(src))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: u64, _: Seek) -> Result<u64, Errno> {
        Ok(0)
    }
}

/// `/dev/full`.
pub(super) struct Full;

impl FileOps for Full {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        let want = dst.remaining();
        dst.put_zeros(want)
    }

    fn write(&self, _: &File, _: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        Err(Errno::ENOSPC)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: u64, _: Seek) -> Result<u64, Errno> {
        Ok(0)
    }
}

/// `/dev/random` and `/dev/urandom`, which differ in nothing once the host has booted.
pub(super) struct Random;

impl FileOps for Random {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        let mut chunk = [0; 4096];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = chunk.len().min(dst.remaining());
            sentry_hostio::random::fill(&mut chunk[..want]).map_err(|_| Errno::EIO)?;
            match dst.put(&chunk[..want]) {
                Ok(n) => {
                    done += n;
                    if n < want {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        // Added to no pool: the host's generator needs nothing from the guest.
        Ok(swallow(src))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: u64, _: Seek) -> Result<u64, Errno> {
        Ok(0)
    }
}
