/* A forwarder between a host and everything else: connections, datagrams and pings for addresses that nobody has. */
#include "wire.h"
#include <netinet/ip_icmp.h>
#include <poll.h>

static int catcher;
static ns_request asked;

static void connect_hosts(void) {
    for (int side = 0; side < 2; side++) {
        ns_config config = {.manual_clock = true, .deterministic = true, .seed = 3 + (unsigned)side};
        host[side] = ns_stack_new(&config);
        nic[side] = ns_nic_add_channel(host[side], "tun0", NULL, 1500, 1024);
        CHECK(ns_address_add(host[side], (unsigned)nic[side], side ? "10.0.0.2/24" : "10.0.0.1/24"), 0);
    }
    CHECK(ns_route_add(host[0], (unsigned)nic[0], "0.0.0.0/0", "10.0.0.2"), 0);
}

/* The next request, which must be of that kind and for that address. */
static int next(unsigned kind, const char *to, int port) {
    struct pollfd entry = {.fd = catcher, .events = POLLIN};
    CHECK(ns_poll(host[1], &entry, 1, -1), 1);
    CHECK(entry.revents, POLLIN);
    int request = ns_forwarder_next(host[1], catcher, &asked);
    CHECK(request >= 0, 1);
    CHECK(asked.kind, kind);
    struct sockaddr_in wanted = address4(to, port), *got = (struct sockaddr_in *)&asked.to;
    CHECK(got->sin_family, AF_INET);
    CHECK(got->sin_addr.s_addr, wanted.sin_addr.s_addr);
    CHECK(got->sin_port, wanted.sin_port);
    CHECK(((struct sockaddr_in *)&asked.from)->sin_addr.s_addr, inet_addr("10.0.0.1"));
    CHECK(ns_forwarder_next(host[1], catcher, &asked), -EAGAIN);
    return request;
}

static int client(int kind, const char *to, int port) {
    struct sockaddr_in server = address4(to, port);
    int socket = ns_socket(host[0], AF_INET, kind, 0);
    int started = ns_connect(host[0], socket, (struct sockaddr *)&server, sizeof server);
    CHECK(started, kind == SOCK_STREAM ? -EINPROGRESS : 0);
    settle();
    return socket;
}

static int pending_error(int socket) {
    int error;
    socklen_t len = sizeof error;
    CHECK(ns_getsockopt(host[0], socket, SOL_SOCKET, SO_ERROR, &error, &len), 0);
    return error;
}

static void connections(void) {
    unsigned char buffer[16];
    /* Accepted: the socket has the address that was asked for, and the first bytes flow both ways. */
    int a = client(SOCK_STREAM, "192.0.2.80", 80), request = next(NS_FORWARD_TCP, "192.0.2.80", 80);
    CHECK(asked.len, 0);
    CHECK(ns_request_data(host[1], request, buffer, sizeof buffer), 0);
    CHECK(ns_recv(host[1], request, buffer, 1, 0), -ENOTSOCK);
    CHECK(ns_request_accept(host[1], request, MSG_PEEK), -EINVAL);
    int b = ns_request_accept(host[1], request, SOCK_NONBLOCK);
    CHECK(b, request); /* the number is free, and the lowest */
    settle();
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    CHECK(ns_getsockname(host[1], b, (struct sockaddr *)&own, &len), 0);
    CHECK(own.sin_addr.s_addr, inet_addr("192.0.2.80"));
    CHECK(ns_send(host[0], a, (const unsigned char *)"ping", 4, 0), 4);
    settle();
    CHECK(ns_recv(host[1], b, buffer, sizeof buffer, 0), 4);
    CHECK(ns_send(host[1], b, (const unsigned char *)"pong!", 5, 0), 5);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), 5);
    CHECK(ns_close(host[0], a), 0);
    CHECK(ns_close(host[1], b), 0);
    settle();

    /* Refused, rejected, and ignored: a reset, an ICMP error, and the SYN once more. */
    a = client(SOCK_STREAM, "192.0.2.81", 25);
    request = next(NS_FORWARD_TCP, "192.0.2.81", 25);
    CHECK(ns_request_refuse(host[1], request), 0);
    CHECK(ns_request_refuse(host[1], request), -EBADF);
    settle();
    CHECK(pending_error(a), ECONNREFUSED);
    CHECK(ns_close(host[0], a), 0);

    a = client(SOCK_STREAM, "192.0.2.82", 25);
    request = next(NS_FORWARD_TCP, "192.0.2.82", 25);
    CHECK(ns_request_reject(host[1], request, ETIMEDOUT), -EINVAL);
    CHECK(ns_request_reject(host[1], request, EHOSTUNREACH), 0);
    settle();
    CHECK(ns_close(host[0], a), 0);

    a = client(SOCK_STREAM, "192.0.2.83", 25);
    request = next(NS_FORWARD_TCP, "192.0.2.83", 25);
    CHECK(ns_close(host[1], request), 0);
    CHECK(ns_stack_advance_to(host[0], ns_stack_now(host[0]) + 1100000000ull), 0);
    settle();
    request = next(NS_FORWARD_TCP, "192.0.2.83", 25);
    CHECK(ns_close(host[1], request), 0);
    CHECK(ns_close(host[0], a), 0);
}

