// IP_MINTTL, IPV6_MINHOPCOUNT and IP_LOCAL_PORT_RANGE, and flow labels that answers take over.
#include "own_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define MINHOPCOUNT 73
#define LOCAL_PORT_RANGE 51
#define IPV6_FLOWINFO_ 11
#define IPV6_AUTOFLOWLABEL_ 70

struct end {
    struct sockaddr_storage address;
    socklen_t len;
};

static void set(int fd, int level, int name, int value) {
    CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static struct end loopback(int family) {
    struct end end = {.len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)};
    end.address.ss_family = family;
    if (family == AF_INET6)
        ((struct sockaddr_in6 *)&end.address)->sin6_addr = in6addr_loopback;
    else
        ((struct sockaddr_in *)&end.address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return end;
}

static int port_of(int fd) {
    struct end end = {.len = sizeof end.address};
    CHECK(getsockname(fd, (void *)&end.address, &end.len) == 0);
    // At the same place in both.
    return ntohs(((struct sockaddr_in *)&end.address)->sin_port);
}

static int bound(int family, int type, struct end *end) {
    int fd = socket(family, type, 0);
    *end = loopback(family);
    CHECK(fd >= 0 && bind(fd, (void *)&end->address, end->len) == 0 && getsockname(fd, (void *)&end->address, &end->len) == 0);
    return fd;
}

static int listening(int family, struct end *end) {
    int fd = bound(family, SOCK_STREAM, end);
    CHECK(listen(fd, 5) == 0);
    return fd;
}

static void set_ttl(int fd, int family, int value) {
    set(fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, family == AF_INET6 ? IPV6_UNICAST_HOPS : IP_TTL, value);
}

static void set_min(int fd, int family, int value) {
    set(fd, family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, family == AF_INET6 ? MINHOPCOUNT : IP_MINTTL, value);
}

static int is_ready(int fd, int events, int wait_ms) {
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, wait_ms) == 1;
}

static void min_ttl(int family) {
    struct end end;
    int listener = listening(family, &end);
    int far = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), near = socket(family, SOCK_STREAM, 0);
    set_min(listener, family, 100);
    set_ttl(far, family, 99);
    set_ttl(near, family, 100);
    // The listener does not see the first, and its connections take the limit over.
    CHECK_FAILS(connect(far, (void *)&end.address, end.len), EINPROGRESS);
    CHECK(connect(near, (void *)&end.address, end.len) == 0);
    int server = accept(listener, NULL, NULL);
    CHECK(server >= 0 && !is_ready(listener, POLLIN, 50) && !is_ready(far, POLLOUT, 0));
    CHECK(send(near, "near", 4, 0) == 4 && is_ready(server, POLLIN, 5000));
    char buffer[16];
    CHECK(recv(server, buffer, sizeof buffer, 0) == 4);
    set_ttl(near, family, 64);
    CHECK(send(near, "far", 3, 0) == 3 && !is_ready(server, POLLIN, 50));
    set_min(server, family, 0);
    CHECK(is_ready(server, POLLIN, 10000) && recv(server, buffer, sizeof buffer, 0) == 3);
    close(far);
    close(near);
    close(server);
    close(listener);
}

static void min_ttl_v4(void) { min_ttl(AF_INET); }
static void min_ttl_v6(void) { min_ttl(AF_INET6); }

static void datagrams_come_from_anywhere(void) {
    struct end end;
    int to = bound(AF_INET, SOCK_DGRAM, &end), from = socket(AF_INET, SOCK_DGRAM, 0);
    set_min(to, AF_INET, 255);
    CHECK(sendto(from, "x", 1, 0, (void *)&end.address, end.len) == 1 && is_ready(to, POLLIN, 5000));
    close(to);
    close(from);
}

static void set_range(int fd, int first, int last) {
    set(fd, IPPROTO_IP, LOCAL_PORT_RANGE, last << 16 | first);
}

