// Options of IPv4 that a program sends with (IP_OPTIONS, IP_RETOPTS as control data) and is told (IP_RECVOPTS, IP_RETOPTS), as ping
// -R and ping -T use them, over the loopback.
#include "own_network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const unsigned char LOCALHOST[4] = {127, 0, 0, 1};
static struct sockaddr_in address;

static void within(int fd) {
    struct timeval limit = {.tv_sec = 5};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
}

static int udp_server(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    socklen_t size = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (void *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (void *)&address, &size) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_RECVOPTS, &on, sizeof on) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_RETOPTS, &on, sizeof on) == 0);
    within(fd);
    return fd;
}

// What a datagram brought: its options into `out`; how many bytes of them there were, by the type of the message.
static int received(int fd, int type, unsigned char out[40]) {
    char data[100], control[200];
    struct iovec iov = {data, sizeof data};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(fd, &message, 0) == 4 && memcmp(data, "data", 4) == 0);
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == type) {
            memcpy(out, CMSG_DATA(at), at->cmsg_len - CMSG_LEN(0));
            return at->cmsg_len - CMSG_LEN(0);
        }
    return 0;
}

static int set(int fd, const void *options, int len) {
    return setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, len);
}

static void options_are_checked_and_kept(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char got[40];
    socklen_t size = sizeof got;
    CHECK(getsockopt(fd, IPPROTO_IP, IP_OPTIONS, got, &size) == 0 && size == 0);
    CHECK_FAILS(set(fd, "\x07\x02", 2), EINVAL);
    CHECK_FAILS(set(fd, "\x07\x0b\x03\0\0\0\0\0\0\0\0", 11), EINVAL);
    unsigned char record[11] = {IPOPT_RR, 11, 4};
    CHECK(set(fd, record, sizeof record) == 0);
    size = sizeof got;
    CHECK(getsockopt(fd, IPPROTO_IP, IP_OPTIONS, got, &size) == 0 && size == 12);
    CHECK(memcmp(got, record, 11) == 0 && got[11] == 0);
    CHECK(set(fd, NULL, 0) == 0);
    size = sizeof got;
    CHECK(getsockopt(fd, IPPROTO_IP, IP_OPTIONS, got, &size) == 0 && size == 0);
    close(fd);
}

static void the_route_of_datagrams_is_recorded(void) {
    int server = udp_server(), client = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char record[15] = {IPOPT_RR, 15, 4}, got[40];
    CHECK(set(client, record, sizeof record) == 0);
    // The sender and the receiver.
    CHECK(sendto(client, "data", 4, 0, (void *)&address, sizeof address) == 4);
    CHECK(received(server, IP_RECVOPTS, got) == 16);
    CHECK(got[0] == IPOPT_RR && got[1] == 15 && got[2] == 12);
    CHECK(memcmp(got + 3, LOCALHOST, 4) == 0 && memcmp(got + 7, LOCALHOST, 4) == 0 && got[11] == 0);
    // Connected, too, more than once.
    CHECK(connect(client, (void *)&address, sizeof address) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(send(client, "data", 4, 0) == 4);
        CHECK(received(server, IP_RECVOPTS, got) == 16 && got[2] == 12);
    }
    CHECK(send(client, "data", 4, 0) == 4);
    // An answer would begin where this host was recorded.
    int len = received(server, IP_RETOPTS, got);
    CHECK(len == 16 && got[0] == IPOPT_RR && got[2] == 12);
    CHECK(set(client, NULL, 0) == 0 && send(client, "data", 4, 0) == 4);
    CHECK(received(server, IP_RECVOPTS, got) == 0);
    close(server), close(client);
}

static void control_data_replaces_the_options(void) {
    int server = udp_server(), client = socket(AF_INET, SOCK_DGRAM, 0);
    char control[CMSG_SPACE(7)] = {0};
    struct iovec iov = {"data", 4};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = sizeof address,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = (void *)control;
    unsigned char record[7] = {IPOPT_RR, 7, 4}, got[40];
    *header = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_RETOPTS, .cmsg_len = CMSG_LEN(7)};
    memcpy(CMSG_DATA(header), record, sizeof record);
    CHECK(sendmsg(client, &message, 0) == 4);
    CHECK(received(server, IP_RECVOPTS, got) == 8 && got[1] == 7 && memcmp(got + 3, LOCALHOST, 4) == 0);
    CMSG_DATA(header)[1] = 2;
    CHECK_FAILS(sendmsg(client, &message, 0), EINVAL);
    close(server), close(client);
}

static unsigned short sum(const void *data, int len) {
    const unsigned short *words = data;
    unsigned total = 0;
    for (; len > 1; len -= 2)
        total += *words++;
    total = (total >> 16) + (total & 0xffff);
    return ~(total + (total >> 16));
}

// Sends an echo request with options; the options of the reply, and how many bytes of them there are.
static int echoed(const void *options, int len, unsigned char out[40]) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), on = 1;
    unsigned filter = ~(1u << ICMP_ECHOREPLY);
    unsigned char packet[200];
    within(fd);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0);
    // Not the request, which is sent to ourselves.
    CHECK(setsockopt(fd, 255 /* SOL_RAW */, 1 /* ICMP_FILTER */, &filter, sizeof filter) == 0);
    CHECK(set(fd, options, len) == 0);
    struct icmphdr request = {.type = ICMP_ECHO, .un.echo = {.id = 77, .sequence = 1}};
    request.checksum = sum(&request, sizeof request);
    CHECK(sendto(fd, &request, sizeof request, 0, (void *)&address, sizeof address) == sizeof request);
    ssize_t got = recv(fd, packet, sizeof packet, 0);
    int header = (packet[0] & 15) * 4;
    CHECK(got == (ssize_t)(header + sizeof request) && packet[header] == ICMP_ECHOREPLY);
    memcpy(out, packet + 20, header - 20);
    close(fd);
    return header - 20;
}

static void ping_records_the_route(void) {
    unsigned char record[39] = {IPOPT_RR, 39, 4}, got[40];
    CHECK(echoed(record, sizeof record, got) == 40);
    // There and back: the sender, the answering host as receiver and as sender, and ourselves.
    CHECK(got[0] == IPOPT_RR && got[1] == 39);
    printf("route: pointer %d\n", got[2]);
    for (int at = 3; at + 4 < got[2]; at += 4)
        CHECK(memcmp(got + at, LOCALHOST, 4) == 0);
}

static void ping_collects_times(void) {
    unsigned char times[36] = {IPOPT_TS, 36, 5, IPOPT_TS_TSONLY}, got[40];
    CHECK(echoed(times, sizeof times, got) == 36);
    CHECK(got[0] == IPOPT_TS && got[1] == 36 && (got[3] & 15) == IPOPT_TS_TSONLY);
    printf("times: pointer %d\n", got[2]);
    unsigned first, last;
    memcpy(&first, got + 4, 4);
    memcpy(&last, got + got[2] - 5, 4);
    CHECK(ntohl(last) - ntohl(first) < 5000);
    unsigned char both[36] = {IPOPT_TS, 36, 5, IPOPT_TS_TSANDADDR};
    CHECK(echoed(both, sizeof both, got) == 36 && memcmp(got + 4, LOCALHOST, 4) == 0);
    printf("times and addresses: pointer %d\n", got[2]);
}

int main(void) {
    own_network();
    PART(options_are_checked_and_kept);
    PART(the_route_of_datagrams_is_recorded);
    PART(control_data_replaces_the_options);
    PART(ping_records_the_route);
    PART(ping_collects_times);
    return 0;
}
