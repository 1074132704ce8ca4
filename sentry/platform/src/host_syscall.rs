//! Which host system calls the backends make in the sentry's process at run time, for its seccomp allow-list.
//!
//! Those of [`crate::Prepared::new`] are not among them: it runs before the list is installed. Stubs have programs of
//! their own.

use crate::kind::PlatformKind;

/// What every backend needs: hand-overs, the life of stubs, the memory file.
const COMMON: [libc::c_long; 19] = [
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_tgkill,
    libc::SYS_kill,
    libc::SYS_wait4,
    // CPU clocks of stubs.
    libc::SYS_clock_gettime,
    libc::SYS_fallocate,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    // Duplicating and closing descriptors of mapped host files.
    libc::SYS_fcntl,
    libc::SYS_close,
    // The thread that the template was forked from, if that was not the main thread.
    libc::SYS_poll,
    // The control file and the memory file when the platform is dropped.
    libc::SYS_munmap,
    // The memory allocator, which the backends use like any Rust code.
    libc::SYS_mmap,
    libc::SYS_brk,
];

/// Those of the ptrace backend: `PTRACE_SEIZE`, `INTERRUPT`, `SYSEMU`, `CONT`, `DETACH`, `GETREGS`, `SETREGS`,
/// `GETREGSET`, `SETREGSET`, `GETSIGINFO`, `GET_SYSCALL_INFO`.
const PTRACE: [libc::c_long; 20] = {
    let mut all = [libc::SYS_ptrace; 20];
    let mut n = 0;
    while n < COMMON.len() {
        all[n] = COMMON[n];
        n += 1;
    }
    all
};

/// The numbers of the host system calls that a backend makes at run time.
#[must_use]
pub fn host_syscalls(kind: PlatformKind) -> &'static [libc::c_long] {
    match kind {
        PlatformKind::Systrap => &COMMON,
        PlatformKind::Ptrace => &PTRACE,
    }
}
