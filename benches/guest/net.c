// Small-message network benchmarks over plain sockets.
//
//   net server PORT          echoes on PORT, accepts and closes on PORT+1, for ever
//   net rr HOST PORT SECS    prints nanoseconds per 1-byte round trip
//   net crr HOST PORT SECS   prints nanoseconds per connection (connect, end of file, close)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listener(int port)
{
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 1024) != 0)
        die("listen");
    return s;
}

static void *echo(void *arg)
{
    int c = (int)(intptr_t)arg, one = 1;
    char buffer[65536];
    ssize_t n;
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while ((n = read(c, buffer, sizeof buffer)) > 0)
        if (write(c, buffer, (size_t)n) != n)
            break;
    close(c);
    return NULL;
}

static void *accept_echo(void *arg)
{
    for (;;) {
        pthread_t t;
        int c = accept((int)(intptr_t)arg, NULL, NULL);
        if (c >= 0 && pthread_create(&t, NULL, echo, (void *)(intptr_t)c) == 0)
            pthread_detach(t);
    }
    return NULL;
}

static void server(int port)
{
    pthread_t t;
    int s = listener(port), close_at_once = listener(port + 1);
    if (pthread_create(&t, NULL, accept_echo, (void *)(intptr_t)s) != 0)
        die("pthread_create");
    for (;;) {
        int c = accept(close_at_once, NULL, NULL);
        if (c >= 0)
            close(c);
    }
}

static int dial(const char *host, int port)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
        fprintf(stderr, "not an IPv4 address: %s\n", host);
        exit(2);
    }
    if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof a) != 0)
        die("connect");
    return s;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        server(atoi(argv[2]));
    if (argc != 5) {
        fprintf(stderr, "usage: net server PORT | net rr|crr HOST PORT SECS\n");
        return 2;
    }
    int port = atoi(argv[3]), one = 1;
    uint64_t n = 0, start = now_ns(), end = start + (uint64_t)(atof(argv[4]) * 1e9);
    char c = 'x';
    if (strcmp(argv[1], "rr") == 0) {
        int s = dial(argv[2], port);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        for (start = now_ns(); now_ns() < end; n++)
            if (write(s, &c, 1) != 1 || read(s, &c, 1) != 1)
                die("round trip");
    } else {
        for (; now_ns() < end; n++) {
            int s = dial(argv[2], port + 1);
            if (read(s, &c, 1) != 0)
                die("end of file");
            close(s);
        }
    }
    printf("%.1f\n", (double)(now_ns() - start) / (double)n);
    return 0;
}
