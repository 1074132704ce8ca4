// Calls that make files of each kind, and calls whose arguments depend on each other.
#ifndef MAKERS_H
#define MAKERS_H

#include "messages.h"
#include "table.h"

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static void make_socket(void)
{
    int family = PICK(AF_INET, AF_INET, AF_INET, AF_INET6, AF_INET6, AF_UNIX, AF_UNIX, AF_NETLINK, AF_NETLINK, AF_PACKET, 38, 40, 29, 15);
    int type = PICK(SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM);
    int flags = one_in(8) ? 0 : SOCK_NONBLOCK;
    if (family == AF_NETLINK) {
        int fd = syscall(SYS_socket, family, SOCK_RAW | flags, PICK(0, 0, 0, 4, 12, 12, 12, 9, 15, 16, below(32)));
        if (one_in(3)) {
            struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = bits(32)};
            syscall(SYS_bind, fd, &to, sizeof to);
        }
        keep(fd, A_NETLINK);
        return;
    }
    int protocol = family == AF_PACKET ? htons(PICK(3, 0x800, 0)) : type == SOCK_RAW ? PICK(1, 2, 6, 17, 58, 89, 255) : 0;
    if (one_in(20))
        protocol = number();
    keep(syscall(SYS_socket, family, type | flags, protocol), A_SOCKET);
}

// A listener on the loopback, and a connection to it.
static void make_connection(void)
{
    int server = syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int client = syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    syscall(SYS_bind, server, &in, size);
    syscall(SYS_listen, server, PICK(1, 5, 0, 128));
    syscall(SYS_getsockname, server, &in, &size);
    syscall(SYS_connect, client, &in, size);
    keep(syscall(SYS_accept4, server, 0, 0, SOCK_NONBLOCK), A_SOCKET);
    keep(client, A_SOCKET);
    if (one_in(2))
        keep(server, A_SOCKET);
    else
        syscall(SYS_close, server);
}

static void open_proc(void)
{
    char name[64];
    proc_name(name, sizeof name);
    int fd = syscall(SYS_openat, AT_FDCWD, name, PICK(O_RDONLY, O_RDWR, O_WRONLY) | O_NONBLOCK, 0);
    if (fd < 0)
        fd = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (one_in(2)) {
        char value[64];
        static const char *const all[] = {"0\n", "1", "-1", "4294967296", "a", "0 0 1\n", "0 0 4294967295", "deny", "allow", "1 2 3 4",
                                          "18446744073709551616", "9223372036854775807 1", "1-5,7", "\n", " ", "0 1 1\n1 2 3\n"};
        snprintf(value, sizeof value, "%lld %s", (long long)number(), FROM(all));
        const char *what = one_in(3) ? value : FROM(all);
        syscall(SYS_pwrite64, fd, text(what), strlen(what), 0);
    }
    syscall(SYS_pread64, fd, buffer(4096), below(4096), one_in(3) ? number() : 0);
    keep(fd, A_PROC);
}

