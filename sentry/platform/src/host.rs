//! Host system calls that the backends share.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An address or length as the pointer-sized integer it is: this crate is for x86-64.
#[must_use]
pub(crate) const fn address(value: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    value as usize
}

/// An address as `u64`.
#[must_use]
pub(crate) const fn word(value: usize) -> u64 {
    value as u64
}

/// A small non-negative constant of libc as a system call argument.
#[must_use]
pub(crate) const fn flags(value: i32) -> u64 {
    value.cast_unsigned() as u64
}

/// Eight bytes of `getrandom(2)`.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n != 8 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// A memory file of `len` bytes, closed on exec; `extra` are more flags of `memfd_create(2)`.
pub(crate) fn memfd(name: &CStr, len: u64, extra: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: a NUL-terminated name and valid flags.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | extra) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: no memory is passed.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// `FUTEX_WAKE` on a word shared between processes.
pub(crate) fn futex_wake(word: &AtomicU32, n: i32) {
    // SAFETY: the word is valid; the call does not access it beyond its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n) };
}

/// Whether a futex wait ended by its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A wake-up, a signal, or the word had changed already.
    MaybeByPartner,
    /// The time passed.
    ByTimeout,
}

/// `FUTEX_WAIT` on a word shared between processes. Never without a timeout: the partner is not trusted.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) -> Woken {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: word and timeout are valid for the call.
    let done = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout)
    };
    if done != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT) {
        Woken::ByTimeout
    } else {
        Woken::MaybeByPartner
    }
}

/// `tgkill(2)`; false when there is no such thread in the process.
pub(crate) fn tgkill(pid: i32, tid: i32, signal: i32) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) == 0 }
}

/// `sched_yield(2)`.
pub(crate) fn yield_now() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// Stops the caller for good, holding a thread that other processes must outlive.
pub(crate) fn park_forever() -> ! {
    loop {
        // SAFETY: a null set of descriptors and no timeout: sleeps until a signal.
        unsafe { libc::poll(ptr::null_mut(), 0, -1) };
    }
}

/// The lower and the upper half of a word.
#[must_use]
pub(crate) const fn halves(value: u64) -> (u32, u32) {
    // Truncation is the purpose.
    (value as u32, (value >> 32) as u32)
}

/// The processor that the caller runs on.
pub(crate) fn current_cpu() -> u32 {
    let mut aux = 0;
    // SAFETY: every x86-64 processor that Linux's FSGSBASE support accepts has RDTSCP; the pointer is valid.
    unsafe { std::arch::x86_64::__rdtscp(&raw mut aux) };
    // The kernel keeps the processor in the low twelve bits and the node above.
    aux & 0xfff
}

/// Spins until `is_done`, for at most `ticks` of the processor's clock. False if that was not enough.
pub(crate) fn spin_until(ticks: u32, is_done: impl Fn() -> bool) -> bool {
    let start = ticks_now();
    loop {
        if is_done() {
            return true;
        }
        if ticks_now().wrapping_sub(start) > u64::from(ticks) {
            return false;
        }
        std::hint::spin_loop();
    }
}

fn ticks_now() -> u64 {
    // SAFETY: every x86-64 processor has RDTSC, and Linux lets processes use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The processors that this process may use, as of the first call.
fn own_cpus() -> &'static [u32] {
    static CPUS: OnceLock<Vec<u32>> = OnceLock::new();
    CPUS.get_or_init(|| {
        // SAFETY: an all-zero cpu_set_t is valid.
        let mut own: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `own` is valid for writing its size.
        if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut own) } != 0 {
            return Vec::new();
        }
        // SAFETY: the processor is inside the set.
        let is_own = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &own) };
        let cpus = (0..8 * size_of::<libc::cpu_set_t>()).filter(is_own);
        cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect()
    })
}

/// A processor other than `cpu`, if there is one.
pub(crate) fn other_cpu(cpu: u32) -> Option<u32> {
    let cpus = own_cpus();
    let at = cpus.iter().position(|own| *own == cpu)?;
    // The neighbour: on a large machine, pairs that run on different processors get different neighbours.
    cpus.get(at ^ 1).or_else(|| cpus.first()).copied().filter(|other| *other != cpu)
}

/// How many processors this process may use.
pub(crate) fn cpu_count() -> u32 {
    u32::try_from(own_cpus().len()).unwrap_or(u32::MAX)
}

/// Restricts a thread to one processor. Failure only costs time.
pub(crate) fn pin(tid: i32, cpu: u32) {
    let Ok(cpu) = usize::try_from(cpu) else { return };
    // SAFETY: an all-zero cpu_set_t is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return;
    }
    // SAFETY: `cpu` is inside the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: a valid set of the size given.
    unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Lets a thread run wherever the caller may. Failure only costs time.
pub(crate) fn unpin(tid: i32) {
    // SAFETY: an all-zero cpu_set_t is valid.
    let mut own: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `own` is valid for writing its size.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut own) } == 0 {
        // SAFETY: a valid set of the size given.
        unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const own) };
    }
}
