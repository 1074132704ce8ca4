// The options of tcp(7) and linux/tcp.h: defaults, ranges and errors, and Fast Open from connect(2).
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_SEQ = 21,
    REPAIR_OPTIONS = 22,
    TIMESTAMP = 24,
    SAVE_SYN = 27,
    SAVED_SYN = 28,
    REPAIR_WINDOW = 29,
    FASTOPEN_CONNECT = 30,
    ULP = 31,
    FASTOPEN_KEY = 33,
    FASTOPEN_NO_COOKIE = 34,
    ZEROCOPY_RECEIVE = 35,
    TX_DELAY = 37,
    IS_MPTCP = 43,
    RTO_MAX_MS = 44,
    RTO_MIN_US = 45,
    DELACK_MAX_US = 46,
};

#define ADDRESS(name) (struct sockaddr *)&(name), sizeof(name)

static struct sockaddr_in address;

static int listening(void) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK(bind(server, ADDRESS(address)) == 0 && listen(server, 16) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
    return server;
}

static void connected(int pair[2]) {
    int server = listening();
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(pair[0], ADDRESS(address)) == 0);
    pair[1] = accept(server, NULL, NULL);
    CHECK(pair[1] >= 0);
    close(server);
}

static int get(int fd, int name) {
    int value = -12345;
    socklen_t length = sizeof value;
    CHECK(getsockopt(fd, IPPROTO_TCP, name, &value, &length) == 0 && length == sizeof value);
    return value;
}

static int set(int fd, int name, int value) {
    return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value);
}

// A value that is taken and shown, and one that is not.
static void expect_kept(int fd, int name, int value, int shown) {
    if (set(fd, name, value) != 0 || get(fd, name) != shown)
        fprintf(stderr, "option %d: %d gives %d\n", name, value, get(fd, name));
    CHECK(get(fd, name) == shown);
}

static void expect_refused(int fd, int name, int value, int error) {
    CHECK_FAILS(set(fd, name, value), error);
}

static void limits_of_the_timers(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(get(fd, RTO_MAX_MS) == 120000);
    expect_kept(fd, RTO_MAX_MS, 1000, 1000);
    expect_refused(fd, RTO_MAX_MS, 999, EINVAL);
    expect_refused(fd, RTO_MAX_MS, 120001, EINVAL);
    CHECK(get(fd, RTO_MIN_US) == 200000 && get(fd, DELACK_MAX_US) == 200000);
    expect_kept(fd, RTO_MIN_US, 100000, 100000);
    expect_kept(fd, DELACK_MAX_US, 20000, 20000);
    expect_refused(fd, RTO_MIN_US, 1000, EINVAL);
    expect_refused(fd, RTO_MIN_US, 300000, EINVAL);
    expect_refused(fd, DELACK_MAX_US, 0, EINVAL);
    expect_kept(fd, TCP_THIN_LINEAR_TIMEOUTS, 1, 1);
    expect_refused(fd, TCP_THIN_LINEAR_TIMEOUTS, 2, EINVAL);
    expect_kept(fd, TCP_DEFER_ACCEPT, 1 << 30, 29887);
    expect_kept(fd, TCP_WINDOW_CLAMP, -1, 1152);
    expect_kept(fd, TX_DELAY, 1000, 1000);
    expect_refused(fd, TX_DELAY, 1 << 28, EINVAL);
    close(fd);
}

