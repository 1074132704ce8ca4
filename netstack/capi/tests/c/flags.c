/* MSG_MORE, MSG_WAITALL, MSG_OOB and MSG_PEEK on a stream; poll's answers for errors, ends and urgent data. */
#include "check.h"
#include "netstack.h"
#include <netinet/tcp.h>
#include <pthread.h>
#include <unistd.h>

static ns_stack *stack;
static int ends[2];

static const unsigned char *text(const char *of) { return (const unsigned char *)of; }

static void *send_in_pieces(void *unused) {
    (void)unused;
    for (int i = 0; i < 5; i++) {
        CHECK(ns_send(stack, ends[0], text("piece"), 5, 0), 5);
        usleep(2000);
    }
    return NULL;
}

static short ready(int socket, short events) {
    struct pollfd entry = {.fd = socket, .events = events};
    ns_poll(stack, &entry, 1, 0);
    return entry.revents;
}

int main(void) {
    stack = ns_stack_new(NULL);
    struct sockaddr_in server = address4("127.0.0.1", 0);
    socklen_t len = sizeof server;
    int listener = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(ns_bind(stack, listener, (struct sockaddr *)&server, sizeof server), 0);
    CHECK(ns_listen(stack, listener, 1), 0);
    CHECK(ns_getsockname(stack, listener, (struct sockaddr *)&server, &len), 0);
    CHECK(ready(listener, POLLIN), 0);
    ends[0] = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    /* As on Linux: a fresh stream is over. */
    CHECK(ready(ends[0], POLLIN | POLLOUT), POLLOUT | POLLHUP);
    CHECK(ns_connect(stack, ends[0], (struct sockaddr *)&server, sizeof server), 0);
    CHECK(ready(listener, POLLIN | POLLOUT), POLLIN);
    ends[1] = ns_accept(stack, listener, NULL, NULL, 0);
    CHECK(ready(ends[1], POLLIN | POLLOUT), POLLOUT);

    unsigned char buffer[100];
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_in_pieces, NULL), 0);
    CHECK(ns_recv(stack, ends[1], buffer, 25, MSG_WAITALL), 25);
    CHECK(pthread_join(thread, NULL), 0);
    CHECK(memcmp(buffer, "piecepiecepiecepiecepiece", 25), 0);

    /* Half a line waits for the other half, and leaves with it as one segment. */
    struct ns_tcp_info before, after;
    CHECK(ns_tcp_get_info(stack, ends[0], &before), 0);
    CHECK(ns_send(stack, ends[0], text("half"), 4, MSG_MORE), 4);
    CHECK(ns_recv(stack, ends[1], buffer, sizeof buffer, MSG_DONTWAIT), -EAGAIN);
    CHECK(ns_send(stack, ends[0], text("whole"), 5, 0), 5);
    CHECK(ns_recv(stack, ends[1], buffer, sizeof buffer, MSG_PEEK), 9);
    CHECK(ns_recv(stack, ends[1], buffer, sizeof buffer, 0), 9);
    CHECK(ns_tcp_get_info(stack, ends[0], &after), 0);
    CHECK(after.segments_out - before.segments_out, 1);

    CHECK(ns_recv(stack, ends[1], buffer, 1, MSG_OOB), -EINVAL);
    CHECK(ns_send(stack, ends[0], text("ab!"), 3, MSG_OOB), 3);
    CHECK(ready(ends[1], POLLIN | POLLPRI), POLLIN | POLLPRI);
    CHECK(ns_recv(stack, ends[1], buffer, 1, MSG_OOB), 1);
    CHECK(buffer[0], '!');
    CHECK(ns_recv(stack, ends[1], buffer, sizeof buffer, 0), 2);
    CHECK(ns_send(stack, ends[0], text("x"), 1, MSG_CONFIRM), -EOPNOTSUPP);

    /* The end of the other side, and a reset. */
    CHECK(ns_shutdown(stack, ends[0], SHUT_WR), 0);
    CHECK(ready(ends[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    CHECK(ns_recv(stack, ends[1], buffer, sizeof buffer, MSG_WAITALL), 0);
    struct linger now = {.l_onoff = 1};
    CHECK(ns_setsockopt(stack, ends[1], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    CHECK(ns_close(stack, ends[1]), 0);
    CHECK(ready(ends[0], POLLIN) & (POLLIN | POLLERR | POLLHUP), POLLIN | POLLERR | POLLHUP);
    CHECK(ns_recv(stack, ends[0], buffer, 1, 0), -ECONNRESET);

    int datagrams = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    CHECK(ns_sendto(stack, datagrams, text("x"), 1, MSG_OOB, (struct sockaddr *)&server, sizeof server), -EOPNOTSUPP);
    CHECK(ready(datagrams, POLLIN | POLLOUT), POLLOUT);
    ns_stack_free(stack);
    return 0;
}
