// Options of IPv4 and extension headers of IPv6 in the segments of streams: what each packet on the loopback has, what the MSS is
// then, and what an accepted connection gets from the SYN or its listener. What is seen goes to standard output, where it is
// compared with Linux.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static const unsigned char RECORD[12] = {IPOPT_RR, 11, 4};
static const unsigned char NOPS[4] = {1, 1, 1, 0};
static const unsigned char HOP[8] = {0, 0, 1, 4}, DESTINATION[16] = {0, 1, 0x1e, 5, 5, 6, 7, 8, 9, 1, 5};

static int capture_of(int family)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM, htons(family == AF_INET ? ETH_P_IP : ETH_P_IPV6));
    CHECK(fd >= 0);
    return fd;
}

// One line for each direction, kind of segment and form of the headers in front of it, in the order of their first appearance.
static void show(int capture, unsigned short server)
{
    static char seen[64][200];
    int count = 0;
    struct pollfd ready = {.fd = capture, .events = POLLIN};
    while (poll(&ready, 1, 200) == 1) {
        unsigned char packet[70000];
        struct sockaddr_ll from;
        socklen_t size = sizeof from;
        ssize_t len = recvfrom(capture, packet, sizeof packet, 0, (void *)&from, &size);
        CHECK(len > 0);
        if (from.sll_pkttype == PACKET_OUTGOING)
            continue;
        char headers[120] = "";
        int at, next;
        if (packet[0] >> 4 == 4) {
            at = (packet[0] & 15) * 4;
            next = packet[9];
            for (int i = 20; i < at; i++)
                sprintf(headers + strlen(headers), "%02x", packet[i]);
        } else {
            at = 40;
            next = packet[6];
            while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING) {
                sprintf(headers + strlen(headers), "%d:", next);
                next = packet[at];
                int end = at + (packet[at + 1] + 1) * 8;
                for (; at < end; at++)
                    sprintf(headers + strlen(headers), "%02x", packet[at]);
                strcat(headers, " ");
            }
        }
        if (next != IPPROTO_TCP)
            continue;
        struct tcphdr *tcp = (void *)(packet + at);
        const char *kind = tcp->syn && tcp->ack ? "SYN-ACK" : tcp->syn ? "SYN" : tcp->rst ? "RST" : tcp->fin ? "FIN" : len - at - tcp->doff * 4 > 0 ? "data" : "ACK";
        char line[200];
        snprintf(line, sizeof line, "  %s %s [%s]", tcp->source == server ? "server" : "client", kind, headers);
        int i = 0;
        while (i < count && strcmp(seen[i], line) != 0)
            i++;
        if (i == count && count < 64) {
            strcpy(seen[count++], line);
            // Whether a FIN is acknowledged alone is a matter of time.
            if (strcmp(kind, "ACK") != 0 && strcmp(kind, "FIN") != 0)
                puts(line);
        }
    }
}

static struct sockaddr_in6 any_port(int family)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (family == AF_INET) {
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        memcpy(&address, &four, sizeof four);
    }
    return address;
}

static int listener_at(int family, struct sockaddr_in6 *address)
{
    int fd = socket(family, SOCK_STREAM, 0);
    socklen_t size = sizeof *address;
    *address = any_port(family);
    CHECK(bind(fd, (void *)address, family == AF_INET ? 16 : 28) == 0);
    CHECK(getsockname(fd, (void *)address, &size) == 0);
    CHECK(listen(fd, 5) == 0);
    return fd;
}

static void show_mss(const char *who, int fd)
{
    int mss = 0;
    struct tcp_info info = {0};
    socklen_t size = sizeof mss;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &size) == 0);
    size = sizeof info;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    printf("  %s: MSS %d, advertised %u\n", who, mss, info.tcpi_advmss);
}

static void show_option(const char *who, int fd, int level, int name)
{
    unsigned char value[100];
    socklen_t size = sizeof value;
    int result = getsockopt(fd, level, name, value, &size);
    printf("  %s: option %d of %d: %s, %d:", who, name, level, result == 0 ? "fine" : strerrorname_np(errno), (int)size);
    for (socklen_t i = 0; result == 0 && i < size; i++)
        printf("%02x", value[i]);
    puts("");
}

