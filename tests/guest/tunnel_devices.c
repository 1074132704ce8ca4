// Interfaces whose other end is a program (/dev/net/tun).
#include "own_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/uio.h>

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C
#endif
#ifndef TUNGETDEVNETNS
#define TUNGETDEVNETNS _IO('T', 227)
#endif
#ifndef TUNSETCARRIER
#define TUNSETCARRIER _IOW('T', 226, int)
#endif

static unsigned char bytes[70000];

static int open_tun(void)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static int set_interface(int fd, const char *name, int flags, struct ifreq *request)
{
    struct ifreq own = {.ifr_flags = flags};
    strcpy(own.ifr_name, name);
    int result = ioctl(fd, TUNSETIFF, &own);
    if (request)
        *request = own;
    return result;
}

// A device with its file.
static int device(const char *name, int flags)
{
    struct ifreq request;
    int fd = open_tun();
    CHECK(set_interface(fd, name, flags, &request) == 0 && strcmp(request.ifr_name, name) == 0);
    return fd;
}

static int any_socket(void)
{
    static int fd = -1;
    if (fd < 0)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    return fd;
}

static int flags_of(const char *name)
{
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    return ioctl(any_socket(), SIOCGIFFLAGS, &request) == 0 ? (unsigned short)request.ifr_flags : -1;
}

// Waits until an interface is or is not IFF_RUNNING, of which Linux hears a while later.
static void await_running(const char *name, int is_running)
{
    for (int i = 0; i < 5000 && !!(flags_of(name) & IFF_RUNNING) != is_running; i++)
        usleep(1000);
    CHECK(!!(flags_of(name) & IFF_RUNNING) == is_running);
}

static void change(const char *name, unsigned long what, const char *address)
{
    struct ifreq request = {0};
    struct sockaddr_in *in = (void *)&request.ifr_addr;
    strcpy(request.ifr_name, name);
    in->sin_family = AF_INET;
    CHECK(inet_pton(AF_INET, address, &in->sin_addr) == 1);
    CHECK(ioctl(any_socket(), what, &request) == 0);
}

static void turn_on(const char *name)
{
    struct ifreq request = {.ifr_flags = flags_of(name) | IFF_UP};
    strcpy(request.ifr_name, name);
    CHECK(ioctl(any_socket(), SIOCSIFFLAGS, &request) == 0);
}

// Gives it 10.N.0.1/24, turns it on, and keeps it from talking by itself.
static void start(const char *name, int number)
{
    char text[64];
    snprintf(text, sizeof text, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    int fd = open(text, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        CHECK(write(fd, "1", 1) == 1 || errno == EACCES);
        close(fd);
    }
    snprintf(text, sizeof text, "10.%d.0.1", number);
    change(name, SIOCSIFADDR, text);
    change(name, SIOCSIFNETMASK, "255.255.255.0");
    turn_on(name);
}

static struct sockaddr_in at(int number, int host, int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(10 << 24 | number << 16 | host)};
}

// Sends a datagram to 10.N.0.2.
static void send_text(int number, const char *text)
{
    struct sockaddr_in to = at(number, 2, 7);
    CHECK(sendto(any_socket(), text, strlen(text), 0, (void *)&to, sizeof to) == (ssize_t)strlen(text));
}

static int is_ready(int fd, int events, int limit)
{
    struct pollfd wait = {.fd = fd, .events = events};
    CHECK(poll(&wait, 1, limit) >= 0);
    return wait.revents;
}

// Reads the next packet of IPv4 (or ARP): what IPv6 says by itself is not looked at.
static int next(int fd, int room, int before)
{
    for (;;) {
        CHECK(is_ready(fd, POLLIN, 5000) & POLLIN);
        int length = read(fd, bytes, room);
        if (length > before && bytes[before] >> 4 == 6)
            continue;
        return length;
    }
}

static unsigned sum(const unsigned char *data, int length, unsigned start)
{
    for (int i = 0; i < length; i += 2)
        start += data[i] << 8 | (i + 1 < length ? data[i + 1] : 0);
    while (start >> 16)
        start = (start >> 16) + (start & 0xffff);
    return start;
}

static void put16(unsigned char *at, unsigned value)
{
    at[0] = value >> 8, at[1] = value;
}

