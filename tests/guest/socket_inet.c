// TCP and UDP over the loopback: connecting, data, ends, control messages, options, errors.
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESS(name) (struct sockaddr *)&(name), sizeof(name)

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int int_option(int fd, int level, int name) {
    int value = -12345;
    socklen_t length = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &length) == 0 && length == sizeof value);
    return value;
}

static void set_int(int fd, int level, int name, int value) {
    CHECK(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

static int listening(struct sockaddr_in *address) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    *address = loopback(0);
    CHECK(bind(server, ADDRESS(*address)) == 0 && listen(server, 16) == 0);
    socklen_t length = sizeof *address;
    CHECK(getsockname(server, (struct sockaddr *)address, &length) == 0 && address->sin_port != 0);
    return server;
}

static void connected(int pair[2]) {
    struct sockaddr_in address;
    int server = listening(&address);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(pair[0], ADDRESS(address)) == 0);
    pair[1] = accept(server, NULL, NULL);
    CHECK(pair[1] >= 0);
    close(server);
}

static void connecting_without_waiting(void) {
    struct sockaddr_in address;
    int server = listening(&address);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), EINPROGRESS);
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    CHECK(poll(&entry, 1, 5000) == 1 && entry.revents == POLLOUT);
    CHECK(int_option(client, SOL_SOCKET, SO_ERROR) == 0);
    CHECK(connect(client, ADDRESS(address)) == 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), EISCONN);
    close(server), close(client);
    client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), ECONNREFUSED);
    close(client);
}

enum { MANY = 8 << 20 };

static void *send_many(void *socket) {
    char *data = malloc(MANY);
    for (int i = 0; i < MANY; i++)
        data[i] = i * 7 >> 3;
    CHECK(write(*(int *)socket, data, MANY) == MANY);
    CHECK(shutdown(*(int *)socket, SHUT_WR) == 0);
    free(data);
    return NULL;
}

static void many_bytes_arrive_in_order(void) {
    int pair[2];
    connected(pair);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_many, &pair[0]) == 0);
    char buffer[10000];
    int total = 0;
    for (ssize_t n; (n = recv(pair[1], buffer, sizeof buffer, 0)) != 0;) {
        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            CHECK(buffer[i] == (char)((total + i) * 7 >> 3));
        total += n;
    }
    CHECK(total == MANY && pthread_join(thread, NULL) == 0);
    close(pair[0]), close(pair[1]);
}

static void flags_of_a_stream(void) {
    int pair[2], queued;
    char buffer[16];
    connected(pair);
    CHECK(send(pair[0], "abcdef", 6, MSG_MORE) == 6 && send(pair[0], "g", 1, 0) == 1);
    CHECK(recv(pair[1], buffer, 7, MSG_WAITALL | MSG_PEEK) > 0);
    CHECK(recv(pair[1], buffer, 3, MSG_TRUNC) == 3);
    CHECK(recv(pair[1], buffer, 4, MSG_WAITALL) == 4 && memcmp(buffer, "defg", 4) == 0);
    CHECK_FAILS(recv(pair[1], buffer, 1, MSG_DONTWAIT), EAGAIN);
    CHECK(ioctl(pair[1], FIONREAD, &queued) == 0 && queued == 0);
    CHECK_FAILS(recv(pair[1], buffer, 1, MSG_OOB), EINVAL);
    close(pair[0]), close(pair[1]);
}

