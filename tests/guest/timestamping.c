// SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING by both of their numbers: what is kept, what comes with datagrams, and what the
// error queue says of those that were sent. It goes to standard output, where it is compared with Linux.
#include "check.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define NEW_STAMP 63
#define NEW_STAMPNS 64
#define NEW_STAMPING 65
#define SOFTWARE SOF_TIMESTAMPING_SOFTWARE
#define RX (SOF_TIMESTAMPING_RX_SOFTWARE | SOFTWARE)
#define TX (SOF_TIMESTAMPING_TX_SOFTWARE | SOFTWARE)
#define SCHED (SOF_TIMESTAMPING_TX_SCHED | SOFTWARE)
#define ID SOF_TIMESTAMPING_OPT_ID
#define ONLY SOF_TIMESTAMPING_OPT_TSONLY

static const int NAMES[] = {SO_TIMESTAMP, NEW_STAMP, SO_TIMESTAMPNS, NEW_STAMPNS, SO_TIMESTAMPING, NEW_STAMPING};

static void set(int fd, int name, unsigned value) {
    int result = setsockopt(fd, SOL_SOCKET, name, &value, sizeof value);
    printf("%d to %x: %s;", name, value, result == 0 ? "fine" : strerrorname_np(errno));
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        unsigned now[2] = {9, 9};
        socklen_t len = sizeof now;
        CHECK(getsockopt(fd, SOL_SOCKET, NAMES[i], now, &len) == 0);
        printf(" %d is %x", NAMES[i], now[0]);
        if (len == 8)
            printf(",%x", now[1]);
    }
    printf("\n");
}

static void quietly(int fd, int name, unsigned value) {
    CHECK(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0);
}

static void options(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < 4; i++)
        set(fd, NAMES[i], 1);
    for (int i = 0; i < 4; i++) {
        set(fd, NAMES[(i + 1) % 4], 1);
        set(fd, NAMES[i], 0);
    }
    for (int bit = 0; bit < 20; bit++)
        set(fd, SO_TIMESTAMPING, 1u << bit);
    set(fd, NEW_STAMPING, RX);
    set(fd, SO_TIMESTAMPING, RX | SOF_TIMESTAMPING_OPT_CMSG);
    set(fd, SO_TIMESTAMPING, 1 << 16 | ID);
    set(fd, SO_TIMESTAMPING, SOF_TIMESTAMPING_OPT_STATS | ONLY);
    set(fd, SO_TIMESTAMPING, 0);
    close(fd);
}

static const char *age_of(long seconds, long fraction) {
    if (seconds == 0 && fraction == 0)
        return "none";
    return labs(seconds - time(NULL)) < 5 ? "now" : "not now";
}

// The error queue shows packets as they are, but for addresses, numbers and checksums of the moment.
static void show_packet(const unsigned char *data, ssize_t len) {
    int is_v6 = data[12] == 0x86, header = is_v6 ? 40 : 20;
    printf(" packet of %zd: %02x%02x, version %d, protocol %d, ttl %d, then ", len, data[12], data[13], data[14] >> 4,
           is_v6 ? data[20] : data[23], is_v6 ? data[21] : data[22]);
    printf("%d '%.*s'", data[14 + header + 4] << 8 | data[14 + header + 5], (int)(len - 22 - header), data + 22 + header);
}

static void show(int fd, int flags, const char *label) {
    unsigned char data[2000], control[512];
    struct sockaddr_in6 name;
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    CHECK(poll(&pollfd, 1, 5000) == 1);
    ssize_t len = recvmsg(fd, &message, flags);
    CHECK(len >= 0);
    printf("  %s: ready %x, %zd bytes, flags %x, name of %d", label, pollfd.revents, len, message.msg_flags, message.msg_namelen);
    if (flags && len > 0)
        show_packet(data, len);
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
        printf(", %d/%d of %d:", one->cmsg_level, one->cmsg_type, (int)(one->cmsg_len - CMSG_LEN(0)));
        if (one->cmsg_level == SOL_SOCKET) {
            long times[6];
            int count = (one->cmsg_len - CMSG_LEN(0)) / 16;
            memcpy(times, CMSG_DATA(one), count * 16);
            for (int i = 0; i < count; i++)
                printf(" %s", age_of(times[2 * i], times[2 * i + 1]));
        } else {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(one), sizeof error);
            printf(" error %d origin %d type %d code %d info %d data %d", error.ee_errno, error.ee_origin, error.ee_type,
                   error.ee_code, error.ee_info, error.ee_data);
        }
    }
    printf("\n");
}

