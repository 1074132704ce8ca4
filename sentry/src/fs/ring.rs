//! A byte queue that grows on demand up to a capacity.

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};

/// Bytes in order, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// Storage; its length is a power of two or 0.
    buf: Vec<u8>,
    head: usize,
    len: usize,
}

impl Ring {
    /// How many bytes are queued.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes up to `max` bytes from `src` into the queue, which never holds more than `capacity`.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be read.
    pub(crate) fn fill(&mut self, src: &mut dyn IoSrc, max: usize, capacity: usize) -> Result<usize, Errno> {
        let want = max.min(src.remaining()).min(capacity.saturating_sub(self.len));
        self.reserve(want);
        let mut done = 0;
        while done < want {
            let tail = (self.head + self.len) & (self.buf.len() - 1);
            let room = (self.buf.len() - tail).min(want - done);
            match src.take(&mut self.buf[tail..tail + room]) {
                Ok(n) => {
                    self.len += n;
                    done += n;
                    if n < room {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Moves up to `max` bytes from the queue to `dst`.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be stored.
    pub(crate) fn drain(&mut self, dst: &mut dyn IoDst, max: usize) -> Result<usize, Errno> {
        let n = self.peek(dst, max)?;
        self.consume(n);
        Ok(n)
    }

    /// Copies up to `max` bytes from the queue to `dst` and leaves them queued.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be stored.
    pub(crate) fn peek(&self, dst: &mut dyn IoDst, max: usize) -> Result<usize, Errno> {
        let want = max.min(self.len).min(dst.remaining());
        let first = want.min(self.buf.len() - self.head);
        let mut done = 0;
        for piece in [&self.buf[self.head..self.head + first], &self.buf[..want - first]] {
            if piece.is_empty() {
                continue;
            }
            match dst.put(piece) {
                Ok(n) => {
                    done += n;
                    if n < piece.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Drops the first `n` bytes, at most all.
    pub(crate) fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { (self.head + n) & (self.buf.len() - 1) };
    }

    /// Makes room for `extra` more bytes.
    fn reserve(&mut self, extra: usize) {
        let need = self.len + extra;
        if need <= self.buf.len() {
            return;
        }
        let mut grown = vec![0; need.next_power_of_two().max(MIN_STORAGE)];
        let first = self.len.min(self.buf.len() - self.head);
        grown[..first].copy_from_slice(&self.buf[self.head..self.head + first]);
        grown[first..self.len].copy_from_slice(&self.buf[..self.len - first]);
        self.buf = grown;
        self.head = 0;
    }
}

/// The smallest allocation: one page, what most pipes ever hold.
const MIN_STORAGE: usize = 4096;
