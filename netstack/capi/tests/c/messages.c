/* sendmsg and recvmsg: several buffers, control messages both ways, and the error queue. With -DNATIVE the same on the host's kernel. */
#include "check.h"
#ifdef NATIVE
#include "native.h"
#else
#include "netstack.h"
#endif
#include <linux/errqueue.h>
#include <linux/udp.h>
#include <sys/time.h>
#include <time.h>

static ns_stack *stack;
static struct sockaddr_in there4;
static struct sockaddr_in6 there6;

/* A message under construction. */
static union {
    char bytes[512];
    struct cmsghdr align;
} control;
static struct msghdr message;
static struct iovec parts[3];
static unsigned char first[4], second[64];
static union {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
} name;

static void begin_send(const void *to, socklen_t len) {
    memset(&control, 0, sizeof control);
    parts[0] = (struct iovec){.iov_base = "ab", .iov_len = 2};
    parts[1] = (struct iovec){.iov_base = NULL, .iov_len = 0};
    parts[2] = (struct iovec){.iov_base = "cdefg", .iov_len = 5};
    message = (struct msghdr){.msg_name = (void *)to, .msg_namelen = len, .msg_iov = parts, .msg_iovlen = 3, .msg_control = control.bytes};
}

static void add(int level, int kind, const void *data, size_t len) {
    struct cmsghdr *header = (struct cmsghdr *)(control.bytes + message.msg_controllen);
    header->cmsg_level = level;
    header->cmsg_type = kind;
    header->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(header), data, len);
    message.msg_controllen += CMSG_SPACE(len);
}

static void add_int(int level, int kind, int value) { add(level, kind, &value, sizeof value); }

static void begin_receive(size_t room) {
    memset(&control, 0, sizeof control);
    memset(&name, 0, sizeof name);
    memset(second, 0, sizeof second);
    parts[0] = (struct iovec){.iov_base = first, .iov_len = sizeof first};
    parts[1] = (struct iovec){.iov_base = second, .iov_len = sizeof second};
    message = (struct msghdr){.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = parts, .msg_iovlen = 2,
                              .msg_control = control.bytes, .msg_controllen = room};
}

static void *find(int level, int kind, size_t len) {
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == level && at->cmsg_type == kind) {
            CHECK(at->cmsg_len, CMSG_LEN(len));
            return CMSG_DATA(at);
        }
    fprintf(stderr, "no control message %d/%d\n", level, kind);
    exit(1);
}

static int find_int(int level, int kind) {
    int value;
    memcpy(&value, find(level, kind, sizeof value), sizeof value);
    return value;
}

static void on(int socket, int level, int option) {
    int yes = 1, got = 0;
    socklen_t len = sizeof got;
    CHECK(ns_getsockopt(stack, socket, level, option, &got, &len), 0);
    CHECK(got, 0);
    CHECK(ns_setsockopt(stack, socket, level, option, &yes, sizeof yes), 0);
    CHECK(ns_getsockopt(stack, socket, level, option, &got, &len), 0);
    CHECK(got, 1);
}