static void make_file(void)
{
    char name[64];
    int fds[2] = {-1, -1};
    u64 size = 8, set = any64();
    struct mq_attr attributes = {.mq_maxmsg = PICK(1, 10, 10, 0, -1), .mq_msgsize = PICK(16, 128, 8192, 0)};
    switch (below(21)) {
    case 0: case 1: case 2:
        make_socket();
        break;
    case 3:
        make_connection();
        break;
    case 4: case 5:
        open_proc();
        break;
    case 6:
        syscall(SYS_pipe2, fds, O_NONBLOCK | (one_in(4) ? O_DIRECT : 0));
        keep(fds[0], A_FILE), keep(fds[1], A_FILE);
        break;
    case 7:
        syscall(SYS_socketpair, AF_UNIX, PICK(1, 2, 5) | SOCK_NONBLOCK, 0, fds);
        keep(fds[0], A_SOCKET), keep(fds[1], A_SOCKET);
        break;
    case 8:
        keep(syscall(SYS_epoll_create1, 0), AN_EVENT);
        break;
    case 9:
        keep(syscall(SYS_eventfd2, below(4), O_NONBLOCK | one_in(2)), AN_EVENT);
        break;
    case 10:
        keep(syscall(SYS_timerfd_create, PICK(0, 1, 7, 8), O_NONBLOCK), AN_EVENT);
        break;
    case 11:
        keep(syscall(SYS_signalfd4, -1, &set, size, O_NONBLOCK), AN_EVENT);
        break;
    case 12:
        keep(syscall(SYS_inotify_init1, O_NONBLOCK), AN_EVENT);
        break;
    case 13:
        keep(syscall(SYS_memfd_create, "memory", bits(3)), A_FILE);
        break;
    case 14:
        keep(fds[0] = syscall(SYS_openat, AT_FDCWD, "/dev/ptmx", O_RDWR | O_NONBLOCK | O_NOCTTY), A_TTY);
        syscall(SYS_ioctl, fds[0], 0x40045431, &(int){0});
        keep(syscall(SYS_ioctl, fds[0], 0x5441, O_RDWR | O_NONBLOCK | O_NOCTTY), A_TTY);
        break;
    case 15:
        snprintf(name, sizeof name, "/proc/self/ns/%s", (const char *[]){"net", "user", "mnt", "pid", "ipc", "uts", "cgroup"}[below(7)]);
        keep(syscall(SYS_openat, AT_FDCWD, name, O_RDONLY), A_NAMESPACE);
        break;
    case 16:
        keep(syscall(SYS_mq_open, one_in(2) ? "q" : "r", O_CREAT | O_RDWR | O_NONBLOCK, 0600, one_in(3) ? NULL : &attributes), A_QUEUE);
        break;
    case 17:
        keep(syscall(SYS_pidfd_open, a_process(), 0), A_PIDFD);
        break;
    case 18:
        keep(syscall(SYS_openat, directory(), path(), O_DIRECTORY | (one_in(4) ? O_PATH : 0)), A_DIRECTORY);
        break;
    case 19: {
        struct { char name[16]; s64 flags, rest[2]; } r = {.flags = PICK(1, 2, 0x1001, 0x1002, 0x4001, 0x5001, 0x5002, 0x1101, 0x5101)};
        snprintf(r.name, sizeof r.name, "%s", one_in(2) ? "f%d" : one_in(2) ? "f0" : interface_name());
        keep(fds[0] = syscall(SYS_openat, AT_FDCWD, "/dev/net/tun", O_RDWR | O_NONBLOCK), A_TUNNEL);
        syscall(SYS_ioctl, fds[0], 0x400454ca, &r);
        // On: flags are a short behind the name.
        r.flags = 0x1043;
        if (!one_in(4))
            syscall(SYS_ioctl, of_kind(A_SOCKET), 0x8914, &r);
        break;
    }
    default:
        keep(syscall(SYS_openat, AT_FDCWD, NAMES[below(9)], O_RDWR | O_CREAT | O_NONBLOCK | (one_in(4) ? O_APPEND : 0), 0666), A_FILE);
    }
}

static void socket_option(void)
{
    int level = PICK(SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_TCP, 17, 263, 270, 255, 132, 58);
    int name = one_in(12) ? number() : one_in(8) ? 64 + (s64)below(20) : one_in(16) ? 200 + (s64)below(12) : (s64)below(80);
    u64 value[64] = {0};
    socklen_t size = PICK(4, 4, 4, 8, 1, 2, 12, 16, 20, 32, 40, 136, 264, 0);
    value[0] = one_in(3) ? (u64)number() : below(5);
    for (int n = below(5); n > 0; n--)
        value[below(COUNT(value))] = number();
    if (one_in(3)) {
        in_addr_t a = address4();
        memcpy((char *)value + below(3) * 4, &a, 4);
    }
    struct sock_filter code[5];
    struct sock_fprog program = {.len = 1 + below(5), .filter = code};
    if (level == SOL_SOCKET && one_in(6)) {
        name = PICK(SO_ATTACH_FILTER, 51);
        for (size_t i = 0; i < COUNT(code); i++)
            code[i] = (struct sock_filter){PICK(0x06, 0x16, 0x20, 0x28, 0x30, 0x15, 0x05, 0xb1, 0x40, 0x80, 0x60, 0x02, 0x34, below(256)),
                                           below(4), below(4), one_in(2) ? below(64) : (u64)number()};
        code[program.len - 1].code = 6;
        memcpy(value, &program, size = sizeof program);
    }
    int fd = one_in(6) ? of_kind(A_NETLINK) : of_kind(A_SOCKET);
    if (one_in(20))
        size = number();
    if (one_in(3)) {
        u64 at = copy_of(&size, sizeof size);
        syscall(SYS_getsockopt, fd, level, name, buffer(512), at);
    } else {
        syscall(SYS_setsockopt, fd, level, name, copy_of(value, sizeof value), size);
    }
}

