// Extension headers of IPv6: kept by the socket, given with a message, and told with what is received. What the calls give goes to
// standard output, where it is compared with Linux.
#include "own_network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct bytes {
    const char *name;
    int len;
    unsigned char data[48];
};

// A pad, an option to pass over, one with a value, and what is not right.
static const struct bytes OPTIONS[] = {
    {"pad", 8, {0, 0, 1, 4, 0, 0, 0, 0}},
    {"longer", 16, {7, 1, 0x1e, 5, 5, 6, 7, 8, 9, 1, 5, 0, 0, 0, 0, 0}},
    {"more than said", 16, {0, 0, 1, 4, 0, 0, 0, 0, 1, 6}},
    {"nothing", 0, {0}},
    {"short", 4, {0, 0, 1, 4}},
    {"odd", 12, {0, 0, 1, 4}},
    {"less than said", 8, {0, 1, 1, 4}},
    {"unknown", 8, {0, 0, 0xfe, 4, 1, 2, 3, 4}},
};

static const struct bytes ROUTES[] = {
    {"type 0", 24, {0, 2, 0, 1}},
    {"type 2", 24, {0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
    {"type 2 with two left", 24, {0, 2, 2, 2}},
    {"type 4", 24, {0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
    {"type 4 with one left", 24, {0, 2, 4, 1, 0}},
    {"type 4 of two", 40, {0, 4, 4, 1, 1}},
    {"type 4 with an entry too many", 24, {0, 2, 4, 0, 1}},
    {"type 4 of another length", 40, {0, 2, 4, 0, 0}},
    {"type 9", 8, {0, 0, 9, 0}},
    {"nothing", 0, {0}},
};

static const struct name {
    const char *name;
    int number;
} STICKY[] = {{"hop-by-hop", IPV6_HOPOPTS}, {"before routing", IPV6_RTHDRDSTOPTS}, {"destination", IPV6_DSTOPTS}, {"routing", IPV6_RTHDR}};

static const char *error(int result) { return result >= 0 ? "fine" : strerrorname_np(errno); }

static void print(const unsigned char *bytes, int len) {
    for (int i = 0; i < len; i++)
        printf("%02x", bytes[i]);
}

static void get(int fd, int number) {
    static const int ROOMS[] = {100, 9, 0};
    for (size_t i = 0; i < sizeof ROOMS / sizeof *ROOMS; i++) {
        unsigned char value[100] = {0};
        socklen_t len = ROOMS[i];
        int result = getsockopt(fd, IPPROTO_IPV6, number, value, &len);
        printf(" %s %d ", error(result), len);
        print(value, len);
    }
    printf("\n");
}

static void sticky(int type, int protocol) {
    for (size_t i = 0; i < sizeof STICKY / sizeof *STICKY; i++) {
        int fd = socket(AF_INET6, type, protocol);
        CHECK(fd >= 0);
        const struct bytes *values = STICKY[i].number == IPV6_RTHDR ? ROUTES : OPTIONS;
        int count = STICKY[i].number == IPV6_RTHDR ? sizeof ROUTES / sizeof *ROUTES : sizeof OPTIONS / sizeof *OPTIONS;
        printf("%s at first:", STICKY[i].name);
        get(fd, STICKY[i].number);
        for (int k = 0; k < count; k++) {
            int result = setsockopt(fd, IPPROTO_IPV6, STICKY[i].number, values[k].data, values[k].len);
            printf("%s %s: %s,", STICKY[i].name, values[k].name, error(result));
            get(fd, STICKY[i].number);
        }
        close(fd);
    }
}

static void switches(void) {
    static const int NUMBERS[] = {IPV6_RECVHOPOPTS, IPV6_RECVRTHDR, IPV6_RECVDSTOPTS, 3, 4, 5};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++)
        for (int value = 2; value >= 0; value--) {
            int now = 9;
            socklen_t len = sizeof now;
            int result = setsockopt(fd, IPPROTO_IPV6, NUMBERS[i], &value, sizeof value);
            printf("switch %d to %d: %s,", NUMBERS[i], value, error(result));
            result = getsockopt(fd, IPPROTO_IPV6, NUMBERS[i], &now, &len);
            printf(" %s %d\n", error(result), now);
        }
    close(fd);
}

static void on(int fd, int number) {
    int value = 1;
    CHECK(setsockopt(fd, IPPROTO_IPV6, number, &value, sizeof value) == 0);
}

static void receive(int fd) {
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    char data[64], control[512];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (poll(&pollfd, 1, 100) == 0) {
        printf("  nothing\n");
        return;
    }
    ssize_t len = recvmsg(fd, &message, 0);
    printf("  %zd bytes", len);
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
        printf(", %d: ", one->cmsg_type);
        print(CMSG_DATA(one), one->cmsg_len - CMSG_LEN(0));
    }
    printf("\n");
}

// A message with one header as control data, or two.
static void send_with(int fd, struct sockaddr_in6 *to, int number, const struct bytes *value, int number2) {
    char control[256] = {0};
    struct iovec part = {"data", 4};
    struct msghdr message = {.msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(value->len) * (number2 ? 2 : 1);
    struct cmsghdr *one = CMSG_FIRSTHDR(&message);
    for (int i = 0; i < (number2 ? 2 : 1); i++) {
        *one = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = i ? number2 : number, .cmsg_len = CMSG_LEN(value->len)};
        memcpy(CMSG_DATA(one), value->data, value->len);
        one = CMSG_NXTHDR(&message, one);
    }
    printf("%d %s: %s\n", number, value->name, error(sendmsg(fd, &message, 0)));
}

static void sending(int type) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    socklen_t len = sizeof to;
    int protocol = type == SOCK_RAW ? 253 : 0;
    int receiver = socket(AF_INET6, type, protocol), sender = socket(AF_INET6, type, protocol);
    CHECK(bind(receiver, (struct sockaddr *)&to, len) == 0 && getsockname(receiver, (struct sockaddr *)&to, &len) == 0);
    if (type == SOCK_RAW)
        to.sin6_port = 0;
    on(receiver, IPV6_RECVHOPOPTS);
    on(receiver, IPV6_RECVRTHDR);
    on(receiver, IPV6_RECVDSTOPTS);
    on(receiver, IPV6_RECVHOPLIMIT);
    for (int k = 0; k < 2; k++) {
        send_with(sender, &to, IPV6_HOPOPTS, &OPTIONS[k], 0);
        receive(receiver);
        send_with(sender, &to, IPV6_DSTOPTS, &OPTIONS[k], 0);
        receive(receiver);
        send_with(sender, &to, IPV6_RTHDRDSTOPTS, &OPTIONS[k], 0);
        receive(receiver);
        send_with(sender, &to, IPV6_HOPOPTS, &OPTIONS[k], IPV6_DSTOPTS);
        receive(receiver);
        send_with(sender, &to, IPV6_HOPOPTS, &OPTIONS[k], IPV6_HOPOPTS);
    }
    for (size_t k = 2; k < sizeof OPTIONS / sizeof *OPTIONS - 1; k++) {
        send_with(sender, &to, IPV6_HOPOPTS, &OPTIONS[k], 0);
        send_with(sender, &to, 4, &OPTIONS[k], 0);
    }
    send_with(sender, &to, 3, &OPTIONS[0], 4);
    send_with(sender, &to, 4, &OPTIONS[0], 4);
    while (recv(receiver, (char[64]){0}, 64, MSG_DONTWAIT) >= 0)
        ;
    // An option that nobody knows, and that has to be reported.
    send_with(sender, &to, IPV6_DSTOPTS, &OPTIONS[7], 0);
    receive(receiver);
    for (size_t k = 0; k < sizeof ROUTES / sizeof *ROUTES; k++)
        if (k != 1)
            send_with(sender, &to, IPV6_RTHDR, &ROUTES[k], 0);
    // What the socket keeps, until a message has headers of its own.
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_HOPOPTS, OPTIONS[0].data, 8) == 0);
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_DSTOPTS, OPTIONS[1].data, 16) == 0);
    CHECK(sendto(sender, "kept", 4, 0, (struct sockaddr *)&to, len) == 4);
    receive(receiver);
    CHECK(sendto(sender, "again", 5, 0, (struct sockaddr *)&to, len) == 5);
    receive(receiver);
    send_with(sender, &to, IPV6_DSTOPTS, &OPTIONS[0], 0);
    receive(receiver);
    CHECK(connect(sender, (struct sockaddr *)&to, len) == 0 && send(sender, "by itself", 9, 0) == 9);
    receive(receiver);
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_HOPOPTS, NULL, 0) == 0);
    CHECK(send(sender, "fewer", 5, 0) == 5);
    receive(receiver);
    // The numbers of RFC 2292.
    for (int number = 3; number <= 5; number++)
        on(receiver, number);
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_HOPOPTS, OPTIONS[1].data, 16) == 0);
    CHECK(send(sender, "old", 3, 0) == 3);
    receive(receiver);
    close(sender);
    close(receiver);
}

