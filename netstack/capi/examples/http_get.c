/*
 * Fetches a page over an interface of the host, with a stack of the program's own.
 *
 *     ip tuntap add tap0 mode tap && ip addr add 10.0.0.1/24 dev tap0 && ip link set tap0 up
 *     http_get tap:tap0 10.0.0.2/24 10.0.0.1 10.0.0.1 8000 /
 *
 * The arguments are the link, the stack's address, its router, the server's address and port, and the path. The answer,
 * head and all, goes to standard output.
 */
#include <netstack.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/* Functions answer the negative error number; nothing is in errno. */
static long check(const char *what, long result) {
    if (result < 0) {
        fprintf(stderr, "http_get: %s: %s\n", what, strerror((int)-result));
        exit(1);
    }
    return result;
}

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: http_get LINK ADDRESS/LEN ROUTER SERVER PORT PATH\n");
        return 2;
    }
    ns_stack *stack = ns_stack_new(NULL);
    if (stack == NULL) {
        fprintf(stderr, "http_get: no thread for the stack\n");
        return 1;
    }
    static const unsigned char mac[6] = {2, 0, 0, 0, 0, 2};
    /* A packet socket has the station address of its interface. */
    const unsigned char *own = strncmp(arguments[1], "tap:", 4) == 0 ? mac : NULL;
    unsigned int nic = (unsigned int)check(arguments[1], ns_nic_open(stack, "eth0", arguments[1], own));
    check(arguments[2], ns_address_add(stack, nic, arguments[2]));
    check(arguments[3], ns_route_add(stack, nic, "0.0.0.0/0", arguments[3]));

    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[5]))};
    if (inet_pton(AF_INET, arguments[4], &server.sin_addr) != 1) {
        fprintf(stderr, "http_get: %s is no address\n", arguments[4]);
        return 2;
    }
    int connection = (int)check("socket", ns_socket(stack, AF_INET, SOCK_STREAM, 0));
    struct timeval limit = {.tv_sec = 20};
    check("SO_RCVTIMEO", ns_setsockopt(stack, connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    check("SO_SNDTIMEO", ns_setsockopt(stack, connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
    check(arguments[4], ns_connect(stack, connection, (struct sockaddr *)&server, sizeof server));

    char request[2000];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", arguments[6], arguments[4]);
    if (length < 0 || (size_t)length >= sizeof request) {
        fprintf(stderr, "http_get: the path is too long\n");
        return 2;
    }
    for (long sent = 0; sent < length;) {
        const unsigned char *rest = (const unsigned char *)request + sent;
        sent += check("send", ns_send(stack, connection, rest, (size_t)(length - sent), 0));
    }
    unsigned char buffer[16384];
    for (long received; (received = check("receive", ns_recv(stack, connection, buffer, sizeof buffer, 0))) > 0;)
        fwrite(buffer, 1, (size_t)received, stdout);
    check("close", ns_close(stack, connection));
    ns_stack_free(stack);
    return fflush(stdout) == 0 ? 0 : 1;
}