// What looks like a packet, behind headers of a tunnel or not.
static void write_packet(void)
{
    unsigned char packet[2048];
    int size = PICK(0, 1, 4, 14, 20, 28, 34, 40, 42, 54, 60, 100, 1400, 2000), at = PICK(0, 0, 4, 10, 14, 18, 24);
    for (int i = 0; i < (int)sizeof packet; i++)
        packet[i] = one_in(3) ? 0 : below(256);
    packet[at] = one_in(2) ? 0x45 : 0x60;
    packet[at + 2] = size >> 8, packet[at + 3] = size;
    packet[at + 9] = PICK(1, 2, 6, 17, 58, 0, 44), packet[at + 6] = packet[at + 9];
    if (at == 14 || at == 24)
        packet[at - 2] = 8, packet[at - 1] = PICK(0, 6, 0xdd);
    for (int i = at - 10; i >= 0 && i < at; i++)
        packet[i] = one_in(2) ? 0 : below(6) * PICK(1, 20);
    syscall(SYS_write, of_kind(A_TUNNEL), packet, at + size < (int)sizeof packet ? at + size : (int)sizeof packet);
    syscall(SYS_read, of_kind(A_TUNNEL), buffer(2048), below(2048));
}

static void io_control(void)
{
    int tunnel = 0x400454c8 + below(28);
    int request = one_in(3) ? PICK(0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5409, 0x540a, 0x540b, 0x540e, 0x540f, 0x5410, 0x5411,
                                   0x5412, 0x5413, 0x5414, 0x541b, 0x5420, 0x5421, 0x5422, 0x5423, 0x5425, 0x5428, 0x5429, 0x5441,
                                   0x5450, 0x5451, 0x5452, 0x5460, 0x80045430, 0x40045431, 0x80045432, 0x80045438, 0x80045439)
                 : one_in(3) ? tunnel ^ PICK(0, 0xc0000000, 0x00140000, 0xc0140000)
                 : one_in(2) ? 0x8900 + (s64)below(0xf8)
                 : one_in(2) ? PICK(0xb701, 0xb702, 0xb703, 0xb704, 0x6601, 0x80086601, 0xc020660b, 0x40049409, 0x5401, 0x800454ca,
                                    0x400454ca, 0x40047438, 0xc0502100, 0xc0182101, 0xc0182102, 0x40082103, 0x40086602)
                             : number();
    struct { char name[16]; u64 rest[14]; } r = {0};
    snprintf(r.name, sizeof r.name, "%s", interface_name());
    r.rest[0] = one_in(2) ? (u64)number() : AF_INET | (u64)address4() << 32;
    r.rest[1] = one_in(3) ? number() : 0;
    if (one_in(3))
        r.rest[below(14)] = number();
    if (one_in(4))
        *(u64 *)r.name = number();
    // Here pointers are inside: a list of interfaces, or a request of ethtool.
    if (request == 0x8912)
        *(u64 *)(r.name + 8) = buffer(512), *(int *)r.name = length();
    if (request == 0x8946)
        *(u64 *)(r.name + 16) = buffer(512);
    u64 last = one_in(8) ? (u64)number() : copy_of(&r, sizeof r);
    syscall(SYS_ioctl, one_in(3) ? of_kind(A_SOCKET) : one_in(3) ? of_kind(A_TTY) : one_in(3) ? of_kind(A_TUNNEL) : any_fd(), request, last);
}

static void file_control(void)
{
    int command = one_in(3) ? 1024 + (s64)below(18) : one_in(10) ? number() : (s64)below(42);
    s64 lock[4] = {PICK(0, 1, 2) | (s64)PICK(0, 1, 2) << 16, number(), one_in(3) ? number() : 0, one_in(3) ? number() : 0};
    int waits = command == 7 || command == 38;
    u64 last = one_in(2) ? (u64)number() : copy_of(lock, sizeof lock);
    if (!waits || one_in(10))
        syscall(SYS_fcntl, any_fd(), command, last);
}

static void mapping(void)
{
    u64 at = map_address() & ~(PAGE - 1), size = map_length();
    switch (below(8)) {
    case 0: case 1: case 2: case 3: {
        int flags = PICK(MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, 3) | (one_in(2) ? MAP_ANONYMOUS : 0) | (one_in(4) ? 0 : MAP_FIXED);
        if (one_in(6))
            flags |= bits(24) & ~MAP_32BIT;
        int fd = one_in(3) ? any_fd() : of_kind(A_FILE);
        u64 offset = one_in(6) ? (u64)number() : below(4) * PAGE;
        // Fixed mappings outside the playground would only end the worker.
        if (at < PLAYGROUND || at >= PLAYGROUND + PLAYGROUND_PAGES * PAGE || size > PLAYGROUND_PAGES * PAGE)
            flags &= ~MAP_FIXED;
        syscall(SYS_mmap, at, size, PICK(0, 1, 3, 3, 3, 5, 7), flags, fd, offset);
        break;
    }
    case 4: case 5: {
        u64 flags = below(8);
        u64 to = map_address() & ~(one_in(8) ? 0 : PAGE - 1), grown = map_length();
        if (grown > PLAYGROUND_PAGES * PAGE && one_in(2))
            grown = PAGE;
        syscall(SYS_mremap, at, size, grown, flags, to);
        break;
    }
    case 6:
        // Through its pages, by the kernel: faults in the middle of a copy.
        syscall(SYS_getrandom, at, size < 65536 ? size : 65536, 0);
        break;
    default:
        syscall(SYS_write, of_kind(A_FILE), at, size < 65536 ? size : 65536);
    }
}

