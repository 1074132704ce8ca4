//! The memory of one guest address space, and copying in and out.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;
use sentry_platform::{Access, AddressSpace, MAX_PIECES, MemoryFile, Piece, Platform, PlatformError};
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::Errno;
use crate::fs::aio::AioContexts;
use crate::io::Transfer;
use crate::kernel::UserNamespace;
use crate::mm::fault::permits;
use crate::mm::layout::Layout;
use crate::mm::pma::PmaSource;
use crate::mm::{Frames, IoVec, UserAddr};
use crate::vfs::{File, Mappable, MappingOwner};

/// One guest address space: shared by the tasks that share memory.
///
/// Lock order: `layout` comes before the backend's locks and after nothing of the file systems: a mapped file is
/// asked for its pages with the lock dropped.
pub struct MemoryManager {
    /// Itself, for files that tell of shrinking.
    me: Weak<Self>,
    pub(crate) id: u64,
    pub(crate) frames: Arc<Frames>,
    pub(crate) aspace: Arc<dyn AddressSpace>,
    pub(crate) layout: RwLock<Layout>,
    /// The addresses that the guest may use.
    pub(crate) range: Range<u64>,
    /// `RLIMIT_STACK` of the process, for growth.
    stack_limit: AtomicU64,
    /// `RLIMIT_AS`, checked by new mappings.
    pub(crate) size_limit: AtomicU64,
    /// `RLIMIT_DATA`.
    pub(crate) data_limit: AtomicU64,
    exe: RwLock<Option<Arc<File>>>,
    /// Processes that run at the same time have it (`CLONE_VM` without `CLONE_THREAD` and `CLONE_VFORK`), or had.
    has_several_processes: AtomicBool,
    /// Debuggers that look at the memory (`forced.rs`).
    pub(super) debuggers: AtomicU32,
    /// `PR_SET_DUMPABLE`.
    is_dumpable: AtomicBool,
    /// Where the program was started, if not in the first user namespace.
    user_ns: OnceLock<Arc<UserNamespace>>,
    /// Requests under way (`io_setup(2)`).
    pub(crate) aio: AioContexts,
}

/// The most iovecs in one call (`IOV_MAX`).
const IOV_MAX: usize = 1024;

/// Names address spaces in keys of private futexes.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A run of bytes that the sentry may access, valid while the layout is locked.
enum Run<'a> {
    Memory(u64),
    Host(&'a Arc<std::os::fd::OwnedFd>, u64),
}

impl MemoryManager {
    /// An empty address space.
    ///
    /// # Errors
    /// `ENOMEM` when the host refuses another process.
    pub fn new(platform: &dyn Platform, frames: &Arc<Frames>) -> Result<Arc<Self>, Errno> {
        Self::with_space(platform.new_address_space(), platform.address_range(), frames)
    }

    /// An empty address space for a copy of this one.
    pub(crate) fn new_for_fork(&self) -> Result<Arc<Self>, Errno> {
        Self::with_space(self.aspace.fork(), self.range.clone(), &self.frames)
    }

