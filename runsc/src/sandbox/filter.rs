//! The host system calls that the processes beside the sentry keep: the gofer files below the exported directories and
//! its own threads, the attendant its connections.

use sentry_hostio::seccomp::{AllowList, ArgCheck, Scope, SeccompError};

/// What the gofer does with files.
const FILES: [i64; 33] = [
    libc::SYS_openat2,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_dup,
];

/// What threads and the allocator need, and messages over connections that are there.
const PROCESS: [i64; 24] = [
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What the attendant does besides: it reads signals and closes what it has.
const ATTENDING: [i64; 3] = [libc::SYS_read, libc::SYS_write, libc::SYS_close];

/// What both may do.
fn basis() -> Result<AllowList, SeccompError> {
    let mut list = AllowList::new();
    list.allow(&PROCESS);
    for command in [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL] {
        let value = command.cast_unsigned();
        list.allow_when(libc::SYS_fcntl, &[ArgCheck::Equals { index: 1, value }])?;
    }
    // No executable memory, neither new nor by change.
    let exec = libc::PROT_EXEC.cast_unsigned();
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        list.allow_when(number, &[ArgCheck::Masked { index: 2, mask: exec, value: 0 }])?;
    }
    Ok(list)
}

fn gofer() -> Result<AllowList, SeccompError> {
    let mut list = basis()?;
    list.allow(&FILES);
    // Threads, not processes. clone3(2) hides its flags from filters; without it the C library falls back to clone.
    let thread = libc::CLONE_THREAD.cast_unsigned();
    list.allow_when(libc::SYS_clone, &[ArgCheck::Masked { index: 0, mask: thread, value: thread }])?;
    // The name of a thread (pthread_setname_np).
    let value = libc::PR_SET_NAME.cast_unsigned();
    list.allow_when(libc::SYS_prctl, &[ArgCheck::Equals { index: 0, value }])?;
    list.fail_with(libc::SYS_clone3, libc::ENOSYS);
    Ok(list)
}

fn attendant() -> Result<AllowList, SeccompError> {
    let mut list = basis()?;
    list.allow(&ATTENDING);
    Ok(list)
}

/// Puts the gofer's filter in force for the process, which has one thread.
pub(super) fn confine_gofer() -> Result<(), SeccompError> {
    gofer()?.install(Scope::AllThreads)
}

/// Puts the attendant's filter in force for the process, which has one thread.
pub(super) fn confine_attendant() -> Result<(), SeccompError> {
    attendant()?.install(Scope::AllThreads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_makes_processes_or_sockets_is_allowed() {
        for (list, number) in [gofer, attendant].into_iter().flat_map(|list| NUMBERS.map(|n| (list, n))) {
            assert!(!list().unwrap().permits(number), "{number}");
        }
    }

    const NUMBERS: [i64; 13] = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_ptrace,
        libc::SYS_mount,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_bpf,
        libc::SYS_kill,
        libc::SYS_open,
    ];
}
