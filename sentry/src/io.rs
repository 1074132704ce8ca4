//! Where the bytes of reads go and where the bytes of writes come from.
//!
//! File implementations copy through these two traits and never see guest addresses, so that the same `read`
//! serves guest memory (`mm::UserIo`), kernel buffers (`exec`, `sendfile`, `splice`) and tests.

use sentry_abi::socket::Ucred;
use sentry_platform::{MemoryFile, Piece};

use crate::errno::Errno;

/// Moves bytes between a file and pieces of the memory file, one after the other; returns how many.
pub type Transfer<'a> = dyn FnMut(&MemoryFile, &[Piece]) -> Result<usize, Errno> + 'a;

/// How far a direct transfer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direct {
    /// All that was asked for, or up to where the one side that ends first ends.
    Moved(usize),
    /// So many bytes; the next ones need a buffer.
    NeedsBuffer(usize),
}

/// Moves up to `len` bytes by `step(done, file, pieces)`, into or from the pieces of the memory file that `direct` finds:
/// [`IoDst::put_direct`] or [`IoSrc::take_direct`]. A step that moves a part of its pieces ends it.
///
/// # Errors
/// Of the first piece; a later one ends the transfer.
pub(crate) fn move_directly(
    len: usize,
    mut direct: impl FnMut(usize, &mut Transfer<'_>) -> Result<Option<usize>, Errno>,
    mut step: impl FnMut(usize, &MemoryFile, &[Piece]) -> Result<usize, Errno>,
) -> Result<Direct, Errno> {
    let mut done = 0;
    while done < len {
        let mut asked = 0;
        let moved = direct(len - done, &mut |file, pieces| {
            asked = pieces.iter().map(|piece| piece.len).sum();
            step(done, file, pieces)
        });
        match moved {
            Ok(Some(n)) => {
                done += n;
                if n == 0 || (n as u64) < asked {
                    break;
                }
            }
            Ok(None) => return Ok(Direct::NeedsBuffer(done)),
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(Direct::Moved(done))
}

/// Moves one piece after the other by `step(done, piece)`. A piece that is moved in part ends it.
///
/// # Errors
/// Of the first piece; a later one ends the transfer.
pub(crate) fn move_each(
    pieces: &[Piece],
    mut step: impl FnMut(usize, Piece) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut done = 0;
    for piece in pieces {
        match step(done, *piece) {
            Ok(n) => {
                done += n;
                if (n as u64) < piece.len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// A destination for bytes: a scatter list in guest memory or a kernel buffer.
pub trait IoDst {
    /// How many more bytes fit.
    fn remaining(&self) -> usize;

    /// Appends `data` and returns how many bytes were taken: fewer than `data.len()` when the destination is full
    /// or a later guest page is not writable.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be stored although there was room.
    fn put(&mut self, data: &[u8]) -> Result<usize, Errno>;

    /// Appends `len` zero bytes; returns as [`IoDst::put`] does.
    ///
    /// # Errors
    /// As [`IoDst::put`].
    fn put_zeros(&mut self, len: usize) -> Result<usize, Errno> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len && self.remaining() > 0 {
            let want = (len - done).min(ZEROS.len());
            match self.put(&ZEROS[..want]) {
                Ok(n) if n == want => done += n,
                Ok(n) => return Ok(done + n),
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Lets `fill` store up to `len` bytes straight into pages of the memory file, in pieces that may be shorter
    /// together. `None` where the destination is no such memory: then the caller copies with [`IoDst::put`].
    ///
    /// # Errors
    /// `EFAULT`; what `fill` returns.
    fn put_direct(&mut self, len: usize, fill: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        let _ = (len, fill);
        Ok(None)
    }
}

/// A source of bytes: a gather list in guest memory or a kernel buffer.
pub trait IoSrc {
    /// How many more bytes there are.
    fn remaining(&self) -> usize;

    /// Copies the next bytes into `buf` and returns how many: fewer than `buf.len()` when the source ends or a
    /// later guest page is not readable.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be read although there were some.
    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Steps back over the last `n` bytes taken (a stream socket that had no room for all of them).
    fn untake(&mut self, n: usize);

    /// Who writes, where somebody may be told (a local socket's peer).
    fn sender(&self) -> Option<Ucred> {
        None
    }

    /// Lets `drain` take up to `len` bytes straight from pages of the memory file; as [`IoDst::put_direct`].
    ///
    /// # Errors
    /// As [`IoDst::put_direct`].
    fn take_direct(&mut self, len: usize, drain: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        let _ = (len, drain);
        Ok(None)
    }
}

/// A kernel buffer as a destination.
#[derive(Debug)]
pub struct SliceDst<'a> {
    buf: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceDst<'a> {
    /// Fills `buf` from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, filled: 0 }
    }

    /// How many bytes were stored.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }
}

impl IoDst for SliceDst<'_> {
    fn remaining(&self) -> usize {
        self.buf.len() - self.filled
    }

    fn put(&mut self, data: &[u8]) -> Result<usize, Errno> {
        let n = data.len().min(self.remaining());
        self.buf[self.filled..self.filled + n].copy_from_slice(&data[..n]);
        self.filled += n;
        Ok(n)
    }
}

/// A kernel buffer as a source.
#[derive(Debug)]
pub struct SliceSrc<'a> {
    data: &'a [u8],
    taken: usize,
}

impl<'a> SliceSrc<'a> {
    /// Reads `data` from its start.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, taken: 0 }
    }
}

impl IoSrc for SliceSrc<'_> {
    fn remaining(&self) -> usize {
        self.data.len() - self.taken
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = buf.len().min(self.remaining());
        buf[..n].copy_from_slice(&self.data[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }

    fn untake(&mut self, n: usize) {
        self.taken -= n;
    }
}
