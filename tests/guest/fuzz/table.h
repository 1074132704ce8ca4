// The plain calls: a number and the kinds of its arguments, one letter each.
//
//   f any descriptor   s socket   d directory or AT_FDCWD   e epoll and the like   q message queue   P pidfd   y namespace
//   b buffer   l length   p path   n text   i number   x few bits   0 zero   m mode   o open flags   w whence
//   t timespec   T itimerspec or itimerval   v vectors   V their count   M message header   a socket address   A its length
//   k place for an address   K place for a length   g signal set   8 its size   S signal   h process   u user
//   z address to map   Z length to map   r protection   c clock   I pointer to an integer
#ifndef TABLE_H
#define TABLE_H

#include <poll.h>
#include <sys/epoll.h>

#include "descriptors.h"

static const struct call { int number; const char *arguments; unsigned weight; } CALLS[] = {
    {SYS_read, "fbl", 8}, {SYS_write, "fbl", 8}, {SYS_open, "pom", 4}, {SYS_close, "f", 1}, {SYS_stat, "pb", 1}, {SYS_fstat, "fb", 2},
    {SYS_lstat, "pb", 1}, {SYS_lseek, "fiw", 4}, {SYS_pread64, "fbli", 4}, {SYS_pwrite64, "fbli", 4},
    {SYS_readv, "fvV", 4}, {SYS_writev, "fvV", 4}, {SYS_access, "pm", 1}, {SYS_dup, "f", 1}, {SYS_sendfile, "ffIl", 4},
    {SYS_flock, "fx", 2}, {SYS_fsync, "f", 1}, {SYS_fdatasync, "f", 1}, {SYS_truncate, "pi", 2}, {SYS_ftruncate, "fi", 4},
    {SYS_getdents, "dbl", 1}, {SYS_getdents64, "dbl", 3}, {SYS_getcwd, "bl", 1}, {SYS_chdir, "p", 1}, {SYS_fchdir, "d", 1},
    {SYS_rename, "pp", 3}, {SYS_mkdir, "pm", 3}, {SYS_rmdir, "p", 2}, {SYS_creat, "pm", 1}, {SYS_link, "pp", 3}, {SYS_unlink, "p", 2},
    {SYS_symlink, "pp", 3}, {SYS_readlink, "pbl", 3}, {SYS_chmod, "pm", 1}, {SYS_fchmod, "fm", 1}, {SYS_chown, "puu", 1},
    {SYS_fchown, "fuu", 1}, {SYS_lchown, "puu", 1}, {SYS_umask, "m", 1}, {SYS_mknod, "pmi", 3}, {SYS_statfs, "pb", 1},
    {SYS_fstatfs, "fb", 1}, {SYS_pivot_root, "pp", 1}, {SYS_chroot, "p", 1}, {SYS_umount2, "px", 3}, {SYS_readahead, "fil", 1},
    {SYS_setxattr, "pnblx", 3}, {SYS_fsetxattr, "fnblx", 2}, {SYS_getxattr, "pnbl", 2}, {SYS_fgetxattr, "fnbl", 1},
    {SYS_listxattr, "pbl", 2}, {SYS_flistxattr, "fbl", 1}, {SYS_removexattr, "pn", 1}, {SYS_fadvise64, "fili", 1},
    {SYS_utimensat, "dptx", 2}, {SYS_openat, "dpom", 4}, {SYS_mkdirat, "dpm", 2}, {SYS_mknodat, "dpmi", 2}, {SYS_fchownat, "dpuux", 1},
    {SYS_newfstatat, "dpbx", 3}, {SYS_unlinkat, "dpx", 2}, {SYS_renameat2, "dpdpx", 4}, {SYS_linkat, "dpdpx", 2},
    {SYS_symlinkat, "pdp", 2}, {SYS_readlinkat, "dpbl", 2}, {SYS_fchmodat, "dpm", 1}, {SYS_faccessat2, "dpmx", 1},
    {SYS_splice, "fIfIlx", 8}, {SYS_tee, "fflx", 4}, {SYS_vmsplice, "fvVx", 2}, {SYS_sync_file_range, "fiix", 1},
    {SYS_fallocate, "fxii", 4}, {SYS_dup3, "ffx", 1}, {SYS_preadv, "fvVii", 2}, {SYS_pwritev, "fvVii", 2}, {SYS_syncfs, "f", 1},
    {SYS_copy_file_range, "fIfIlx", 4}, {SYS_preadv2, "fvViix", 2}, {SYS_pwritev2, "fvViix", 2}, {SYS_statx, "dpxxb", 3},
    {SYS_openat2, "dpbl", 1}, {SYS_epoll_ctl, "exfb", 4}, {SYS_epoll_pwait, "ebitg8", 1}, {SYS_inotify_add_watch, "epx", 3},
    {SYS_inotify_rm_watch, "ei", 1}, {SYS_timerfd_settime, "exTb", 4}, {SYS_timerfd_gettime, "eb", 1}, {SYS_fanotify_init, "xx", 1},
    {SYS_fanotify_mark, "exxdp", 1}, {SYS_name_to_handle_at, "dpbbx", 1}, {SYS_open_by_handle_at, "dbx", 1}, {SYS_quotactl, "xpib", 1},
    {SYS_shmctl, "xxb", 2}, {SYS_semop, "xbx", 3}, {SYS_semtimedop, "xbxt", 3}, {SYS_semctl, "xxxb", 4}, {SYS_semctl, "xxxi", 3},
    {SYS_msgsnd, "xblx", 3}, {SYS_msgrcv, "xblix", 3}, {SYS_msgctl, "xxb", 2}, {SYS_shmdt, "z", 2}, {SYS_shmat, "xzx", 3},
    {SYS_mq_unlink, "n", 1}, {SYS_mq_timedsend, "qblit", 3}, {SYS_mq_timedreceive, "qblIt", 3}, {SYS_mq_notify, "qb", 2},
    {SYS_mq_getsetattr, "qbb", 1}, {SYS_io_setup, "iI", 2}, {SYS_get_robust_list, "hII", 1}, {SYS_set_robust_list, "bl", 1},
    {SYS_connect, "saA", 6}, {SYS_bind, "saA", 6}, {SYS_listen, "si", 4}, {SYS_accept4, "skKx", 4}, {SYS_sendto, "sblxaA", 10},
    {SYS_recvfrom, "sblxkK", 8}, {SYS_sendmsg, "sMx", 10}, {SYS_recvmsg, "sMx", 8}, {SYS_shutdown, "sx", 1}, {SYS_getsockname, "skK", 2},
    {SYS_getpeername, "skK", 2}, {SYS_recvmmsg, "sbixt", 1}, {SYS_sendmmsg, "sbix", 1}, {SYS_sched_yield, "", 1}, {SYS_uname, "b", 1},
    {SYS_getrlimit, "xb", 1}, {SYS_getrusage, "ib", 1}, {SYS_sysinfo, "b", 1}, {SYS_getgroups, "ib", 1}, {SYS_setgroups, "xb", 1},
    {SYS_setfsuid, "u", 1}, {SYS_setfsgid, "u", 1}, {SYS_setresuid, "uuu", 1}, {SYS_setresgid, "uuu", 1}, {SYS_getresuid, "bbb", 1},
    {SYS_getpgid, "h", 1}, {SYS_getsid, "h", 1}, {SYS_setpgid, "hh", 1}, {SYS_capget, "bb", 1}, {SYS_capset, "bb", 1},
    {SYS_getpriority, "ih", 1}, {SYS_setpriority, "ihi", 1}, {SYS_sched_setparam, "hb", 1}, {SYS_sched_getparam, "hb", 1},
    {SYS_sched_setscheduler, "hxb", 1}, {SYS_sched_rr_get_interval, "hb", 1}, {SYS_sched_setaffinity, "hlb", 1},
    {SYS_sched_getaffinity, "hlb", 1}, {SYS_sched_setattr, "hbx", 1}, {SYS_sched_getattr, "hblx", 1}, {SYS_set_tid_address, "b", 1},
    {SYS_waitid, "ihb4b", 3}, {SYS_wait4, "hb1b", 3}, {SYS_ioprio_set, "ihi", 1}, {SYS_ioprio_get, "ih", 1}, {SYS_setns, "yx", 2},
    {SYS_setns, "P9", 1}, {SYS_getcpu, "bb", 1}, {SYS_seccomp, "xxb", 1}, {SYS_getrandom, "blx", 1}, {SYS_membarrier, "xxi", 1},
    {SYS_rseq, "blxi", 1}, {SYS_pidfd_open, "hx", 1}, {SYS_pidfd_getfd, "Pi0", 2}, {SYS_pidfd_send_signal, "PSbx", 1},
    {SYS_rt_sigaction, "Sbb8", 1}, {SYS_rt_sigprocmask, "xgb8", 2}, {SYS_rt_sigpending, "b8", 1}, {SYS_rt_sigtimedwait, "gbt8", 2},
    {SYS_rt_sigqueueinfo, "hSb", 2}, {SYS_rt_tgsigqueueinfo, "hhSb", 1}, {SYS_sigaltstack, "bb", 1}, {SYS_nanosleep, "tb", 1},
    {SYS_getitimer, "xb", 1}, {SYS_setitimer, "xTb", 2}, {SYS_gettimeofday, "bb", 1}, {SYS_times, "b", 1}, {SYS_timer_create, "cbI", 3},
    {SYS_timer_settime, "xxTb", 4}, {SYS_timer_gettime, "xb", 1}, {SYS_timer_getoverrun, "x", 1}, {SYS_timer_delete, "x", 1},
    {SYS_clock_settime, "cb", 1}, {SYS_clock_gettime, "cb", 2}, {SYS_clock_getres, "cb", 1}, {SYS_clock_nanosleep, "cxtb", 2},
    {SYS_clock_adjtime, "cb", 1}, {SYS_adjtimex, "b", 1}, {SYS_sethostname, "bl", 1}, {SYS_setdomainname, "bl", 1},
    {SYS_syslog, "xbl", 1}, {SYS_personality, "x", 1}, {SYS_kcmp, "hhxii", 1}, {SYS_process_vm_readv, "hvVvV0", 3},
    {SYS_process_vm_writev, "hvVvV0", 2}, {SYS_process_madvise, "PvVi0", 1}, {SYS_process_mrelease, "P0", 1},
    {SYS_mprotect, "zZr", 6}, {SYS_munmap, "zZ", 4}, {SYS_msync, "zZx", 2}, {SYS_mincore, "zZb", 3}, {SYS_madvise, "zZi", 8},
    {SYS_madvise, "zZm", 2}, {SYS_mlock, "zZ", 2}, {SYS_mlock2, "zZx", 1}, {SYS_munlock, "zZ", 1}, {SYS_mlockall, "x", 1},
    {SYS_munlockall, "", 1}, {SYS_brk, "z", 1}, {SYS_remap_file_pages, "zZ0ix", 1}, {SYS_mbind, "zZxbix", 1}, {SYS_get_mempolicy, "bbizx", 1},
    {SYS_pkey_alloc, "0x", 1}, {SYS_pkey_mprotect, "zZri", 1}, {SYS_userfaultfd, "x", 1}, {SYS_add_key, "nnbli", 1},
    {SYS_request_key, "nnni", 1}, {SYS_keyctl, "xiibl", 1}, {SYS_bpf, "xbl", 1}, {SYS_perf_event_open, "bhifx", 1},
    {SYS_io_uring_setup, "ib", 1}, {SYS_landlock_create_ruleset, "blx", 1}, {SYS_open_tree, "dpx", 1}, {SYS_move_mount, "dpdpx", 1},
    {SYS_fsopen, "nx", 1}, {SYS_mount_setattr, "dpxbl", 1}, {SYS_memfd_secret, "x", 1}, {SYS_close_range, "iix", 0},
    {SYS_restart_syscall, "", 1}, {SYS_arch_prctl, "ib", 0}, {SYS_ustat, "ib", 1}, {SYS_sysfs, "xib", 1}, {SYS_acct, "p", 1},
    {SYS_swapon, "px", 1}, {SYS_vhangup, "", 1}, {SYS_iopl, "x", 1}, {SYS_ioperm, "iix", 1}, {SYS_modify_ldt, "xbl", 1},
    {SYS_lookup_dcookie, "ibl", 1}, {SYS_init_module, "bln", 1}, {SYS_finit_module, "fnx", 1}, {SYS_migrate_pages, "hibb", 1},
    {SYS_move_pages, "hxbbbx", 1}, {SYS_process_vm_readv, "hvVvVx", 1}, {SYS_fchmodat, "dpm", 1}, {SYS_settimeofday, "bb", 1},
};

