// A pool of open files of every kind, and the names and addresses that calls give.
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "memory.h"

enum kind { A_FILE, A_DIRECTORY, A_SOCKET, A_NETLINK, AN_EVENT, A_PROC, A_NAMESPACE, A_QUEUE, A_PIDFD, A_TTY, A_TUNNEL, KINDS };

#define POOL 96
static struct { int fd; enum kind kind; } pool[POOL];
// The threads of a worker share it and overwrite each other's entries: a wrong one is one more wrong argument.
static volatile unsigned pooled;

static void keep(int fd, enum kind kind)
{
    if (fd < 0)
        return;
    unsigned at = pooled;
    if (at < POOL) {
        pooled = at + 1;
    } else {
        at = below(POOL);
        syscall(SYS_close, pool[at].fd);
    }
    pool[at].fd = fd;
    pool[at].kind = kind;
}

static int of_kind(enum kind kind)
{
    unsigned n = pooled < POOL ? pooled : POOL;
    for (int tries = 0; n > 0 && tries < 40; tries++) {
        unsigned at = below(n);
        if (pool[at].kind == kind)
            return pool[at].fd;
    }
    return n ? pool[below(n)].fd : -1;
}

static int any_fd(void)
{
    unsigned n = pooled < POOL ? pooled : POOL;
    if (one_in(40) || n == 0)
        return number();
    return pool[below(n)].fd;
}

// Relative to the worker's own folder, which is emptied after it.
static const char *const NAMES[] = {
    "a", "b", "c", "dir", "dir/a", "dir/b", "dir/c", "link", "fifo", "sock", ".", "..", "dir/..", "dir/../a", "./dir/./b",
    "mnt", "mnt/x", "mnt/y", "link/z", "", "/", "/tmp", "dir/", "a/", "mnt/..",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
};

static const char *const SPECIAL[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/net/tun", "/dev/shm",
    "/dev/fd", "/dev/pts", "/sys", "/sys/class/net", "/sys/class/net/lo/mtu", "/sys/class/net/lo/address", "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/devices/system/cpu/online", "/etc/passwd", "/bin/sh", "/usr", "/tmp",
};

static const char *const PROC[] = {
    "attr/current", "auxv", "cgroup", "clear_refs", "cmdline", "comm", "coredump_filter", "cwd", "environ", "exe", "fd", "fd/3",
    "fdinfo", "fdinfo/4", "gid_map", "io", "limits", "loginuid", "maps", "mem", "mountinfo", "mounts", "mountstats",
    "net", "net/dev", "net/tcp", "net/tcp6", "net/udp", "net/unix", "net/route", "net/snmp", "net/netstat", "net/packet",
    "net/netlink", "net/sockstat", "net/arp", "net/igmp", "net/if_inet6", "net/ipv6_route", "net/fib_trie", "net/dev_mcast",
    "net/raw", "net/ip_tables_names", "net/nf_conntrack", "net/ip_mr_vif", "net/protocols",
    "ns", "ns/net", "ns/mnt", "ns/user", "ns/pid", "ns/uts", "ns/ipc", "ns/cgroup", "ns/time", "ns/pid_for_children",
    "oom_score", "oom_score_adj", "oom_adj", "pagemap", "personality", "projid_map", "root", "sched", "schedstat", "sessionid",
    "setgroups", "smaps", "smaps_rollup", "stack", "stat", "statm", "status", "syscall", "task", "timers", "timerslack_ns",
    "uid_map", "wchan",
};

static const char *const SYSTEM[] = {
    "cmdline", "cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "swaps", "partitions", "diskstats",
    "interrupts", "vmstat", "zoneinfo", "slabinfo", "modules", "kallsyms", "kmsg", "kcore", "keys", "locks", "sysvipc/shm",
    "sysvipc/sem", "sysvipc/msg", "self", "thread-self", "sys", "sys/kernel/hostname", "sys/kernel/domainname",
    "sys/kernel/pid_max", "sys/kernel/shmmax", "sys/kernel/shmall", "sys/kernel/shmmni", "sys/kernel/msgmax",
    "sys/kernel/msgmnb", "sys/kernel/msgmni", "sys/kernel/sem", "sys/kernel/ns_last_pid", "sys/kernel/core_pattern",
    "sys/kernel/random/uuid", "sys/kernel/random/boot_id", "sys/kernel/shm_rmid_forced", "sys/kernel/sem_next_id",
    "sys/kernel/msg_next_id", "sys/kernel/yama/ptrace_scope", "sys/fs/file-max", "sys/fs/nr_open", "sys/fs/pipe-max-size",
    "sys/fs/mqueue/msg_max", "sys/fs/mqueue/msgsize_max", "sys/fs/mqueue/queues_max", "sys/fs/inotify/max_user_watches",
    "sys/fs/protected_symlinks", "sys/fs/suid_dumpable", "sys/vm/overcommit_memory", "sys/vm/max_map_count",
    "sys/user/max_net_namespaces", "sys/user/max_user_namespaces", "sys/net/core/somaxconn", "sys/net/core/rmem_max",
    "sys/net/core/wmem_default", "sys/net/core/default_qdisc", "sys/net/ipv4/ip_forward", "sys/net/ipv4/ip_local_port_range",
    "sys/net/ipv4/ip_local_reserved_ports", "sys/net/ipv4/ip_unprivileged_port_start", "sys/net/ipv4/ping_group_range",
    "sys/net/ipv4/tcp_rmem", "sys/net/ipv4/tcp_wmem", "sys/net/ipv4/tcp_mem", "sys/net/ipv4/tcp_congestion_control",
    "sys/net/ipv4/tcp_fastopen", "sys/net/ipv4/tcp_fastopen_key", "sys/net/ipv4/tcp_keepalive_time",
    "sys/net/ipv4/tcp_fin_timeout", "sys/net/ipv4/tcp_syncookies", "sys/net/ipv4/tcp_max_syn_backlog",
    "sys/net/ipv4/tcp_timestamps", "sys/net/ipv4/tcp_sack", "sys/net/ipv4/conf/all/forwarding", "sys/net/ipv4/conf/lo/rp_filter",
    "sys/net/ipv4/conf/default/arp_ignore", "sys/net/ipv4/neigh/lo/gc_stale_time", "sys/net/ipv6/conf/all/disable_ipv6",
    "sys/net/ipv6/conf/lo/mtu", "sys/net/ipv6/conf/lo/accept_ra", "sys/net/ipv6/route/max_size",
    "sys/net/netfilter/nf_conntrack_max", "sys/net/unix/max_dgram_qlen",
};

