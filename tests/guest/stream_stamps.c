// SO_TIMESTAMP and SO_TIMESTAMPING on streams: what comes with what is read, and what the error queue says of bytes that were sent
// and acknowledged. It goes to standard output, where it is compared with Linux.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOFTWARE SOF_TIMESTAMPING_SOFTWARE
#define RX (SOF_TIMESTAMPING_RX_SOFTWARE | SOFTWARE)
#define SENT (SOF_TIMESTAMPING_TX_SOFTWARE | SOFTWARE)
#define ACK (SOF_TIMESTAMPING_TX_ACK | SOFTWARE)
#define ALL (SENT | ACK | SOF_TIMESTAMPING_TX_SCHED)
#define ID SOF_TIMESTAMPING_OPT_ID
#define ONLY SOF_TIMESTAMPING_OPT_TSONLY
#define FROM_HERE (1 << 16) /* SOF_TIMESTAMPING_OPT_ID_TCP */

static const char *set(int fd, int name, unsigned value)
{
    return setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0 ? "fine" : strerrorname_np(errno);
}

static void pair(int family, int *client, int *server, unsigned of_listener)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = family == AF_INET ? sizeof four : sizeof address;
    if (family == AF_INET)
        memcpy(&address, &four, sizeof four);
    int listener = socket(family, SOCK_STREAM, 0), on = 1;
    CHECK(bind(listener, (void *)&address, size) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (void *)&address, &size) == 0);
    if (of_listener)
        set(listener, SO_TIMESTAMPING, of_listener);
    *client = socket(family, SOCK_STREAM, 0);
    CHECK(setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    CHECK(connect(*client, (void *)&address, size) == 0);
    *server = accept(listener, NULL, NULL);
    CHECK(*server >= 0);
    close(listener);
}

static const char *age_of(const struct timespec *time_of)
{
    if (time_of->tv_sec == 0 && time_of->tv_nsec == 0)
        return "none";
    return labs(time_of->tv_sec - time(NULL)) < 5 ? "now" : "not now";
}

static long long micros(const struct timespec *at) { return at->tv_sec * 1000000LL + at->tv_nsec / 1000; }

static struct timespec last_stamp;

static int show(int fd, int flags, size_t room)
{
    char data[70000], control[500];
    struct iovec iov = {data, room};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t len = recvmsg(fd, &message, flags | MSG_DONTWAIT);
    if (len < 0) {
        printf("    %s\n", strerrorname_np(errno));
        return 0;
    }
    // Packets have headers of their own length.
    printf("    %s, flags %x:", len == 0 ? "nothing" : flags & MSG_ERRQUEUE ? "a packet" : "data", message.msg_flags & ~MSG_TRUNC);
    if (!(flags & MSG_ERRQUEUE))
        printf(" %zd bytes", len);
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
        printf(" [%d %d", at->cmsg_level, at->cmsg_type);
        if (at->cmsg_level == SOL_SOCKET && (at->cmsg_type == SO_TIMESTAMPING || at->cmsg_type == 65)) {
            struct timespec times[3];
            memcpy(times, CMSG_DATA(at), sizeof times);
            last_stamp = times[0];
            for (int i = 0; i < 3; i++)
                printf(" %s", age_of(&times[i]));
        } else if (at->cmsg_level == SOL_SOCKET) {
            struct timespec one;
            memcpy(&one, CMSG_DATA(at), sizeof one);
            last_stamp = one;
            printf(" %s", age_of(&one));
        } else {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(at), sizeof error);
            printf(" errno %u origin %d info %u data %u", error.ee_errno, error.ee_origin, error.ee_info, error.ee_data);
        }
        printf("]");
    }
    puts("");
    return 1;
}

static void errors(int fd)
{
    struct pollfd ready = {.fd = fd};
    // The last acknowledgment may be on its way.
    usleep(60000);
    int count = poll(&ready, 1, 0);
    printf("  poll: %d, %x\n", count, ready.revents);
    while (show(fd, MSG_ERRQUEUE, 70000))
        ;
}

static void await_data(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    CHECK(poll(&ready, 1, 5000) == 1);
}

static void read_all(int fd, size_t len)
{
    char data[70000];
    while (len > 0) {
        ssize_t count = read(fd, data, len);
        CHECK(count > 0);
        len -= count;
    }
}

