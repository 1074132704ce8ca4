// TCP_REPAIR as CRIU uses it: a connection over the loopback is taken apart, its socket closed without a word, and put together
// again in another socket, with what was not read and what was not sent.
#include "own_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SIOCOUTQNSD
#define SIOCOUTQNSD 0x894B
#endif
#define QUEUE_NONE 0
#define QUEUE_RECEIVE 1
#define QUEUE_SEND 2

struct pair {
    unsigned code, value;
};

struct window {
    unsigned snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
};

// All that is known of one end.
struct image {
    struct sockaddr_storage local, remote;
    socklen_t size;
    int mss;
    unsigned send_seq, receive_seq, timestamp;
    struct tcp_info info;
    struct window window;
    int receive_len, send_len, unsent_len;
    char receive[100000], *send;
};

static int get(int fd, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, IPPROTO_TCP, name, &value, &size) == 0 ? value : -errno;
}

static const char *set(int fd, int name, int value)
{
    return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value) == 0 ? "fine" : strerrorname_np(errno);
}

static void must(int fd, int name, int value) { CHECK(setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value) == 0); }

static const char *result(long value) { return value >= 0 ? "fine" : strerrorname_np(errno); }

static void dump(int fd, struct image *out)
{
    socklen_t size = sizeof out->local;
    CHECK(getsockname(fd, (void *)&out->local, &size) == 0);
    size = sizeof out->remote;
    CHECK(getpeername(fd, (void *)&out->remote, &size) == 0);
    out->size = size;
    must(fd, TCP_REPAIR, 1);
    size = sizeof out->info;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &out->info, &size) == 0);
    out->mss = get(fd, TCP_MAXSEG);
    out->timestamp = get(fd, TCP_TIMESTAMP);
    CHECK(ioctl(fd, FIONREAD, &out->receive_len) == 0 && ioctl(fd, TIOCOUTQ, &out->send_len) == 0);
    CHECK(ioctl(fd, SIOCOUTQNSD, &out->unsent_len) == 0);
    size = sizeof out->window;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &out->window, &size) == 0);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_RECEIVE);
    out->receive_seq = get(fd, TCP_QUEUE_SEQ);
    CHECK(recv(fd, out->receive, sizeof out->receive, MSG_PEEK | MSG_DONTWAIT) == out->receive_len || out->receive_len == 0);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_SEND);
    out->send_seq = get(fd, TCP_QUEUE_SEQ);
    out->send = malloc(out->send_len + 1);
    CHECK(recv(fd, out->send, out->send_len + 1, MSG_PEEK | MSG_DONTWAIT) == out->send_len);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_NONE);
}

static void put(int fd, int queue, const char *data, int len)
{
    must(fd, TCP_REPAIR_QUEUE, queue);
    while (len > 0) {
        int count = send(fd, data, len, 0);
        CHECK(count > 0);
        data += count;
        len -= count;
    }
}

static int restore(const struct image *from)
{
    int fd = socket(from->local.ss_family, SOCK_STREAM, 0), on = 1, sent = from->send_len - from->unsent_len;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    must(fd, TCP_REPAIR, 1);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_RECEIVE);
    must(fd, TCP_QUEUE_SEQ, from->receive_seq - from->receive_len);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_SEND);
    must(fd, TCP_QUEUE_SEQ, from->send_seq - from->send_len);
    CHECK(bind(fd, (void *)&from->local, from->size) == 0);
    CHECK(connect(fd, (void *)&from->remote, from->size) == 0);
    struct pair options[4] = {
        {2, from->mss},
        {3, from->info.tcpi_snd_wscale | from->info.tcpi_rcv_wscale << 16},
        {4, 0},
        {8, 0},
    };
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, sizeof options) == 0);
    must(fd, TCP_TIMESTAMP, from->timestamp);
    put(fd, QUEUE_RECEIVE, from->receive, from->receive_len);
    put(fd, QUEUE_SEND, from->send, sent);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &from->window, sizeof from->window) == 0);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_RECEIVE);
    CHECK((unsigned)get(fd, TCP_QUEUE_SEQ) == from->receive_seq);
    must(fd, TCP_REPAIR_QUEUE, QUEUE_SEND);
    CHECK((unsigned)get(fd, TCP_QUEUE_SEQ) == from->send_seq - from->unsent_len);
    CHECK(get(fd, TCP_MAXSEG) == from->mss);
    must(fd, TCP_REPAIR, 0);
    // What was never sent goes the usual way, whatever room a new socket has.
    int room = 16 << 20;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) == 0);
    while (sent < from->send_len) {
        int count = send(fd, from->send + sent, from->send_len - sent, MSG_DONTWAIT);
        CHECK(count > 0);
        sent += count;
    }
    return fd;
}

static void pair_of(int family, int *client, int *server)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = family == AF_INET ? sizeof four : sizeof address;
    if (family == AF_INET)
        memcpy(&address, &four, sizeof four);
    int listener = socket(family, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&address, size) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (void *)&address, &size) == 0);
    *client = socket(family, SOCK_STREAM, 0);
    CHECK(connect(*client, (void *)&address, size) == 0);
    *server = accept(listener, NULL, NULL);
    CHECK(*server >= 0);
    close(listener);
}