static u64 message_header(void)
{
    struct msghdr h = {.msg_flags = bits(32)};
    u64 size, count;
    h.msg_name = (void *)socket_address(&size);
    h.msg_namelen = size;
    if (one_in(3))
        h.msg_name = NULL, h.msg_namelen = 0;
    h.msg_iov = (void *)vectors(&count);
    h.msg_iovlen = count;
    if (one_in(2)) {
        char control[256] = {0};
        size_t at = 0;
        for (int n = below(4); n > 0 && at < 180; n--) {
            struct cmsghdr c = {.cmsg_len = sizeof c + PICK(4, 4, 4, 8, 12, 20, 0, 40),
                                .cmsg_level = PICK(1, 1, 0, 41, 17, 6, 255), .cmsg_type = below(20)};
            if (one_in(16))
                c.cmsg_len = number();
            memcpy(control + at, &c, sizeof c);
            int value = one_in(2) ? any_fd() : (int)number();
            memcpy(control + at + sizeof c, &value, sizeof value);
            at += CMSG_ALIGN(sizeof c + (c.cmsg_len < 64 ? c.cmsg_len - sizeof c : 4)) % 64;
        }
        h.msg_control = (void *)copy_of(control, sizeof control);
        h.msg_controllen = one_in(4) ? length() : at;
    }
    return copy_of(&h, sizeof h);
}

