//! Commanding the trusted thread of a stub.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::stub::layout::{PAGE, SLOTS};

/// Commands that fit into a page behind its 64-byte head.
pub(crate) const MAX_BATCH: usize = (4096 - 64) / Command::SIZE;

/// One host call for the system call thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Command {
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
    /// For `clone(2)`: where the child goes on, and its command and reply pages.
    pub(crate) child: [u64; 3],
}

impl Command {
    const SIZE: usize = 80;

    /// A host call with up to six arguments.
    pub(crate) fn new(number: i64, args: &[u64]) -> Self {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        Self { number, args: six, child: [0; 3] }
    }
}

/// The control pages of all stubs, mapped into the sentry.
pub(crate) struct ControlFile {
    fd: OwnedFd,
    base: *mut u8,
    free: Mutex<Vec<usize>>,
}

// SAFETY: `base` is a shared mapping that lives as long as the value and is only accessed through atomics.
unsafe impl Send for ControlFile {}
// SAFETY: as above.
unsafe impl Sync for ControlFile {}

const LEN: usize = 2 * SLOTS * PAGE as usize;

impl ControlFile {
    /// A file with [`SLOTS`] command pages followed by as many reply pages.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let fd = crate::host::memfd(c"stub-control", LEN as u64)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Arc::new(Self { fd, base: base.cast(), free: Mutex::new((0..SLOTS).rev().collect()) }))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Takes a slot; `None` when there are as many stubs as slots.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let index = self.free.lock().pop()?;
        let slot = Slot { control: self.clone(), index };
        slot.command_word(0).store(0, Ordering::Relaxed);
        slot.reply_word().store(0, Ordering::Relaxed);
        Some(slot)
    }
}

impl Drop for ControlFile {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length; slots hold the file alive.
        unsafe { libc::munmap(self.base.cast(), LEN) };
    }
}

/// The control pages of one stub. Given back on drop; the stub must be gone by then.
pub(crate) struct Slot {
    control: Arc<ControlFile>,
    index: usize,
}

impl Slot {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    fn command_word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= PAGE as usize);
        // SAFETY: inside the slot's command page, aligned; the mapping outlives `self`.
        unsafe { AtomicU32::from_ptr(self.control.base.add(self.index * PAGE as usize + at).cast()) }
    }

    fn command_long(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= PAGE as usize);
        // SAFETY: inside the slot's command page, aligned; the mapping outlives `self`.
        unsafe { AtomicU64::from_ptr(self.control.base.add(self.index * PAGE as usize + at).cast()) }
    }

    fn reply_page(&self) -> *mut u8 {
        // SAFETY: inside the mapping: the reply pages follow the command pages.
        unsafe { self.control.base.add((SLOTS + self.index) * PAGE as usize) }
    }

    fn reply_word(&self) -> &AtomicU32 {
        // SAFETY: the first word of the slot's reply page; the mapping outlives `self`.
        unsafe { AtomicU32::from_ptr(self.reply_page().cast()) }
    }

    fn result(&self, nth: usize) -> i64 {
        debug_assert!(nth < MAX_BATCH);
        // SAFETY: inside the slot's reply page, aligned; the mapping outlives `self`.
        unsafe { AtomicU64::from_ptr(self.reply_page().add(64 + nth * 8).cast()) }
            .load(Ordering::Relaxed)
            .cast_signed()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.control.free.lock().push(self.index);
    }
}

/// The sentry's end of a system call thread.
pub(crate) struct SyscallThread {
    slot: Mutex<Slot>,
}

/// The thread, or its process, has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl SyscallThread {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Mutex::new(slot) }
    }

    /// Performs `commands` in order and passes each result to `each`. The results come from a page that the guest
    /// may write: nothing may depend on them but the guest's own fate.
    pub(crate) fn run(
        &self,
        commands: &[Command],
        is_alive: impl Fn() -> bool,
        mut each: impl FnMut(usize, i64),
    ) -> Result<(), Gone> {
        let slot = self.slot.lock();
        let mut first = 0;
        for batch in commands.chunks(MAX_BATCH) {
            Self::run_batch(&slot, batch, &is_alive)?;
            for nth in 0..batch.len() {
                each(first + nth, slot.result(nth));
            }
            first += batch.len();
        }
        Ok(())
    }

    fn run_batch(slot: &Slot, batch: &[Command], is_alive: &impl Fn() -> bool) -> Result<(), Gone> {
        for (nth, command) in batch.iter().enumerate() {
            let words = [command.number.cast_unsigned()].into_iter().chain(command.args).chain(command.child);
            for (word, value) in words.enumerate() {
                slot.command_long(64 + nth * Command::SIZE + word * 8).store(value, Ordering::Relaxed);
            }
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        slot.command_word(4).store(count, Ordering::Relaxed);
        let seq = slot.command_word(0).load(Ordering::Relaxed).wrapping_add(1);
        // Release: the commands are visible to whoever sees the number.
        slot.command_word(0).store(seq, Ordering::Release);
        crate::host::futex_wake(slot.command_word(0), 1);
        let mut tries = 0;
        loop {
            let seen = slot.reply_word().load(Ordering::Acquire);
            if seen == seq {
                return Ok(());
            }
            // The thread usually runs on this very core as soon as this one steps aside.
            if tries < YIELDS {
                tries += 1;
                std::thread::yield_now();
                continue;
            }
            if !crate::host::futex_wait(slot.reply_word(), seen, Some(LIVENESS)) && !is_alive() {
                return Err(Gone);
            }
        }
    }
}

/// Handing the processor over beats sleeping: a wake-up across cores costs tens of microseconds.
const YIELDS: u32 = 20;
/// How often a silent stub is checked for life.
const LIVENESS: Duration = Duration::from_millis(100);
