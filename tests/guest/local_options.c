// SO_PASSRIGHTS and SO_INQ: local sockets that take no descriptors, and streams that tell what is left. What each call gives goes to
// standard output, where it is compared with Linux.
#include "check.h"

#include <sys/socket.h>
#include <sys/un.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SO_INQ
#define SO_INQ 84
#endif

static void turn(int fd, int option, int value) {
    printf("  %s %d: %s\n", option == SO_INQ ? "inq" : "rights", value,
           setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) ? strerrorname_np(errno) : "set");
}

static void send_file(int fd, int count) {
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {"file", count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *it = CMSG_FIRSTHDR(&message);
    it->cmsg_level = SOL_SOCKET, it->cmsg_type = SCM_RIGHTS, it->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(it), &fd, sizeof fd);
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT);
    printf("  send file: %zd %s\n", sent, sent < 0 ? strerrorname_np(errno) : "");
}

static void receive(int fd, size_t len, size_t room, int flags) {
    char data[16], control[256];
    struct iovec part = {data, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | flags);
    printf("  receive %zu with room for %zu: %zd %s%s", len, room, got, got < 0 ? strerrorname_np(errno) : "",
           message.msg_flags & MSG_CTRUNC ? "truncated" : "");
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message); got >= 0 && it; it = CMSG_NXTHDR(&message, it)) {
        int value = 0;
        size_t there = it->cmsg_len - CMSG_LEN(0);
        memcpy(&value, CMSG_DATA(it), there < sizeof value ? there : sizeof value);
        printf(" [%d %d %zu", it->cmsg_level, it->cmsg_type, (size_t)it->cmsg_len);
        if (it->cmsg_type == SCM_RIGHTS) close(value);
        else if (it->cmsg_type == SCM_CREDENTIALS) printf(": %s", value == getpid() ? "this process" : value ? "another" : "none");
        else printf(": %d", value);
        printf("]");
    }
    printf("\n");
}

static void pairs(int kind, const char *name) {
    int pair[2], on = 1;
    CHECK(socketpair(AF_UNIX, kind, 0, pair) == 0);
    printf("%s\n", name);
    turn(pair[1], SO_PASSRIGHTS, 0);
    send_file(pair[0], 4);
    receive(pair[1], 16, 256, 0);
    // Which end says so matters, and when.
    turn(pair[0], SO_PASSRIGHTS, 0);
    turn(pair[1], SO_PASSRIGHTS, 1);
    send_file(pair[0], 4);
    turn(pair[1], SO_PASSRIGHTS, 0);
    CHECK(write(pair[0], "x", 1) == 1);
    receive(pair[1], 16, 256, 0);
    receive(pair[1], 16, 256, 0);
    turn(pair[1], SO_PASSRIGHTS, 1);
    turn(pair[1], SO_INQ, 1);
    CHECK(write(pair[0], "abcdef", 6) == 6 && write(pair[0], "gh", 2) == 2);
    receive(pair[1], 3, 256, MSG_PEEK);
    receive(pair[1], 1, 256, 0);
    receive(pair[1], 6, 20, 0);
    receive(pair[1], 16, 256, 0);
    receive(pair[1], 16, 256, 0);
    for (size_t room = 0; room <= 24; room += 6) {
        CHECK(write(pair[0], "b", 1) == 1);
        receive(pair[1], 1, room, 0);
    }
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    send_file(pair[0], 3);
    receive(pair[1], 1, 256, 0);
    receive(pair[1], 16, 256, 0);
    CHECK(shutdown(pair[0], SHUT_WR) == 0);
    receive(pair[1], 16, 256, 0);
    turn(pair[1], SO_INQ, 0);
    receive(pair[1], 16, 256, 0);
    close(pair[0]), close(pair[1]);
}

static int accepted(int fd) {
    int connection = accept(fd, NULL, NULL), rights = -1;
    socklen_t len = sizeof rights;
    CHECK(connection >= 0 && getsockopt(connection, SOL_SOCKET, SO_PASSRIGHTS, &rights, &len) == 0);
    printf("  accepted: rights %d\n", rights);
    return connection;
}

static void listener(void) {
    printf("listener\n");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    turn(fd, SO_PASSRIGHTS, 0);
    turn(fd, SO_INQ, 1);
    CHECK(listen(fd, 5) == 0);
    CHECK(connect(client, (struct sockaddr *)&address, len) == 0);
    // A connection is as its listener was when it was made.
    turn(fd, SO_PASSRIGHTS, 1);
    send_file(client, 4);
    int server = accepted(fd);
    send_file(client, 4);
    CHECK(write(client, "ab", 2) == 2);
    receive(server, 1, 256, 0);
    close(client), close(server), close(fd);
}

// A call that waits for all of it tells what is left then.
static void whole(void) {
    printf("whole\n");
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    turn(pair[1], SO_INQ, 1);
    CHECK(write(pair[0], "abc", 3) == 3);
    fflush(stdout);
    pid_t reader = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        wait_until_asleep(reader);
        CHECK(write(pair[0], "defgh", 5) == 5);
        _exit(0);
    }
    char data[6], control[64];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(pair[1], &message, MSG_WAITALL);
    CHECK(waitpid(child, NULL, 0) == child);
    struct cmsghdr *it = CMSG_FIRSTHDR(&message);
    CHECK(it && it->cmsg_type == SO_INQ);
    int left;
    memcpy(&left, CMSG_DATA(it), sizeof left);
    printf("  %zd, left %d, another %d\n", got, left, CMSG_NXTHDR(&message, it) != NULL);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    pairs(SOCK_STREAM, "stream");
    pairs(SOCK_DGRAM, "datagrams");
    pairs(SOCK_SEQPACKET, "packets");
    listener();
    whole();
    return 0;
}
