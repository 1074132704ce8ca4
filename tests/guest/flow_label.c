// Flow labels of IPv6 (IPV6_FLOWINFO, IPV6_FLOWINFO_SEND, IPV6_AUTOFLOWLABEL, IPV6_FLOWLABEL_MGR), over the loopback.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/in6.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int server;
static struct sockaddr_in6 address;

static int set(int fd, int name, int value) {
    return setsockopt(fd, IPPROTO_IPV6, name, &value, sizeof value);
}

static int get(int fd, int name) {
    int value = -7;
    socklen_t size = sizeof value;
    CHECK(getsockopt(fd, IPPROTO_IPV6, name, &value, &size) == 0);
    return value;
}

// What the server is told of the next datagram: traffic class and label; -1 for nothing.
static long received(void) {
    char data[8], control[100];
    struct iovec iov = {data, sizeof data};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(server, &message, 0) > 0);
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_FLOWINFO) {
            unsigned value;
            CHECK(at->cmsg_len == CMSG_LEN(sizeof value));
            memcpy(&value, CMSG_DATA(at), sizeof value);
            return ntohl(value);
        }
    return -1;
}

static long label_of(int fd, unsigned label) {
    struct sockaddr_in6 to = address;
    to.sin6_flowinfo = htonl(label);
    CHECK(sendto(fd, "x", 1, 0, (void *)&to, sizeof to) == 1);
    return received();
}

static void datagrams_of_a_socket_have_one_label(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK(get(fd, IPV6_AUTOFLOWLABEL) == 1 && get(fd, IPV6_FLOWINFO) == 0 && get(fd, IPV6_FLOWINFO_SEND) == 0);
    long first = label_of(fd, 0);
    CHECK(first > 0 && first <= 0xfffff && label_of(fd, 0) == first);
    // Labels in addresses do not count unless asked for.
    CHECK(label_of(fd, 0x12345) == first);
    CHECK(set(fd, IPV6_AUTOFLOWLABEL, 0) == 0 && get(fd, IPV6_AUTOFLOWLABEL) == 0);
    CHECK(label_of(fd, 0) == -1);
    CHECK(set(fd, IPV6_TCLASS, 0x20) == 0 && label_of(fd, 0) == 0x20 << 20);
    close(fd);
}

static void labels_may_be_chosen(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    char control[CMSG_SPACE(4)] = {0};
    struct iovec iov = {"x", 1};
    struct msghdr message = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *header = (void *)control;
    unsigned label = htonl(0x54321);
    CHECK(set(fd, IPV6_FLOWINFO_SEND, 1) == 0 && get(fd, IPV6_FLOWINFO_SEND) == 1);
    CHECK(label_of(fd, 0x12345) == 0x12345);
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    *header = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_FLOWINFO, .cmsg_len = CMSG_LEN(4)};
    memcpy(CMSG_DATA(header), &label, sizeof label);
    CHECK(sendmsg(fd, &message, 0) == 1 && received() == 0x54321);
    header->cmsg_len = CMSG_LEN(2);
    CHECK_FAILS(sendmsg(fd, &message, 0), EINVAL);
    struct sockaddr_in6 to = address;
    to.sin6_flowinfo = htonl(0x777);
    CHECK(connect(fd, (void *)&to, sizeof to) == 0);
    CHECK(send(fd, "x", 1, 0) == 1 && received() == 0x777);
    close(fd);
}

static int manage(int fd, struct in6_flowlabel_req *request) {
    return setsockopt(fd, IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request, sizeof *request);
}

static void labels_are_leased(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), other = socket(AF_INET6, SOCK_DGRAM, 0);
    struct in6_flowlabel_req request = {.flr_action = IPV6_FL_A_GET, .flr_share = IPV6_FL_S_ANY};
    CHECK_FAILS(manage(fd, &request), EINVAL);
    memcpy(&request.flr_dst, &address.sin6_addr, sizeof request.flr_dst);
    CHECK_FAILS(manage(fd, &request), ENOENT);
    request.flr_label = htonl(0x1fffff);
    CHECK_FAILS(manage(fd, &request), EINVAL);
    request.flr_label = 0;
    request.flr_share = 77;
    CHECK_FAILS(manage(fd, &request), EINVAL);
    request.flr_share = IPV6_FL_S_ANY;
    request.flr_flags = IPV6_FL_F_CREATE;
    CHECK(manage(fd, &request) == 0 && request.flr_label != 0);
    unsigned label = request.flr_label;
    CHECK(set(fd, IPV6_FLOWINFO_SEND, 1) == 0 && label_of(fd, ntohl(label)) == ntohl(label));
    request.flr_action = IPV6_FL_A_RENEW;
    CHECK(manage(fd, &request) == 0);
    CHECK_FAILS(manage(other, &request), ESRCH);
    request.flr_action = IPV6_FL_A_PUT;
    CHECK_FAILS(manage(other, &request), ESRCH);
    CHECK(manage(fd, &request) == 0);
    CHECK_FAILS(manage(fd, &request), ESRCH);
    // One for nobody else; from then on only leased labels may be sent.
    request = (struct in6_flowlabel_req){
        .flr_action = IPV6_FL_A_GET, .flr_share = IPV6_FL_S_EXCL, .flr_flags = IPV6_FL_F_CREATE, .flr_label = htonl(0x4321)};
    memcpy(&request.flr_dst, &address.sin6_addr, sizeof request.flr_dst);
    CHECK(manage(fd, &request) == 0);
    CHECK_FAILS(manage(other, &request), EPERM);
    CHECK(label_of(fd, 0x4321) == 0x4321);
    struct sockaddr_in6 to = address;
    to.sin6_flowinfo = htonl(0x4321);
    CHECK(set(other, IPV6_FLOWINFO_SEND, 1) == 0);
    CHECK_FAILS(sendto(other, "x", 1, 0, (void *)&to, sizeof to), EINVAL);
    CHECK_FAILS(connect(other, (void *)&to, sizeof to), EINVAL);
    request.flr_flags = IPV6_FL_F_CREATE | IPV6_FL_F_EXCL;
    CHECK_FAILS(manage(other, &request), EEXIST);
    close(fd), close(other);
}