static u64 argument(char kind, u64 *pair)
{
    switch (kind) {
    case 'f': return any_fd();
    case 's': return one_in(12) ? any_fd() : of_kind(A_SOCKET);
    case 'e': return one_in(12) ? any_fd() : of_kind(AN_EVENT);
    case 'q': return of_kind(A_QUEUE);
    case 'P': return of_kind(A_PIDFD);
    case 'y': return of_kind(A_NAMESPACE);
    case 'd': return directory();
    case 'b': return buffer(below(8) ? 512 : 8192);
    case 'l': return length();
    case 'p': return path();
    case 'n': return text(PICK(0, 1) ? "user.name" : one_in(2) ? "security.capability" : "/queue");
    case 'i': return number();
    case 'x': return one_in(20) ? (u64)number() : one_in(2) ? bits(6) : one_in(3) ? bits(32) : 0;
    case '1': return one_in(4) ? bits(4) | 1 : 1;
    case '4': return 1 | bits(4) | 4;
    case '9': return one_in(2) ? 1ULL << PICK(17, 26, 27, 28, 29, 30, 7) : 0x7e020000 & any64();
    case '0': return one_in(30) ? number() : 0;
    case 'm': return one_in(6) ? (u64)number() : one_in(3) ? (u64)PICK(0010666, 0100600, 0020666, 0140777, 0060600) : below(01000);
    case 'o': return PICK(0, 1, 2) | (one_in(2) ? 0100 : 0) | (one_in(3) ? bits(23) : 0) | 04000;
    case 'w': return below(8) ? (s64)below(5) : number();
    case 't': return time_spec();
    case 'T': return time_pair();
    case 'v': return vectors(pair);
    case 'V': return *pair;
    case 'M': return message_header();
    case 'a': return socket_address(pair);
    case 'A': return *pair;
    case 'k': return one_in(2) ? 0 : buffer(128);
    case 'K': case 'I': {
        s64 value = one_in(4) ? number() : (s64)below(200);
        return one_in(3) ? 0 : copy_of(&value, 8);
    }
    case 'g': {
        u64 set = one_in(2) ? bits(64) : any64();
        return one_in(5) ? 0 : copy_of(&set, 8);
    }
    case '8': return one_in(20) ? (u64)number() : 8;
    case 'S': return one_in(8) ? (u64)number() : (u64)PICK(0, 1, 10, 12, 14, 17, 18, 19, 20, 23, 28, 32, 34, 64);
    case 'h': return a_process();
    case 'u': return PICK(0, 0, 65534, 1, -1, -1, 1000);
    case 'z': return map_address();
    case 'Z': return map_length();
    case 'r': return below(8) | (one_in(20) ? bits(32) : 0);
    case 'c': return one_in(4) ? (u64)number() : below(12);
    default: return 0;
    }
}

static void plain_call(void)
{
    static unsigned total;
    if (total == 0)
        for (size_t i = 0; i < COUNT(CALLS); i++)
            total += CALLS[i].weight;
    u64 at = below(total), pair = 0, a[6] = {0};
    const struct call *call = CALLS;
    while (at >= call->weight)
        at -= call++->weight;
    for (int i = 0; i < 6 && call->arguments[i]; i++)
        a[i] = argument(call->arguments[i], &pair);
    long result = syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result < 0)
        return;
    switch (call->number) {
    case SYS_open: case SYS_openat: case SYS_creat: case SYS_dup: case SYS_pidfd_getfd: case SYS_dup3:
        keep(result, A_FILE);
        break;
    case SYS_accept4:
        keep(result, A_SOCKET);
        break;
    case SYS_pidfd_open:
        keep(result, A_PIDFD);
        break;
    case SYS_fork:
        break;
    }
}

#endif
