// UDP_CORK and MSG_MORE: calls that make one datagram together. What arrives goes to standard output, where it is compared with
// Linux.
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#define UDP_SEGMENT_ 103

static int family;
static struct sockaddr_storage address[2];
static socklen_t address_len;

static int receiver(int which) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address_len = family == AF_INET6 ? sizeof six : sizeof four;
    int fd = socket(family, SOCK_DGRAM, 0), on = 1;
    CHECK(bind(fd, family == AF_INET6 ? (void *)&six : (void *)&four, address_len) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address[which], &address_len) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
    if (family == AF_INET6)
        CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on) == 0);
    return fd;
}

static void show(int fd, const char *label) {
    char data[70000], control[64];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    printf(" %s:", label);
    ssize_t len;
    while ((len = recvmsg(fd, &message, MSG_DONTWAIT)) >= 0) {
        int ttl = -1;
        if (CMSG_FIRSTHDR(&message))
            memcpy(&ttl, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof ttl);
        printf(" [%zd '%.*s' ttl %d]", len, len > 40 ? 3 : (int)len, data, ttl);
        message.msg_controllen = sizeof control;
    }
    printf("\n");
}

static void put(int fd, const char *text, int flags, int which) {
    ssize_t sent = which < 0 ? send(fd, text, strlen(text), flags)
                             : sendto(fd, text, strlen(text), flags, (struct sockaddr *)&address[which], address_len);
    if (sent != (ssize_t)strlen(text))
        printf("  '%s' with %x: %zd %s\n", text, flags, sent, sent < 0 ? strerrorname_np(errno) : "");
}

static void put_long(int fd, size_t len, int flags) {
    static char data[70000];
    memset(data, 'l', sizeof data);
    ssize_t sent = sendto(fd, data, len, flags, (struct sockaddr *)&address[0], address_len);
    printf("  %zu bytes with %x: %s\n", len, flags, sent < 0 ? strerrorname_np(errno) : sent == (ssize_t)len ? "sent" : "part");
}

static void cork(int fd, int on) {
    int now = 9;
    socklen_t len = sizeof now;
    int result = setsockopt(fd, IPPROTO_UDP, UDP_CORK, &on, sizeof on);
    int error = errno;
    CHECK(getsockopt(fd, IPPROTO_UDP, UDP_CORK, &now, &len) == 0);
    printf("  cork %d: %s, now %d\n", on, result == 0 ? "fine" : strerrorname_np(error), now);
}

static void set(int fd, int level, int name, int value) {
    CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static void more(int first, int second) {
    int fd = socket(family, SOCK_DGRAM, 0);
    put(fd, "one ", MSG_MORE, 0);
    show(first, "held");
    put(fd, "two ", MSG_MORE, 0);
    put(fd, "three", 0, 0);
    show(first, "together");
    put(fd, "a", MSG_MORE, 0);
    put(fd, "b", 0, 1);
    show(first, "the first address counts");
    show(second, "not the last");
    put(fd, "a", MSG_MORE, 0);
    put(fd, "b", 0, -1);
    show(first, "none is needed");
    put(fd, "c", 0, -1);
    put(fd, "c", MSG_MORE, -1);
    put(fd, "d", 0, 1);
    show(second, "nothing was held");
    put(fd, "", MSG_MORE, 0);
    put(fd, "after nothing", 0, 1);
    show(first, "nothing is held, too");
    show(second, "or is it");
    put(fd, "lost", MSG_MORE, 0);
    close(fd);
    show(first, "closed");
}

static void what_changes_meanwhile(int first) {
    int level = family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, name = family == AF_INET6 ? IPV6_UNICAST_HOPS : IP_TTL;
    int fd = socket(family, SOCK_DGRAM, 0);
    set(fd, level, name, 11);
    put(fd, "a", MSG_MORE, 0);
    set(fd, level, name, 12);
    put(fd, "b", 0, 0);
    put(fd, "c", 0, 0);
    show(first, "ttl");
    CHECK(connect(fd, (struct sockaddr *)&address[0], address_len) == 0);
    put(fd, "shut", MSG_MORE, -1);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    put(fd, "down", 0, -1);
    close(fd);
}

static void corked(int first, int second) {
    int fd = socket(family, SOCK_DGRAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&address[0], address_len) == 0);
    put(fd, "before", 0, -1);
    cork(fd, 0);
    cork(fd, 7);
    put(fd, "1", 0, -1);
    put(fd, "2", MSG_MORE, -1);
    put(fd, "3", 0, 1);
    show(first, "corked");
    cork(fd, 1);
    show(first, "still corked");
    cork(fd, 0);
    show(first, "uncorked");
    put(fd, "after", 0, -1);
    show(first, "as before");
    put(fd, "more ", MSG_MORE, -1);
    cork(fd, 0);
    show(first, "off also sends what waited for more");
    cork(fd, 1);
    cork(fd, 0);
    show(first, "nothing to send");
    show(second, "nothing here");
    close(fd);
}

static void limits(int first) {
    int fd = socket(family, SOCK_DGRAM, 0);
    set(fd, SOL_SOCKET, SO_SNDBUF, 1 << 20);
    put_long(fd, 40000, MSG_MORE);
    put_long(fd, 25000, MSG_MORE);
    put_long(fd, 600, MSG_MORE);
    put(fd, "is left", 0, 0);
    show(first, "too long together");
    put_long(fd, 70000, MSG_MORE);
    put(fd, "held ", MSG_MORE, 0);
    put_long(fd, 70000, 0);
    put(fd, "still", 0, 0);
    show(first, "too long alone");
    put(fd, "held ", MSG_MORE, 0);
    put(fd, "oob", MSG_OOB, 0);
    put(fd, "still", 0, 0);
    show(first, "out of band");
    set(fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, family == AF_INET6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    put_long(fd, 65000, MSG_MORE);
    put_long(fd, 400, 0);
    show(first, "within the MTU");
    set(fd, IPPROTO_UDP, UDP_SEGMENT_, 3);
    put(fd, "aaab", MSG_MORE, 0);
    put(fd, "bbccc", MSG_MORE, 0);
    put(fd, "d", 0, 0);
    show(first, "cut");
    put_long(fd, 1000, MSG_MORE);
    put(fd, "too many", 0, 0);
    show(first, "too many");
    close(fd);
}

int main(void) {
    int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        family = families[i];
        int first = receiver(0), second = receiver(1);
        more(first, second);
        what_changes_meanwhile(first);
        show(first, "after shutdown");
        show(second, "and there");
        corked(first, second);
        limits(first);
        close(first);
        close(second);
    }
    return 0;
}
