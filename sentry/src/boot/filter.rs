//! The host system calls that the sandbox process keeps.
//!
//! Guests run in other processes under filters of their own; this one bounds what a guest that has taken over the
//! sentry could ask of the host: nothing with a path, no new sockets, no programs.

use sentry_hostio::seccomp::{AllowList, ArgCheck, Scope, SeccompError};
use sentry_hostio::socket::{INTERFACE_REQUESTS, IntRequest, SIOCGIFCONF};

use crate::boot::{NetworkKind, PlatformChoice};
use crate::socket::host::option::settable;

/// Files that the gofer opened: no call that names one.
const FILES: [i64; 33] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fchmod,
    libc::SYS_getdents64,
    libc::SYS_copy_file_range,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_memfd_create,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
];

/// Sockets that were donated or accepted.
const SOCKETS: [i64; 10] = [
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_socketpair,
];

/// Memory, threads and time.
const PROCESS: [i64; 34] = [
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_membarrier,
    libc::SYS_brk,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_restart_syscall,
    libc::SYS_getrusage,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Stubs: processes of the platform, forked by commands to their template, never here.
const STUBS: [i64; 7] = [
    // The process namespace holds nothing but the sentry and its stubs.
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
];

/// ioctl(2) requests on donated terminals and files.
const IOCTLS: [u32; 7] = [
    0x5401, // TCGETS
    0x5402, // TCSETS
    0x5403, // TCSETSW
    0x5404, // TCSETSF
    0x5413, // TIOCGWINSZ
    0x5414, // TIOCSWINSZ
    0x541B, // FIONREAD
];

fn allow_list(platform: PlatformChoice, network: NetworkKind) -> Result<AllowList, SeccompError> {
    let mut list = AllowList::new();
    list.allow(&FILES).allow(&SOCKETS).allow(&PROCESS).allow(&STUBS);
    list.allow(netstack_host_links::host_syscalls());
    if platform == PlatformChoice::Ptrace {
        list.allow(&[libc::SYS_ptrace]);
    }
    // Threads, not processes. clone3(2) hides its flags from filters; without it the C library falls back to clone.
    let thread = libc::CLONE_THREAD.cast_unsigned();
    list.allow_when(libc::SYS_clone, &[ArgCheck::Masked { index: 0, mask: thread, value: thread }])?;
    list.fail_with(libc::SYS_clone3, libc::ENOSYS);
    // The root is empty. Libraries look for /proc and /sys to count processors, and do without.
    list.fail_with(libc::SYS_openat, libc::ENOENT);
    // What the report of a panic with RUST_BACKTRACE looks for; the panic itself ends no more than a guest's process.
    list.fail_with(libc::SYS_getcwd, libc::ENOENT).fail_with(libc::SYS_readlink, libc::ENOENT);
    // How the C library spells fstat(2). A path would lead nowhere, or tell of what a donated directory holds.
    let itself = libc::AT_EMPTY_PATH.cast_unsigned();
    for (number, index) in [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)] {
        list.allow_when(number, &[ArgCheck::Masked { index, mask: itself, value: itself }])?;
    }
    // Reads limits of its own, changes none: the third argument, a pointer, is null.
    list.allow_when(libc::SYS_prlimit64, &[ArgCheck::Equals { index: 2, value: 0 }])?;
    let fcntl = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_ADD_SEALS,
        libc::F_GETPIPE_SZ,
    ];
    for command in fcntl {
        let value = command.cast_unsigned();
        list.allow_when(libc::SYS_fcntl, &[ArgCheck::Equals { index: 1, value }])?;
    }
    for value in IOCTLS {
        list.allow_when(libc::SYS_ioctl, &[ArgCheck::Equals { index: 1, value }])?;
    }
    let value = libc::PR_SET_NAME.cast_unsigned();
    list.allow_when(libc::SYS_prctl, &[ArgCheck::Equals { index: 0, value }])?;
    if network == NetworkKind::Host {
        allow_host_sockets(&mut list)?;
    }
    Ok(list)
}

/// Sockets of the host for guests: the internet's transports and the routing service, and the options of a list.
/// What the guest's kernel refuses of the latter's requests, this cannot see.
fn allow_host_sockets(list: &mut AllowList) -> Result<(), SeccompError> {
    list.allow(&[
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_listen,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
    ]);
    let equals = |index, value: i32| ArgCheck::Equals { index, value: value.cast_unsigned() };
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let without_flags = ArgCheck::Masked { index: 1, mask: 0xf, value: kind.cast_unsigned() };
            list.allow_when(libc::SYS_socket, &[equals(0, family), without_flags])?;
        }
    }
    for protocol in [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG] {
        list.allow_when(libc::SYS_socket, &[equals(0, libc::AF_NETLINK), equals(2, protocol)])?;
    }
    for (level, name) in settable() {
        list.allow_when(libc::SYS_setsockopt, &[equals(1, level), equals(2, name)])?;
    }
    let ints = [IntRequest::Readable, IntRequest::Unacknowledged, IntRequest::NotSent, IntRequest::AtMark];
    let requests = INTERFACE_REQUESTS.into_iter().chain([SIOCGIFCONF]);
    for value in requests.chain(ints.map(|request| request as u32)) {
        list.allow_when(libc::SYS_ioctl, &[ArgCheck::Equals { index: 1, value }])?;
    }
    Ok(())
}

/// Puts the filter in force for all threads.
pub(super) fn confine(platform: PlatformChoice, network: NetworkKind) -> Result<(), SeccompError> {
    allow_list(platform, network)?.install(Scope::AllThreads)
}

#[cfg(test)]
mod tests {
    use sentry_platform::PlatformKind;

    use super::*;

    #[test]
    fn backends_and_links_may_make_the_calls_they_name() {
        for (choice, kind) in
            [(PlatformChoice::Systrap, PlatformKind::Systrap), (PlatformChoice::Ptrace, PlatformKind::Ptrace)]
        {
            let list = allow_list(choice, NetworkKind::Sandbox).unwrap();
            let named =
                sentry_platform::host_syscalls(kind).iter().chain(netstack_host_links::host_syscalls());
            for number in named {
                assert!(list.permits(*number), "{kind}: {number}");
            }
        }
    }

    #[test]
    fn nothing_with_a_path_no_new_socket_no_program() {
        let list = allow_list(PlatformChoice::Systrap, NetworkKind::Sandbox).unwrap();
        for number in [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_stat,
            libc::SYS_mount,
            libc::SYS_chroot,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_seccomp,
        ] {
            assert!(!list.permits(number), "{number}");
        }
    }

    #[test]
    fn sockets_of_the_host_need_its_network() {
        let calls =
            [libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_setsockopt];
        for network in [NetworkKind::Sandbox, NetworkKind::None, NetworkKind::Host] {
            let list = allow_list(PlatformChoice::Systrap, network).unwrap();
            for number in calls {
                assert_eq!(list.permits(number), network == NetworkKind::Host, "{network:?}: {number}");
            }
            for number in
                [libc::SYS_openat2, libc::SYS_execve, libc::SYS_setns, libc::SYS_unshare, libc::SYS_bpf]
            {
                assert!(!list.permits(number), "{network:?}: {number}");
            }
        }
    }
}
