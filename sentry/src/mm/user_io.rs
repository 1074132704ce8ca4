//! Guest buffers as destinations and sources of file I/O.

use std::sync::Arc;

use sentry_platform::Access;
use smallvec::SmallVec;

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc, Transfer};
use crate::mm::{MemoryManager, UserAddr};

/// A guest buffer (`struct iovec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoVec {
    /// Its start.
    pub base: UserAddr,
    /// Its length in bytes.
    pub len: u64,
}

impl IoVec {
    /// The most bytes that one read or write moves (`read(2)`: 0x7ffff000).
    pub const MAX_RW_COUNT: u64 = 0x7fff_f000;
}

/// A cursor over a list of guest buffers; implements both directions of file I/O.
pub struct UserIo {
    mm: Arc<MemoryManager>,
    vecs: SmallVec<[IoVec; 1]>,
    /// The current buffer and the offset in it.
    at: (usize, u64),
    remaining: u64,
}

impl UserIo {
    /// One buffer of `len` bytes (capped to `MAX_RW_COUNT`).
    #[must_use]
    pub fn new(mm: Arc<MemoryManager>, base: UserAddr, len: u64) -> Self {
        Self::from_vecs(mm, &[IoVec { base, len: len.min(IoVec::MAX_RW_COUNT) }])
    }

    /// A list of buffers, as [`MemoryManager::read_iovec`] returns it.
    #[must_use]
    pub fn from_vecs(mm: Arc<MemoryManager>, vecs: &[IoVec]) -> Self {
        let remaining = vecs.iter().fold(0_u64, |n, v| n.saturating_add(v.len));
        Self { mm, vecs: SmallVec::from_slice(vecs), at: (0, 0), remaining }
    }

    /// The part of the current buffer that is left, or `None` at the end.
    fn current(&mut self) -> Option<IoVec> {
        loop {
            let vec = self.vecs.get(self.at.0)?;
            if self.at.1 < vec.len {
                let base = UserAddr(vec.base.0.wrapping_add(self.at.1));
                return Some(IoVec { base, len: vec.len - self.at.1 });
            }
            self.at = (self.at.0 + 1, 0);
        }
    }

    fn advance(&mut self, n: usize) {
        self.at.1 += n as u64;
        self.remaining -= n as u64;
    }

    /// Moves up to `len` bytes of the current buffer by `transfer` on pages of the memory file.
    fn direct(
        &mut self,
        len: usize,
        access: Access,
        transfer: &mut Transfer<'_>,
    ) -> Result<Option<usize>, Errno> {
        let Some(piece) = self.current() else { return Ok(Some(0)) };
        let moved = self.mm.direct(piece.base, piece.len.min(len as u64), access, transfer)?;
        self.advance(moved.unwrap_or(0));
        Ok(moved)
    }

    /// Runs `step(address, done, len)` over the next `want` bytes until it stores fewer than asked.
    fn walk(
        &mut self,
        want: usize,
        mut step: impl FnMut(&MemoryManager, UserAddr, usize, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < want {
            let Some(piece) = self.current() else { break };
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX).min(want - done);
            match step(&self.mm, piece.base, done, len) {
                Ok(n) => {
                    self.advance(n);
                    done += n;
                    if n < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

impl IoDst for UserIo {
    fn remaining(&self) -> usize {
        usize::try_from(self.remaining).unwrap_or(usize::MAX)
    }

    fn put(&mut self, data: &[u8]) -> Result<usize, Errno> {
        self.walk(data.len(), |mm, addr, done, len| mm.write_some(addr, &data[done..done + len]))
    }

    fn put_zeros(&mut self, len: usize) -> Result<usize, Errno> {
        self.walk(len, |mm, addr, _, len| {
            mm.zero_some(addr, len as u64).map(|n| usize::try_from(n).unwrap_or(len))
        })
    }

    fn put_direct(&mut self, len: usize, fill: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        self.direct(len, Access::Write, fill)
    }
}

impl IoSrc for UserIo {
    fn remaining(&self) -> usize {
        usize::try_from(self.remaining).unwrap_or(usize::MAX)
    }

    fn take(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let want = buf.len();
        self.walk(want, |mm, addr, done, len| mm.read_some(addr, &mut buf[done..done + len]))
    }

    fn take_direct(&mut self, len: usize, drain: &mut Transfer<'_>) -> Result<Option<usize>, Errno> {
        self.direct(len, Access::Read, drain)
    }

    fn untake(&mut self, n: usize) {
        let mut left = n as u64;
        self.remaining += left;
        while left > self.at.1 {
            left -= self.at.1;
            let Some(before) = self.at.0.checked_sub(1) else { return };
            self.at = (before, self.vecs[before].len);
        }
        self.at.1 -= left;
    }
}
