//! `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`, `/dev/urandom` (`null(4)`, `full(4)`, `random(4)`).

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::vfs::{File, FileOps, Seek};

/// A device without state: what reading gives and what becomes of what is written.
pub(super) struct MemoryDevice {
    source: Source,
    sink: Sink,
}

enum Source {
    /// End of file at once.
    Nothing,
    Zeros,
    /// The host's generator.
    Random,
}

enum Sink {
    /// All of it is taken and forgotten.
    Endless,
    /// There is no room (`full(4)`).
    Full,
}

impl MemoryDevice {
    pub(super) const NULL: Self = Self { source: Source::Nothing, sink: Sink::Endless };
    pub(super) const ZERO: Self = Self { source: Source::Zeros, sink: Sink::Endless };
    pub(super) const FULL: Self = Self { source: Source::Zeros, sink: Sink::Full };
    /// `random` and `urandom`, which differ in nothing once the host has booted. What is written is added to no pool: the
    /// host's generator needs nothing from the guest.
    pub(super) const RANDOM: Self = Self { source: Source::Random, sink: Sink::Endless };
}

impl FileOps for MemoryDevice {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        match self.source {
            Source::Nothing => Ok(0),
            Source::Zeros => {
                let want = dst.remaining();
                dst.put_zeros(want)
            }
            Source::Random => put_random(dst),
        }
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        match self.sink {
            // The bytes are never looked at, so that an unreadable buffer is no error (as on Linux).
            Sink::Endless => Ok(src.remaining()),
            Sink::Full => Err(Errno::ENOSPC),
        }
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: u64, _: Seek) -> Result<u64, Errno> {
        Ok(0)
    }
}

/// Fills `dst` with random bytes, as far as its memory can be written.
fn put_random(dst: &mut dyn IoDst) -> Result<usize, Errno> {
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
