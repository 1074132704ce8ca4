//! The contract between the sentry and a backend.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::fpu::FpuState;
use crate::regs::Regs;

/// A way to run guest code.
pub trait Platform: Send + Sync {
    /// The name that `--platform` takes.
    fn name(&self) -> &'static str;

    /// The addresses that guests may use, page-aligned.
    fn address_range(&self) -> Range<u64>;

    /// An address space with nothing mapped in [`Platform::address_range`].
    ///
    /// # Errors
    /// When the host refuses another process.
    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;
}

/// The memory of one guest process (threads share it).
///
/// Mappings replace what was there (`MAP_SHARED | MAP_FIXED`). All methods may be called from any thread, also while
/// guest threads run in the space; when one returns, its effect is visible to all of them.
pub trait AddressSpace: Send + Sync {
    /// Performs `ops` in order. Batching matters: one hand-over to the backend for all of them.
    ///
    /// # Errors
    /// At the first operation that the host refuses; those before it were done.
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError>;

    /// Makes a context (a guest thread) in this space with the given vector state. It may be called on one thread and
    /// the context used on another; a context is used by one thread only from its first `switch` on.
    ///
    /// # Errors
    /// When the host refuses another thread.
    fn new_context(&self, fpu: &FpuState) -> Result<Box<dyn Context>, PlatformError>;

    /// An empty space for a copy of this process (fork(2)): code that [`AddressSpace::rewrite_call`] changed works in it.
    ///
    /// # Errors
    /// When the host refuses another process.
    fn fork(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// Rewrites a call site that [`Context::hot_call`] found, so that it gets to the sentry faster; false if it is left
    /// as it is. `page` is the offset in the memory file of the page that holds the site, which must be this space's
    /// own (as for a write through ptrace(2)) and mapped. The guest will see other bytes there. Processes that are
    /// forked afterwards must be made with [`AddressSpace::fork`].
    ///
    /// # Errors
    /// When the host process is gone.
    fn rewrite_call(&self, site: CallSite, page: u64) -> Result<bool, PlatformError> {
        let _ = (site, page);
        Ok(false)
    }

    /// The return addresses of the sites that may have been rewritten here: in this space, or in one that it was forked
    /// from.
    fn rewritten_calls(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Puts the original code of a site back, if it is rewritten; `page` is as for [`AddressSpace::rewrite_call`], as is
    /// what is required of it. Threads that are in its call go on behind it.
    ///
    /// # Errors
    /// When the host process is gone.
    fn restore_call(&self, return_address: u64, page: u64) -> Result<(), PlatformError> {
        let _ = (return_address, page);
        Ok(())
    }

    /// The CPU time that guest code in the space has used so far, threads that have ended included. Reading it needs
    /// nothing of the guest's process, which may be stopped or dead.
    fn cpu_time(&self) -> Duration;

    /// False once the host process behind the space has died.
    fn is_alive(&self) -> bool;

    /// Ends all guest threads of the space at once; their `switch` returns [`Event::Died`].
    fn kill(&self);

    /// As [`AddressSpace::kill`], with no `switch` under way, and returns once no thread can touch memory: pages that were
    /// mapped here may then be given to others, whatever the guest did to its threads.
    fn end(&self);

    /// Maps one range.
    ///
    /// # Errors
    /// As [`AddressSpace::apply`].
    fn map(
        &self,
        addr: u64,
        len: u64,
        source: MapSource,
        prot: Prot,
        populate: Populate,
    ) -> Result<(), PlatformError> {
        self.apply(&[MapOp::Map { addr, len, source, prot, populate }])
    }

    /// Unmaps one range; holes are fine.
    ///
    /// # Errors
    /// As [`AddressSpace::apply`].
    fn unmap(&self, addr: u64, len: u64) -> Result<(), PlatformError> {
        self.apply(&[MapOp::Unmap { addr, len }])
    }

    /// Changes the protection of one range; what is not mapped in it stays unmapped.
    ///
    /// # Errors
    /// As [`AddressSpace::apply`].
    fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), PlatformError> {
        self.apply(&[MapOp::Protect { addr, len, prot }])
    }
}

/// One change of an address space. Addresses, lengths and offsets are multiples of the page size.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of mmap(2)")]
pub enum MapOp {
    /// `mmap(2)` with `MAP_SHARED | MAP_FIXED`.
    Map { addr: u64, len: u64, source: MapSource, prot: Prot, populate: Populate },
    /// `munmap(2)`.
    Unmap { addr: u64, len: u64 },
    /// `mprotect(2)`, ignoring holes.
    Protect { addr: u64, len: u64, prot: Prot },
}

/// A place in guest code that makes one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSite {
    /// The address behind the instruction.
    pub return_address: u64,
    /// The number of the calls, if it was the same each time.
    pub number: Option<u32>,
}