static void sends(int family, unsigned flags, const char *name)
{
    int client, server;
    char data[3000] = "";
    pair(family, &client, &server, 0);
    printf("%s, family %d\n", name, family);
    CHECK(write(client, data, 1) == 1);
    read_all(server, 1);
    // It is to be acknowledged when counting begins.
    usleep(60000);
    printf("  %s\n", set(client, SO_TIMESTAMPING, flags));
    CHECK(write(client, data, 10) == 10);
    read_all(server, 10);
    errors(client);
    CHECK(write(client, data, 3000) == 3000);
    read_all(server, 3000);
    errors(client);
    CHECK(write(client, data, 1) == 1 && write(client, data, 1) == 1);
    read_all(server, 2);
    errors(client);
    set(client, SO_TIMESTAMPING, SOFTWARE | (flags & (ID | ONLY)));
    CHECK(write(client, data, 5) == 5);
    errors(client);
    close(client);
    close(server);
}

// One write among others, by control data.
static void asked_by_message(void)
{
    int client, server;
    unsigned asked = SOF_TIMESTAMPING_TX_ACK;
    char data[10] = "", control[CMSG_SPACE(4)] = "";
    pair(AF_INET, &client, &server, 0);
    puts("by message");
    printf("  %s\n", set(client, SO_TIMESTAMPING, SOFTWARE | ID | ONLY));
    CHECK(write(client, data, 10) == 10);
    struct iovec iov = {data, 4};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    *first = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SO_TIMESTAMPING, .cmsg_len = CMSG_LEN(4)};
    memcpy(CMSG_DATA(first), &asked, 4);
    CHECK(sendmsg(client, &message, 0) == 4);
    CHECK(write(client, data, 7) == 7);
    read_all(server, 21);
    errors(client);
    close(client);
    close(server);
}

// Linux looks at clocks only while somebody wants stamps, and begins a moment after the first asks: datagrams have them from then
// on. The socket stays open.
static void begin_stamps(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(fd, (void *)&here, size) == 0 && getsockname(fd, (void *)&here, &size) == 0);
    set(fd, SO_TIMESTAMPING, RX);
    for (int i = 0; i < 5000; i++) {
        char data[1], control[256];
        struct iovec part = {data, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        CHECK(sendto(fd, "x", 1, 0, (void *)&here, size) == 1 && recvmsg(fd, &message, 0) == 1);
        struct cmsghdr *stamp = CMSG_FIRSTHDR(&message);
        if (stamp && stamp->cmsg_type == SO_TIMESTAMPING)
            return;
        usleep(1000);
    }
    CHECK(!"stamps within five seconds");
}

static void receives(int family)
{
    int client, server;
    char data[100] = "";
    pair(family, &client, &server, 0);
    printf("receiving, family %d\n", family);
    printf("  %s\n", set(server, SO_TIMESTAMPING, RX));
    CHECK(write(client, data, 10) == 10);
    await_data(server);
    puts("  part, peeked, all");
    show(server, 0, 5);
    long long first = micros(&last_stamp);
    usleep(50000);
    CHECK(write(client, data, 20) == 20);
    await_data(server);
    show(server, MSG_PEEK, 25);
    show(server, 0, 25);
    long long second = micros(&last_stamp);
    printf("  the second came later: %d\n", second - first > 30000);
    show(server, 0, 25);
    printf("  nanoseconds: %s\n", set(server, SO_TIMESTAMPNS, 1));
    CHECK(write(client, data, 3) == 3);
    await_data(server);
    show(server, 0, 10);
    printf("  none: %s, %s\n", set(server, SO_TIMESTAMPNS, 0), set(server, SO_TIMESTAMPING, 0));
    CHECK(write(client, data, 3) == 3);
    await_data(server);
    show(server, 0, 10);
    close(client);
    close(server);
    pair(family, &client, &server, RX);
    puts("  of a listener");
    usleep(50000);
    CHECK(write(client, data, 3) == 3);
    await_data(server);
    show(server, 0, 10);
    close(client);
    close(server);
}

int main(void)
{
    own_network();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    printf("before there is a connection: %s, %s\n", set(fd, SO_TIMESTAMPING, ALL | ONLY), set(fd, SO_TIMESTAMPING, ALL | ID));
    close(fd);
    static const struct {
        unsigned flags;
        const char *name;
    } KINDS[] = {
        {ALL | ID | ONLY, "all"},
        {ALL | ID | FROM_HERE | ONLY, "all from here on"},
        {ALL | ONLY, "without numbers"},
        {ACK | ID | ONLY, "acknowledged"},
        {SENT | ID | ONLY, "sent"},
        {(ACK & ~SOFTWARE) | ID | ONLY, "not told"},
        {SENT | ID, "sent, with packets"},
    };
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        for (int family = AF_INET;; family = AF_INET6) {
            sends(family, KINDS[i].flags, KINDS[i].name);
            if (family == AF_INET6)
                break;
        }
    asked_by_message();
    begin_stamps();
    receives(AF_INET);
    receives(AF_INET6);
    puts("PASS");
    return 0;
}
