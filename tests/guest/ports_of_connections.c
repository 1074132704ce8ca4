// Which addresses a socket can be bound to while connections use the port, at the client's end and at the server's.
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int listener, client, server;
static uint16_t ports[2];

static struct sockaddr_in four(const char *address, uint16_t port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = port};
    CHECK(inet_pton(AF_INET, address, &name.sin_addr) == 1);
    return name;
}

static uint16_t port_of(int fd) {
    struct sockaddr_in name;
    socklen_t len = sizeof name;
    CHECK(getsockname(fd, (struct sockaddr *)&name, &len) == 0);
    return name.sin_port;
}

static void open_connection(int reuse) {
    struct sockaddr_in name = four("127.0.0.1", 0);
    socklen_t len = sizeof name;
    CHECK((listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    CHECK((client = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    for (int side = 0; side < 2; side++)
        CHECK(setsockopt(side ? listener : client, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) == 0);
    CHECK(bind(listener, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(listen(listener, 5) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    // A port of its own, not one of those that are picked when connecting: these have rules of their own.
    struct sockaddr_in own = four("127.0.0.1", 0);
    CHECK(bind(client, (struct sockaddr *)&own, sizeof own) == 0);
    CHECK(connect(client, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK((server = accept(listener, NULL, NULL)) >= 0);
    ports[0] = port_of(client);
    ports[1] = port_of(server);
}

// Bound, or why not.
static const char *bound(int family, const char *address, uint16_t port, int reuse, int only_v6) {
    int fd = socket(family, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) == 0);
    int result;
    if (family == AF_INET) {
        struct sockaddr_in name = four(address, port);
        result = bind(fd, (struct sockaddr *)&name, sizeof name);
    } else {
        struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = port};
        CHECK(inet_pton(AF_INET6, address, &name.sin6_addr) == 1);
        CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6) == 0);
        result = bind(fd, (struct sockaddr *)&name, sizeof name);
    }
    const char *name = result == 0 ? "bound" : strerrorname_np(errno);
    close(fd);
    return name;
}

static void show(const char *when) {
    for (int end = 0; end < 2; end++)
        for (int reuse = 0; reuse < 2; reuse++) {
            uint16_t port = ports[end];
            printf("%s, %s's port%s:", when, end ? "server" : "client", reuse ? ", SO_REUSEADDR" : "");
            printf(" own %s,", bound(AF_INET, "127.0.0.1", port, reuse, 1));
            printf(" other %s,", bound(AF_INET, "127.0.0.2", port, reuse, 1));
            printf(" any %s,", bound(AF_INET, "0.0.0.0", port, reuse, 1));
            printf(" six %s,", bound(AF_INET6, "::1", port, reuse, 1));
            printf(" any six %s,", bound(AF_INET6, "::", port, reuse, 1));
            printf(" any of both %s\n", bound(AF_INET6, "::", port, reuse, 0));
        }
}

int main(void) {
    for (int reuse = 0; reuse < 2; reuse++) {
        printf("sockets %s SO_REUSEADDR\n", reuse ? "with" : "without");
        open_connection(reuse);
        show("connected");
        close(listener);
        show("without its listener");
        close(client);
        close(server);
        show("in TIME-WAIT");
    }
    puts("OK");
}
