// MSG_FASTOPEN and the options of TCP Fast Open, where the server does not take data in SYNs: everything works as with an
// ordinary connection (tcp(7)).
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TCP_FASTOPEN_NO_COOKIE
#define TCP_FASTOPEN_NO_COOKIE 34
#endif

static struct sockaddr_in server_address;

static int listening(void) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    server_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof server_address;
    CHECK(bind(server, (struct sockaddr *)&server_address, length) == 0 && listen(server, 16) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&server_address, &length) == 0);
    return server;
}

static ssize_t send_open(int fd, const char *text, int flags) {
    return sendto(fd, text, strlen(text), MSG_FASTOPEN | flags, (struct sockaddr *)&server_address,
                  sizeof server_address);
}

static void expect_text(int server, const char *text) {
    char buffer[64] = "";
    int connection = accept(server, NULL, NULL);
    CHECK(connection >= 0);
    CHECK(recv(connection, buffer, strlen(text), MSG_WAITALL) == (ssize_t)strlen(text));
    CHECK(strcmp(buffer, text) == 0);
    close(connection);
}

static void blocking_send_connects_and_delivers(int server) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(send_open(client, "without a cookie", 0) == 16);
    expect_text(server, "without a cookie");
    CHECK(send_open(client, "again", 0) == -1 && errno == EISCONN);
    close(client);
}

static void nonblocking_send_only_connects(int server) {
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(send_open(client, "too early", 0) == -1 && errno == EINPROGRESS);
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    CHECK(poll(&entry, 1, 10000) == 1 && entry.revents == POLLOUT);
    CHECK(send(client, "later", 5, 0) == 5);
    expect_text(server, "later");
    close(client);
}

static void options_have_their_ranges(int server) {
    int client = socket(AF_INET, SOCK_STREAM, 0), value = -1;
    socklen_t length = sizeof value;
    CHECK(getsockopt(server, IPPROTO_TCP, TCP_FASTOPEN, &value, &length) == 0 && value == 0);
    value = 7;
    CHECK(setsockopt(server, IPPROTO_TCP, TCP_FASTOPEN, &value, sizeof value) == 0);
    value = -1;
    CHECK(getsockopt(server, IPPROTO_TCP, TCP_FASTOPEN, &value, &length) == 0 && value == 7);
    value = -1;
    CHECK(setsockopt(server, IPPROTO_TCP, TCP_FASTOPEN, &value, sizeof value) == -1 && errno == EINVAL);
    value = 2;
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &value, sizeof value) == -1 && errno == EINVAL);
    CHECK(connect(client, (struct sockaddr *)&server_address, sizeof server_address) == 0);
    value = 1;
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_FASTOPEN, &value, sizeof value) == -1 && errno == EINVAL);
    close(client);
    close(accept(server, NULL, NULL));
}

static void a_refused_connection_is_an_error(void) {
    int taken = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof server_address;
    server_address.sin_port = 0;
    CHECK(bind(taken, (struct sockaddr *)&server_address, length) == 0);
    CHECK(getsockname(taken, (struct sockaddr *)&server_address, &length) == 0);
    CHECK(send_open(client, "nobody", MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED);
}

int main(void) {
    int server = listening();
    blocking_send_connects_and_delivers(server);
    nonblocking_send_only_connects(server);
    options_have_their_ranges(server);
    a_refused_connection_is_an_error();
    puts("ok");
    return 0;
}
