/* A server thread and a client over loopback, with a real clock: calls wait for one another. */
#include "check.h"
#include "netstack.h"
#include <pthread.h>
#include <time.h>

static ns_stack *stack;

static void *serve(void *argument) {
    int listener = *(int *)argument;
    unsigned char buffer[4096];
    int connection = ns_accept(stack, listener, NULL, NULL, 0);
    CHECK(connection >= 0, 1);
    for (ssize_t count; (count = ns_recv(stack, connection, buffer, sizeof buffer, 0)) != 0;) {
        CHECK(count > 0, 1);
        for (ssize_t sent = 0; sent < count;) {
            ssize_t more = ns_send(stack, connection, buffer + sent, (size_t)(count - sent), 0);
            CHECK(more > 0, 1);
            sent += more;
        }
    }
    CHECK(ns_close(stack, connection), 0);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(void) {
    stack = ns_stack_new(NULL);
    CHECK(stack != NULL, 1);
    struct sockaddr_in server = address4("127.0.0.1", 0);
    socklen_t len = sizeof server;
    int listener = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(ns_bind(stack, listener, (struct sockaddr *)&server, sizeof server), 0);
    CHECK(ns_listen(stack, listener, 1), 0);
    CHECK(ns_getsockname(stack, listener, (struct sockaddr *)&server, &len), 0);
    CHECK(server.sin_port != 0, 1);

    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, serve, &listener), 0);
    int client = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(ns_connect(stack, client, (struct sockaddr *)&server, sizeof server), 0);
    unsigned char data[100000], got[100000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i % 253);
    for (size_t sent = 0; sent < sizeof data;) {
        ssize_t count = ns_send(stack, client, data + sent, sizeof data - sent, 0);
        CHECK(count > 0, 1);
        sent += (size_t)count;
    }
    for (size_t received = 0; received < sizeof got;) {
        ssize_t count = ns_recv(stack, client, got + received, sizeof got - received, 0);
        CHECK(count > 0, 1);
        received += (size_t)count;
    }
    CHECK(memcmp(data, got, sizeof data), 0);

    /* Nothing more comes: a time-out ends the wait, and so does poll's. */
    struct timeval limit = {.tv_usec = 30000};
    CHECK(ns_setsockopt(stack, client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    double before = now();
    CHECK(ns_recv(stack, client, got, 1, 0), -EAGAIN);
    CHECK(now() - before >= 0.03, 1);
    struct pollfd entries[3] = {{.fd = client, .events = POLLIN}, {.fd = -1}, {.fd = 77, .events = POLLIN}};
    CHECK(ns_poll(stack, entries, 2, 20), 0);
    CHECK(ns_poll(stack, entries, 3, -1), 1);
    CHECK(entries[2].revents, POLLNVAL);
    CHECK(ns_shutdown(stack, client, SHUT_WR), 0);
    CHECK(ns_poll(stack, entries, 1, -1), 1);
    CHECK(ns_recv(stack, client, got, 1, 0), 0);
    CHECK(pthread_join(thread, NULL), 0);

    struct sockaddr_in nobody = address4("127.0.0.1", 1);
    int refused = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(ns_connect(stack, refused, (struct sockaddr *)&nobody, sizeof nobody), -ECONNREFUSED);
    ns_stack_free(stack);
    return 0;
}