// What the error queue has now. Nothing of it is late: the times are taken while the datagram is sent.
static void drain(int fd) {
    struct pollfd pollfd = {.fd = fd};
    while (poll(&pollfd, 1, 20) == 1)
        show(fd, MSG_ERRQUEUE, "sent");
}

static void put(int fd) { CHECK(send(fd, "payload", 7, 0) == 7); }

static void send_asking(int fd, int type, unsigned flags, int len) {
    char control[CMSG_SPACE(8)] = {0};
    struct iovec part = {"asks", 4};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(len)};
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);
    *one = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = type, .cmsg_len = CMSG_LEN(len)};
    memcpy(CMSG_DATA(one), &flags, sizeof flags);
    ssize_t sent = sendmsg(fd, &message, 0);
    printf("%x by %d of %d: %zd %s\n", flags, type, len, sent, sent < 0 ? strerrorname_np(errno) : "");
    drain(fd);
}

// Linux begins to take times a little after a socket has asked for them; while this one is open, it does.
static void begin_times(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof to;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&to, len) == 0 && getsockname(fd, (struct sockaddr *)&to, &len) == 0);
    CHECK(connect(fd, (struct sockaddr *)&to, len) == 0);
    quietly(fd, SO_TIMESTAMPING, RX);
    for (;;) {
        char data[8], control[128];
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        put(fd);
        CHECK(recvmsg(fd, &message, 0) == 7);
        if (message.msg_controllen > 0)
            return;
        usleep(1000);
    }
}

static void datagrams(int family) {
    static const unsigned SENT[] = {
        SOF_TIMESTAMPING_TX_SOFTWARE, TX, TX | ONLY, TX | ID, SCHED | ID | ONLY, TX | SCHED | ID | ONLY, SOF_TIMESTAMPING_TX_ACK | SOFTWARE,
    };
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = family == AF_INET6 ? (void *)&six : (void *)&four;
    socklen_t len = family == AF_INET6 ? sizeof six : sizeof four;
    int to = socket(family, SOCK_DGRAM, 0), from = socket(family, SOCK_DGRAM, 0);
    CHECK(bind(to, address, len) == 0 && getsockname(to, address, &len) == 0 && connect(from, address, len) == 0);
    for (int i = 0; i < 4; i++) {
        quietly(to, NAMES[i], 1);
        put(from);
        show(to, 0, "received");
        quietly(to, NAMES[i], 0);
    }
    for (int i = 4; i < 6; i++) {
        quietly(to, NAMES[i], RX);
        put(from);
        show(to, 0, "received");
        quietly(to, SO_TIMESTAMP, 1);
        put(from);
        show(to, 0, "received");
        quietly(to, SO_TIMESTAMP, 0);
    }
    for (size_t i = 0; i < sizeof SENT / sizeof *SENT; i++) {
        printf("sending with %x\n", SENT[i]);
        quietly(from, SO_TIMESTAMPING, 0);
        quietly(from, SO_TIMESTAMPING, SENT[i]);
        put(from);
        put(from);
        drain(from);
    }
    quietly(from, NEW_STAMPING, TX | ID | ONLY);
    put(from);
    drain(from);
    quietly(from, SO_TIMESTAMPING, 0);
    quietly(from, SO_TIMESTAMPING, SOFTWARE | ID | ONLY);
    send_asking(from, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE, 4);
    put(from);
    send_asking(from, NEW_STAMPING, SOF_TIMESTAMPING_TX_SCHED, 4);
    send_asking(from, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE, 4);
    send_asking(from, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE, 8);
    send_asking(from, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_ACK, 4);
    // It is no error of the socket, and does not wake who reads.
    int error = 77;
    socklen_t error_len = sizeof error;
    quietly(from, SO_TIMESTAMPING, TX | ONLY);
    put(from);
    CHECK(getsockopt(from, SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error == 0);
    CHECK_FAILS(recv(from, &error, sizeof error, MSG_DONTWAIT), EAGAIN);
    drain(from);
    CHECK_FAILS(recv(from, &error, sizeof error, MSG_ERRQUEUE), EAGAIN);
    close(from);
    close(to);
}

int main(void) {
    options();
    begin_times();
    datagrams(AF_INET);
    datagrams(AF_INET6);
    return 0;
}