// The byte before the urgent pointer (RFC 6093): out of line, in line, and the mark.
static void an_urgent_byte(void) {
    int pair[2];
    char buffer[16];
    connected(pair);
    CHECK(!sockatmark(pair[1]));
    CHECK(send(pair[0], "abU", 3, MSG_OOB) == 3 && send(pair[0], "cd", 2, 0) == 2);
    struct pollfd poll_urgent = {.fd = pair[1], .events = POLLPRI};
    CHECK(poll(&poll_urgent, 1, 5000) == 1 && poll_urgent.revents == POLLPRI);
    CHECK(recv(pair[1], buffer, 1, MSG_OOB | MSG_PEEK) == 1 && buffer[0] == 'U');
    CHECK(recv(pair[1], buffer, 1, MSG_OOB) == 1 && buffer[0] == 'U');
    CHECK_FAILS(recv(pair[1], buffer, 1, MSG_OOB), EINVAL);
    // A read stops at the mark, and the next one goes on behind it.
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 2 && memcmp(buffer, "ab", 2) == 0);
    CHECK(sockatmark(pair[1]) == 1);
    CHECK(recv(pair[1], buffer, 2, MSG_WAITALL) == 2 && memcmp(buffer, "cd", 2) == 0);
    CHECK(sockatmark(pair[1]) == 0);
    set_int(pair[1], SOL_SOCKET, SO_OOBINLINE, 1);
    CHECK(send(pair[0], "eV", 2, MSG_OOB) == 2 && send(pair[0], "f", 1, 0) == 1);
    CHECK(poll(&poll_urgent, 1, 5000) == 1);
    CHECK_FAILS(recv(pair[1], buffer, 1, MSG_OOB), EINVAL);
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 1 && buffer[0] == 'e' && sockatmark(pair[1]) == 1);
    CHECK(recv(pair[1], buffer, 2, MSG_WAITALL) == 2 && memcmp(buffer, "Vf", 2) == 0);
    close(pair[0]), close(pair[1]);
}

static void half_closed(void) {
    int pair[2];
    char byte;
    connected(pair);
    CHECK(send(pair[0], "a", 1, 0) == 1 && shutdown(pair[0], SHUT_WR) == 0);
    CHECK(recv(pair[1], &byte, 1, 0) == 1 && recv(pair[1], &byte, 1, 0) == 0);
    CHECK(send(pair[1], "b", 1, 0) == 1 && recv(pair[0], &byte, 1, 0) == 1);
    CHECK_FAILS(send(pair[0], "c", 1, MSG_NOSIGNAL), EPIPE);
    close(pair[0]), close(pair[1]);
}

