// SO_MARK, SO_PRIORITY, SO_RCVMARK and SO_RCVPRIORITY: what datagrams over the loopback are told to have. It goes to standard output,
// where it is compared with Linux.
#include "own_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netpacket/packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif

static void turn(int fd, int level, int option, int value) {
    CHECK(setsockopt(fd, level, option, &value, sizeof value) == 0);
}

static int number(int fd, int option) {
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0);
    return value;
}

// Waits for a datagram: what the loopback carries is there at once, but for packet sockets.
static void receive(int fd, const char *what) {
    static char data[70000];
    char control[256];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, 0);
    printf("  %s: %zd", what, got);
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message); got >= 0 && it; it = CMSG_NXTHDR(&message, it)) {
        int value;
        memcpy(&value, CMSG_DATA(it), sizeof value);
        printf(" [%d %d: %d]", it->cmsg_level, it->cmsg_type, value);
    }
    printf("\n");
}

static void send_with(int fd, int level, int kind, int value, size_t size) {
    char control[CMSG_SPACE(8)] = {0};
    struct iovec part = {"c", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *it = CMSG_FIRSTHDR(&message);
    it->cmsg_level = level, it->cmsg_type = kind, it->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(it), &value, sizeof value);
    ssize_t sent = sendmsg(fd, &message, 0);
    printf("  control %d %d %zu: %zd %s\n", level, kind, size, sent, sent < 0 ? strerrorname_np(errno) : "");
}

static void family(int family, int type, int protocol, const char *name) {
    printf("%s\n", name);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    socklen_t len = family == AF_INET ? sizeof v4 : sizeof v6;
    int to = socket(family, type, protocol), from = socket(family, type, protocol);
    CHECK(to >= 0 && from >= 0 && bind(to, address, len) == 0 && getsockname(to, address, &len) == 0);
    if (type == SOCK_RAW) {
        v6.sin6_port = 0;
        // What is sent is received here, too.
        shutdown(from, SHUT_RD);
    }
    CHECK(connect(from, address, len) == 0);
    turn(to, SOL_SOCKET, SO_RCVMARK, 1);
    turn(to, SOL_SOCKET, SO_RCVPRIORITY, 1);
    for (int i = 0; i < 2; i++) {
        CHECK(write(from, "a", 1) == 1);
        receive(to, "plain");
    }
    turn(from, SOL_SOCKET, SO_MARK, 77);
    turn(from, SOL_SOCKET, SO_PRIORITY, 5);
    CHECK(write(from, "b", 1) == 1);
    receive(to, "both");
    send_with(from, SOL_SOCKET, SO_MARK, 99, 4);
    receive(to, "other mark");
    send_with(from, SOL_SOCKET, SO_PRIORITY, 3, 4);
    receive(to, "other priority");
    CHECK(write(from, "b", 1) == 1);
    receive(to, "as before");
    send_with(from, SOL_SOCKET, SO_MARK, 99, 2);
    send_with(from, SOL_SOCKET, SO_MARK, 99, 8);
    send_with(from, SOL_SOCKET, SO_PRIORITY, 1, 2);
    send_with(from, SOL_SOCKET, SO_PRIORITY, 1 << 20, 4);
    receive(to, "large priority");
    send_with(from, SOL_SOCKET, SO_RCVMARK, 1, 4);
    for (int tos = 0; family == AF_INET && tos < 256; tos += 8) {
        turn(from, IPPROTO_IP, IP_TOS, tos);
        printf("  tos %d: %d", tos, number(from, SO_PRIORITY));
        CHECK(write(from, "t", 1) == 1);
        receive(to, "");
    }
    if (family == AF_INET) {
        turn(from, SOL_SOCKET, SO_PRIORITY, 5);
        turn(from, IPPROTO_IP, IP_TOS, 248);
        printf("  the same type of service: %d\n", number(from, SO_PRIORITY));
        send_with(from, IPPROTO_IP, IP_TOS, 0x10, 4);
        receive(to, "type of service");
    } else {
        turn(from, IPPROTO_IPV6, IPV6_TCLASS, 0x10);
        printf("  traffic class: %d\n", number(from, SO_PRIORITY));
    }
    static char large[30000];
    CHECK(write(from, large, sizeof large) == sizeof large);
    receive(to, "large");
    turn(to, SOL_SOCKET, SO_RCVMARK, 0);
    CHECK(write(from, "b", 1) == 1);
    receive(to, "only the priority");
    close(to), close(from);
}

static void many_fragments(void) {
    printf("fragments\n");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(to, (void *)&address, len) == 0 && getsockname(to, (void *)&address, &len) == 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_mtu = 1500};
    CHECK(ioctl(to, SIOCSIFMTU, &request) == 0);
    turn(to, SOL_SOCKET, SO_RCVMARK, 1);
    turn(to, SOL_SOCKET, SO_RCVPRIORITY, 1);
    turn(from, SOL_SOCKET, SO_MARK, 12);
    turn(from, SOL_SOCKET, SO_PRIORITY, 4);
    static char large[9000];
    CHECK(sendto(from, large, sizeof large, 0, (void *)&address, len) == sizeof large);
    receive(to, "fragments");
    close(to), close(from);
}

static void packet_socket(void) {
    printf("packet socket\n");
    int fd = socket(AF_PACKET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_ll local = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = 1};
    CHECK(fd >= 0 && bind(fd, (void *)&local, sizeof local) == 0);
    turn(fd, SOL_SOCKET, SO_RCVMARK, 1);
    turn(fd, SOL_SOCKET, SO_RCVPRIORITY, 1);
    turn(from, SOL_SOCKET, SO_MARK, 13);
    turn(from, SOL_SOCKET, SO_PRIORITY, 2);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(9)};
    CHECK(sendto(from, "abc", 3, 0, (void *)&address, sizeof address) == 3);
    receive(fd, "frame");
    close(fd), close(from);
}

static void without_privilege(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0 && setuid(65534) == 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(9)};
    CHECK(connect(fd, (void *)&address, sizeof address) == 0);
    turn(fd, SOL_SOCKET, SO_RCVMARK, 1);
    turn(fd, SOL_SOCKET, SO_RCVPRIORITY, 1);
    turn(fd, SOL_SOCKET, SO_PRIORITY, 6);
    int value = 7;
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &value, sizeof value), EPERM);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_MARK, &value, sizeof value), EPERM);
    send_with(fd, SOL_SOCKET, SO_MARK, 1, 4);
    send_with(fd, SOL_SOCKET, SO_MARK, 1, 2);
    send_with(fd, SOL_SOCKET, SO_PRIORITY, 7, 4);
    fflush(stdout);
}

int main(void) {
    own_network();
    family(AF_INET, SOCK_DGRAM, 0, "udp4");
    family(AF_INET6, SOCK_DGRAM, 0, "udp6");
    packet_socket();
    many_fragments();
    fflush(stdout);
    check_in_child(without_privilege);
    return 0;
}