/// What is mapped.
#[derive(Debug, Clone)]
pub enum MapSource {
    /// The memory file, from this offset.
    MemoryFile(u64),
    /// A host file, from this offset.
    HostFile(Arc<OwnedFd>, u64),
}

impl MapSource {
    /// A host file, as a descriptor that the caller keeps.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn duplicate(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        Ok(Self::HostFile(Arc::new(fd.try_clone_to_owned()?), offset))
    }
}

/// Protection of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are those of mmap(2)")]
pub struct Prot {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Prot {
    /// No access.
    pub const NONE: Self = Self { read: false, write: false, execute: false };
    /// `PROT_READ`.
    pub const READ: Self = Self { read: true, write: false, execute: false };
    /// `PROT_READ | PROT_WRITE`.
    pub const READ_WRITE: Self = Self { read: true, write: true, execute: false };
    /// `PROT_READ | PROT_EXEC`.
    pub const READ_EXECUTE: Self = Self { read: true, write: false, execute: true };
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, execute: true };

    /// The bits of `mmap(2)`'s `prot`.
    #[must_use]
    pub fn bits(self) -> i32 {
        let bit = |on: bool, bit: i32| if on { bit } else { 0 };
        bit(self.read, libc::PROT_READ)
            | bit(self.write, libc::PROT_WRITE)
            | bit(self.execute, libc::PROT_EXEC)
    }
}

/// Whether a mapping's pages are put into the guest's page table at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// `MAP_POPULATE`: the guest is about to touch them.
    Eagerly,
    /// On first touch, by the host kernel.
    OnTouch,
}

/// One guest thread.
pub trait Context: Send {
    /// Runs the guest with `regs` until something happens, and stores its registers there.
    ///
    /// `orig_rax` is ignored on entry. After `Event::Died` the registers are those of the last event.
    fn switch(&mut self, regs: &mut Regs) -> Event;

    /// A handle that makes `switch` return early; valid for the life of the context.
    fn interrupter(&self) -> Arc<dyn Interrupter>;

    /// The CPU time of the guest thread; its readings outlive the context.
    fn cpu_clock(&self) -> Arc<dyn CpuClock>;

    /// The vector state as of the last event.
    fn fpu(&mut self) -> FpuState;

    /// Replaces the vector state. Reserved bits were made valid by the caller or are ignored.
    fn set_fpu(&mut self, state: &FpuState);

    /// Publishes what the backend may then answer by itself, without an event; what was published before is no longer.
    /// Not for guests whose calls are watched (seccomp(2), ptrace(2), strace). A backend that answers nothing ignores it.
    fn publish(&mut self, answers: &Answers) {
        let _ = answers;
    }

    /// After `Event::Syscall`: the site of the call, if it has just become worth rewriting.
    fn hot_call(&mut self) -> Option<CallSite> {
        None
    }
}

/// What calls return that only read who the caller is. None of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// `getpid(2)`.
    pub pid: Option<u32>,
    /// `gettid(2)`.
    pub tid: Option<u32>,
    /// `getuid(2)`.
    pub uid: Option<u32>,
    /// `geteuid(2)`.
    pub euid: Option<u32>,
    /// `getgid(2)`.
    pub gid: Option<u32>,
    /// `getegid(2)`.
    pub egid: Option<u32>,
}

/// Interrupts a context from any thread.
pub trait Interrupter: Send + Sync {
    /// Makes the running, or else the next, `switch` return [`Event::Interrupted`] soon. Several calls before that
    /// count as one.
    fn interrupt(&self);
}

/// A clock that counts the CPU time of a guest thread.
pub trait CpuClock: Send + Sync {
    /// The reading, from any thread; some microseconds away, so not to be done with a lock held that others need.
    fn read(&self) -> Duration;
}

/// Why a backend could not do something.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The host refused a system call.
    #[error("{call}: {source}")]
    Host {
        /// The host's system call.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The guest's host process has died.
    #[error("the guest process is gone")]
    Dead,
}

impl PlatformError {
    /// The error of the host call that has just failed.
    #[must_use]
    pub fn last(call: &'static str) -> Self {
        Self::Host { call, source: io::Error::last_os_error() }
    }
}