static void datagrams(void) {
    unsigned char buffer[16];
    int a = client(SOCK_DGRAM, "198.51.100.53", 53);
    CHECK(ns_send(host[0], a, (const unsigned char *)"question", 8, 0), 8);
    settle();
    int request = next(NS_FORWARD_UDP, "198.51.100.53", 53);
    CHECK(asked.len, 8);
    CHECK(asked.ttl, 64);
    CHECK(ns_request_data(host[1], request, buffer, 4), 4);
    CHECK(ns_request_data(host[1], request, buffer, sizeof buffer), 8);
    CHECK(memcmp(buffer, "question", 8), 0);
    /* A socket of the flow, whose first datagram is the one that was asked about. */
    int b = ns_request_accept(host[1], request, 0);
    CHECK(ns_recv(host[1], b, buffer, sizeof buffer, 0), 8);
    CHECK(ns_send(host[1], b, (const unsigned char *)"answer", 6, 0), 6);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), 6);
    CHECK(ns_close(host[1], b), 0);

    /* Without a socket. */
    CHECK(ns_send(host[0], a, (const unsigned char *)"again", 5, 0), 5);
    settle();
    request = next(NS_FORWARD_UDP, "198.51.100.53", 53);
    ssize_t sent = ns_forwarder_sendto(host[1], catcher, (const unsigned char *)"direct", 6, (struct sockaddr *)&asked.to,
                                       (struct sockaddr *)&asked.from, sizeof(struct sockaddr_in));
    CHECK(sent, 6);
    CHECK(ns_close(host[1], request), 0);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), 6);

    CHECK(ns_send(host[0], a, (const unsigned char *)"no", 2, 0), 2);
    settle();
    CHECK(ns_request_refuse(host[1], next(NS_FORWARD_UDP, "198.51.100.53", 53)), 0);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), -ECONNREFUSED);
    CHECK(ns_close(host[0], a), 0);
}

static void pings(void) {
    struct sockaddr_in far = address4("203.0.113.1", 0);
    struct icmphdr echo = {.type = ICMP_ECHO, .un.echo.sequence = htons(5)};
    unsigned char packet[sizeof echo + 3], buffer[32];
    memcpy(packet, &echo, sizeof echo);
    memcpy(packet + sizeof echo, "abc", 3);
    int a = ns_socket(host[0], AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    CHECK(ns_sendto(host[0], a, packet, sizeof packet, 0, (struct sockaddr *)&far, sizeof far), sizeof packet);
    settle();
    int request = next(NS_FORWARD_ECHO, "203.0.113.1", 0);
    CHECK(asked.sequence, 5);
    CHECK(asked.len, 3);
    CHECK(ns_request_data(host[1], request, buffer, sizeof buffer), 3);
    CHECK(memcmp(buffer, "abc", 3), 0);
    CHECK(ns_request_accept(host[1], request, 0), 0);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), sizeof packet);
    CHECK(ns_sendto(host[0], a, packet, sizeof packet, 0, (struct sockaddr *)&far, sizeof far), sizeof packet);
    settle();
    CHECK(ns_request_refuse(host[1], next(NS_FORWARD_ECHO, "203.0.113.1", 0)), 0);
    settle();
    CHECK(ns_recv(host[0], a, buffer, sizeof buffer, 0), -EAGAIN);
    CHECK(ns_close(host[0], a), 0);
}

int main(void) {
    connect_hosts();
    unsigned all = NS_FORWARD_TCP | NS_FORWARD_UDP | NS_FORWARD_ECHO;
    CHECK(ns_forwarder_new(host[1], 99, all, 0), -ENODEV);
    CHECK(ns_forwarder_new(host[1], (unsigned)nic[1], 0, 0), -EINVAL);
    CHECK(ns_forwarder_new(host[1], (unsigned)nic[1], 8, 0), -EINVAL);
    catcher = ns_forwarder_new(host[1], (unsigned)nic[1], all, 0);
    CHECK(ns_forwarder_new(host[1], (unsigned)nic[1], all, 0), -EEXIST);
    CHECK(ns_forwarder_next(host[1], catcher, NULL), -EFAULT);
    CHECK(ns_forwarder_next(host[1], catcher, &asked), -EAGAIN);
    CHECK(ns_set_nonblocking(host[1], catcher, 1), 0);
    CHECK(ns_listen(host[1], catcher, 1), -ENOTSOCK);
    connections();
    datagrams();
    pings();
    /* Without the forwarder the stack is an ordinary host again, and a new one may come. */
    CHECK(ns_close(host[1], catcher), 0);
    CHECK(ns_forwarder_next(host[1], catcher, &asked), -EBADF);
    int a = client(SOCK_STREAM, "10.0.0.2", 9);
    CHECK(pending_error(a), ECONNREFUSED);
    catcher = ns_forwarder_new(host[1], (unsigned)nic[1], NS_FORWARD_TCP, 1);
    CHECK(catcher >= 0, 1);
    ns_stack_free(host[0]);
    ns_stack_free(host[1]);
    return 0;
}