static void version4(void) {
    int a = ns_socket(stack, AF_INET, SOCK_DGRAM, 0), b = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    socklen_t len = sizeof there4;
    there4 = address4("127.0.0.1", 0);
    CHECK(ns_bind(stack, b, (struct sockaddr *)&there4, len), 0);
    CHECK(ns_getsockname(stack, b, (struct sockaddr *)&there4, &len), 0);
    on(b, IPPROTO_IP, IP_PKTINFO);
    on(b, IPPROTO_IP, IP_RECVTTL);
    on(b, IPPROTO_IP, IP_RECVTOS);
    on(b, IPPROTO_IP, IP_RECVORIGDSTADDR);
    on(b, SOL_SOCKET, SO_TIMESTAMPNS);

    begin_send(&there4, sizeof there4);
    add_int(IPPROTO_IP, IP_TTL, 7);
    add_int(IPPROTO_IP, IP_TOS, 0x48);
    struct in_pktinfo from = {.ipi_spec_dst.s_addr = inet_addr("127.0.0.3")};
    add(IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    struct timespec now, told;
    clock_gettime(CLOCK_REALTIME, &now);

    begin_receive(sizeof control);
    CHECK(ns_recvmsg(stack, b, &message, 0), 7);
    CHECK(memcmp(first, "abcd", 4), 0);
    CHECK(memcmp(second, "efg", 4), 0);
    CHECK(message.msg_flags, 0);
    CHECK(message.msg_namelen, sizeof name.in4);
    CHECK(name.in4.sin_addr.s_addr, inet_addr("127.0.0.3"));
    CHECK(find_int(IPPROTO_IP, IP_TTL), 7);
    CHECK(*(unsigned char *)find(IPPROTO_IP, IP_TOS, 1), 0x48);
    struct in_pktinfo info;
    memcpy(&info, find(IPPROTO_IP, IP_PKTINFO, sizeof info), sizeof info);
    CHECK(info.ipi_ifindex, 1);
    CHECK(info.ipi_addr.s_addr, inet_addr("127.0.0.1"));
    CHECK(memcmp(find(IPPROTO_IP, IP_RECVORIGDSTADDR, sizeof there4), &there4, 8), 0);
    memcpy(&told, find(SOL_SOCKET, SO_TIMESTAMPNS, sizeof told), sizeof told);
    CHECK(told.tv_sec <= now.tv_sec + 1 && told.tv_sec >= now.tv_sec - 10, 1);
    size_t whole = message.msg_controllen;

    /* The other kind of time replaces the first; data and control messages are cut. */
    int yes = 1;
    CHECK(ns_setsockopt(stack, b, SOL_SOCKET, SO_TIMESTAMP, &yes, sizeof yes), 0);
    begin_send(&there4, sizeof there4);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    begin_receive(CMSG_SPACE(sizeof(struct timeval)) + CMSG_LEN(4));
    CHECK(message.msg_controllen < whole, 1);
    message.msg_iovlen = 1;
    CHECK(ns_recvmsg(stack, b, &message, 0), 4);
    CHECK(message.msg_flags, MSG_TRUNC | MSG_CTRUNC);
    CHECK(message.msg_controllen, CMSG_SPACE(sizeof(struct timeval)) + CMSG_LEN(4));
    struct timeval told_us;
    memcpy(&told_us, find(SOL_SOCKET, SO_TIMESTAMP, sizeof told_us), sizeof told_us);
    CHECK(told_us.tv_sec - told.tv_sec < 10, 1);

    /* Without room, and without wanting to know. */
    begin_send(&there4, sizeof there4);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    begin_receive(0);
    message.msg_control = NULL;
    message.msg_name = NULL;
    CHECK(ns_recvmsg(stack, b, &message, MSG_PEEK), 7);
    CHECK(message.msg_flags, MSG_CTRUNC);
    message.msg_iovlen = 1;
    CHECK(ns_recvmsg(stack, b, &message, MSG_TRUNC), 7);
    CHECK(message.msg_flags, MSG_TRUNC | MSG_CTRUNC);
    CHECK(ns_recvmsg(stack, b, &message, MSG_DONTWAIT), -EAGAIN);

    /* What is refused. */
    begin_send(&there4, sizeof there4);
    add_int(IPPROTO_IP, IP_TTL, 0);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    begin_send(&there4, sizeof there4);
    add_int(IPPROTO_IP, 99, 0);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    begin_send(&there4, sizeof there4);
    add_int(IPPROTO_IP, IP_TTL, 9);
    ((struct cmsghdr *)control.bytes)->cmsg_len = 1000;
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    begin_send(&there4, sizeof there4);
    message.msg_iovlen = 1025;
    CHECK(ns_sendmsg(stack, a, &message, 0), -EMSGSIZE);
    begin_send(&there4, sizeof there4);
    parts[1].iov_len = 1;
    CHECK(ns_sendmsg(stack, a, &message, 0), -EFAULT);
    begin_send(&there4, sizeof there4);
    struct in_pktinfo nobody = {.ipi_spec_dst.s_addr = inet_addr("192.0.2.9")};
    add(IPPROTO_IP, IP_PKTINFO, &nobody, sizeof nobody);
    CHECK(ns_sendmsg(stack, a, &message, 0), -ENETUNREACH);
    begin_send(&there4, sizeof there4);
    nobody.ipi_spec_dst.s_addr = inet_addr("224.0.0.1");
    add(IPPROTO_IP, IP_PKTINFO, &nobody, sizeof nobody);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    CHECK(ns_close(stack, a), 0);
    CHECK(ns_close(stack, b), 0);
}

static void version6(void) {
    int a = ns_socket(stack, AF_INET6, SOCK_DGRAM, 0), b = ns_socket(stack, AF_INET6, SOCK_DGRAM, 0);
    socklen_t len = sizeof there6;
    there6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    CHECK(ns_bind(stack, b, (struct sockaddr *)&there6, len), 0);
    CHECK(ns_getsockname(stack, b, (struct sockaddr *)&there6, &len), 0);
    on(b, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    on(b, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
    on(b, IPPROTO_IPV6, IPV6_RECVTCLASS);
    on(b, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR);
    begin_send(&there6, sizeof there6);
    add_int(IPPROTO_IPV6, IPV6_HOPLIMIT, 9);
    add_int(IPPROTO_IPV6, IPV6_TCLASS, 0x30);
    struct in6_pktinfo from = {.ipi6_addr = IN6ADDR_LOOPBACK_INIT, .ipi6_ifindex = 1};
    add(IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    begin_receive(sizeof control);
    CHECK(ns_recvmsg(stack, b, &message, 0), 7);
    CHECK(message.msg_namelen, sizeof name.in6);
    CHECK(find_int(IPPROTO_IPV6, IPV6_HOPLIMIT), 9);
    CHECK(find_int(IPPROTO_IPV6, IPV6_TCLASS), 0x30);
    CHECK(memcmp(find(IPPROTO_IPV6, IPV6_PKTINFO, sizeof from), &from, sizeof from), 0);
    CHECK(memcmp(find(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, sizeof there6), &there6, sizeof there6), 0);

    begin_send(&there6, sizeof there6);
    add_int(IPPROTO_IPV6, IPV6_HOPLIMIT, 256);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    begin_send(&there6, sizeof there6);
    inet_pton(AF_INET6, "2001:db8::9", &from.ipi6_addr);
    add(IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    CHECK(ns_close(stack, a), 0);
    CHECK(ns_close(stack, b), 0);
}

/* Seven bytes as datagrams of three, received as one. */
static void segments(void) {
    int a = ns_socket(stack, AF_INET, SOCK_DGRAM, 0), b = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    socklen_t len = sizeof there4;
    there4 = address4("127.0.0.1", 0);
    CHECK(ns_bind(stack, b, (struct sockaddr *)&there4, len), 0);
    CHECK(ns_getsockname(stack, b, (struct sockaddr *)&there4, &len), 0);
    on(b, IPPROTO_UDP, UDP_GRO);
    begin_send(&there4, sizeof there4);
    unsigned short size = 3;
    add(IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    begin_receive(sizeof control);
    CHECK(ns_recvmsg(stack, b, &message, 0), 7);
    CHECK(find_int(IPPROTO_UDP, UDP_GRO), 3);
    begin_send(&there4, sizeof there4);
    add_int(IPPROTO_UDP, UDP_SEGMENT, 3);
    CHECK(ns_sendmsg(stack, a, &message, 0), -EINVAL);
    CHECK(ns_close(stack, a), 0);
    CHECK(ns_close(stack, b), 0);
}

/* Nobody listens; the ICMP error tells, with the beginning of what was sent. */
static void errors(void) {
    int probe = ns_socket(stack, AF_INET, SOCK_DGRAM, 0), a = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    socklen_t len = sizeof there4;
    there4 = address4("127.0.0.1", 0);
    CHECK(ns_bind(stack, probe, (struct sockaddr *)&there4, len), 0);
    CHECK(ns_getsockname(stack, probe, (struct sockaddr *)&there4, &len), 0);
    CHECK(ns_close(stack, probe), 0);
    on(a, IPPROTO_IP, IP_RECVERR);
    begin_receive(sizeof control);
    CHECK(ns_recvmsg(stack, a, &message, MSG_ERRQUEUE), -EAGAIN);
    begin_send(&there4, sizeof there4);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    struct pollfd entry = {.fd = a, .events = 0};
    CHECK(ns_poll(stack, &entry, 1, 1000), 1);
    CHECK(entry.revents, POLLERR);
    begin_receive(sizeof control);
    message.msg_iovlen = 1;
    CHECK(ns_recvmsg(stack, a, &message, MSG_ERRQUEUE), 4);
    CHECK(memcmp(first, "abcd", 4), 0);
    CHECK(message.msg_flags, MSG_ERRQUEUE | MSG_TRUNC);
    CHECK(name.in4.sin_port, there4.sin_port);
    CHECK(name.in4.sin_addr.s_addr, inet_addr("127.0.0.1"));
    struct {
        struct sock_extended_err what;
        struct sockaddr_in who;
    } error;
    memcpy(&error, find(IPPROTO_IP, IP_RECVERR, sizeof error), sizeof error);
    CHECK(error.what.ee_errno, ECONNREFUSED);
    CHECK(error.what.ee_origin, SO_EE_ORIGIN_ICMP);
    CHECK(error.what.ee_type, 3);
    CHECK(error.what.ee_code, 3);
    CHECK(error.who.sin_family, AF_INET);
    CHECK(error.who.sin_addr.s_addr, inet_addr("127.0.0.1"));
    CHECK(ns_recvmsg(stack, a, &message, MSG_ERRQUEUE), -EAGAIN);
    CHECK(ns_close(stack, a), 0);

    /* An IPv6 socket, a mapped destination, and the short way. */
    a = ns_socket(stack, AF_INET6, SOCK_DGRAM, 0);
    on(a, IPPROTO_IPV6, IPV6_RECVERR);
    there6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = there4.sin_port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    begin_send(&there6, sizeof there6);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    entry.fd = a;
    CHECK(ns_poll(stack, &entry, 1, 1000), 1);
    CHECK(ns_recv(stack, a, second, sizeof second, MSG_ERRQUEUE), 7);
    CHECK(ns_close(stack, a), 0);
}

/* Several at once, with lengths of their own. */
static void many(void) {
    int a = ns_socket(stack, AF_INET, SOCK_DGRAM, 0), b = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    struct mmsghdr messages[4];
    struct iovec vectors[4];
    char data[4][8];
    socklen_t len = sizeof there4;
    there4 = address4("127.0.0.1", 0);
    CHECK(ns_bind(stack, b, (struct sockaddr *)&there4, len), 0);
    CHECK(ns_getsockname(stack, b, (struct sockaddr *)&there4, &len), 0);
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 4; i++) {
        memset(data[i], 'a' + i, sizeof data[i]);
        vectors[i] = (struct iovec){.iov_base = data[i], .iov_len = i + 1};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &there4, .msg_namelen = len, .msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    CHECK(ns_sendmmsg(stack, a, messages, 2, 0), 2);
    CHECK(ns_sendmmsg(stack, a, messages + 2, 2, MSG_DONTWAIT), 2);
    CHECK(messages[3].msg_len, 4);
    messages[1].msg_hdr.msg_namelen = 3;
    CHECK(ns_sendmmsg(stack, a, messages, 2, 0), 1);
    CHECK(ns_sendmmsg(stack, a, messages + 1, 1, 0), -EINVAL);
    for (int i = 0; i < 4; i++) {
        memset(data[i], 0, sizeof data[i]);
        vectors[i].iov_len = sizeof data[i];
        messages[i].msg_hdr.msg_namelen = sizeof there4;
    }
    CHECK(ns_recvmmsg(stack, b, messages, 4, 0), 4);
    for (int i = 0; i < 4; i++) {
        CHECK(messages[i].msg_len, i + 1);
        CHECK(data[i][i], 'a' + i);
    }
    CHECK(ns_recvmmsg(stack, b, messages, 4, MSG_WAITFORONE), 1);
    CHECK(messages[0].msg_len, 1);
    CHECK(ns_recvmmsg(stack, b, messages, 4, MSG_DONTWAIT), -EAGAIN);
    CHECK(ns_recvmmsg(stack, b, messages, 0, 0), 0);
    CHECK(ns_close(stack, a), 0);
    CHECK(ns_close(stack, b), 0);
}

/* On a stream there are only the buffers. */
static void stream(void) {
    int listener = ns_socket(stack, AF_INET, SOCK_STREAM, 0), a = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof there4;
    there4 = address4("127.0.0.1", 0);
    CHECK(ns_bind(stack, listener, (struct sockaddr *)&there4, len), 0);
    CHECK(ns_listen(stack, listener, 1), 0);
    CHECK(ns_getsockname(stack, listener, (struct sockaddr *)&there4, &len), 0);
    CHECK(ns_connect(stack, a, (struct sockaddr *)&there4, len), 0);
    int b = ns_accept(stack, listener, NULL, NULL, 0);
    begin_send(NULL, 0);
    CHECK(ns_sendmsg(stack, a, &message, 0), 7);
    CHECK(ns_sendmsg(stack, a, &message, MSG_OOB), 7);
    begin_receive(sizeof control);
    parts[1].iov_len = 9;
    CHECK(ns_recvmsg(stack, b, &message, MSG_WAITALL), 13);
    CHECK(message.msg_namelen, 0);
    CHECK(message.msg_controllen, 0);
    CHECK(memcmp(second, "efgabcdef", 9), 0);
    CHECK(ns_recvmsg(stack, b, &message, MSG_OOB), 1);
    CHECK(message.msg_flags & MSG_OOB, MSG_OOB);
    CHECK(first[0], 'g');
    CHECK(ns_close(stack, a), 0);
    CHECK(ns_recvmsg(stack, b, &message, 0), 0);
    CHECK(ns_close(stack, b), 0);
    CHECK(ns_close(stack, listener), 0);
}

int main(void) {
    stack = ns_stack_new(NULL);
    version4();
    version6();
    segments();
    errors();
    many();
    stream();
#ifndef NATIVE
    CHECK(ns_sendmsg(stack, 0, NULL, 0), -EBADF);
    int socket = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    CHECK(ns_sendmsg(stack, socket, NULL, 0), -EFAULT);
    CHECK(ns_recvmsg(stack, socket, NULL, 0), -EFAULT);
#endif
    ns_stack_free(stack);
    return 0;
}