// An echo request from 10.N.0.2 for 10.N.0.1.
static int echo_request(unsigned char *out, int number, int payload)
{
    unsigned char head[28] = {0x45, 0, 0, 0, 0, 1, 0, 0, 64, 1, 0, 0, 10, number, 0, 2, 10, number, 0, 1, 8, 0, 0, 0, 7, 7, 0, 1};
    memcpy(out, head, sizeof head);
    for (int i = 0; i < payload; i++)
        out[28 + i] = i;
    put16(out + 2, 28 + payload);
    put16(out + 10, ~sum(out, 20, 0));
    put16(out + 22, ~sum(out + 20, 8 + payload, 0));
    return 28 + payload;
}

static void files_without_a_device(void)
{
    int fd = open_tun(), value = -1;
    struct ifreq request = {0};
    CHECK_FAILS(read(fd, bytes, 10), EBADFD);
    CHECK_FAILS(read(fd, bytes, 0), EBADFD);
    CHECK_FAILS(write(fd, bytes, 10), EBADFD);
    CHECK(is_ready(fd, POLLIN | POLLOUT, 0) == POLLERR);
    CHECK_FAILS(ioctl(fd, TUNGETIFF, &request), EBADFD);
    CHECK_FAILS(ioctl(fd, TUNSETPERSIST, 1), EBADFD);
    CHECK_FAILS(ioctl(fd, TIOCGWINSZ, bytes), EBADFD);
    CHECK_FAILS(ioctl(fd, TUNSETQUEUE, &request), EINVAL);
    CHECK_FAILS(ioctl(fd, TUNSETIFF, NULL), EFAULT);
    CHECK_FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
    CHECK(ioctl(fd, TUNGETFEATURES, &value) == 0 && value == 0x7173);
    int namespace = ioctl(fd, SIOCGSKNS);
    CHECK(namespace >= 0 && setns(namespace, CLONE_NEWNET) == 0);
    close(namespace);
    close(fd);
}

static void names_and_flags(void)
{
    static const struct {
        int flags, shown;
        const char *name;
    } made[] = {
        {IFF_TUN, 0x1001, "tun0"},
        {IFF_TAP, 0x1002, "tap0"},
        {IFF_TUN | IFF_TAP, 0x1001, "tun0"},
        {IFF_TUN | IFF_NO_PI, 0x1001, "tun0"},
        {IFF_TUN | IFF_VNET_HDR, 0x5001, "tun0"},
        {IFF_TUN | IFF_TUN_EXCL, 0x1001, "tun0"},
        {IFF_TUN | IFF_ONE_QUEUE, 0x3001, "tun0"},
        {IFF_TUN | IFF_MULTI_QUEUE, 0x1101, "tun0"},
        {IFF_TUN | IFF_NAPI, 0x1011, "tun0"},
        {IFF_TAP | IFF_NAPI | IFF_NAPI_FRAGS, 0x1032, "tap0"},
        {IFF_TUN | 0x800, 0x1001, "tun0"},
    };
    struct ifreq request;
    for (unsigned i = 0; i < sizeof made / sizeof *made; i++) {
        int fd = open_tun();
        CHECK(set_interface(fd, "", made[i].flags, &request) == 0);
        CHECK(strcmp(request.ifr_name, made[i].name) == 0 && request.ifr_flags == (short)made[i].flags);
        memset(&request, 0, sizeof request);
        CHECK(ioctl(fd, TUNGETIFF, &request) == 0);
        CHECK(strcmp(request.ifr_name, made[i].name) == 0 && request.ifr_flags == made[i].shown);
        CHECK_FAILS(set_interface(fd, "", IFF_TUN, NULL), EEXIST);
        CHECK(if_nametoindex(made[i].name) > 0);
        close(fd);
        CHECK(if_nametoindex(made[i].name) == 0);
    }
    int fd = open_tun();
    CHECK_FAILS(set_interface(fd, "", 0, NULL), EINVAL);
    CHECK_FAILS(set_interface(fd, "", IFF_TUN | IFF_NAPI | IFF_NAPI_FRAGS, NULL), EINVAL);
    CHECK_FAILS(set_interface(fd, "lo", IFF_TUN, NULL), EINVAL);
    CHECK_FAILS(set_interface(fd, "a/b", IFF_TUN, NULL), EINVAL);
    CHECK(set_interface(fd, "x%d", IFF_TUN, &request) == 0 && strcmp(request.ifr_name, "x0") == 0);
    int other = open_tun();
    CHECK_FAILS(set_interface(other, "x0", IFF_TUN, NULL), EBUSY);
    CHECK_FAILS(set_interface(other, "x0", IFF_TAP, NULL), EINVAL);
    CHECK_FAILS(set_interface(other, "x0", IFF_TUN | IFF_TUN_EXCL, NULL), EBUSY);
    CHECK_FAILS(set_interface(other, "x0", IFF_TUN | IFF_MULTI_QUEUE, NULL), EINVAL);
    int wanted = 4711;
    CHECK(ioctl(other, TUNSETIFINDEX, &wanted) == 0);
    CHECK(set_interface(other, "x%d", IFF_TAP, &request) == 0 && strcmp(request.ifr_name, "x1") == 0);
    CHECK(if_nametoindex("x1") == 4711);
    CHECK_FAILS(ioctl(other, TUNSETIFINDEX, &wanted), EPERM);
    close(other);
    close(fd);
}