static void read_all(int fd, const char *expected, int len)
{
    struct timeval limit = {.tv_sec = 10};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    for (int done = 0; done < len;) {
        char data[5000];
        int count = read(fd, data, len - done < 5000 ? len - done : 5000);
        CHECK(count > 0 && memcmp(data, expected + done, count) == 0);
        done += count;
    }
}

static char bytes[4000000];

// Fills what the other end does not read, moves, and goes on.
static void moves(int family, int which, int fills)
{
    int ends[2], len = 0;
    struct image *image = calloc(1, sizeof *image);
    pair_of(family, &ends[0], &ends[1]);
    CHECK(write(ends[0], "to the server", 13) == 13 && write(ends[1], "to the client", 13) == 13);
    usleep(50000);
    while (fills) {
        int count = send(ends[which], bytes + len, sizeof bytes - len, MSG_DONTWAIT);
        if (count < 0)
            break;
        len += count;
        usleep(20000);
    }
    // A late acknowledgment would meet no socket.
    usleep(100000);
    dump(ends[which], image);
    close(ends[which]);
    // Nothing has ended.
    struct pollfd other = {.fd = ends[!which], .events = POLLRDHUP};
    CHECK(poll(&other, 1, 50) == 0);
    ends[which] = restore(image);
    printf("family %d, end %d: %d to read, %s to send, state %d\n", family, which, image->receive_len, image->send_len ? "some" : "none", image->info.tcpi_state);
    read_all(ends[which], which ? "to the server" : "to the client", 13);
    read_all(ends[!which], which ? "to the client" : "to the server", 13);
    read_all(ends[!which], bytes, len);
    for (int i = 0; i < 3; i++) {
        CHECK(write(ends[0], bytes, 20000) == 20000);
        read_all(ends[1], bytes, 20000);
        CHECK(write(ends[1], bytes, 20000) == 20000);
        read_all(ends[0], bytes, 20000);
    }
    close(ends[which]);
    char byte;
    printf("  the end: %zd\n", read(ends[!which], &byte, 1));
    close(ends[!which]);
    free(image->send);
    free(image);
}

static void refusals(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), client, server;
    struct window window = {0};
    struct pair option = {4, 0};
    socklen_t size = sizeof window;
    char data[10];
    printf("off: queue %s, number %s, window %s", set(fd, TCP_REPAIR_QUEUE, 1), set(fd, TCP_QUEUE_SEQ, 1), result(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window)));
    printf(", options %s", result(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, &option, sizeof option)));
    printf(", timestamp %s; %d %d %d", set(fd, TCP_TIMESTAMP, 5), get(fd, TCP_REPAIR), get(fd, TCP_REPAIR_QUEUE), get(fd, TCP_QUEUE_SEQ));
    printf(" %s\n", result(getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &size)));
    printf("values: %s %s %s", set(fd, TCP_REPAIR, 2), set(fd, TCP_REPAIR, -2), set(fd, TCP_REPAIR, 1));
    printf(" %s %s; %d %d\n", set(fd, TCP_REPAIR_QUEUE, 3), set(fd, TCP_REPAIR_QUEUE, -1), get(fd, TCP_REPAIR), get(fd, TCP_REPAIR_QUEUE));
    printf("without a connection: %s", result(send(fd, "x", 1, MSG_NOSIGNAL)));
    printf(" %s\n", result(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, &option, sizeof option)));
    close(fd);
    pair_of(AF_INET, &client, &server);
    must(client, TCP_REPAIR, 1);
    printf("no queue: send %s, receive %s", result(send(client, "x", 1, 0)), result(recv(client, data, 10, 0)));
    printf(", peek %s, number %s\n", result(recv(client, data, 10, MSG_PEEK)), set(client, TCP_QUEUE_SEQ, 1));
    must(client, TCP_REPAIR_QUEUE, QUEUE_RECEIVE);
    printf("receive queue: number %s, peek %s\n", set(client, TCP_QUEUE_SEQ, 1), result(recv(client, data, 10, MSG_PEEK | MSG_DONTWAIT)));
    struct pair bad[] = {{3, 15}, {4, 1}, {8, 1}, {99, 1}, {3, 7 << 16 | 7}};
    for (int i = 0; i < 5; i++)
        printf("  option %u: %s\n", bad[i].code, result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_OPTIONS, &bad[i], sizeof bad[i])));
    size = sizeof window;
    CHECK(getsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &size) == 0);
    struct window less = window, late = window, ahead = window;
    less.max_window = less.snd_wnd - 1;
    late.snd_wl1 += late.rcv_wnd + 100;
    ahead.rcv_wup += 1000;
    printf("windows: %s", result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &less, sizeof less)));
    printf(" %s", result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &late, sizeof late)));
    printf(" %s", result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &ahead, sizeof ahead)));
    printf(" %s", result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, 4)));
    printf(" %s\n", result(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window)));
    must(client, TCP_REPAIR, -1);
    CHECK(write(client, "after", 5) == 5);
    read_all(server, "after", 5);
    close(client);
    close(server);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listen(listener, 1) == 0);
    printf("a listener: %s\n", set(listener, TCP_REPAIR, 1));
    close(listener);
}

int main(void)
{
    own_network();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i * 7 + i / 251;
    refusals();
    for (int which = 0; which < 2; which++)
        for (int fills = 0; fills < 2; fills++) {
            moves(AF_INET, which, fills);
            moves(AF_INET6, which, fills);
        }
    puts("PASS");
    return 0;
}
