// What calls say that need a port where all are taken: those that pick one by themselves, and those that ask for one.
#include "own_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>

#define PORT 40000

static void show(const char *call, int result) {
    printf("%s: %d %s\n", call, result, result < 0 ? strerrorname_np(errno) : "");
}

static void take_all(int type) {
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    int fd = socket(AF_INET6, type, 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    if (type == SOCK_STREAM)
        CHECK(listen(fd, 1) == 0);
}

int main(void) {
    own_network();
    int range = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
    CHECK(write(range, "40000 40000", 11) == 11);
    take_all(SOCK_DGRAM);
    take_all(SOCK_STREAM);

    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct sockaddr_in6 to_six = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = in6addr_loopback};
    int four = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_DGRAM, 0);
    show("sendto", sendto(four, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
    show("connect", connect(four, (struct sockaddr *)&to, sizeof to));
    show("bind", bind(four, (struct sockaddr *)&any, sizeof any));
    show("IPv6 sendto", sendto(six, "x", 1, 0, (struct sockaddr *)&to_six, sizeof to_six));
    show("IPv6 connect", connect(six, (struct sockaddr *)&to_six, sizeof to_six));
    show("corked", sendto(six, "x", 1, MSG_MORE, (struct sockaddr *)&to_six, sizeof to_six));

    int stream = socket(AF_INET, SOCK_STREAM, 0);
    show("bind of a stream", bind(stream, (struct sockaddr *)&any, sizeof any));
    show("listen", listen(stream, 1));
    show("connect of a stream", connect(stream, (struct sockaddr *)&to, sizeof to));
    return 0;
}
