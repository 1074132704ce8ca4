//! The memory file: one sparse memfd behind all guest memory.
//!
//! The sentry maps the whole file once, so that access to guest memory is a bounds-checked copy and never a host
//! system call. Allocation is by page ranges of the file; who refers to a page is the business of the sentry's `mm`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::PAGE_SIZE;
use crate::free_range::FreeRanges;

/// Why the memory file could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFileError {
    /// The limit given at creation is reached.
    #[error("out of guest memory: {limit} bytes are in use")]
    Full {
        /// The limit in bytes.
        limit: u64,
    },
    /// A range is not inside the file.
    #[error("range {offset:#x}+{len:#x} is outside the memory file")]
    OutOfRange {
        /// Start of the range.
        offset: u64,
        /// Its length.
        len: u64,
    },
    /// The host refused a system call.
    #[error("{call}: {source}")]
    Host {
        /// The host's system call.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// A range of the memory file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Its start.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The most pieces that one transfer moves.
pub const MAX_PIECES: usize = 16;

/// The address space that the file occupies in the sentry; its pages cost nothing until touched.
const SPAN: u64 = 1 << 40;

/// One sparse memfd, mapped once.
pub struct MemoryFile {
    fd: OwnedFd,
    base: *mut u8,
    limit: u64,
    in_use: AtomicU64,
    free: Mutex<FreeRanges>,
    clean: Mutex<CleanRanges>,
}

/// Small ranges that nobody uses and that read as zero, with their pages: taking one costs no host call, while letting the
/// host free pages and allocating them again costs several microseconds.
#[derive(Default)]
struct CleanRanges {
    ranges: Vec<(u64, u64)>,
    bytes: u64,
}

/// Whether the host has pages behind a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostPages {
    Present,
    Absent,
}

/// The longest range that is kept clean: what is mapped around a fault.
const MAX_CLEAN_RANGE: u64 = 16 * PAGE_SIZE;
/// How much is kept, beyond the limit of what can be allocated.
const MAX_CLEAN: u64 = 4 << 20;

// SAFETY: `base` points to a shared mapping that lives as long as the value; all access goes through raw copies and
// atomics that do not create references into it.
unsafe impl Send for MemoryFile {}
// SAFETY: as above; concurrent copies race like guest threads do, on memory that is never a Rust object.
unsafe impl Sync for MemoryFile {}

