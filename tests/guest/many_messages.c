// recvmmsg(2) on datagram sockets: how many messages a call takes, what it says of each, and what ends it early. The results go to
// standard output, where they are compared with Linux.
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define MOST 40

static int receiver, sender;
static struct sockaddr_in to = {.sin_family = AF_INET};
static struct mmsghdr messages[MOST];
static struct iovec parts[MOST];
static struct sockaddr_in names[MOST];
static char data[MOST][32], control[MOST][64];

static void prepare(int count, int room) {
    memset(messages, 0, sizeof messages);
    memset(data, 0, sizeof data);
    for (int i = 0; i < count; i++) {
        parts[i] = (struct iovec){data[i], room};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &parts[i], .msg_iovlen = 1,
                                              .msg_control = control[i], .msg_controllen = sizeof control[i]};
        messages[i].msg_len = 99;
    }
}

static void put(int count) {
    char text[32];
    for (int i = 0; i < count; i++) {
        int len = snprintf(text, sizeof text, "message %d", i);
        CHECK(sendto(sender, text, len, 0, (struct sockaddr *)&to, sizeof to) == len);
    }
}

static void show(const char *label, int result) {
    printf("%s: %d %s\n", label, result, result < 0 ? strerrorname_np(errno) : "");
    for (int i = 0; i < MOST && messages[i].msg_hdr.msg_iov; i++) {
        struct msghdr *header = &messages[i].msg_hdr;
        struct cmsghdr *first = i < result ? CMSG_FIRSTHDR(header) : NULL;
        printf("  %u '%s' flags %x, name of %d, control of %zu", messages[i].msg_len, data[i], header->msg_flags, header->msg_namelen,
               header->msg_controllen);
        if (first)
            printf(" with %d/%d", first->cmsg_level, first->cmsg_type);
        printf("\n");
    }
}

static void drain(void) {
    char buffer[64];
    while (recv(receiver, buffer, sizeof buffer, MSG_DONTWAIT) >= 0)
        ;
}

// Linux tells the next call what ended the one before it early.
static int take_error(void) {
    int error;
    socklen_t len = sizeof error;
    CHECK(getsockopt(receiver, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
    return error;
}

static void errors_of_earlier_calls(void *bad) {
    for (int way = 0; way < 4; way++) {
        put(3);
        prepare(2, 32);
        parts[1].iov_base = bad;
        errno = 0;
        int result = recvmmsg(receiver, messages, 2, MSG_DONTWAIT, NULL);
        printf("way %d: %d %d", way, result, errno);
        if (way == 0)
            result = recv(receiver, data[0], 32, MSG_DONTWAIT);
        else if (way == 1)
            result = recv(receiver, data[0], 32, MSG_DONTWAIT | MSG_PEEK);
        else if (way == 2)
            result = sendto(receiver, "x", 1, 0, (struct sockaddr *)&to, sizeof to);
        else
            result = recv(receiver, data[0], 32, MSG_DONTWAIT | MSG_ERRQUEUE);
        printf(", %d %s, then %d", result, result < 0 ? strerrorname_np(errno) : "", take_error());
        printf(", left %d\n", (int)recv(receiver, data[0], 32, MSG_DONTWAIT));
        drain();
    }
    // What ends for want of messages leaves nothing behind.
    put(1);
    prepare(2, 32);
    printf("too few: %d", recvmmsg(receiver, messages, 2, MSG_DONTWAIT, NULL));
    printf(", then %d\n", take_error());
}

static void *send_later(void *unused) {
    (void)unused;
    usleep(20000);
    put(2);
    return NULL;
}

int main(void) {
    socklen_t len = sizeof to;
    int on = 1;
    receiver = socket(AF_INET, SOCK_DGRAM, 0);
    sender = socket(AF_INET, SOCK_DGRAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(receiver, (struct sockaddr *)&to, len) == 0 && getsockname(receiver, (struct sockaddr *)&to, &len) == 0);
    CHECK(setsockopt(receiver, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);

    put(37);
    prepare(MOST, 32);
    show("all that is there", recvmmsg(receiver, messages, MOST, MSG_DONTWAIT, NULL));
    prepare(2, 32);
    show("nothing", recvmmsg(receiver, messages, 2, MSG_DONTWAIT, NULL));
    put(5);
    prepare(3, 5);
    show("some, cut", recvmmsg(receiver, messages, 3, MSG_TRUNC, NULL));
    prepare(4, 32);
    show("the rest", recvmmsg(receiver, messages, 4, MSG_WAITFORONE, NULL));
    put(3);
    prepare(3, 32);
    show("peeking", recvmmsg(receiver, messages, 3, MSG_PEEK | MSG_DONTWAIT, NULL));
    struct timespec none = {0, 0};
    prepare(3, 32);
    show("no time", recvmmsg(receiver, messages, 3, MSG_DONTWAIT, &none));
    drain();

    // The first of them are there, the others come later.
    pthread_t thread;
    put(2);
    prepare(4, 32);
    CHECK(pthread_create(&thread, NULL, send_later, NULL) == 0);
    show("waiting", recvmmsg(receiver, messages, 4, 0, NULL));
    CHECK(pthread_join(thread, NULL) == 0);

    // Memory that cannot be written loses its datagram.
    void *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(4);
    prepare(4, 32);
    parts[2].iov_base = bad;
    show("bad memory later", recvmmsg(receiver, messages, 4, MSG_DONTWAIT, NULL));
    struct pollfd waits = {.fd = receiver, .events = POLLIN};
    CHECK(poll(&waits, 1, 0) == 1);
    printf("events %x\n", waits.revents);
    prepare(4, 32);
    show("the next call", recvmmsg(receiver, messages, 4, MSG_DONTWAIT, NULL));
    prepare(4, 32);
    show("after it", recvmmsg(receiver, messages, 4, MSG_DONTWAIT, NULL));
    put(2);
    prepare(2, 32);
    parts[0].iov_base = bad;
    show("bad memory first", recvmmsg(receiver, messages, 2, MSG_DONTWAIT, NULL));
    drain();
    put(2);
    prepare(2, 32);
    messages[1].msg_hdr.msg_iov = bad;
    int result = recvmmsg(receiver, messages, 2, MSG_DONTWAIT, NULL);
    printf("bad header: %d, then %d", result, take_error());
    printf(", left %d\n", (int)recv(receiver, data[0], 32, MSG_DONTWAIT));
    errors_of_earlier_calls(bad);

    // An error that waits is told before the datagrams.
    int unused = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_addr = to.sin_addr}, own;
    CHECK(bind(unused, (struct sockaddr *)&nobody, len) == 0 && getsockname(unused, (struct sockaddr *)&nobody, &len) == 0);
    close(unused);
    CHECK(connect(sender, (struct sockaddr *)&nobody, len) == 0 && getsockname(sender, (struct sockaddr *)&own, &len) == 0);
    CHECK(send(sender, "x", 1, 0) == 1);
    struct pollfd pollfd = {.fd = sender, .events = POLLIN};
    CHECK(poll(&pollfd, 1, 5000) == 1);
    prepare(2, 32);
    show("an error", recvmmsg(sender, messages, 2, MSG_DONTWAIT, NULL));
    prepare(2, 32);
    show("once", recvmmsg(sender, messages, 2, MSG_DONTWAIT, NULL));

    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0 && send(pair[0], "a", 1, 0) == 1 && send(pair[0], "bc", 2, 0) == 2);
    prepare(3, 32);
    show("local", recvmmsg(pair[1], messages, 3, MSG_DONTWAIT, NULL));
    return 0;
}