static void settings(void)
{
    int tun = device("t0", IFF_TUN), tap = device("t1", IFF_TAP), value = -1;
    struct ifreq request = {0};
    CHECK_FAILS(ioctl(tun, TIOCGWINSZ, bytes), EINVAL);
    CHECK_FAILS(ioctl(tun, FIONREAD, &value), EINVAL);
    CHECK(ioctl(tun, TUNSETNOCSUM, 1) == 0 && ioctl(tun, TUNSETDEBUG, 1) == 0);
    CHECK(ioctl(tun, TUNGETSNDBUF, &value) == 0 && value == 0x7fffffff);
    value = 0;
    CHECK_FAILS(ioctl(tun, TUNSETSNDBUF, &value), EINVAL);
    value = 100000;
    CHECK(ioctl(tun, TUNSETSNDBUF, &value) == 0);
    value = 0;
    CHECK(ioctl(tun, TUNGETSNDBUF, &value) == 0 && value == 100000);
    CHECK(ioctl(tun, TUNGETVNETHDRSZ, &value) == 0 && value == 10);
    value = 9;
    CHECK_FAILS(ioctl(tun, TUNSETVNETHDRSZ, &value), EINVAL);
    value = 12;
    CHECK(ioctl(tun, TUNSETVNETHDRSZ, &value) == 0);
    CHECK(ioctl(tun, TUNGETVNETHDRSZ, &value) == 0 && value == 12);
    CHECK(ioctl(tun, TUNGETVNETLE, &value) == 0 && value == 0);
    value = 1;
    CHECK(ioctl(tun, TUNSETVNETLE, &value) == 0 && ioctl(tun, TUNGETVNETLE, &value) == 0 && value == 1);
    CHECK_FAILS(ioctl(tun, TUNGETVNETBE, &value), EINVAL);
    CHECK(ioctl(tun, TUNSETOFFLOAD, 0) == 0);
    CHECK(ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO) == 0);
    CHECK_FAILS(ioctl(tun, TUNSETOFFLOAD, TUN_F_TSO4), EINVAL);
    CHECK_FAILS(ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO_ECN), EINVAL);
    CHECK_FAILS(ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | 0x20), EINVAL);
    CHECK(ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | 0x60) == 0);
    CHECK_FAILS(ioctl(tun, TUNSETTXFILTER, bytes), EINVAL);
    CHECK_FAILS(ioctl(tun, TUNATTACHFILTER, bytes), EINVAL);
    CHECK_FAILS(ioctl(tun, TUNDETACHFILTER, bytes), EINVAL);
    CHECK_FAILS(ioctl(tun, TUNGETFILTER, bytes), EINVAL);

    // What the interfaces are.
    CHECK(flags_of("t0") == (IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST));
    CHECK(flags_of("t1") == (IFF_BROADCAST | IFF_MULTICAST));
    CHECK(ioctl(tun, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == 0xfffe);
    CHECK_FAILS(ioctl(tun, SIOCSIFHWADDR, &request), EOPNOTSUPP);
    CHECK(ioctl(tap, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == 1);
    CHECK((request.ifr_hwaddr.sa_data[0] & 3) == 2);
    request.ifr_hwaddr.sa_data[5] ^= 1;
    CHECK(ioctl(tap, SIOCSIFHWADDR, &request) == 0);
    strcpy(request.ifr_name, "t0");
    CHECK(ioctl(any_socket(), SIOCGIFTXQLEN, &request) == 0 && request.ifr_qlen == 500);
    CHECK(ioctl(tun, TUNSETLINK, 512) == 0);
    CHECK(ioctl(any_socket(), SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == 512);
    turn_on("t0");
    CHECK_FAILS(ioctl(tun, TUNSETLINK, 1), EBUSY);
    await_running("t0", 1);
    CHECK(flags_of("t0") == (IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST | IFF_UP | IFF_RUNNING));
    value = 0;
    CHECK(ioctl(tun, TUNSETCARRIER, &value) == 0);
    await_running("t0", 0);
    value = 1;
    CHECK(ioctl(tun, TUNSETCARRIER, &value) == 0);
    await_running("t0", 1);
    int namespace = ioctl(tun, TUNGETDEVNETNS);
    CHECK(namespace >= 0);
    close(namespace);
    close(tun);
    close(tap);
}

static void packets(void)
{
    int fd = device("t0", IFF_TUN | IFF_NO_PI), length;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    CHECK_FAILS(read(fd, bytes, 100), EAGAIN);
    CHECK(is_ready(fd, POLLIN | POLLOUT, 0) == 0);
    length = echo_request(bytes, 7, 10);
    CHECK_FAILS(write(fd, bytes, length), EIO);
    start("t0", 7);
    CHECK(is_ready(fd, POLLOUT, 0) == POLLOUT);

    send_text(7, "hello");
    CHECK(next(fd, sizeof bytes, 0) == 33);
    static const unsigned char head[] = {0x45, 0, 0, 33};
    CHECK(memcmp(bytes, head, sizeof head) == 0 && memcmp(bytes + 28, "hello", 5) == 0);
    // The checksums are finished.
    CHECK(sum(bytes, 20, 0) == 0xffff && sum(bytes + 12, 21, 17 + 13) == 0xffff);
    send_text(7, "hello");
    CHECK(next(fd, 10, 0) == 10);
    CHECK_FAILS(read(fd, bytes, 100), EAGAIN);
    // A read of nothing takes nothing.
    send_text(7, "hello");
    CHECK(read(fd, bytes, 0) == 0 && next(fd, 100, 0) == 33);

    // An answer for the socket.
    struct sockaddr_in from, to = at(7, 2, 7);
    int fd2 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(sendto(fd2, "question", 8, 0, (void *)&to, sizeof to) == 8);
    CHECK(next(fd, sizeof bytes, 0) == 36);
    unsigned char swapped[36];
    memcpy(swapped, bytes, 36);
    memcpy(swapped + 12, bytes + 16, 4), memcpy(swapped + 16, bytes + 12, 4);
    memcpy(swapped + 20, bytes + 22, 2), memcpy(swapped + 22, bytes + 20, 2);
    struct iovec pieces[3] = {{swapped, 1}, {swapped + 1, 26}, {swapped + 27, 9}};
    CHECK(writev(fd, pieces, 3) == 36);
    socklen_t size = sizeof from;
    CHECK(recvfrom(fd2, bytes, 100, 0, (void *)&from, &size) == 8 && memcmp(bytes, "question", 8) == 0);
    CHECK(from.sin_addr.s_addr == to.sin_addr.s_addr && from.sin_port == to.sin_port);
    close(fd2);

    // The network answers by itself.
    length = echo_request(bytes, 7, 1000);
    CHECK(write(fd, bytes, length) == length);
    memset(bytes, 0, sizeof bytes);
    CHECK(next(fd, sizeof bytes, 0) == length && bytes[20] == 0 && bytes[28 + 77] == 77);

    // What is no packet of IP.
    memset(bytes, 0, 100);
    CHECK_FAILS(write(fd, bytes, 100), EINVAL);
    CHECK_FAILS(write(fd, bytes, 0), EINVAL);
    bytes[0] = 0x45;
    for (int i = 1; i < 40; i++)
        CHECK(write(fd, bytes, i) == i);
    bytes[0] = 0x60;
    CHECK(write(fd, bytes, 5) == 5);
    unsigned char *volatile nowhere = (void *)8;
    CHECK_FAILS(write(fd, nowhere, 100), EFAULT);
    close(fd);
}

static void protocols_in_front(void)
{
    static const unsigned char v4[] = {0, 0, 8, 0, 0x45}, cut[] = {1, 0, 8, 0, 0x45};
    int fd = device("t0", IFF_TUN);
    start("t0", 9);
    send_text(9, "hello");
    CHECK(next(fd, sizeof bytes, 4) == 37 && memcmp(bytes, v4, 5) == 0);
    send_text(9, "hello");
    CHECK(next(fd, 37, 4) == 37 && memcmp(bytes, v4, 5) == 0);
    send_text(9, "hello");
    CHECK(next(fd, 20, 4) == 20 && memcmp(bytes, cut, 5) == 0);
    send_text(9, "hello");
    CHECK_FAILS(next(fd, 3, 4), EINVAL);
    int length = 4 + echo_request(bytes + 4, 9, 5);
    memcpy(bytes, v4, 4);
    CHECK(write(fd, bytes, length) == length);
    CHECK(next(fd, sizeof bytes, 4) == length && bytes[24] == 0);
    // Another protocol than that of the packet: nobody wants it.
    length = 4 + echo_request(bytes + 4, 9, 5);
    bytes[2] = 0x88, bytes[3] = 0xcc;
    CHECK(write(fd, bytes, length) == length);
    CHECK(!(is_ready(fd, POLLIN, 50) & POLLIN));
    CHECK_FAILS(write(fd, bytes, 3), EINVAL);
    CHECK(write(fd, bytes, 4) == 4);
    close(fd);
}

static void frames(void)
{
    int fd = device("t0", IFF_TAP | IFF_NO_PI);
    start("t0", 10);
    send_text(10, "hello");
    // Who has 10.10.0.2?
    CHECK(next(fd, sizeof bytes, 14) == 42);
    CHECK(bytes[12] == 8 && bytes[13] == 6 && bytes[21] == 1 && bytes[39] == 10 && bytes[41] == 2);
    unsigned char reply[42];
    memcpy(reply, bytes + 6, 6);
    memcpy(reply + 6, "\2\0\0\0\0\2\10\6\0\1\10\0\6\4\0\2\2\0\0\0\0\2\12\12\0\2", 26);
    memcpy(reply + 32, bytes + 22, 10);
    CHECK(write(fd, reply, 42) == 42);
    CHECK(next(fd, sizeof bytes, 14) == 47 && memcmp(bytes, "\2\0\0\0\0\2", 6) == 0);
    CHECK(memcmp(bytes + 42, "hello", 5) == 0);
    CHECK_FAILS(write(fd, bytes, 13), EINVAL);
    CHECK(write(fd, bytes, 14) == 14);

    // Only frames for some stations, or none.
    struct {
        struct tun_filter head;
        unsigned char stations[2][6];
    } wanted = {{0, 2}, {{2, 0, 0, 0, 0, 3}, {2, 0, 0, 0, 0, 4}}};
    CHECK(ioctl(fd, TUNSETTXFILTER, &wanted) == 2);
    send_text(10, "unwanted");
    wanted.stations[0][5] = 2;
    CHECK(ioctl(fd, TUNSETTXFILTER, &wanted) == 2);
    send_text(10, "wanted");
    CHECK(next(fd, sizeof bytes, 14) == 48 && memcmp(bytes + 42, "wanted", 6) == 0);
    wanted.head.count = 0;
    CHECK(ioctl(fd, TUNSETTXFILTER, &wanted) == 0);

    // Frames of 50 bytes are unwanted, and others wanted up to their 44th.
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 50, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 44),
    };
    struct sock_fprog program = {4, code}, got = {0};
    CHECK(ioctl(fd, TUNATTACHFILTER, &program) == 0);
    CHECK(ioctl(fd, TUNGETFILTER, &got) == 0 && got.len == 4 && got.filter == code);
    send_text(10, "unwanted");
    send_text(10, "wanted");
    CHECK(next(fd, sizeof bytes, 14) == 44 && memcmp(bytes + 42, "wa", 2) == 0);
    CHECK(ioctl(fd, TUNDETACHFILTER, &program) == 0);
    send_text(10, "unwanted");
    CHECK(next(fd, sizeof bytes, 14) == 50);
    close(fd);
}