impl MemoryFile {
    /// A file of which at most `limit` bytes can be allocated.
    ///
    /// # Errors
    /// When the host has no memfd or not enough address space.
    pub fn new(limit: u64) -> Result<Self, MemoryFileError> {
        // SAFETY: a NUL-terminated name and valid flags.
        let fd = unsafe { libc::memfd_create(c"guest-memory".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(host("memfd_create"));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let span = libc::off_t::try_from(SPAN).unwrap_or(libc::off_t::MAX);
        // SAFETY: no memory is involved.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), span) } != 0 {
            return Err(host("ftruncate"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SPAN as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(host("mmap"));
        }
        let limit = limit.min(SPAN);
        Ok(Self {
            fd,
            base: base.cast(),
            limit,
            in_use: AtomicU64::new(0),
            free: Mutex::new(FreeRanges::new(SPAN)),
            clean: Mutex::default(),
        })
    }

    /// The descriptor, for mapping into guests.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes allocated now.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Bytes that can be allocated in all.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Allocates `len` contiguous bytes (rounded up to pages) that read as zero, at a multiple of `align` (a power of
    /// two, at least a page), and returns the offset.
    ///
    /// # Errors
    /// `Full` when the limit would be exceeded.
    pub fn allocate(&self, len: u64, align: u64) -> Result<u64, MemoryFileError> {
        self.take(len, align).map(|(offset, _)| offset)
    }

    /// As [`MemoryFile::allocate`] for whole pages, with the host's pages behind them, at once.
    ///
    /// # Errors
    /// As [`MemoryFile::allocate`].
    pub fn allocate_committed(&self, len: u64) -> Result<u64, MemoryFileError> {
        let (offset, pages) = self.take(len, PAGE_SIZE)?;
        if pages == HostPages::Absent {
            self.commit(offset, len);
        }
        Ok(offset)
    }

    fn take(&self, len: u64, align: u64) -> Result<(u64, HostPages), MemoryFileError> {
        let full = MemoryFileError::Full { limit: self.limit };
        let Some(len) = len.checked_next_multiple_of(PAGE_SIZE) else { return Err(full) };
        let add = |used: u64| used.checked_add(len).filter(|new| *new <= self.limit);
        if self.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return Err(full);
        }
        if align <= PAGE_SIZE
            && let Some(offset) = self.clean.lock().take(len)
        {
            return Ok((offset, HostPages::Present));
        }
        let taken = self.free.lock().take(len, align.max(PAGE_SIZE));
        taken.map(|offset| (offset, HostPages::Absent)).ok_or_else(|| {
            self.in_use.fetch_sub(len, Ordering::Relaxed);
            full
        })
    }

    /// Gives back a range (page-aligned, allocated); the host's pages are released.
    pub fn free(&self, offset: u64, len: u64) {
        debug_assert!(offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE));
        if !self.keep_clean(offset, len) {
            self.release_pages(offset, len);
            self.free.lock().put(offset, len);
        }
        self.in_use.fetch_sub(len, Ordering::Relaxed);
    }

    /// Clears a small range and keeps it for the next user; false where it is to be released.
    fn keep_clean(&self, offset: u64, len: u64) -> bool {
        if len > MAX_CLEAN_RANGE || self.clean.lock().bytes + len > MAX_CLEAN {
            return false;
        }
        // Cleared before it can be taken, so that stale bytes of one guest never reach another.
        if self.zero(offset, len).is_err() {
            return false;
        }
        let mut clean = self.clean.lock();
        clean.bytes += len;
        clean.ranges.push((offset, len));
        true
    }

    /// Makes an allocated range read as zero again and releases the host's pages behind it.
    pub fn release_pages(&self, offset: u64, len: u64) {
        let (Ok(at), Ok(n)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else { return };
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: no memory is passed; pages of the shared mapping become holes, which read as zero.
        let done = unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, at, n) } == 0;
        if !done {
            // Stale bytes of one guest must never reach another: clear them by hand.
            let _ = self.zero(offset, len);
        }
    }

    /// Lets the host allocate the pages of a range at once, which costs a fifth of touching them one by one.
    pub fn commit(&self, offset: u64, len: u64) {
        let (Ok(at), Ok(n)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else { return };
        // SAFETY: no memory is passed. A failure only means that pages are allocated on touch.
        let _ = unsafe { libc::fallocate(self.fd.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, at, n) };
    }

    /// Copies bytes out of the file.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), MemoryFileError> {
        let from = self.at(offset, buf.len() as u64)?;
        // SAFETY: `from` is valid for `buf.len()` bytes of the mapping, which `buf` cannot overlap. The guest may write
        // at the same time; the bytes are then arbitrary, and they are only ever treated as bytes.
        unsafe { copy_bytes(from, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }

    /// Copies bytes into the file.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), MemoryFileError> {
        let to = self.at(offset, data.len() as u64)?;
        // SAFETY: as in `read`, in the other direction.
        unsafe { copy_bytes(data.as_ptr(), to, data.len()) };
        Ok(())
    }

    /// Clears bytes.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn zero(&self, offset: u64, len: u64) -> Result<(), MemoryFileError> {
        let to = self.at(offset, len)?;
        // SAFETY: `to` is valid for `len` bytes of the mapping.
        unsafe { std::ptr::write_bytes(to, 0, len as usize) };
        Ok(())
    }

