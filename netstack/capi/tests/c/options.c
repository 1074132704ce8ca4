/* Options: names, units, ranges and errors as Linux has them. */
#include "check.h"
#include "netstack.h"
#include <netinet/tcp.h>
#include <netinet/udp.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static ns_stack *stack;
static int tcp, udp;

static int get(int socket, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(ns_getsockopt(stack, socket, level, name, &value, &len), 0);
    CHECK(len, sizeof value);
    return value;
}

/* The first four bytes of a longer value. */
static int get4(int socket, int level, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    CHECK(ns_getsockopt(stack, socket, level, name, &value, &len), 0);
    return value;
}

static int set(int socket, int level, int name, int value) {
    return ns_setsockopt(stack, socket, level, name, &value, sizeof value);
}

int main(void) {
    stack = ns_stack_new(NULL);
    tcp = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    udp = ns_socket(stack, AF_INET6, SOCK_DGRAM, 0);

    CHECK(get(tcp, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK(get(udp, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    CHECK(get(udp, SOL_SOCKET, SO_DOMAIN), AF_INET6);
    CHECK(get(udp, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    CHECK(get(tcp, SOL_SOCKET, SO_ERROR), 0);
    CHECK(get(tcp, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK(ns_listen(stack, tcp, 1), 0);
    CHECK(get(tcp, SOL_SOCKET, SO_ACCEPTCONN), 1);

    int switches[][2] = {{SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE},
                         {IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_CORK}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        CHECK(get(tcp, switches[i][0], switches[i][1]), 0);
        CHECK(set(tcp, switches[i][0], switches[i][1], 5), 0);
        CHECK(get(tcp, switches[i][0], switches[i][1]), 1);
    }

    CHECK(set(tcp, SOL_SOCKET, SO_SNDBUF, 50000), 0);
    CHECK(get(tcp, SOL_SOCKET, SO_SNDBUF), 100000);
    CHECK(set(tcp, SOL_SOCKET, SO_RCVBUF, 1), 0);
    CHECK(get(tcp, SOL_SOCKET, SO_RCVBUF), 2304);

    CHECK(get(tcp, IPPROTO_IP, IP_TTL), 64);
    CHECK(set(tcp, IPPROTO_IP, IP_TTL, 0), -EINVAL);
    CHECK(set(tcp, IPPROTO_IP, IP_TTL, 256), -EINVAL);
    CHECK(set(tcp, IPPROTO_IP, IP_TTL, 9), 0);
    CHECK(get(tcp, IPPROTO_IP, IP_TTL), 9);
    CHECK(set(tcp, IPPROTO_IP, IP_TTL, -1), 0);
    CHECK(get(tcp, IPPROTO_IP, IP_TTL), 64);
    CHECK(set(udp, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 3), 0);
    CHECK(get(udp, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 3);

    CHECK(set(tcp, IPPROTO_TCP, TCP_MAXSEG, 20), -EINVAL);
    CHECK(set(tcp, IPPROTO_TCP, TCP_KEEPIDLE, 0), -EINVAL);
    CHECK(set(tcp, IPPROTO_TCP, TCP_KEEPIDLE, 10), 0);
    CHECK(get(tcp, IPPROTO_TCP, TCP_KEEPIDLE), 10);
    CHECK(set(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, 1500), 0);
    CHECK(get(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT), 1500);
    CHECK(set(udp, IPPROTO_TCP, TCP_NODELAY, 1), -ENOPROTOOPT);
    CHECK(set(tcp, SOL_SOCKET, 12345, 1), -ENOPROTOOPT);
    CHECK(set(tcp, SOL_SOCKET, SO_TYPE, 1), -ENOPROTOOPT);
    CHECK(set(99, SOL_SOCKET, SO_REUSEADDR, 1), -EBADF);
    CHECK(ns_setsockopt(stack, tcp, SOL_SOCKET, SO_REUSEADDR, "x", 1), -EINVAL);
    CHECK(ns_setsockopt(stack, tcp, SOL_SOCKET, SO_REUSEADDR, NULL, 4), -EFAULT);

    /* What is not set is what counts. */
    int fresh = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
    CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPINTVL), 75);
    CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPCNT), 9);
    CHECK(get(fresh, IPPROTO_TCP, TCP_SYNCNT), 6);
    CHECK(get(fresh, IPPROTO_TCP, TCP_LINGER2), 60);
    CHECK(set(fresh, IPPROTO_TCP, TCP_LINGER2, -7), 0);
    CHECK(get(fresh, IPPROTO_TCP, TCP_LINGER2), -1);
    CHECK(set(fresh, IPPROTO_TCP, TCP_LINGER2, 500), 0);
    CHECK(get(fresh, IPPROTO_TCP, TCP_LINGER2), 120);
    CHECK(set(fresh, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384), 0);
    CHECK(get(fresh, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 16384);
    CHECK(set(fresh, IPPROTO_TCP, TCP_FASTOPEN, 5), 0);
    CHECK(get(fresh, IPPROTO_TCP, TCP_FASTOPEN), 5);
    CHECK(set(fresh, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, 1), 0);
    CHECK(get(fresh, IPPROTO_TCP, 30), 1);
    CHECK(set(fresh, IPPROTO_TCP, 30, 2), -EINVAL);
    CHECK(set(fresh, IPPROTO_TCP, 30, 0), 0);
    CHECK(get(fresh, IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */), 120000);
    CHECK(set(fresh, IPPROTO_TCP, 44, 1000), 0);
    CHECK(get(fresh, IPPROTO_TCP, 44), 1000);
    CHECK(set(fresh, IPPROTO_TCP, 44, 999), -EINVAL);
    CHECK(set(fresh, IPPROTO_TCP, 45 /* TCP_RTO_MIN_US */, 20000), 0);
    CHECK(get(fresh, IPPROTO_TCP, 45), 20000);
    CHECK(set(fresh, IPPROTO_TCP, 46 /* TCP_DELACK_MAX_US */, 300000), -EINVAL);
    CHECK(set(fresh, SOL_SOCKET, SO_OOBINLINE, 1), 0);
    CHECK(get(fresh, SOL_SOCKET, SO_OOBINLINE), 1);
    CHECK(set(fresh, SOL_SOCKET, SO_MARK, 77), 0);
    CHECK(get(fresh, SOL_SOCKET, SO_MARK), 77);
    CHECK(set(fresh, SOL_SOCKET, SO_MAX_PACING_RATE, 125000), 0);
    CHECK(get4(fresh, SOL_SOCKET, SO_MAX_PACING_RATE), 125000);
    CHECK(set(fresh, SOL_SOCKET, SO_MAX_PACING_RATE, -1), 0);
    CHECK(get4(fresh, SOL_SOCKET, SO_MAX_PACING_RATE), -1);
    CHECK(get(fresh, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_WANT);
    CHECK(set(fresh, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE), 0);
    CHECK(get(fresh, IPPROTO_IPV6, IPV6_MTU_DISCOVER), IP_PMTUDISC_PROBE);
    CHECK(set(fresh, IPPROTO_IP, IP_MTU_DISCOVER, 6), -EINVAL);
    CHECK(set(udp, IPPROTO_UDP, UDP_SEGMENT, 1200), 0);
    CHECK(get(udp, IPPROTO_UDP, UDP_SEGMENT), 1200);
    CHECK(set(udp, IPPROTO_UDP, UDP_SEGMENT, 65536), -EINVAL);
    CHECK(set(fresh, IPPROTO_UDP, UDP_SEGMENT, 1200), -ENOPROTOOPT);
    CHECK(ns_setsockopt(stack, udp, SOL_SOCKET, SO_BINDTODEVICE, "nosuch", 6), -ENODEV);
    CHECK(ns_setsockopt(stack, udp, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0);
    char device[16] = "";
    socklen_t device_len = sizeof device;
    CHECK(ns_getsockopt(stack, udp, SOL_SOCKET, SO_BINDTODEVICE, device, &device_len), 0);
    CHECK(strcmp(device, "lo"), 0);
    CHECK(ns_setsockopt(stack, udp, SOL_SOCKET, SO_BINDTODEVICE, "", 0), 0);

    char name[16] = "";
    socklen_t len = sizeof name;
    CHECK(ns_getsockopt(stack, tcp, IPPROTO_TCP, TCP_CONGESTION, name, &len), 0);
    CHECK(strcmp(name, "cubic"), 0);
    CHECK(ns_setsockopt(stack, tcp, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
    CHECK(ns_getsockopt(stack, tcp, IPPROTO_TCP, TCP_CONGESTION, name, &len), 0);
    CHECK(strcmp(name, "reno"), 0);
    CHECK(ns_setsockopt(stack, tcp, IPPROTO_TCP, TCP_CONGESTION, "carrier-pigeon", 14), -ENOENT);

    struct linger linger = {.l_onoff = 1, .l_linger = 7};
    CHECK(ns_setsockopt(stack, tcp, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    memset(&linger, 0, sizeof linger);
    len = sizeof linger;
    CHECK(ns_getsockopt(stack, tcp, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
    CHECK(linger.l_onoff * 100 + linger.l_linger, 107);
    struct timeval time = {.tv_sec = 1, .tv_usec = 1000000};
    CHECK(ns_setsockopt(stack, tcp, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time), -EDOM);
    ns_stack_free(stack);
    return 0;
}