static void room_is_bounded(void)
{
    int fd = device("t0", IFF_TUN | IFF_NO_PI), count = 0;
    start("t0", 11);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (read(fd, bytes, 100) > 0)
        ;
    for (int i = 0; i < 700; i++)
        send_text(11, "hello");
    while (read(fd, bytes, 100) > 0)
        count++;
    CHECK(count == 500);
    close(fd);
}

static void persistent_devices(void)
{
    int fd = device("t0", IFF_TUN | IFF_NO_PI);
    struct ifreq request = {0};
    CHECK(ioctl(fd, TUNSETPERSIST, 1) == 0);
    CHECK(ioctl(fd, TUNGETIFF, &request) == 0 && request.ifr_flags == 0x1801);
    start("t0", 12);
    close(fd);
    CHECK(flags_of("t0") & IFF_UP);
    await_running("t0", 0);
    // As another device now.
    fd = device("t0", IFF_TUN | IFF_VNET_HDR);
    await_running("t0", 1);
    CHECK(ioctl(fd, TUNGETIFF, &request) == 0 && request.ifr_flags == 0x5801);
    CHECK(ioctl(fd, TUNSETOWNER, 1234) == 0 && ioctl(fd, TUNSETGROUP, 5678) == 0);
    close(fd);

    for (int owner = 1233; owner <= 1234; owner++) {
        for (int group = 5677; group <= 5678; group++) {
            pid_t child = fork();
            if (child == 0) {
                fd = open_tun();
                int other = open_tun();
                CHECK(setresgid(group, group, group) == 0 && setresuid(owner, owner, owner) == 0);
                if (owner == 1234 && group == 5678)
                    CHECK(set_interface(fd, "t0", IFF_TUN, NULL) == 0);
                else
                    CHECK_FAILS(set_interface(fd, "t0", IFF_TUN, NULL), EPERM);
                CHECK_FAILS(set_interface(other, "t1", IFF_TUN, NULL), EPERM);
                _exit(0);
            }
            int status;
            CHECK(waitpid(child, &status, 0) == child && status == 0);
        }
    }
    fd = device("t0", IFF_TUN);
    CHECK(ioctl(fd, TUNSETPERSIST, 0) == 0);
    close(fd);
    CHECK(flags_of("t0") == -1);
}