// What /proc/net/ip6_flowlabel says of a label: owner, users, linger and seconds left; how many numbers there were.
static int shown(unsigned label, int *share, int *users, int *linger, int *left) {
    char line[200];
    unsigned found, owner;
    FILE *file = fopen("/proc/thread-self/net/ip6_flowlabel", "r");
    CHECK(file && fgets(line, sizeof line, file));
    CHECK(strcmp(line, "Label S Owner  Users  Linger Expires  Dst                              Opt\n") == 0);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%x %d %u %d %d %d", &found, share, &owner, users, linger, left) == 6 && found == label) {
            CHECK(strlen(line) == (*share == 255 ? 78 : 76) && strstr(line, "00000000000000000000000000000001 0   \n"));
            fclose(file);
            return 1;
        }
    fclose(file);
    return 0;
}

static void leases_expire(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), other = socket(AF_INET6, SOCK_DGRAM, 0);
    int share, users, linger, left;
    struct in6_flowlabel_req request = {.flr_action = IPV6_FL_A_GET,
                                        .flr_share = IPV6_FL_S_EXCL,
                                        .flr_flags = IPV6_FL_F_CREATE,
                                        .flr_label = htonl(0x5678),
                                        .flr_linger = 20};
    memcpy(&request.flr_dst, &address.sin6_addr, sizeof request.flr_dst);
    CHECK(manage(fd, &request) == 0);
    CHECK(shown(0x5678, &share, &users, &linger, &left) && share == 1 && users == 1 && linger == 20);
    CHECK(left >= 19 && left <= 20);
    // A short one, shared: at least six seconds.
    request.flr_label = htonl(0x6789);
    request.flr_linger = request.flr_expires = 0;
    request.flr_share = IPV6_FL_S_ANY;
    CHECK(manage(fd, &request) == 0 && manage(other, &request) == 0);
    CHECK(shown(0x6789, &share, &users, &linger, &left) && share == 255 && users == 2 && linger == 6);
    struct sockaddr_in6 to = address;
    struct in6_flowlabel_req own = {.flr_action = IPV6_FL_A_GET};
    socklen_t size = sizeof own;
    CHECK_FAILS(getsockopt(fd, IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, &own, &size), ENOENT);
    to.sin6_flowinfo = htonl(0x6789);
    CHECK(set(fd, IPV6_FLOWINFO_SEND, 1) == 0 && connect(fd, (void *)&to, sizeof to) == 0);
    CHECK(getsockopt(fd, IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, &own, &size) == 0 && size == sizeof own);
    CHECK(own.flr_label == htonl(0x6789) && own.flr_share == IPV6_FL_S_ANY && own.flr_linger == 6);
    CHECK(own.flr_expires <= 6 && memcmp(&own.flr_dst, &address.sin6_addr, 16) == 0);
    close(fd), close(other);
    // Nobody uses them, and nobody else may have the first one yet.
    other = socket(AF_INET6, SOCK_DGRAM, 0);
    // Linux frees sockets a little later.
    for (int tenths = 0; shown(0x5678, &share, &users, &linger, &left) && users > 0; tenths++) {
        CHECK(tenths < 50);
        usleep(100000);
    }
    CHECK(shown(0x5678, &share, &users, &linger, &left) && users == 0 && left >= 18);
    CHECK(shown(0x6789, &share, &users, &linger, &left) && left <= 6);
    request.flr_label = htonl(0x5678);
    request.flr_share = IPV6_FL_S_EXCL;
    CHECK_FAILS(manage(other, &request), EPERM);
    request.flr_flags = 0;
    CHECK_FAILS(manage(other, &request), ENOENT);
    request.flr_flags = IPV6_FL_F_REFLECT;
    CHECK_FAILS(manage(other, &request), EPERM);
    for (int tenths = 0; shown(0x6789, &share, &users, &linger, &left); tenths++) {
        CHECK(tenths < 90);
        usleep(100000);
    }
    CHECK(shown(0x5678, &share, &users, &linger, &left));
    close(other);
}

int main(void) {
    own_network();
    socklen_t size = sizeof address;
    struct timeval limit = {.tv_sec = 5};
    server = socket(AF_INET6, SOCK_DGRAM, 0);
    address = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    CHECK(bind(server, (void *)&address, sizeof address) == 0);
    CHECK(getsockname(server, (void *)&address, &size) == 0);
    CHECK(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(set(server, IPV6_FLOWINFO, 1) == 0);
    PART(datagrams_of_a_socket_have_one_label);
    PART(labels_may_be_chosen);
    PART(labels_are_leased);
    PART(leases_expire);
    return 0;
}