static void read_all(int fd, size_t len)
{
    char data[4096];
    while (len > 0) {
        ssize_t count = read(fd, data, len < sizeof data ? len : sizeof data);
        CHECK(count > 0);
        len -= count;
    }
}

static void talk(int client, int server, size_t len)
{
    char *data = calloc(1, len);
    CHECK(write(client, data, len) == (ssize_t)len);
    read_all(server, len);
    CHECK(write(server, data, len) == (ssize_t)len);
    read_all(client, len);
    free(data);
}

struct set {
    int level, name, len;
    const unsigned char *value;
};

static void set(int fd, const struct set *what)
{
    if (what->len)
        CHECK(setsockopt(fd, what->level, what->name, what->value, what->len) == 0);
}

static void connection(const char *title, int family, struct set of_client, struct set of_server, struct set later)
{
    printf("%s\n", title);
    struct sockaddr_in6 address;
    int capture = capture_of(family), listener = listener_at(family, &address), client = socket(family, SOCK_STREAM, 0), most = 1400;
    // Otherwise half of the window limits the MSS on the loopback.
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_MAXSEG, &most, sizeof most) == 0);
    CHECK(setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &most, sizeof most) == 0);
    set(client, &of_client);
    set(listener, &of_server);
    CHECK(connect(client, (void *)&address, family == AF_INET ? 16 : 28) == 0);
    int server = accept(listener, NULL, NULL);
    CHECK(server >= 0);
    show_mss("client", client);
    show_mss("server", server);
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    show_option("client", client, level, family == AF_INET ? IP_OPTIONS : IPV6_DSTOPTS);
    show_option("server", server, level, family == AF_INET ? IP_OPTIONS : IPV6_DSTOPTS);
    show_option("listener", listener, level, family == AF_INET ? IP_OPTIONS : IPV6_DSTOPTS);
    talk(client, server, 10);
    if (later.len) {
        set(client, &later);
        show_mss("client later", client);
        talk(client, server, 10);
    }
    // More than one segment each.
    talk(client, server, 60000);
    close(client);
    char byte;
    CHECK(read(server, &byte, 1) == 0);
    close(server);
    close(listener);
    show(capture, address.sin6_port);
    close(capture);
}

static void refused(void)
{
    puts("a refused connection with options");
    struct sockaddr_in6 address;
    int capture = capture_of(AF_INET), listener = listener_at(AF_INET, &address), client = socket(AF_INET, SOCK_STREAM, 0);
    close(listener);
    CHECK(setsockopt(client, IPPROTO_IP, IP_OPTIONS, RECORD, sizeof RECORD) == 0);
    CHECK_FAILS(connect(client, (void *)&address, 16), ECONNREFUSED);
    close(client);
    show(capture, address.sin6_port);
    close(capture);
}

int main(void)
{
    own_network();
    const struct set none = {0};
    const struct set record = {IPPROTO_IP, IP_OPTIONS, sizeof RECORD, RECORD}, nops = {IPPROTO_IP, IP_OPTIONS, 4, NOPS};
    const struct set hop = {IPPROTO_IPV6, IPV6_HOPOPTS, 8, HOP}, destination = {IPPROTO_IPV6, IPV6_DSTOPTS, 16, DESTINATION};
    connection("without", AF_INET, none, none, none);
    connection("a client that records the route", AF_INET, record, none, none);
    connection("a client with operations that do nothing", AF_INET, nops, none, record);
    connection("options that come later", AF_INET, none, none, record);
    connection("a listener with options", AF_INET, none, record, none);
    refused();
    connection("without, IPv6", AF_INET6, none, none, none);
    connection("a client with destination options", AF_INET6, destination, none, hop);
    connection("a client with hop-by-hop options", AF_INET6, hop, none, none);
    connection("a listener with destination options", AF_INET6, none, destination, none);
    puts("PASS");
    return 0;
}