static void a_reset_is_seen(void) {
    int pair[2];
    char byte;
    connected(pair);
    struct linger now = {1, 0};
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
    close(pair[0]);
    struct pollfd entry = {.fd = pair[1], .events = POLLIN};
    CHECK(poll(&entry, 1, 5000) == 1 && (entry.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
    CHECK_FAILS(recv(pair[1], &byte, 1, 0), ECONNRESET);
    CHECK(recv(pair[1], &byte, 1, 0) == 0);
    CHECK_FAILS(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    close(pair[1]);
}

static void datagrams_and_their_company(void) {
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = loopback(0), from;
    socklen_t length = sizeof address;
    CHECK(bind(receiver, ADDRESS(address)) == 0);
    CHECK(getsockname(receiver, (struct sockaddr *)&address, &length) == 0);
    set_int(receiver, IPPROTO_IP, IP_PKTINFO, 1);
    set_int(receiver, IPPROTO_IP, IP_RECVTTL, 1);
    set_int(receiver, IPPROTO_IP, IP_RECVTOS, 1);
    set_int(sender, IPPROTO_IP, IP_TTL, 33);
    set_int(sender, IPPROTO_IP, IP_TOS, 0x10);
    CHECK(sendto(sender, "hello", 5, 0, ADDRESS(address)) == 5);
    char data[3], control[256];
    struct iovec vector = {data, sizeof data};
    struct msghdr message = {&from, sizeof from, &vector, 1, control, sizeof control, 0};
    CHECK(recvmsg(receiver, &message, 0) == 3 && (message.msg_flags & MSG_TRUNC));
    CHECK(message.msg_namelen == sizeof from && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    int seen = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
        CHECK(at->cmsg_level == IPPROTO_IP);
        if (at->cmsg_type == IP_PKTINFO) {
            seen |= 1;
            CHECK(((struct in_pktinfo *)CMSG_DATA(at))->ipi_addr.s_addr == htonl(INADDR_LOOPBACK));
        } else if (at->cmsg_type == IP_TTL) {
            seen |= 2;
            CHECK(*(int *)CMSG_DATA(at) == 33);
        } else if (at->cmsg_type == IP_TOS) {
            seen |= 4;
            CHECK(*CMSG_DATA(at) == 0x10);
        }
    }
    CHECK(seen == 7);
    CHECK_FAILS(send(sender, "x", 1, 0), EDESTADDRREQ);
    char *large = calloc(1, 65508);
    CHECK_FAILS(sendto(sender, large, 65508, 0, ADDRESS(address)), EMSGSIZE);
    free(large);
    struct mmsghdr batch[3] = {0};
    struct iovec vectors[3] = {{"a", 1}, {"bc", 2}, {"def", 3}};
    CHECK(connect(sender, ADDRESS(address)) == 0);
    for (int i = 0; i < 3; i++)
        batch[i].msg_hdr.msg_iov = &vectors[i], batch[i].msg_hdr.msg_iovlen = 1;
    CHECK(sendmmsg(sender, batch, 3, 0) == 3 && batch[2].msg_len == 3);
    char texts[3][4];
    for (int i = 0; i < 3; i++)
        vectors[i] = (struct iovec){texts[i], 4};
    CHECK(recvmmsg(receiver, batch, 3, MSG_WAITFORONE, NULL) == 3 && batch[1].msg_len == 2);
    close(receiver);
    CHECK(send(sender, "x", 1, 0) == 1);
    CHECK_FAILS(recv(sender, data, 1, 0), ECONNREFUSED);
    close(sender);
}

static void datagrams_in_super_segments(void) {
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    CHECK(bind(receiver, ADDRESS(address)) == 0);
    CHECK(getsockname(receiver, (struct sockaddr *)&address, &length) == 0);
    CHECK(connect(sender, ADDRESS(address)) == 0);
    CHECK(int_option(sender, IPPROTO_UDP, UDP_SEGMENT) == 0);
    int wrong = 65536;
    CHECK_FAILS(setsockopt(sender, IPPROTO_UDP, UDP_SEGMENT, &wrong, sizeof wrong), EINVAL);
    set_int(sender, IPPROTO_UDP, UDP_SEGMENT, 4);
    CHECK(int_option(sender, IPPROTO_UDP, UDP_SEGMENT) == 4);
    char data[64];
    CHECK(send(sender, "aaaabbbbcc", 10, 0) == 10);
    CHECK(recv(receiver, data, sizeof data, 0) == 4 && memcmp(data, "aaaa", 4) == 0);
    CHECK(recv(receiver, data, sizeof data, 0) == 4 && recv(receiver, data, sizeof data, 0) == 2);
    CHECK_FAILS(recv(receiver, data, sizeof data, MSG_DONTWAIT), EAGAIN);
    // Whole, with the size of the parts.
    set_int(receiver, IPPROTO_UDP, UDP_GRO, 1);
    CHECK(send(sender, "aaaabbbbcc", 10, 0) == 10);
    char control[64];
    struct iovec vector = {data, sizeof data};
    struct msghdr message = {NULL, 0, &vector, 1, control, sizeof control, 0};
    CHECK(recvmsg(receiver, &message, 0) == 10 && memcmp(data, "aaaabbbbcc", 10) == 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO);
    CHECK(header->cmsg_len == CMSG_LEN(sizeof(int)) && *(int *)CMSG_DATA(header) == 4);
    CHECK(send(sender, "dd", 2, 0) == 2);
    message.msg_controllen = sizeof control;
    CHECK(recvmsg(receiver, &message, 0) == 2 && CMSG_FIRSTHDR(&message) == NULL);
    char many[129 * 4];
    memset(many, 'm', sizeof many);
    CHECK_FAILS(send(sender, many, sizeof many, 0), EINVAL);
    close(receiver);
    close(sender);
}

static void errors_are_queued(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in closed = loopback(0);
    socklen_t length = sizeof closed;
    int other = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(bind(other, ADDRESS(closed)) == 0 && getsockname(other, (struct sockaddr *)&closed, &length) == 0);
    close(other);
    set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
    CHECK(sendto(fd, "ping", 4, 0, ADDRESS(closed)) == 4);
    struct sockaddr_in to;
    char data[16], control[256];
    struct iovec vector = {data, sizeof data};
    struct msghdr message = {&to, sizeof to, &vector, 1, control, sizeof control, 0};
    CHECK(recvmsg(fd, &message, MSG_ERRQUEUE) == 4 && (message.msg_flags & MSG_ERRQUEUE));
    CHECK(to.sin_port == closed.sin_port && memcmp(data, "ping", 4) == 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR);
    struct sock_extended_err *error = (void *)CMSG_DATA(header);
    CHECK(error->ee_errno == ECONNREFUSED && error->ee_origin == SO_EE_ORIGIN_ICMP && error->ee_type == 3 &&
          error->ee_code == 3);
    CHECK_FAILS(recvmsg(fd, &message, MSG_ERRQUEUE), EAGAIN);
    close(fd);
}

static void two_families_share_a_port(void) {
    int server = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(int_option(server, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT}, peer;
    socklen_t length = sizeof any;
    CHECK(bind(server, ADDRESS(any)) == 0 && listen(server, 4) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&any, &length) == 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(ntohs(any.sin6_port));
    CHECK(connect(client, ADDRESS(address)) == 0);
    length = sizeof peer;
    int end = accept(server, (struct sockaddr *)&peer, &length);
    CHECK(end >= 0 && length == sizeof peer && IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    close(client), close(end), close(server);
}

static void options_keep_linux_rules(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    set_int(fd, SOL_SOCKET, SO_RCVBUF, 5000);
    CHECK(int_option(fd, SOL_SOCKET, SO_RCVBUF) == 10000);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 1);
    CHECK(int_option(fd, SOL_SOCKET, SO_SNDBUF) == 4608);
    CHECK(int_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    CHECK(int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET);
    CHECK(int_option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
    CHECK(int_option(fd, IPPROTO_TCP, TCP_MAXSEG) == 536);
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 7);
    CHECK(int_option(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
    set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    CHECK(int_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 7);
    int bad = 0;
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &bad, sizeof bad), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_TTL, &bad, sizeof bad), EINVAL);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &bad, 1), EINVAL);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_TYPE, &bad, sizeof bad), ENOPROTOOPT);
    CHECK_FAILS(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "none", 4), ENOENT);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "none", 4), ENODEV);
    char one;
    socklen_t length = 1;
    CHECK(getsockopt(fd, IPPROTO_IP, IP_TTL, &one, &length) == 0 && length == 1 && one == 64);
    struct tcp_info info;
    length = sizeof info;
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_CLOSE);
    close(fd);
    int pair[2];
    connected(pair);
    length = sizeof info;
    CHECK(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
    CHECK(info.tcpi_state == TCP_ESTABLISHED && info.tcpi_snd_mss > 1000);
    close(pair[0]), close(pair[1]);
}