// The same few words for all threads and, in shared memory, processes.
static uint32_t *shared_words;

static void fast_mutex(void)
{
    uint32_t *word = shared_words + below(16), *other = shared_words + below(16);
    int private = one_in(2) ? FUTEX_PRIVATE_FLAG : 0, realtime = one_in(4) ? FUTEX_CLOCK_REALTIME : 0;
    struct timespec soon = {0, below(500000)};
    u64 value = one_in(2) ? *word : (u64)number();
    if (one_in(4))
        *word = PICK(0, 1, 0x80000000, 0xc0000000, 0x40000000) | (one_in(2) ? (uint32_t)syscall(SYS_gettid) : 0);
    u64 a = one_in(16) ? bad_pointer() : (u64)word, b = one_in(16) ? bad_pointer() : (u64)other;
    int operation = one_in(16) ? number() : (s64)below(14);
    // Those with a second word take a count where others take the time.
    int has_count = operation >= 3 && operation <= 5;
    operation |= private | (operation == 12 ? 0 : realtime);
    syscall(SYS_futex, a, operation, value, has_count || (operation & 15) == 12 ? below(3) : (u64)&soon, b, one_in(2) ? *word : bits(32));
}

static void make_ipc(void)
{
    s64 key = one_in(3) ? 0 : (s64)below(5);
    switch (below(3)) {
    case 0:
        syscall(SYS_shmget, key, one_in(6) ? (u64)number() : below(10) * PAGE, 0600 | (one_in(2) ? 01000 : 0) | (one_in(8) ? bits(32) : 0));
        break;
    case 1:
        syscall(SYS_semget, key, one_in(8) ? number() : (s64)below(6), 0600 | (one_in(2) ? 01000 : 0));
        break;
    default:
        syscall(SYS_msgget, key, 0600 | (one_in(2) ? 01000 : 0));
    }
}

static void mounting(void)
{
    static const char *const types[] = {"tmpfs", "proc", "sysfs", "mqueue", "devpts", "overlay", "cgroup2", "ramfs", "devtmpfs", "ext4", ""};
    static const char *const data[] = {"", "size=1M", "mode=0700", "size=0", "newinstance", "lowerdir=dir,upperdir=mnt,workdir=mnt",
                                       "lowerdir=dir:mnt", "uid=-1", "hidepid=2", "size=18446744073709551615k", "nr_inodes=1"};
    u64 flags = one_in(3) ? bits(26) : one_in(2) ? MS_BIND | (one_in(3) ? MS_REC : 0) : 0;
    syscall(SYS_mount, text(NAMES[below(16)]), text(NAMES[below(16)]), text(FROM(types)), flags, text(FROM(data)));
}

static void process_control(void)
{
    switch (below(6)) {
    case 0:
        syscall(SYS_prctl, one_in(6) ? number() : (s64)below(72), one_in(2) ? below(4) : buffer(64), one_in(2) ? 0 : number(),
                one_in(2) ? 0 : number(), one_in(4) ? number() : 0);
        break;
    case 1: {
        u64 limits[2] = {one_in(2) ? (u64)-1 : (u64)number(), -1};
        // Not those that would end the worker or let it take all memory.
        syscall(SYS_prlimit64, one_in(2) ? 0 : a_process(), PICK(2, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16), one_in(2) ? 0 : copy_of(limits, 16),
                buffer(16));
        break;
    }
    case 2:
        syscall(SYS_unshare, one_in(3) ? bits(32) : 1ULL << PICK(17, 26, 27, 28, 29, 30, 9, 10, 25));
        break;
    case 3: {
        int child = children[below(CHILDREN)];
        if (child > 0)
            syscall(SYS_kill, child, PICK(0, 9, 19, 18, 10, 12, 15, 34, 64, 11));
        break;
    }
    default: {
        int child = children[below(CHILDREN)];
        if (child <= 0)
            break;
        s64 request = one_in(3) ? PICK(16, 0x4206, 17, 7, 24, 9, 8) : one_in(3) ? 0x4200 + (s64)below(18) : (s64)below(34);
        int status;
        if (one_in(3))
            syscall(SYS_wait4, child, &status, 0x40000001, 0);
        if (one_in(3))
            request = 0x4206;
        u64 vector[2] = {buffer(512), length()};
        syscall(SYS_ptrace, request, child, one_in(2) ? (u64)PICK(1, 2, 0x202, 0) : (u64)number(),
                one_in(3) ? copy_of(vector, 16) : one_in(2) ? buffer(512) : bits(22));
    }
    }
}

#endif
