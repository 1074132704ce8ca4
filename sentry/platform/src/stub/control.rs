//! The control file: command pages and thread areas of all stubs, mapped once into the sentry.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use parking_lot::Mutex;

use crate::free_range::FreeRanges;
use crate::host;

/// Room for half a million guest threads; sparse, so it costs only address space.
const SPAN: u64 = 16 << 30;

/// A sparse memfd whose parts are mapped into stubs, some read-only, some writable.
pub(crate) struct Control {
    fd: OwnedFd,
    base: *mut u8,
    free: Mutex<FreeRanges>,
}

// SAFETY: `base` is a shared mapping that lives as long as the value. All access goes through `Window`, which hands out
// atomics and raw copies only.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

impl Control {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let fd = host::memfd(c"stub-control", SPAN, 0)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                host::address(SPAN),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Arc::new(Self { fd, base: base.cast(), free: Mutex::new(FreeRanges::new(SPAN)) }))
    }

    /// The number of the descriptor, the same in the sentry and in stubs.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Takes `len` bytes (a multiple of the page size) that read as zero; `None` when the file is full.
    pub(crate) fn window(self: &Arc<Self>, len: u64) -> Option<Window> {
        let offset = self.free.lock().take(len, 4096)?;
        Some(Window { control: self.clone(), offset, len })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length; windows keep the file alive.
        unsafe { libc::munmap(self.base.cast(), host::address(SPAN)) };
    }
}

/// A part of the control file. Given back on drop: whoever has it mapped must be gone by then.
pub(crate) struct Window {
    control: Arc<Control>,
    offset: u64,
    len: u64,
}

impl Window {
    /// Its offset in the file.
    pub(crate) fn file_offset(&self) -> u64 {
        self.offset
    }

    /// A word, which the other side may change at any time.
    ///
    /// # Panics
    /// When `at` is misaligned or outside: callers pass constants or validated values.
    pub(crate) fn u32(&self, at: u64) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.len, "control word at {at:#x}");
        // SAFETY: inside the window, so inside the mapping, aligned, and alive as long as `self`.
        unsafe { AtomicU32::from_ptr(self.pointer(at).cast()) }
    }

    /// A long word, which the other side may change at any time.
    ///
    /// # Panics
    /// As [`Window::u32`].
    pub(crate) fn u64(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.len, "control word at {at:#x}");
        // SAFETY: inside the window, so inside the mapping, aligned, and alive as long as `self`.
        unsafe { AtomicU64::from_ptr(self.pointer(at).cast()) }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// When the range is outside.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) {
        assert!(at + host::word(buf.len()) <= self.len, "control bytes at {at:#x}");
        // SAFETY: both are valid for the length. The other side may write meanwhile; bytes are bytes.
        unsafe { ptr::copy(self.pointer(at), buf.as_mut_ptr(), buf.len()) };
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// When the range is outside.
    pub(crate) fn write(&self, at: u64, data: &[u8]) {
        assert!(at + host::word(data.len()) <= self.len, "control bytes at {at:#x}");
        // SAFETY: as in `read`.
        unsafe { ptr::copy(data.as_ptr(), self.pointer(at), data.len()) };
    }

    fn pointer(&self, at: u64) -> *mut u8 {
        // SAFETY: the callers checked `at` against the window, which is inside the mapping.
        unsafe { self.control.base.add(host::address(self.offset + at)) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (Ok(at), Ok(len)) = (libc::off_t::try_from(self.offset), libc::off_t::try_from(self.len)) else {
            return;
        };
        // SAFETY: no memory is passed; the pages become holes, which read as zero.
        if unsafe { libc::fallocate(self.control.raw_fd(), mode, at, len) } == 0 {
            self.control.free.lock().put(self.offset, self.len);
        }
        // Otherwise the range leaks, which is better than stale words in the next stub.
    }
}
