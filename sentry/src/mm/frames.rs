//! Reference counts of the memory file's pages that hold anonymous and copied memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use sentry_platform::MemoryFile;

use crate::errno::Errno;
use crate::mm::PAGE_SIZE;

/// Pages in one chunk of counters (256 MiB of guest memory); chunks are made when first used.
const CHUNK_PAGES: u64 = 1 << 16;
/// Chunks for the whole span of the memory file (1 TiB).
const CHUNKS: usize = 4096;

/// Allocates pages of the memory file and counts who refers to each: a page is shared after `fork(2)` until one side
/// writes to it.
pub struct Frames {
    file: Arc<MemoryFile>,
    chunks: Vec<OnceLock<Box<[AtomicU32]>>>,
}

impl Frames {
    /// Counts pages of `file`.
    #[must_use]
    pub fn new(file: Arc<MemoryFile>) -> Arc<Self> {
        Arc::new(Self { file, chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() })
    }

    /// The memory file.
    #[must_use]
    pub fn memory_file(&self) -> &Arc<MemoryFile> {
        &self.file
    }

    /// Allocates `len` bytes of zeroed contiguous pages, each with one reference.
    ///
    /// # Errors
    /// `ENOMEM` when the sandbox's memory limit is reached.
    pub fn allocate(&self, len: u64) -> Result<u64, Errno> {
        let offset = self.file.allocate(len, PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
        self.count_first(offset, len);
        Ok(offset)
    }

    /// As [`Frames::allocate`], for pages that are touched at once.
    ///
    /// # Errors
    /// As [`Frames::allocate`].
    pub fn allocate_committed(&self, len: u64) -> Result<u64, Errno> {
        let offset = self.file.allocate_committed(len).map_err(|_| Errno::ENOMEM)?;
        self.count_first(offset, len);
        Ok(offset)
    }

    fn count_first(&self, offset: u64, len: u64) {
        for page in pages(offset, len) {
            self.count(page).store(1, Ordering::Relaxed);
        }
    }

    /// Adds a reference to each page of a range.
    pub fn share(&self, offset: u64, len: u64) {
        for page in pages(offset, len) {
            // Relaxed: whoever adds a reference holds one, under the lock of its address space.
            self.count(page).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Drops a reference to each page of a range and frees those without any.
    pub fn release(&self, offset: u64, len: u64) {
        let mut run: Option<(u64, u64)> = None;
        for page in pages(offset, len) {
            // AcqRel: the last owner sees the other owners' accesses as done before it frees the page.
            let is_last = self.count(page).fetch_sub(1, Ordering::AcqRel) == 1;
            match (&mut run, is_last) {
                (Some((_, n)), true) => *n += PAGE_SIZE,
                (None, true) => run = Some((page * PAGE_SIZE, PAGE_SIZE)),
                (_, false) => {
                    if let Some((at, n)) = run.take() {
                        self.file.free(at, n);
                    }
                }
            }
        }
        if let Some((at, n)) = run {
            self.file.free(at, n);
        }
    }

    /// True where the page at `offset` has exactly one reference.
    #[must_use]
    pub fn is_exclusive(&self, offset: u64) -> bool {
        // Acquire pairs with the release of the other owner that went away.
        self.count(offset / PAGE_SIZE).load(Ordering::Acquire) == 1
    }

    fn count(&self, page: u64) -> &AtomicU32 {
        // The memory file hands out offsets below 1 TiB only, so both indices are in range.
        let chunk = &self.chunks[(page / CHUNK_PAGES) as usize];
        let counts = chunk.get_or_init(|| (0..CHUNK_PAGES).map(|_| AtomicU32::new(0)).collect());
        &counts[(page % CHUNK_PAGES) as usize]
    }
}

/// The page numbers of a page-aligned range.
fn pages(offset: u64, len: u64) -> std::ops::Range<u64> {
    offset / PAGE_SIZE..(offset + len) / PAGE_SIZE
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_freed_with_their_last_reference() {
        let frames = Frames::new(Arc::new(MemoryFile::new(1 << 20).unwrap()));
        let at = frames.allocate(4 * PAGE_SIZE).unwrap();
        frames.share(at + PAGE_SIZE, PAGE_SIZE);
        assert!(frames.is_exclusive(at));
        assert!(!frames.is_exclusive(at + PAGE_SIZE));
        frames.release(at, 4 * PAGE_SIZE);
        assert_eq!(frames.memory_file().in_use(), PAGE_SIZE);
        frames.release(at + PAGE_SIZE, PAGE_SIZE);
        assert_eq!(frames.memory_file().in_use(), 0);
    }

    #[test]
    fn limit_is_enomem() {
        let frames = Frames::new(Arc::new(MemoryFile::new(2 * PAGE_SIZE).unwrap()));
        assert_eq!(frames.allocate(3 * PAGE_SIZE), Err(Errno::ENOMEM));
    }
}