static void what_a_connection_shows(void) {
    int pair[2];
    char info[512];
    connected(pair);
    socklen_t length = sizeof info;
    CHECK(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, info, &length) == 0 && length == 280);
    CHECK(get(pair[0], IS_MPTCP) == 0);
    expect_refused(pair[0], IS_MPTCP, 1, ENOPROTOOPT);
    CHECK(get(pair[0], TCP_WINDOW_CLAMP) > 0);
    expect_refused(pair[0], TCP_WINDOW_CLAMP, 0, EINVAL);
    // The clock of the timestamps runs, in milliseconds.
    unsigned before = (unsigned)get(pair[0], TIMESTAMP);
    usleep(50000);
    unsigned passed = (unsigned)get(pair[0], TIMESTAMP) - before;
    CHECK(passed >= 40 && passed < 10000);
    // struct tcp_bbr_info, or nothing of the others.
    CHECK(setsockopt(pair[0], IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
    length = sizeof info;
    CHECK(getsockopt(pair[0], IPPROTO_TCP, TCP_CC_INFO, info, &length) == 0 && length == 0);
    if (setsockopt(pair[0], IPPROTO_TCP, TCP_CONGESTION, "bbr", 3) == 0) {
        uint32_t bbr[5];
        CHECK(write(pair[0], info, sizeof info) == sizeof info);
        usleep(20000);
        length = sizeof bbr;
        CHECK(getsockopt(pair[0], IPPROTO_TCP, TCP_CC_INFO, bbr, &length) == 0 && length == sizeof bbr);
        // The gains of its beginning, 2/ln(2) in 256ths.
        CHECK(bbr[3] == 739 && bbr[4] == 739);
    }
    close(pair[0]), close(pair[1]);
}

static void moving_a_connection_takes_repair_mode(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 1;
    socklen_t length = sizeof value;
    CHECK(get(fd, TCP_REPAIR) == 0);
    expect_refused(fd, TCP_REPAIR_QUEUE, 1, EPERM);
    CHECK_FAILS(getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &value, &length), EINVAL);
    expect_refused(fd, QUEUE_SEQ, 1, EINVAL);
    CHECK_FAILS(getsockopt(fd, IPPROTO_TCP, QUEUE_SEQ, &value, &length), EINVAL);
    expect_refused(fd, REPAIR_OPTIONS, 1, EINVAL);
    CHECK_FAILS(getsockopt(fd, IPPROTO_TCP, REPAIR_OPTIONS, &value, &length), ENOPROTOOPT);
    expect_refused(fd, REPAIR_WINDOW, 1, EPERM);
    expect_refused(fd, TIMESTAMP, 1, EPERM);
    close(fd);
}

static void short_values_are_refused_first(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 1;
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, TCP_INFO, &value, 3), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, 99, &value, 3), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, 99, &value, 4), ENOPROTOOPT);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, ULP, &value, 0), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, ULP, "none", 4), ENOENT);
    close(fd);
}

static void fast_open_settings(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), pair[2];
    char keys[64] = "0123456789abcdefFEDCBA9876543210", shown[64];
    socklen_t length;
    expect_kept(fd, TCP_FASTOPEN, 1 << 20, 4096);
    expect_kept(fd, FASTOPEN_CONNECT, 1, 1);
    expect_kept(fd, FASTOPEN_CONNECT, 0, 0);
    expect_refused(fd, FASTOPEN_CONNECT, 2, EINVAL);
    for (unsigned size = 16; size <= 32; size += 16) {
        CHECK(setsockopt(fd, IPPROTO_TCP, FASTOPEN_KEY, keys, size) == 0);
        length = sizeof shown;
        CHECK(getsockopt(fd, IPPROTO_TCP, FASTOPEN_KEY, shown, &length) == 0 && length == size);
        CHECK(memcmp(shown, keys, size) == 0);
    }
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, FASTOPEN_KEY, keys, 15), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, FASTOPEN_KEY, keys, 40), EINVAL);
    close(fd);
    connected(pair);
    expect_refused(pair[0], FASTOPEN_CONNECT, 1, EINVAL);
    close(pair[0]), close(pair[1]);
}