    /// Copies `len` bytes within the file (copy-on-write); the ranges do not overlap.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub fn copy_within(&self, from: u64, to: u64, len: u64) -> Result<(), MemoryFileError> {
        let (source, target) = (self.at(from, len)?, self.at(to, len)?);
        // SAFETY: both are valid for `len` bytes; `copy_bytes` tolerates an overlap with arbitrary bytes as result.
        unsafe { copy_bytes(source, target, len as usize) };
        Ok(())
    }

    /// Reads from a host file straight into the memory file, one piece after the other; as `preadv(2)`.
    ///
    /// # Errors
    /// `OutOfRange`, or what the host said.
    pub fn read_from_fd(
        &self,
        fd: BorrowedFd<'_>,
        position: u64,
        pieces: &[Piece],
    ) -> Result<usize, MemoryFileError> {
        let position = file_position(position, pieces)?;
        let n = match pieces {
            [piece] => {
                let to = self.at(piece.offset, piece.len)?.cast();
                // SAFETY: `to` is valid for the length, and the kernel may write into shared memory at any time.
                unsafe { libc::pread(fd.as_raw_fd(), to, piece.len as usize, position) }
            }
            _ => {
                let (vecs, count) = self.vecs(pieces)?;
                // SAFETY: as above, for each of the vectors.
                unsafe { libc::preadv(fd.as_raw_fd(), vecs.as_ptr(), count, position) }
            }
        };
        usize::try_from(n).map_err(|_| host("pread"))
    }

    /// Writes from the memory file straight to a host file, one piece after the other; as `pwritev(2)`.
    ///
    /// # Errors
    /// `OutOfRange`, or what the host said.
    pub fn write_to_fd(
        &self,
        fd: BorrowedFd<'_>,
        position: u64,
        pieces: &[Piece],
    ) -> Result<usize, MemoryFileError> {
        let position = file_position(position, pieces)?;
        let n = match pieces {
            [piece] => {
                let from: *const libc::c_void = self.at(piece.offset, piece.len)?.cast();
                // SAFETY: `from` is valid for the length.
                unsafe { libc::pwrite(fd.as_raw_fd(), from, piece.len as usize, position) }
            }
            _ => {
                let (vecs, count) = self.vecs(pieces)?;
                // SAFETY: as above, for each of the vectors.
                unsafe { libc::pwritev(fd.as_raw_fd(), vecs.as_ptr(), count, position) }
            }
        };
        usize::try_from(n).map_err(|_| host("pwrite"))
    }

    /// Pieces as the kernel takes them, and how many. What is beyond the bound is left out, as after a short transfer.
    fn vecs(&self, pieces: &[Piece]) -> Result<([libc::iovec; MAX_PIECES], i32), MemoryFileError> {
        let mut vecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_PIECES];
        let mut count = 0;
        for (vec, Piece { offset, len }) in vecs.iter_mut().zip(pieces.iter().copied()) {
            *vec = libc::iovec { iov_base: self.at(offset, len)?.cast(), iov_len: len as usize };
            count += 1;
        }
        Ok((vecs, count))
    }

    /// Loads a futex word (4-byte aligned).
    ///
    /// # Errors
    /// `OutOfRange`, also for a misaligned offset.
    pub fn load_u32(&self, offset: u64) -> Result<u32, MemoryFileError> {
        Ok(self.word(offset)?.load(Ordering::SeqCst))
    }

    /// Exchanges a futex word and returns the old value.
    ///
    /// # Errors
    /// As [`MemoryFile::load_u32`].
    pub fn swap_u32(&self, offset: u64, new: u32) -> Result<u32, MemoryFileError> {
        Ok(self.word(offset)?.swap(new, Ordering::SeqCst))
    }

    /// Compares and exchanges a futex word: `Ok(Ok(old))` on success, `Ok(Err(actual))` when it differs.
    ///
    /// # Errors
    /// As [`MemoryFile::load_u32`].
    pub fn compare_exchange_u32(
        &self,
        offset: u64,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, MemoryFileError> {
        Ok(self.word(offset)?.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst))
    }

    fn word(&self, offset: u64) -> Result<&AtomicU32, MemoryFileError> {
        let at = self.at(offset, 4)?;
        if !offset.is_multiple_of(4) {
            return Err(MemoryFileError::OutOfRange { offset, len: 4 });
        }
        // SAFETY: valid, aligned, and lives as long as `self`; every access of the sentry to shared words that need
        // ordering is atomic, and the guest's are outside the Rust memory model.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    fn at(&self, offset: u64, len: u64) -> Result<*mut u8, MemoryFileError> {
        let end = offset.checked_add(len).filter(|end| *end <= SPAN);
        if end.is_none() {
            return Err(MemoryFileError::OutOfRange { offset, len });
        }
        // SAFETY: inside the mapping of SPAN bytes.
        Ok(unsafe { self.base.add(offset as usize) })
    }
}