    fn with_space(
        aspace: Result<Arc<dyn AddressSpace>, PlatformError>,
        range: Range<u64>,
        frames: &Arc<Frames>,
    ) -> Result<Arc<Self>, Errno> {
        let aspace = aspace.map_err(|error| {
            tracing::warn!("new address space: {error}");
            Errno::ENOMEM
        })?;
        let layout = Layout { mmap_top: range.end, ..Layout::default() };
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            frames: frames.clone(),
            aspace,
            layout: RwLock::new(layout),
            range,
            stack_limit: AtomicU64::new(8 << 20),
            size_limit: AtomicU64::new(u64::MAX),
            data_limit: AtomicU64::new(u64::MAX),
            exe: RwLock::new(None),
            has_several_processes: AtomicBool::new(false),
            debuggers: AtomicU32::new(0),
            is_dumpable: AtomicBool::new(true),
            user_ns: OnceLock::new(),
            aio: AioContexts::default(),
        }))
    }

    /// Asks a mapped file to tell this address space when it shrinks. Called with the layout unlocked.
    pub(crate) fn watch(&self, mappable: &dyn Mappable) {
        let owner: Weak<dyn MappingOwner> = self.me.clone();
        mappable.watch_shrinking(owner);
    }

    /// The program file (`/proc/PID/exe`).
    #[must_use]
    pub fn exe(&self) -> Option<Arc<File>> {
        self.exe.read().clone()
    }

    /// Sets the program file (`execve(2)`, `prctl(PR_SET_MM_EXE_FILE)`).
    pub fn set_exe(&self, file: Arc<File>) {
        *self.exe.write() = Some(file);
    }

    /// Notes that another process gets the same memory and runs at the same time.
    pub(crate) fn note_other_process(&self) {
        // Relaxed: noted by the only one that runs until then, and read by those that it starts.
        self.has_several_processes.store(true, Ordering::Relaxed);
    }

    /// True where threads of more than one process may write to the memory.
    pub(crate) fn has_several_processes(&self) -> bool {
        self.has_several_processes.load(Ordering::Relaxed)
    }

    /// Whether the user's other processes may look at the process (`PR_SET_DUMPABLE`).
    #[must_use]
    pub fn is_dumpable(&self) -> bool {
        self.is_dumpable.load(Ordering::Relaxed)
    }

    /// Sets whether they may.
    pub fn set_dumpable(&self, is_dumpable: bool) {
        self.is_dumpable.store(is_dumpable, Ordering::Relaxed);
    }

    /// The user namespace that the program was started in: who has `CAP_SYS_PTRACE` there may look at it anyway.
    #[must_use]
    pub fn user_ns(&self) -> Arc<UserNamespace> {
        self.user_ns.get().cloned().unwrap_or_else(UserNamespace::initial)
    }

    /// Says where; once, before the program runs.
    pub fn set_user_ns(&self, user_ns: Arc<UserNamespace>) {
        // A second time would be a mistake that changes nothing.
        let _ = self.user_ns.set(user_ns);
    }

    /// The host's side.
    #[must_use]
    pub fn address_space(&self) -> &Arc<dyn AddressSpace> {
        &self.aspace
    }

    pub(crate) fn memory_file(&self) -> &MemoryFile {
        self.frames.memory_file()
    }

    pub(crate) fn stack_limit(&self) -> u64 {
        self.stack_limit.load(Ordering::Relaxed)
    }

    /// Takes over the limits of the process that concern memory.
    pub fn set_limits(&self, stack: u64, size: u64, data: u64) {
        self.stack_limit.store(stack, Ordering::Relaxed);
        self.size_limit.store(size, Ordering::Relaxed);
        self.data_limit.store(data, Ordering::Relaxed);
    }

    /// Runs `step` on the longest accessible run at `addr`, at most `len` bytes, with the layout locked for reading.
    fn with_run<R>(
        &self,
        addr: u64,
        len: u64,
        access: Access,
        step: impl FnOnce(&MemoryFile, Run<'_>, u64) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.with_layout_run(addr, len, access, |_, run, len| step(self.memory_file(), run, len))
    }

    /// As `with_run`, with the areas for what follows the run.
    fn with_layout_run<R>(
        &self,
        addr: u64,
        len: u64,
        access: Access,
        step: impl FnOnce(&Layout, Run<'_>, u64) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        // A concurrent munmap may undo the fault in between, but not forever.
        for _ in 0..64 {
            {
                let layout = self.layout.read();
                if let Some((run, len)) = accessible(&layout, addr, len, access) {
                    return step(&layout, run, len);
                }
            }
            self.fault_in(addr, access)?;
        }
        Err(Errno::EFAULT)
    }

    /// Copies from guest memory as much as is readable, at least one byte.
    ///
    /// # Errors
    /// `EFAULT` when the first byte is not readable.
    pub fn read_some(&self, addr: UserAddr, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let rest = &mut buf[done..];
            let Some(at) = addr.0.checked_add(done as u64) else { break };
            let copied = self.with_run(at, rest.len() as u64, Access::Read, |file, run, len| {
                let piece = &mut rest[..as_usize(len)];
                match run {
                    Run::Memory(offset) => file.read(offset, piece).map_err(|_| Errno::EFAULT)?,
                    Run::Host(fd, offset) => read_host(fd, offset, piece)?,
                }
                Ok(piece.len())
            });
            match copied {
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        if done == 0 && !buf.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Copies into guest memory as much as is writable, at least one byte.
    ///
    /// # Errors
    /// `EFAULT` when the first byte is not writable.
    pub fn write_some(&self, addr: UserAddr, data: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < data.len() {
            let rest = &data[done..];
            let Some(at) = addr.0.checked_add(done as u64) else { break };
            let copied = self.with_run(at, rest.len() as u64, Access::Write, |file, run, len| {
                let piece = &rest[..as_usize(len)];
                match run {
                    Run::Memory(offset) => file.write(offset, piece).map_err(|_| Errno::EFAULT)?,
                    Run::Host(fd, offset) => {
                        let at = i64::try_from(offset).map_err(|_| Errno::EFAULT)?;
                        let n = nix::sys::uio::pwrite(fd, piece, at).map_err(|_| Errno::EFAULT)?;
                        return Ok(n);
                    }
                }
                Ok(piece.len())
            });
            match copied {
                Ok(n) if n > 0 => done += n,
                _ if done > 0 => break,
                Ok(_) => return Err(Errno::EFAULT),
                Err(e) => return Err(e),
            }
        }
        if done == 0 && !data.is_empty() { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Clears guest memory as far as it is writable, at least one byte.
    ///
    /// # Errors
    /// `EFAULT` when the first byte is not writable.
    pub fn zero_some(&self, addr: UserAddr, len: u64) -> Result<u64, Errno> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let piece = &ZEROS[..as_usize((len - done).min(4096))];
            match self.write_some(addr.checked_add(done)?, piece) {
                Ok(n) if n == piece.len() => done += n as u64,
                Ok(n) => return Ok(done + n as u64),
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Runs `transfer(file, pieces)` on the pages behind `addr` where they are in the memory file, for file I/O without a
    /// buffer in between. `None` where they are not. Pages that are not there yet end the pieces.
    ///
    /// # Errors
    /// `EFAULT`; what `transfer` returns.
    pub(crate) fn direct(
        &self,
        addr: UserAddr,
        len: u64,
        access: Access,
        transfer: &mut Transfer<'_>,
    ) -> Result<Option<usize>, Errno> {
        self.with_layout_run(addr.0, len, access, |layout, run, first| {
            let Run::Memory(offset) = run else { return Ok(None) };
            let mut pieces = SmallVec::<[Piece; 4]>::new();
            pieces.push(Piece { offset, len: first });
            let mut done = first;
            while done < len
                && pieces.len() < MAX_PIECES
                && let Some(at) = addr.0.checked_add(done)
                && let Some((Run::Memory(offset), run)) = accessible(layout, at, len - done, access)
            {
                pieces.push(Piece { offset, len: run });
                done += run;
            }
            transfer(self.memory_file(), &pieces).map(Some)
        })
    }

    /// Loads an aligned 32-bit word atomically.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL` for a misaligned address.
    pub fn load_u32(&self, addr: UserAddr) -> Result<u32, Errno> {
        self.with_word(addr, Access::Read, |file, at| file.load_u32(at).map_err(|_| Errno::EFAULT))
    }

    /// Compares and exchanges an aligned 32-bit word: `Ok(Ok(old))` or `Ok(Err(actual))`.
    ///
    /// # Errors
    /// As [`MemoryManager::load_u32`].
    pub fn compare_exchange_u32(
        &self,
        addr: UserAddr,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, Errno> {
        self.with_word(addr, Access::Write, |file, at| {
            file.compare_exchange_u32(at, old, new).map_err(|_| Errno::EFAULT)
        })
    }

    fn with_word<R>(
        &self,
        addr: UserAddr,
        access: Access,
        op: impl FnOnce(&MemoryFile, u64) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        self.with_run(addr.0, 4, access, |file, run, _| match run {
            Run::Memory(offset) => op(file, offset),
            // A futex in a mapped host file: the sentry has no mapping of it to do atomics on.
            Run::Host(..) => Err(Errno::EFAULT),
        })
    }

    /// Fills `buf` from guest memory.
    ///
    /// # Errors
    /// `EFAULT` when a byte is not readable.
    pub fn read_bytes(&self, addr: UserAddr, buf: &mut [u8]) -> Result<(), Errno> {
        if buf.is_empty() || self.read_some(addr, buf)? == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies `data` into guest memory.
    ///
    /// # Errors
    /// `EFAULT` when a byte is not writable; earlier bytes may have been stored.
    pub fn write_bytes(&self, addr: UserAddr, data: &[u8]) -> Result<(), Errno> {
        if data.is_empty() || self.write_some(addr, data)? == data.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Reads one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_obj<T: FromBytes + IntoBytes>(&self, addr: UserAddr) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, addr: UserAddr, value: &T) -> Result<(), Errno> {
        self.write_bytes(addr, value.as_bytes())
    }

    /// Reads `n` consecutive values.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM` when the array cannot be as large.
    pub fn read_array<T: FromBytes + IntoBytes + Immutable>(
        &self,
        addr: UserAddr,
        n: usize,
    ) -> Result<Vec<T>, Errno> {
        let mut values = Vec::new();
        values.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
        values.resize_with(n, T::new_zeroed);
        self.read_bytes(addr, values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Reads a string up to its NUL, which is not part of the result.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` when there is no NUL in the first `max` bytes.
    pub fn read_cstr(&self, addr: UserAddr, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut chunk = [0; 256];
        while out.len() < max {
            let at = addr.checked_add(out.len() as u64)?;
            let want = chunk.len().min(max - out.len());
            let got = self.read_some(at, &mut chunk[..want])?;
            if let Some(end) = chunk[..got].iter().position(|b| *b == 0) {
                out.extend_from_slice(&chunk[..end]);
                return Ok(out);
            }
            out.extend_from_slice(&chunk[..got]);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads an array of `struct iovec` and checks it as Linux does: at most 1024 entries, each length
    /// non-negative, the total capped to `MAX_RW_COUNT`.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`.
    pub fn read_iovec(&self, addr: UserAddr, count: u64) -> Result<Vec<IoVec>, Errno> {
        let count = usize::try_from(count).ok().filter(|n| *n <= IOV_MAX).ok_or(Errno::EINVAL)?;
        let raw: Vec<[u64; 2]> = self.read_array(addr, count)?;
        let mut total = 0_u64;
        let mut vecs = Vec::with_capacity(count);
        for [base, len] in raw {
            if len.cast_signed() < 0 {
                return Err(Errno::EINVAL);
            }
            let len = len.min(IoVec::MAX_RW_COUNT - total);
            total += len;
            vecs.push(IoVec { base: UserAddr(base), len });
        }
        Ok(vecs)
    }
}

/// The longest run at `addr` that is there and may be accessed, at most `len` bytes.
fn accessible(layout: &Layout, addr: u64, len: u64, access: Access) -> Option<(Run<'_>, u64)> {
    let (area, vma) = layout.vmas.get(addr)?;
    let (range, pma) = layout.pmas.get(addr)?;
    if !permits(vma.prot, access) || (access == Access::Write && !pma.writable) {
        return None;
    }
    let by = addr - range.start;
    let run = match &pma.source {
        PmaSource::Frames(at) | PmaSource::Shared(at) => Run::Memory(at + by),
        PmaSource::Host(fd, at) => Run::Host(fd, at + by),
    };
    Some((run, (range.end.min(area.end) - addr).min(len)))
}

fn as_usize(n: u64) -> usize {
    // The sentry runs only on x86-64, where usize has 64 bits.
    n as usize
}

/// Reads a mapped page of a host file; what is beyond its end reads as zero.
pub(super) fn read_host(fd: &Arc<std::os::fd::OwnedFd>, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < buf.len() {
        let at = i64::try_from(offset + done as u64).map_err(|_| Errno::EFAULT)?;
        match nix::sys::uio::pread(fd.as_fd(), &mut buf[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Err(Errno::EFAULT),
        }
    }
    buf[done..].fill(0);
    Ok(())
}

impl std::fmt::Debug for MemoryManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryManager").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for MemoryManager {
    fn drop(&mut self) {
        // First: what still ran in the space, which a hostile guest may have made go on behind our back, would reach pages
        // that are somebody else's by then.
        self.aspace.end();
        let layout = self.layout.get_mut();
        for (range, pma) in layout.pmas.iter() {
            pma.release(range.end - range.start, &self.frames);
        }
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
