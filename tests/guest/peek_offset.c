// SO_PEEK_OFF on every kind of socket that has it. What each call gives goes to standard output, where it is compared with Linux.
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

static int offset_of(int fd) {
    int value = 99;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, &len) == 0 ? value : -1000 - errno;
}

static int set_offset(int fd, int value) {
    return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value) == 0 ? 0 : -errno;
}

static void receive(int fd, int len, int flags) {
    char buffer[200] = {0};
    struct iovec part = {buffer, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int got = recvmsg(fd, &message, flags | MSG_DONTWAIT);
    printf("  receive %d with %x: %d '%.*s' %s flags %x, offset %d\n", len, flags, got, got < 0 ? 0 : got < len ? got : len,
           buffer, got < 0 ? strerrorname_np(errno) : "", message.msg_flags, offset_of(fd));
}

static void peek_from(int fd, int offset, int len, int flags) {
    CHECK(set_offset(fd, offset) == 0);
    receive(fd, len, flags | MSG_PEEK);
}

static void send_text(int fd, const char *text) {
    CHECK(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static void datagrams(int from, int to, const char *name) {
    printf("%s: %d, %d\n", name, offset_of(to), set_offset(to, 0));
    send_text(from, "0123456789");
    send_text(from, "abcdef");
    send_text(from, "");
    send_text(from, "XYZ");
    for (int i = 0; i < 8; i++)
        receive(to, 4, MSG_PEEK);
    for (int len = 5; len <= 9; len++)
        peek_from(to, 3, len, 0);
    for (int len = 5; len <= 9; len += 2)
        peek_from(to, 3, len, MSG_TRUNC);
    peek_from(to, 12, 3, 0);
    receive(to, 4, 0);
    receive(to, 2, MSG_PEEK);
    receive(to, 2, MSG_TRUNC);
    for (int i = 0; i < 3; i++)
        receive(to, 9, 0);
    send_text(from, "0123456789");
    peek_from(to, -7, 4, 0);
    receive(to, 4, MSG_PEEK);
    receive(to, 4, 0);
}

// What is sent on a stream is there at once, or soon.
static void wait_for(int fd, int len) {
    char buffer[64];
    CHECK(set_offset(fd, -1) == 0);
    while (recv(fd, buffer, len, MSG_PEEK | MSG_WAITALL) < len)
        usleep(1000);
}

static void stream(int from, int to, const char *name, int discards) {
    printf("%s: %d\n", name, offset_of(to));
    send_text(from, "0123456789");
    send_text(from, "abcdef");
    wait_for(to, 16);
    CHECK(set_offset(to, 0) == 0);
    for (int i = 0; i < 6; i++)
        receive(to, 4, MSG_PEEK);
    peek_from(to, 8, 5, 0);
    receive(to, 4, 0);
    receive(to, 100, MSG_PEEK);
    if (discards) {
        peek_from(to, 2, 100, MSG_TRUNC);
        CHECK(set_offset(to, 2) == 0);
        receive(to, 5, MSG_TRUNC);
    } else {
        receive(to, 5, 0);
    }
    receive(to, 2, MSG_PEEK);
    peek_from(to, -1, 3, 0);
    receive(to, 3, MSG_PEEK);
    peek_from(to, 50, 3, 0);
    peek_from(to, -5, 3, 0);
    CHECK(set_offset(to, 7) == 0 && shutdown(from, SHUT_WR) == 0);
    struct pollfd pollfd = {.fd = to, .events = POLLRDHUP};
    CHECK(poll(&pollfd, 1, -1) == 1);
    receive(to, 3, MSG_PEEK);
    receive(to, 3, 0);
    receive(to, 300, 0);
    receive(to, 3, MSG_PEEK);
}

static void *send_later(void *fd) {
    usleep(20000);
    send_text(*(int *)fd, "later");
    return NULL;
}

// A peek behind what is there waits for more.
static void waits(int from, int to, const char *name) {
    char buffer[16] = {0};
    pthread_t thread;
    send_text(from, "now");
    CHECK(set_offset(to, 3) == 0 && pthread_create(&thread, NULL, send_later, &from) == 0);
    int got = recv(to, buffer, sizeof buffer, MSG_PEEK);
    printf("%s waits: %d '%s', offset %d\n", name, got, buffer, offset_of(to));
    CHECK(pthread_join(thread, NULL) == 0);
}

static void internet(int family) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = family == AF_INET6 ? (void *)&six : (void *)&four;
    socklen_t len = family == AF_INET6 ? sizeof six : sizeof four;
    int to = socket(family, SOCK_DGRAM, 0), from = socket(family, SOCK_DGRAM, 0);
    CHECK(bind(to, address, len) == 0 && getsockname(to, address, &len) == 0 && connect(from, address, len) == 0);
    datagrams(from, to, "udp");
    waits(from, to, "udp");

    six.sin6_port = four.sin_port = 0;
    int listener = socket(family, SOCK_STREAM, 0);
    CHECK(bind(listener, address, len) == 0 && listen(listener, 2) == 0 && getsockname(listener, address, &len) == 0);
    CHECK(set_offset(listener, 5) == 0);
    for (int i = 0; i < 2; i++) {
        from = socket(family, SOCK_STREAM, 0);
        CHECK(connect(from, address, len) == 0);
        to = accept(listener, NULL, NULL);
        CHECK(to >= 0);
        i == 0 ? stream(from, to, "tcp", 1) : waits(from, to, "tcp");
    }
}

int main(void) {
    static const struct {
        int family, type;
        const char *name;
    } OTHERS[] = {{AF_INET, SOCK_RAW, "raw"}, {AF_NETLINK, SOCK_RAW, "netlink"}, {AF_PACKET, SOCK_RAW, "packet"}};
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    datagrams(pair[0], pair[1], "unix dgram");
    waits(pair[0], pair[1], "unix dgram");
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    datagrams(pair[0], pair[1], "unix seqpacket");
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    stream(pair[0], pair[1], "unix stream", 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    waits(pair[0], pair[1], "unix stream");
    internet(AF_INET);
    internet(AF_INET6);
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        int fd = socket(OTHERS[i].family, OTHERS[i].type, OTHERS[i].family == AF_INET ? 253 : 0);
        CHECK(fd >= 0);
        int before = offset_of(fd);
        printf("%s: %d, %d\n", OTHERS[i].name, before, set_offset(fd, 3));
    }
    return 0;
}