static void wrong_states_are_refused(void) {
    char byte = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_FAILS(recv(fd, &byte, 1, 0), ENOTCONN);
    CHECK_FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
    CHECK_FAILS(accept(fd, NULL, NULL), EINVAL);
    CHECK_FAILS(shutdown(fd, SHUT_RD), ENOTCONN);
    struct sockaddr_in foreign = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
    CHECK_FAILS(bind(fd, ADDRESS(foreign)), EADDRNOTAVAIL);
    CHECK_FAILS(bind(fd, (struct sockaddr *)&foreign, 8), EINVAL);
    socklen_t length = sizeof foreign;
    CHECK_FAILS(getpeername(fd, (struct sockaddr *)&foreign, &length), ENOTCONN);
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_FAILS(listen(fd, 1), EOPNOTSUPP);
    CHECK_FAILS(accept(fd, NULL, NULL), EOPNOTSUPP);
    struct sockaddr_in broadcast = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = INADDR_BROADCAST};
    CHECK_FAILS(sendto(fd, &byte, 1, MSG_OOB, ADDRESS(broadcast)), EOPNOTSUPP);
    close(fd);
    CHECK_FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_FAILS(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
}

int main(void) {
    PART(connecting_without_waiting);
    PART(many_bytes_arrive_in_order);
    PART(flags_of_a_stream);
    PART(an_urgent_byte);
    PART(half_closed);
    PART(a_reset_is_seen);
    PART(datagrams_and_their_company);
    PART(datagrams_in_super_segments);
    PART(errors_are_queued);
    PART(two_families_share_a_port);
    PART(options_keep_linux_rules);
    PART(wrong_states_are_refused);
}
