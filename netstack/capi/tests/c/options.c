/* Options: names, units, ranges and errors as Linux has them. */
#include "check.h"
#include "netstack.h"
#include <netinet/tcp.h>

static ns_stack *stack;
static int tcp, udp;

static int get(int socket, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(ns_getsockopt(stack, socket, level, name, &value, &len), 0);
    CHECK(len, sizeof value);
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
