// Datagrams that find no room are counted per socket: SO_RXQ_OVFL tells with each one how many were lost before it arrived, as do
// SO_MEMINFO and /proc/net. How much fits a buffer is nobody's promise, so sums are compared with Linux and not the parts.
#include "check.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { SENT = 200 };

static unsigned drops_by_meminfo(int fd) {
    unsigned numbers[SK_MEMINFO_VARS];
    socklen_t len = sizeof numbers;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, numbers, &len) == 0);
    printf("  memory is taken: %d\n", numbers[SK_MEMINFO_RMEM_ALLOC] > 0);
    return numbers[SK_MEMINFO_DROPS];
}

// The last column of the socket's line, and whether it says that something waits.
static unsigned drops_by_proc(const char *file, int port, int *waits) {
    FILE *lines = fopen(file, "r");
    CHECK(lines != NULL);
    char line[512];
    unsigned drops = 12345;
    while (fgets(line, sizeof line, lines)) {
        unsigned local_port, queued;
        char *local = strchr(line, ':') ? strchr(strchr(line, ':') + 1, ':') : NULL;
        if (local && sscanf(local + 1, "%4x %*s %*s %*8x:%8x", &local_port, &queued) == 2 && (int)local_port == port) {
            char *last = line + strlen(line);
            while (last > line && (last[-1] == '\n' || last[-1] == ' ')) *--last = 0;
            last = strrchr(line, ' ');
            drops = strtoul(last + 1, NULL, 10);
            *waits = queued > 0;
        }
    }
    fclose(lines);
    return drops;
}

// Receives one, and returns what its control message says; 0 without one.
static unsigned receive(int fd, int *messages) {
    char byte[4], control[256];
    struct iovec part = {byte, sizeof byte};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(fd, &message, MSG_DONTWAIT) >= 1);
    *messages = 0;
    unsigned drops = 0;
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message); it; it = CMSG_NXTHDR(&message, it), ++*messages)
        if (it->cmsg_level == SOL_SOCKET && it->cmsg_type == SO_RXQ_OVFL) {
            CHECK(it->cmsg_len == CMSG_LEN(sizeof drops));
            memcpy(&drops, CMSG_DATA(it), sizeof drops);
        }
    return drops;
}

static int readable(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

static void test(int family, int tells) {
    printf("family %d, told %d\n", family, tells);
    int to = socket(family, SOCK_DGRAM, 0), from = socket(family, SOCK_DGRAM, 0), small = 2304;
    CHECK(setsockopt(to, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    CHECK(setsockopt(to, SOL_SOCKET, SO_RXQ_OVFL, &tells, sizeof tells) == 0);
    struct sockaddr_in6 address = {.sin6_family = family};
    if (family == AF_INET6)
        address.sin6_addr = in6addr_loopback;
    else
        ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    CHECK(bind(to, (struct sockaddr *)&address, len) == 0);
    CHECK(getsockname(to, (struct sockaddr *)&address, &len) == 0);
    int port = ntohs(address.sin6_port), waits = 0, messages;
    const char *file = family == AF_INET6 ? "/proc/self/net/udp6" : "/proc/self/net/udp";
    unsigned by_meminfo = drops_by_meminfo(to), by_proc = drops_by_proc(file, port, &waits);
    printf("  at first: %u %u\n", by_meminfo, by_proc);
    for (int i = 0; i < SENT; i++)
        CHECK(sendto(from, "x", 1, 0, (struct sockaddr *)&address, len) == 1);
    unsigned drops = drops_by_meminfo(to), told = 0, received = 0, listed = drops_by_proc(file, port, &waits);
    printf("  the same everywhere: %d; some lost %d; waits %d\n", drops == listed, drops > 0, waits);
    for (; readable(to); received++) {
        unsigned now = receive(to, &messages);
        CHECK(now >= told);
        told = now;
    }
    printf("  all are accounted for: %d; those that arrived first told of none: %d\n", received + drops == SENT, told == 0);
    CHECK(sendto(from, "x", 1, 0, (struct sockaddr *)&address, len) == 1);
    told = receive(to, &messages);
    printf("  the next one tells: %d, in %d messages\n", told == drops, messages);
    drops_by_proc(file, port, &waits);
    printf("  waits %d\n", waits);
    // What a filter does not want is lost as well.
    struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
    struct sock_fprog program = {1, &nothing};
    CHECK(setsockopt(to, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    CHECK(sendto(from, "x", 1, 0, (struct sockaddr *)&address, len) == 1);
    by_meminfo = drops_by_meminfo(to);
    printf("  the filter's: %u\n", by_meminfo - drops);
    close(to);
    close(from);
}

int main(void) {
    test(AF_INET, 1);
    test(AF_INET6, 1);
    test(AF_INET, 0);
    return 0;
}