impl CleanRanges {
    /// The range of this length that was put last.
    fn take(&mut self, len: u64) -> Option<u64> {
        let at = self.ranges.iter().rposition(|(_, other)| *other == len)?;
        self.bytes -= len;
        Some(self.ranges.swap_remove(at).0)
    }
}

impl std::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryFile")
            .field("in_use", &self.in_use)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this size and no pointer into it outlives `self`.
        unsafe { libc::munmap(self.base.cast(), SPAN as usize) };
    }
}

fn host(call: &'static str) -> MemoryFileError {
    MemoryFileError::Host { call, source: io::Error::last_os_error() }
}

/// A position in a host file as the kernel takes it; `pieces` are for the error.
fn file_position(position: u64, pieces: &[Piece]) -> Result<libc::off_t, MemoryFileError> {
    let Piece { offset, len } = pieces.first().copied().unwrap_or(Piece { offset: 0, len: 0 });
    libc::off_t::try_from(position).map_err(|_| MemoryFileError::OutOfRange { offset, len })
}

/// Copies bytes that another process may change meanwhile.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
unsafe fn copy_bytes(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise. `copy` (memmove) rather than `copy_nonoverlapping`: a guest chooses the addresses
    // of some copies and an overlap must not be undefined.
    unsafe { std::ptr::copy(from, to, len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let file = MemoryFile::new(1 << 20).unwrap();
        let at = file.allocate(8192, PAGE_SIZE).unwrap();
        file.write(at + 4090, b"across pages").unwrap();
        let mut back = [0; 12];
        file.read(at + 4090, &mut back).unwrap();
        assert_eq!(&back, b"across pages");
        assert_eq!(file.in_use(), 8192);
    }

    #[test]
    fn freed_pages_read_as_zero_when_allocated_again() {
        let file = MemoryFile::new(1 << 20).unwrap();
        let at = file.allocate(4096, PAGE_SIZE).unwrap();
        file.write(at, &[0xaa; 4096]).unwrap();
        file.free(at, 4096);
        assert_eq!(file.allocate(4096, PAGE_SIZE).unwrap(), at);
        assert_eq!(file.load_u32(at).unwrap(), 0);
    }

    #[test]
    fn small_ranges_are_cleared_and_kept_up_to_a_bound() {
        let file = MemoryFile::new(64 << 20).unwrap();
        let len = 2 * PAGE_SIZE;
        let ranges: Vec<u64> = (0..1000).map(|_| file.allocate(len, PAGE_SIZE).unwrap()).collect();
        for at in &ranges {
            file.write(*at, &[0xaa; 8192]).unwrap();
            file.free(*at, len);
        }
        assert_eq!(file.in_use(), 0);
        assert_eq!(file.clean.lock().bytes, MAX_CLEAN);
        // All of it can be allocated again, in any size, and reads as zero.
        let again: Vec<u64> = (0..1000).map(|_| file.allocate(len, PAGE_SIZE).unwrap()).collect();
        assert_eq!(file.clean.lock().bytes, 0);
        assert_eq!(again.iter().collect::<std::collections::HashSet<_>>().len(), again.len());
        for at in again {
            let mut bytes = [1; 8192];
            file.read(at, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 8192]);
        }
        let large = file.allocate(1 << 20, PAGE_SIZE).unwrap();
        file.free(large, 1 << 20);
        assert_eq!(file.clean.lock().bytes, 0, "large ranges go back to the host");
    }

    #[test]
    fn limit_is_kept_and_given_back() {
        let file = MemoryFile::new(8192).unwrap();
        let at = file.allocate(8192, PAGE_SIZE).unwrap();
        assert!(matches!(file.allocate(1, PAGE_SIZE), Err(MemoryFileError::Full { limit: 8192 })));
        file.free(at, 8192);
        assert!(file.allocate(4096, PAGE_SIZE).is_ok());
    }

    #[test]
    fn out_of_range_and_overflow_are_refused() {
        let file = MemoryFile::new(1 << 20).unwrap();
        assert!(file.read(SPAN - 1, &mut [0; 2]).is_err());
        assert!(file.write(u64::MAX, &[0]).is_err());
        assert!(file.load_u32(2).is_err());
        assert!(file.allocate(u64::MAX, PAGE_SIZE).is_err());
    }
}