// A client that needs no cookie: its SYN waits for data, although the server takes none from SYNs.
static void connecting_with_the_first_write(void) {
    int server = listening(), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(set(client, FASTOPEN_NO_COOKIE, 1) == 0 && set(client, FASTOPEN_CONNECT, 1) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    struct pollfd entry = {.fd = server, .events = POLLIN};
    CHECK(poll(&entry, 1, 50) == 0);
    // There is an address, no peer yet, and writing goes at once.
    struct sockaddr_in local;
    socklen_t length = sizeof local;
    CHECK(getsockname(client, (struct sockaddr *)&local, &length) == 0 && local.sin_port != 0);
    length = sizeof local;
    CHECK_FAILS(getpeername(client, (struct sockaddr *)&local, &length), ENOTCONN);
    struct tcp_info info;
    length = sizeof info;
    CHECK(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_SYN_SENT);
    entry = (struct pollfd){.fd = client, .events = POLLIN | POLLOUT};
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents == POLLOUT);
    CHECK(write(client, "first", 5) == 5);
    int connection = accept(server, NULL, NULL);
    char buffer[16] = "";
    CHECK(recv(connection, buffer, 5, MSG_WAITALL) == 5 && strcmp(buffer, "first") == 0);
    CHECK(write(client, "more", 4) == 4 && recv(connection, buffer, 4, MSG_WAITALL) == 4);
    CHECK(write(connection, "answer", 6) == 6 && recv(client, buffer, 6, MSG_WAITALL) == 6);
    close(client), close(connection);
    // The same without waiting, and more than a SYN holds.
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(set(client, FASTOPEN_NO_COOKIE, 1) == 0 && set(client, FASTOPEN_CONNECT, 1) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), EISCONN);
    char many[8000];
    memset(many, 'm', sizeof many);
    ssize_t sent = write(client, many, sizeof many);
    CHECK(sent > 0 && sent <= (ssize_t)sizeof many);
    connection = accept(server, NULL, NULL);
    char back[8000];
    CHECK(recv(connection, back, sent, MSG_WAITALL) == sent && memcmp(back, many, sent) == 0);
    close(client), close(connection);
    // Nobody answers the port: the write says so.
    close(server);
    client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(set(client, FASTOPEN_NO_COOKIE, 1) == 0 && set(client, FASTOPEN_CONNECT, 1) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    CHECK_FAILS(send(client, "first", 5, MSG_NOSIGNAL), ECONNREFUSED);
    close(client);
}

// Without a cookie, the SYN leaves at once and asks for one.
static void connecting_without_a_cookie(void) {
    int server = listening(), client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(set(client, FASTOPEN_CONNECT, 1) == 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), EINPROGRESS);
    int connection = accept(server, NULL, NULL);
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    CHECK(connection >= 0 && poll(&entry, 1, 5000) == 1 && entry.revents == POLLOUT);
    close(client), close(connection), close(server);
}

