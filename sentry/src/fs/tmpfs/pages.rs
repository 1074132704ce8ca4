//! The pages of a file in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::fs::tmpfs::TmpfsShared;
use crate::mm::PAGE_SIZE;

/// Which pages of a file exist and where they are in the memory file. Offsets inside are in pages.
pub(super) struct Pages {
    shared: Arc<TmpfsShared>,
    /// By first page; extents do not overlap.
    extents: BTreeMap<u64, Extent>,
    count: u64,
    /// Room behind the last extent, for a file that grows. It is none of the file's: it reads as a hole, is mapped nowhere, and
    /// does not show in the number of blocks.
    reserve: Option<Extent>,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Byte offset in the memory file.
    memory: u64,
    pages: u64,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Stored at this byte offset in the memory file, for so many bytes.
    Data(u64, u64),
    /// Not stored: reads as zeros, for so many bytes.
    Hole(u64),
}

/// Bytes to be stored.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    /// In the sentry.
    Here(&'a [u8]),
    /// At an offset of the memory file, so many.
    InMemory(&'a MemoryFile, u64, u64),
}

impl Bytes<'_> {
    fn len(self) -> u64 {
        match self {
            Self::Here(data) => data.len() as u64,
            Self::InMemory(_, _, len) => len,
        }
    }

    /// At most the first `max` of them.
    pub(super) fn first(self, max: u64) -> Self {
        match self {
            Self::Here(data) => {
                Self::Here(&data[..data.len().min(usize::try_from(max).unwrap_or(usize::MAX))])
            }
            Self::InMemory(memory, at, len) => Self::InMemory(memory, at, len.min(max)),
        }
    }
}

impl Pages {
    pub(super) fn new(shared: Arc<TmpfsShared>) -> Self {
        Self { shared, extents: BTreeMap::new(), count: 0, reserve: None }
    }

    /// How many pages are stored.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What is at byte `offset`, for at most `len` bytes (not 0).
    pub(super) fn piece(&self, offset: u64, len: u64) -> Piece {
        let page = offset / PAGE_SIZE;
        if let Some((first, extent)) = self.extents.range(..=page).next_back()
            && page < first + extent.pages
        {
            let within = offset - first * PAGE_SIZE;
            return Piece::Data(extent.memory + within, len.min(extent.pages * PAGE_SIZE - within));
        }
        let next = self.extents.range(page + 1..).next().map_or(u64::MAX, |(first, _)| first * PAGE_SIZE);
        Piece::Hole(len.min(next - offset))
    }

    /// Stores every page of `[offset, offset + len)`, new ones as zeros. On an error earlier pages stay.
    ///
    /// # Errors
    /// `ENOSPC` for the file system's limit, `ENOMEM` for the sandbox's.
    pub(super) fn ensure(&mut self, offset: u64, len: u64) -> Result<(), Errno> {
        let mut page = offset / PAGE_SIZE;
        let end = offset.saturating_add(len).div_ceil(PAGE_SIZE);
        while page < end {
            match self.piece(page * PAGE_SIZE, (end - page) * PAGE_SIZE) {
                Piece::Data(_, n) => page += n.div_ceil(PAGE_SIZE),
                Piece::Hole(n) => {
                    let hole = n / PAGE_SIZE;
                    page += self.fill_hole(page, hole)?;
                }
            }
        }
        Ok(())
    }

    /// Allocates an extent at `page`, which begins a hole of which at least `wanted` pages are needed, and returns
    /// its length.
    fn fill_hole(&mut self, page: u64, wanted: u64) -> Result<u64, Errno> {
        let hole = match self.piece(page * PAGE_SIZE, u64::MAX - page * PAGE_SIZE) {
            Piece::Hole(n) => n / PAGE_SIZE,
            Piece::Data(..) => return Err(Errno::EIO),
        };
        let wanted = wanted.min(hole).min(MAX_EXTENT_PAGES);
        let is_at_end = page == self.end();
        if is_at_end && let Some(pages) = self.extend_into_reserve(wanted) {
            return Ok(pages);
        }
        if page >= self.end() {
            self.release_reserve();
        }
        // A file that grows gets room for more, so that its reads and mappings are few.
        let generous =
            if is_at_end && page >= CHUNK_PAGES { wanted.next_multiple_of(CHUNK_PAGES) } else { wanted };
        let (pages, memory, reserved) = match self.allocate(generous) {
            Ok(memory) => (wanted, memory, generous - wanted),
            // Close to the limit only what is needed, at least one page.
            Err(_) => (1, self.allocate(1)?, 0),
        };
        self.extents.insert(page, Extent { memory, pages });
        self.count += pages;
        if reserved > 0 {
            self.reserve = Some(Extent { memory: memory + pages * PAGE_SIZE, pages: reserved });
        }
        Ok(pages)
    }

    /// The page behind the last one that is stored.
    fn end(&self) -> u64 {
        self.extents.last_key_value().map_or(0, |(first, extent)| first + extent.pages)
    }

    /// Makes up to `wanted` pages of the reserve part of the last extent; `None` if there is no reserve.
    fn extend_into_reserve(&mut self, wanted: u64) -> Option<u64> {
        let mut reserve = self.reserve.take()?;
        let pages = wanted.min(reserve.pages);
        self.extents.last_entry()?.get_mut().pages += pages;
        self.count += pages;
        reserve.pages -= pages;
        reserve.memory += pages * PAGE_SIZE;
        self.reserve = Some(reserve).filter(|reserve| reserve.pages > 0);
        Some(pages)
    }