static void several_queues(void)
{
    int flags = IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE;
    int fds[2] = {device("t0", flags), device("t0", flags)};
    struct ifreq request = {0};
    start("t0", 13);
    fcntl(fds[0], F_SETFL, O_NONBLOCK), fcntl(fds[1], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 2; i++)
        while (read(fds[i], bytes, 100) > 0)
            ;
    // Answers come back where the last but one question was asked, or the last one.
    for (int i = 0; i < 6; i++) {
        int length = echo_request(bytes, 13, 40 + i);
        CHECK(write(fds[i / 3], bytes, length) == length);
        if (i % 3 > 0) {
            CHECK(next(fds[i / 3], sizeof bytes, 0) == length);
            continue;
        }
        struct pollfd either[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        CHECK(poll(either, 2, 5000) == 1);
        CHECK(next(fds[either[1].revents != 0], sizeof bytes, 0) == length);
    }
    request.ifr_flags = IFF_ATTACH_QUEUE;
    CHECK_FAILS(ioctl(fds[0], TUNSETQUEUE, &request), EINVAL);
    request.ifr_flags = IFF_DETACH_QUEUE;
    CHECK(ioctl(fds[0], TUNSETQUEUE, &request) == 0);
    CHECK_FAILS(ioctl(fds[0], TUNSETQUEUE, &request), EINVAL);
    CHECK(ioctl(fds[0], TUNGETIFF, &request) == 0 && (unsigned short)request.ifr_flags == 0x1501);
    for (int i = 0; i < 20; i++)
        send_text(13, "hello");
    for (int i = 0; i < 20; i++)
        CHECK(next(fds[1], 100, 0) == 33);
    CHECK_FAILS(read(fds[0], bytes, 100), EAGAIN);
    request.ifr_flags = IFF_ATTACH_QUEUE;
    CHECK(ioctl(fds[0], TUNSETQUEUE, &request) == 0);
    close(fds[1]);
    send_text(13, "hello");
    CHECK(next(fds[0], 100, 0) == 33);
    await_running("t0", 1);
    close(fds[0]);
    CHECK(flags_of("t0") == -1);
}

static int waiting;

static void *wait_for_packet(void *arg)
{
    *(pid_t *)arg = gettid();
    errno = 0;
    long length = read(waiting, bytes, sizeof bytes);
    return (void *)(length < 0 ? -(long)errno : length);
}

static void *while_it_waits(void (*act)(void))
{
    pthread_t thread;
    void *result;
    static volatile pid_t tid;
    tid = 0;
    CHECK(pthread_create(&thread, NULL, wait_for_packet, (void *)&tid) == 0);
    while (tid == 0)
        usleep(1000);
    wait_until_asleep(tid);
    act();
    CHECK(pthread_join(thread, &result) == 0);
    return result;
}

static void send_one(void)
{
    send_text(14, "hello");
}

static void delete(void)
{
    CHECK(system("ip link del t0") == 0);
}

static void waits_end(void)
{
    struct ifreq request;
    waiting = device("t0", IFF_TUN | IFF_NO_PI);
    start("t0", 14);
    fcntl(waiting, F_SETFL, O_NONBLOCK);
    while (read(waiting, bytes, 100) > 0)
        ;
    fcntl(waiting, F_SETFL, 0);
    CHECK(while_it_waits(send_one) == (void *)33);
    // By a deleted interface: Linux has EFAULT for who waits, and EBADFD for who comes later.
    long error = (long)while_it_waits(delete);
    CHECK(error == -EFAULT || error == -EBADFD);
    CHECK_FAILS(read(waiting, bytes, 100), EBADFD);
    CHECK_FAILS(write(waiting, bytes, 100), EBADFD);
    CHECK(is_ready(waiting, POLLIN | POLLOUT, 0) == POLLERR);
    // And it can be used for another one.
    CHECK(set_interface(waiting, "t1", IFF_TAP, &request) == 0 && if_nametoindex("t1") > 0);
    close(waiting);
}

// A connection from 10.N.0.2 port 5000, of which the test is one end. The headers are those of TCP without options.
struct connection {
    int fd, number, peer_port;
    unsigned sent, received;
};

static int segment(unsigned char *out, const struct connection *c, int flags, const char *data, int length)
{
    unsigned char head[40] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, c->number, 0, 2, 10, c->number, 0, 1};
    put16(head + 2, 40 + length);
    put16(head + 10, ~sum(head, 20, 0));
    put16(head + 20, 5000), put16(head + 22, c->peer_port);
    put16(head + 24, c->sent >> 16), put16(head + 26, c->sent);
    put16(head + 28, c->received >> 16), put16(head + 30, c->received);
    head[32] = 5 << 4, head[33] = flags;
    put16(head + 34, 65535);
    memcpy(out, head, 40);
    memcpy(out + 40, data, length);
    return 40 + length;
}