// Fragments repeat what is for routers.
static void fragments(void) {
    struct ifreq small = {.ifr_name = "lo", .ifr_mtu = 1280};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    socklen_t len = sizeof to;
    int receiver = socket(AF_INET6, SOCK_DGRAM, 0), sender = socket(AF_INET6, SOCK_DGRAM, 0);
    static char data[4000];
    if (ioctl(receiver, SIOCSIFMTU, &small) != 0)
        return;
    CHECK(bind(receiver, (struct sockaddr *)&to, len) == 0 && getsockname(receiver, (struct sockaddr *)&to, &len) == 0);
    on(receiver, IPV6_RECVHOPOPTS);
    on(receiver, IPV6_RECVDSTOPTS);
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_HOPOPTS, OPTIONS[0].data, 8) == 0);
    CHECK(setsockopt(sender, IPPROTO_IPV6, IPV6_DSTOPTS, OPTIONS[1].data, 16) == 0);
    CHECK(sendto(sender, data, sizeof data, 0, (struct sockaddr *)&to, len) == sizeof data);
    receive(receiver);
    close(sender);
    close(receiver);
}

static void without_privilege(void) {
    pid_t child = fork();
    if (child == 0) {
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback, .sin6_port = htons(9)};
        CHECK(setuid(65534) == 0);
        sticky(SOCK_DGRAM, 0);
        int fd = socket(AF_INET6, SOCK_DGRAM, 0);
        send_with(fd, &to, IPV6_HOPOPTS, &OPTIONS[0], 0);
        send_with(fd, &to, IPV6_DSTOPTS, &OPTIONS[6], 0);
        send_with(fd, &to, 4, &OPTIONS[0], 0);
        fflush(stdout);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
    own_network();
    sticky(SOCK_DGRAM, 0);
    sticky(SOCK_RAW, 253);
    switches();
    sending(SOCK_DGRAM);
    sending(SOCK_RAW);
    fflush(stdout);
    without_privilege();
    fragments();
    return 0;
}