static void port_range(void) {
    struct end end, any = loopback(AF_INET);
    int listener = listening(AF_INET, &end);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        int fds[3], seen = 0;
        for (int i = 0; i < 3; i++) {
            fds[i] = socket(AF_INET, type, 0);
            set_range(fds[i], 45001, 45002);
            int result = bind(fds[i], (void *)&any.address, any.len);
            if (i < 2) {
                CHECK(result == 0 && (port_of(fds[i]) == 45001 || port_of(fds[i]) == 45002));
                seen += port_of(fds[i]);
            } else {
                CHECK(result == -1 && errno == EADDRINUSE && seen == 90003);
            }
        }
        for (int i = 0; i < 3; i++)
            close(fds[i]);
        int fd = socket(AF_INET, type, 0);
        set_range(fd, 45007, 45007);
        CHECK(connect(fd, (void *)&end.address, end.len) == 0 && port_of(fd) == 45007);
        int other = socket(AF_INET, type, 0);
        set_range(other, 45007, 45007);
        int result = connect(other, (void *)&end.address, end.len);
        CHECK(result == -1 && (type == SOCK_DGRAM || errno == EADDRNOTAVAIL));
        close(fd);
        close(other);
    }
    // Beyond the range of all, a limit does not count.
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    set_range(fd, 10, 40000);
    struct end six = loopback(AF_INET6);
    CHECK(bind(fd, (void *)&six.address, six.len) == 0 && port_of(fd) >= 1024 && port_of(fd) <= 40000);
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    set_range(fd, 60000, 0);
    CHECK(bind(fd, (void *)&any.address, any.len) == 0 && port_of(fd) >= 60000);
    close(fd);
    close(listener);
}

// What the kernel says of labels in its packets, by a raw socket that sees them.
static unsigned label_of(int raw, int flags) {
    unsigned char packet[256];
    for (;;) {
        CHECK(is_ready(raw, POLLIN, 5000));
        ssize_t len = recv(raw, packet, sizeof packet, 0);
        // IPv6 and TCP, with these flags.
        if (len >= 60 && packet[6] == IPPROTO_TCP && packet[53] == flags)
            return (packet[1] & 0xf) << 16 | packet[2] << 8 | packet[3];
    }
}

static void write_setting(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void labels_are_reflected(void) {
    int raw = socket(AF_PACKET, SOCK_DGRAM, htons(0x86dd));
    CHECK(raw >= 0);
    write_setting("/proc/sys/net/ipv6/flowlabel_reflect", "3");
    struct end end, closed;
    int unused = bound(AF_INET6, SOCK_STREAM, &closed);
    int listener = listening(AF_INET6, &end), client = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(connect(client, (void *)&end.address, end.len) == 0);
    int server = accept(listener, NULL, NULL);
    CHECK(server >= 0);
    unsigned theirs = label_of(raw, 0x02);
    CHECK(theirs != 0 && label_of(raw, 0x12) == theirs);
    CHECK(send(server, "x", 1, 0) == 1 && label_of(raw, 0x18) == theirs);
    // A socket that is bound and does not listen: its port answers with resets.
    int refused = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK_FAILS(connect(refused, (void *)&closed.address, closed.len), ECONNREFUSED);
    theirs = label_of(raw, 0x02);
    CHECK(theirs != 0 && label_of(raw, 0x14) == theirs);
    write_setting("/proc/sys/net/ipv6/flowlabel_reflect", "0");
    close(refused);
    refused = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK_FAILS(connect(refused, (void *)&closed.address, closed.len), ECONNREFUSED);
    theirs = label_of(raw, 0x02);
    CHECK(theirs != 0 && label_of(raw, 0x14) != theirs);
    close(unused);
    close(raw);
}

int main(void) {
    own_network();
    PART(min_ttl_v4);
    PART(min_ttl_v6);
    PART(datagrams_come_from_anywhere);
    PART(port_range);
    PART(labels_are_reflected);
    return 0;
}