static void finish(unsigned char *segment, int length)
{
    put16(segment + 36, ~sum(segment + 12, length - 12, 6 + length - 20));
}

// Super-segments and unfinished checksums, in and out.
static void left_to_the_other_end(void)
{
    static char data[50000];
    struct virtio_net_hdr *header = (void *)bytes;
    int fd = device("t0", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR), one = 1, length;
    start("t0", 15);
    send_text(15, "hello");
    CHECK(next(fd, sizeof bytes, 10) == 43 && header->flags == 0 && header->gso_type == 0);
    CHECK(sum(bytes + 10 + 12, 21, 17 + 13) == 0xffff);
    send_text(15, "hello");
    CHECK_FAILS(next(fd, 9, 10), EINVAL);
    CHECK(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0);
    send_text(15, "hello");
    CHECK(next(fd, sizeof bytes, 10) == 43);
    CHECK(header->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && header->csum_start == 20 && header->csum_offset == 6);
    CHECK(sum(bytes + 10 + 12, 8, 17 + 13) == (unsigned)(bytes[36] << 8 | bytes[37]));
    int size = 12;
    CHECK(ioctl(fd, TUNSETVNETHDRSZ, &size) == 0);
    send_text(15, "hello");
    CHECK(next(fd, sizeof bytes, 12) == 45 && header->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK(bytes[10] == 0 && bytes[11] == 0);
    size = 10;
    CHECK(ioctl(fd, TUNSETVNETHDRSZ, &size) == 0);

    // A connection to a listener here.
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in own = at(15, 1, 80);
    CHECK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    CHECK(bind(listener, (void *)&own, sizeof own) == 0 && listen(listener, 1) == 0);
    struct connection c = {fd, 15, 80, 1000, 0};
    memset(bytes, 0, 10);
    length = segment(bytes + 10, &c, 2, "", 0);
    finish(bytes + 10, length);
    CHECK(write(fd, bytes, 10 + length) == 10 + length);
    CHECK(next(fd, sizeof bytes, 10) >= 50 && bytes[43] == 0x12);
    c.sent++;
    c.received = (bytes[34] << 24 | bytes[35] << 16 | bytes[36] << 8 | bytes[37]) + 1;
    memset(bytes, 0, 10);
    length = segment(bytes + 10, &c, 0x10, "", 0);
    finish(bytes + 10, length);
    CHECK(write(fd, bytes, 10 + length) == 10 + length);
    int stream = accept(listener, NULL, NULL);
    CHECK(stream >= 0);

    // In: 20000 bytes in one, with a checksum that nobody made.
    for (int i = 0; i < (int)sizeof data; i++)
        data[i] = i / 251;
    memset(bytes, 0, 10);
    header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    header->hdr_len = 40, header->gso_size = 1400, header->csum_start = 20, header->csum_offset = 16;
    length = segment(bytes + 10, &c, 0x18, data, 20000);
    put16(bytes + 10 + 36, sum(bytes + 10 + 12, 8, 6 + length - 20));
    CHECK(write(fd, bytes, 10 + length) == 10 + length);
    c.sent += 20000;
    static char got[20000];
    CHECK(recv(stream, got, sizeof got, MSG_WAITALL) == 20000 && memcmp(got, data, 20000) == 0);

    // Out: more than fits one segment comes in one piece.
    CHECK(send(stream, data, sizeof data, MSG_DONTWAIT) > 10000);
    int is_whole = 0;
    unsigned done = 0;
    for (int i = 0; i < 100 && !is_whole; i++) {
        length = next(fd, sizeof bytes, 10);
        unsigned at = bytes[34] << 24 | bytes[35] << 16 | bytes[36] << 8 | bytes[37];
        int start = 10 + 20 + (bytes[42] >> 4) * 4;
        if (length == start || at != c.received + done)
            continue;
        CHECK(memcmp(bytes + start, data + done, length - start) == 0);
        done += length - start;
        CHECK(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
        if (length > 2000) {
            CHECK(header->gso_type == VIRTIO_NET_HDR_GSO_TCPV4);
            CHECK(header->hdr_len == start - 10 && header->gso_size > 500 && header->gso_size <= 1460);
            is_whole = 1;
        }
    }
    CHECK(is_whole);

    // Headers that make no sense.
    length = segment(bytes + 10, &c, 0x10, "", 0);
    memset(bytes, 0, 10);
    CHECK_FAILS(write(fd, bytes, 9), EINVAL);
    header->gso_type = 9;
    CHECK_FAILS(write(fd, bytes, 10 + length), EINVAL);
    header->gso_type = 0, header->hdr_len = 200;
    CHECK_FAILS(write(fd, bytes, 10 + length), EINVAL);
    header->hdr_len = 0, header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, header->csum_start = 60;
    CHECK_FAILS(write(fd, bytes, 10 + length), EINVAL);
    close(stream);
    close(listener);
    close(fd);
}

// It goes where interfaces go, and its file with it.
static void moves(void)
{
    int fd = device("t0", IFF_TUN | IFF_NO_PI), ready[2], done[2];
    char command[64], byte;
    CHECK(pipe(ready) == 0 && pipe(done) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        CHECK(unshare(CLONE_NEWNET) == 0);
        CHECK(write(ready[1], "", 1) == 1 && read(done[0], &byte, 1) == 1);
        int own = socket(AF_INET, SOCK_DGRAM, 0);
        struct ifreq request = {.ifr_name = "t0"};
        struct sockaddr_in to = at(16, 2, 7);
        CHECK(system("ip address add 10.16.0.1/24 dev t0 && ip link set t0 up") == 0);
        CHECK(sendto(own, "moved", 5, 0, (void *)&to, sizeof to) == 5);
        CHECK(write(ready[1], "", 1) == 1 && read(done[0], &byte, 1) == 1);
        CHECK_FAILS(ioctl(own, SIOCGIFFLAGS, &request), ENODEV);
        _exit(0);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    snprintf(command, sizeof command, "ip link set t0 netns %d", (int)child);
    CHECK(system(command) == 0 && flags_of("t0") == -1);
    CHECK(write(done[1], "", 1) == 1 && read(ready[0], &byte, 1) == 1);
    CHECK(next(fd, 100, 0) == 33 && memcmp(bytes + 28, "moved", 5) == 0);
    int length = echo_request(bytes, 16, 4);
    CHECK(write(fd, bytes, length) == length && next(fd, 100, 0) == length && bytes[20] == 0);
    close(fd);
    CHECK(write(done[1], "", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    own_network();
    PART(files_without_a_device);
    PART(names_and_flags);
    PART(settings);
    PART(packets);
    PART(protocols_in_front);
    PART(frames);
    PART(room_is_bounded);
    PART(persistent_devices);
    PART(several_queues);
    PART(waits_end);
    PART(left_to_the_other_end);
    PART(moves);
    return 0;
}