#define FROM(table) table[below(COUNT(table))]

// The worker's children; what else would be signalled is itself or nobody.
#define CHILDREN 16
static volatile int children[CHILDREN];

static int a_process(void)
{
    switch (below(6)) {
    case 0: case 1:
        return children[below(CHILDREN)];
    case 2:
        return 0;
    case 3:
        return syscall(SYS_getpid);
    case 4:
        return syscall(SYS_gettid);
    default:
        return one_in(4) ? (int)number() : (int)syscall(SYS_getppid);
    }
}

static u64 text(const char *what)
{
    return copy_of(what, strlen(what) + 1);
}

static void proc_name(char *name, size_t size)
{
    if (one_in(2)) {
        snprintf(name, size, "/proc/%s", FROM(SYSTEM));
    } else if (one_in(3)) {
        snprintf(name, size, "/proc/%d/%s", a_process(), FROM(PROC));
    } else {
        snprintf(name, size, "/proc/%s/%s", one_in(4) ? "thread-self" : "self", FROM(PROC));
    }
}

static u64 path(void)
{
    char name[64];
    switch (below(12)) {
    case 0:
        return buffer(32);
    case 1:
        return text(FROM(SPECIAL));
    case 2:
        proc_name(name, sizeof name);
        return text(name);
    case 3:
        snprintf(name, sizeof name, "/proc/self/fd/%d", any_fd());
        return text(name);
    case 4:
        return text(FROM(NAMES));
    default:
        return text(NAMES[below(11)]);
    }
}

static u64 directory(void)
{
    return one_in(2) ? (u64)(s64)AT_FDCWD : one_in(4) ? (u64)(s64)any_fd() : (u64)(s64)of_kind(A_DIRECTORY);
}

static in_addr_t address4(void)
{
    return htonl(PICK(0x7f000001, 0x7f000001, 0x7f000001, 0x7f000002, 0, 0, 0x0a000001, 0xffffffff, 0xe0000001, 0xe0000101,
                      0x7fffffff, 0x0a0000ff));
}

static struct in6_addr address6(void)
{
    static const char *const all[] = {"::1", "::1", "::", "::ffff:127.0.0.1", "fe80::1", "ff02::1", "fd00::1", "2001:db8::1"};
    struct in6_addr a;
    inet_pton(AF_INET6, FROM(all), &a);
    return a;
}

static in_port_t a_port(void)
{
    return htons(PICK(0, 5000, 5001, 5002, 5003, 80, 65535, 1));
}

// An address of a family that fits the kinds of sockets of the pool.
static u64 socket_address(u64 *size)
{
    struct sockaddr_storage any;
    memset(&any, 0, sizeof any);
    switch (below(6)) {
    case 0: case 1: {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = a_port(), .sin_addr.s_addr = address4()};
        memcpy(&any, &in, *size = sizeof in);
        break;
    }
    case 2: {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = a_port(), .sin6_addr = address6()};
        in.sin6_scope_id = below(3), in.sin6_flowinfo = bits(32);
        memcpy(&any, &in, *size = sizeof in);
        break;
    }
    case 3: {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path + one_in(3), 60, "%s", one_in(2) ? "sock" : NAMES[below(11)]);
        memcpy(&any, &un, *size = one_in(4) ? below(sizeof un) : sizeof un);
        break;
    }
    case 4: {
        struct sockaddr_nl nl = {.nl_family = AF_NETLINK, .nl_groups = bits(32), .nl_pid = one_in(3) ? number() : 0};
        memcpy(&any, &nl, *size = sizeof nl);
        break;
    }
    default: {
        struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(PICK(3, 0x800, 0x806, 0x86dd, 1)),
                                 .sll_ifindex = below(4), .sll_halen = PICK(6, 0, 8, 255)};
        memcpy(&any, &ll, *size = sizeof ll);
        break;
    }
    }
    if (one_in(16))
        any.ss_family = PICK(0, 1, 2, 10, 16, 17, 65535);
    u64 at = copy_of(&any, sizeof any);
    if (one_in(12))
        *size = one_in(2) ? below(sizeof any + 2) : (u64)number();
    return at;
}

#endif
