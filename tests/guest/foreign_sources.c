// Addresses that are not ours: IP_FREEBIND lets a socket wait at one, IP_TRANSPARENT, which takes a capability, also send from there.
// IPv6 asks only when a socket is bound.
#include "own_network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t fill(union address *to, int family, int is_foreign, int port) {
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        to->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        inet_pton(AF_INET, is_foreign ? "198.51.100.7" : "127.0.0.1", &to->v4.sin_addr);
        return sizeof to->v4;
    }
    to->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, is_foreign ? "2001:db8:99::7" : "::1", &to->v6.sin6_addr);
    return sizeof to->v6;
}

enum option { NONE, FREE, TRANSPARENT };

static int set(int fd, int family, enum option option, int on) {
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    int name = family == AF_INET ? (option == FREE ? IP_FREEBIND : IP_TRANSPARENT)
                                 : (option == FREE ? IPV6_FREEBIND : IPV6_TRANSPARENT);
    return setsockopt(fd, level, name, &on, sizeof on);
}

static int opened(int family, int type, enum option option) {
    int fd = socket(family, type | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    if (option != NONE)
        CHECK(set(fd, family, option, 1) == 0);
    return fd;
}

static int bind_foreign(int fd, int family) {
    union address own;
    socklen_t size = fill(&own, family, 1, 0);
    return bind(fd, &own.any, size);
}

// Sends with a foreign source in the control data.
static ssize_t send_as(int fd, int family) {
    union address peer, own;
    char control[64] __attribute__((aligned(8))) = {0};
    struct iovec iov = {"data", 4};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = fill(&peer, family, 0, 9), .msg_iov = &iov, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    fill(&own, family, 1, 0);
    if (family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = own.v4.sin_addr};
        *header = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
        memcpy(CMSG_DATA(header), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in6_pktinfo info = {.ipi6_addr = own.v6.sin6_addr};
        *header = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
        memcpy(CMSG_DATA(header), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    }
    return sendmsg(fd, &message, 0);
}

static void datagrams(int family, enum option option) {
    union address peer;
    socklen_t size = fill(&peer, family, 0, 9);
    int may_send = option == TRANSPARENT || (option == FREE && family == AF_INET6);
    int fd = opened(family, SOCK_DGRAM, option);
    if (option == NONE) {
        CHECK_FAILS(bind_foreign(fd, family), EADDRNOTAVAIL);
        CHECK_FAILS(send_as(fd, family), family == AF_INET ? ENETUNREACH : EINVAL);
        close(fd);
        return;
    }
    CHECK(bind_foreign(fd, family) == 0);
    if (may_send) {
        CHECK(sendto(fd, "data", 4, 0, &peer.any, size) == 4);
        CHECK(connect(fd, &peer.any, size) == 0);
    } else {
        CHECK_FAILS(sendto(fd, "data", 4, 0, &peer.any, size), ENETUNREACH);
        CHECK_FAILS(connect(fd, &peer.any, size), ENETUNREACH);
    }
    close(fd);
    fd = opened(family, SOCK_DGRAM, option);
    if (may_send)
        CHECK(send_as(fd, family) == 4);
    else
        CHECK_FAILS(send_as(fd, family), ENETUNREACH);
    close(fd);
}

static void streams(int family, enum option option) {
    union address peer;
    socklen_t size = fill(&peer, family, 0, 9);
    int fd = opened(family, SOCK_STREAM, option);
    if (option == NONE) {
        CHECK_FAILS(bind_foreign(fd, family), EADDRNOTAVAIL);
        close(fd);
        return;
    }
    CHECK(bind_foreign(fd, family) == 0 && listen(fd, 1) == 0);
    close(fd);
    fd = opened(family, SOCK_STREAM, option);
    CHECK(bind_foreign(fd, family) == 0);
    int may_send = option == TRANSPARENT || family == AF_INET6;
    CHECK_FAILS(connect(fd, &peer.any, size), may_send ? EINPROGRESS : ENETUNREACH);
    close(fd);
}

static int get(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &size) == 0);
    return value;
}

static void the_options_are_two(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK(set(fd, AF_INET6, TRANSPARENT, 1) == 0);
    CHECK(get(fd, IPPROTO_IPV6, IPV6_TRANSPARENT) == 1 && get(fd, IPPROTO_IPV6, IPV6_FREEBIND) == 0);
    CHECK(get(fd, IPPROTO_IP, IP_TRANSPARENT) == 1 && get(fd, IPPROTO_IP, IP_FREEBIND) == 0);
    CHECK(set(fd, AF_INET6, TRANSPARENT, 0) == 0 && set(fd, AF_INET6, FREE, 1) == 0);
    CHECK(get(fd, IPPROTO_IPV6, IPV6_TRANSPARENT) == 0 && get(fd, IPPROTO_IP, IP_FREEBIND) == 1);
    close(fd);
}

static void only_one_takes_a_capability(void) {
    pid_t child = fork();
    if (child == 0) {
        CHECK(setresuid(1000, 1000, 1000) == 0);
        for (int i = 0; i < 2; i++) {
            int family = i ? AF_INET6 : AF_INET, fd = socket(family, SOCK_DGRAM, 0);
            CHECK_FAILS(set(fd, family, TRANSPARENT, 1), EPERM);
            CHECK(set(fd, family, TRANSPARENT, 0) == 0 && set(fd, family, FREE, 1) == 0);
            CHECK(bind_foreign(fd, family) == 0);
        }
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    own_network();
    for (int i = 0; i < 2; i++)
        for (enum option option = NONE; option <= TRANSPARENT; option++) {
            datagrams(i ? AF_INET6 : AF_INET, option);
            streams(i ? AF_INET6 : AF_INET, option);
        }
    the_options_are_two();
    only_one_takes_a_capability();
    return 0;
}