static void saved_syns(void) {
    int server = listening(), client = socket(AF_INET, SOCK_STREAM, 0), mss = 0;
    unsigned char syn[256];
    CHECK(get(server, SAVE_SYN) == 0);
    expect_refused(server, SAVE_SYN, 3, EINVAL);
    expect_kept(server, SAVE_SYN, 1, 1);
    CHECK(set(client, TCP_MAXSEG, 1000) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    int connection = accept(server, NULL, NULL);
    CHECK(connection >= 0);
    socklen_t length = 4;
    CHECK_FAILS(getsockopt(connection, IPPROTO_TCP, SAVED_SYN, syn, &length), EINVAL);
    // How much it takes: the IP header and that of TCP with its options.
    CHECK(length >= 44 && length <= 80);
    socklen_t needed = length;
    length = sizeof syn;
    CHECK(getsockopt(connection, IPPROTO_TCP, SAVED_SYN, syn, &length) == 0 && length == needed);
    CHECK(syn[0] == 0x45 && syn[9] == IPPROTO_TCP && syn[33] == 0x02);
    CHECK(memcmp(syn + 22, &address.sin_port, 2) == 0);
    for (unsigned at = 40; at + 4 <= length; at += syn[at] <= 1 ? 1 : syn[at + 1])
        if (syn[at] == 2)
            mss = syn[at + 2] << 8 | syn[at + 3];
    CHECK(mss == 1000);
    // Only once.
    length = sizeof syn;
    CHECK(getsockopt(connection, IPPROTO_TCP, SAVED_SYN, syn, &length) == 0 && length == 0);
    length = sizeof syn;
    CHECK(getsockopt(server, IPPROTO_TCP, SAVED_SYN, syn, &length) == 0 && length == 0);
    close(client), close(connection), close(server);
}

// struct tcp_zerocopy_receive of <linux/tcp.h>.
struct zero_copy {
    uint64_t address;
    uint32_t length, skip_hint, in_queue;
    int32_t error;
    uint64_t copy_address;
    int32_t copy_length;
    uint32_t flags;
    uint64_t control, control_length;
    uint32_t message_flags, reserved;
};

static int zero_copy(int fd, struct zero_copy *request, socklen_t length) {
    return getsockopt(fd, IPPROTO_TCP, ZEROCOPY_RECEIVE, request, &length);
}

static void receiving_without_copies_tells_how_much_to_read(void) {
    int pair[2], server = listening();
    char data[64] = "";
    struct zero_copy request = {.skip_hint = 9};
    CHECK_FAILS(zero_copy(server, &request, sizeof request), ENOTCONN);
    close(server);
    connected(pair);
    CHECK_FAILS(zero_copy(pair[1], &request, 8), EINVAL);
    request.address = 1;
    CHECK_FAILS(zero_copy(pair[1], &request, sizeof request), EINVAL);
    request = (struct zero_copy){.reserved = 1};
    CHECK_FAILS(zero_copy(pair[1], &request, sizeof request), EINVAL);
    request = (struct zero_copy){.skip_hint = 9, .length = 4096};
    CHECK(zero_copy(pair[1], &request, sizeof request) == 0);
    CHECK(request.length == 0 && request.skip_hint == 0 && request.in_queue == 0 && request.error == 0);
    // Less than a page: to be read.
    CHECK(write(pair[0], "hello", 5) == 5);
    struct pollfd entry = {.fd = pair[1], .events = POLLIN};
    CHECK(poll(&entry, 1, 5000) == 1);
    request = (struct zero_copy){.length = 4096};
    CHECK(zero_copy(pair[1], &request, sizeof request) == 0);
    CHECK(request.length == 0 && request.skip_hint == 5 && request.in_queue == 5);
    // Into the buffer that is there for it.
    request = (struct zero_copy){.length = 4096, .copy_address = (uintptr_t)data, .copy_length = sizeof data};
    CHECK(zero_copy(pair[1], &request, sizeof request) == 0);
    CHECK(request.length == 0 && request.skip_hint == 0 && request.copy_length == 5 && strcmp(data, "hello") == 0);
    CHECK(recv(pair[1], data, sizeof data, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    close(pair[0]), close(pair[1]);
}

static long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

// A listener with a full queue answers no SYN.
static void a_write_that_connects_waits_for_the_handshake(void) {
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1, fillers[3];
    socklen_t length = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(server, ADDRESS(address)) == 0 && listen(server, 0) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
    for (int i = 0; i < 3; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK(connect(fillers[i], ADDRESS(address)) == -1 && errno == EINPROGRESS);
    }
    usleep(50000);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {.tv_usec = 300000};
    CHECK(set(client, FASTOPEN_CONNECT, 1) == 0 && set(client, FASTOPEN_NO_COOKIE, 1) == 0);
    CHECK(setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    long long before = milliseconds();
    // The time is over before the handshake: what the SYN has taken counts.
    CHECK(write(client, "early", 5) == 5);
    CHECK(milliseconds() - before >= 250);
    close(client), close(server);
    for (int i = 0; i < 3; i++)
        close(fillers[i]);
}

int main(void) {
    PART(limits_of_the_timers);
    PART(what_a_connection_shows);
    PART(moving_a_connection_takes_repair_mode);
    PART(short_values_are_refused_first);
    PART(fast_open_settings);
    PART(connecting_with_the_first_write);
    PART(connecting_without_a_cookie);
    PART(saved_syns);
    PART(receiving_without_copies_tells_how_much_to_read);
    PART(a_write_that_connects_waits_for_the_handshake);
    return 0;
}