    fn release_reserve(&mut self) {
        if let Some(Extent { memory, pages }) = self.reserve.take() {
            self.shared.memory().free(memory, pages * PAGE_SIZE);
            self.shared.uncharge(pages);
        }
    }

    fn allocate(&self, pages: u64) -> Result<u64, Errno> {
        self.shared.charge(pages)?;
        self.shared.memory().allocate(pages * PAGE_SIZE, PAGE_SIZE).map_err(|_| {
            self.shared.uncharge(pages);
            Errno::ENOMEM
        })
    }

    /// Drops the pages that lie wholly in `[from, to)` (in pages); they read as zeros afterwards.
    pub(super) fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if to >= self.end() {
            self.release_reserve();
        }
        let first = self.extents.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let touched: Vec<(u64, Extent)> = self.extents.range(first..to).map(|(f, e)| (*f, *e)).collect();
        for (first, extent) in touched {
            let end = first + extent.pages;
            let (begin, stop) = (first.max(from), end.min(to));
            if begin >= stop {
                continue;
            }
            self.extents.remove(&first);
            if first < begin {
                self.extents.insert(first, Extent { memory: extent.memory, pages: begin - first });
            }
            if stop < end {
                let memory = extent.memory + (stop - first) * PAGE_SIZE;
                self.extents.insert(stop, Extent { memory, pages: end - stop });
            }
            let gone = stop - begin;
            self.shared.memory().free(extent.memory + (begin - first) * PAGE_SIZE, gone * PAGE_SIZE);
            self.shared.uncharge(gone);
            self.count -= gone;
        }
    }

    /// Copies bytes out; holes read as zeros.
    ///
    /// # Errors
    /// `EIO`.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < buf.len() {
            let left = (buf.len() - done) as u64;
            // A piece is never longer than what is left of the buffer.
            let n = match self.piece(offset + done as u64, left) {
                Piece::Data(at, n) => {
                    let n = n as usize;
                    self.shared.memory().read(at, &mut buf[done..done + n]).map_err(|_| Errno::EIO)?;
                    n
                }
                Piece::Hole(n) => {
                    let n = n as usize;
                    buf[done..done + n].fill(0);
                    n
                }
            };
            done += n;
        }
        Ok(())
    }

    /// Copies `len` bytes to offset `to` of the memory file; holes read as zeros.
    ///
    /// # Errors
    /// `EIO`.
    pub(super) fn read_to(
        &self,
        memory: &MemoryFile,
        to: u64,
        offset: u64,
        len: u64,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < len {
            done += match self.piece(offset + done, len - done) {
                Piece::Data(at, n) => {
                    self.copy(memory, at, to + done, n)?;
                    n
                }
                Piece::Hole(n) => {
                    memory.zero(to + done, n).map_err(|_| Errno::EIO)?;
                    n
                }
            };
        }
        usize::try_from(len).map_err(|_| Errno::EIO)
    }

    /// Copies bytes in, storing the pages that are missing; returns how many fit.
    ///
    /// # Errors
    /// As [`Pages::ensure`], when not one byte fits.
    pub(super) fn write(&mut self, offset: u64, data: Bytes<'_>) -> Result<usize, Errno> {
        let len = data.len();
        let failed = self.ensure(offset, len).err();
        let mut done = 0;
        while done < len {
            match self.piece(offset + done, len - done) {
                Piece::Data(at, n) => {
                    match data {
                        Bytes::Here(data) => {
                            // Inside the slice, since `done + n` is at most its length.
                            let piece = &data[done as usize..(done + n) as usize];
                            self.shared.memory().write(at, piece).map_err(|_| Errno::EIO)?;
                        }
                        Bytes::InMemory(memory, from, _) => self.copy(memory, from + done, at, n)?,
                    }
                    done += n;
                }
                Piece::Hole(_) => break,
            }
        }
        match failed {
            Some(error) if done == 0 => Err(error),
            // At most the length of the data, which is in memory.
            _ => Ok(done as usize),
        }
    }

    /// Copies within the memory file, which a guest's memory and its files share.
    fn copy(&self, memory: &MemoryFile, from: u64, to: u64, len: u64) -> Result<(), Errno> {
        if !std::ptr::eq(memory, &raw const **self.shared.memory()) {
            return Err(Errno::EIO);
        }
        memory.copy_within(from, to, len).map_err(|_| Errno::EIO)
    }

    /// Clears bytes that are stored.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let mut done = 0;
        while done < len {
            match self.piece(offset + done, len - done) {
                Piece::Data(at, n) => {
                    // The range was allocated by us, so it is inside the memory file.
                    let _ = self.shared.memory().zero(at, n);
                    done += n;
                }
                Piece::Hole(n) => done += n,
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.remove(0, u64::MAX / PAGE_SIZE);
    }
}

/// Beyond the first 64 KiB a file grows by 64 KiB at a time.
const CHUNK_PAGES: u64 = 16;
/// The longest extent: 2 MiB, so that one allocation never needs much contiguous room.
const MAX_EXTENT_PAGES: u64 = 512;
