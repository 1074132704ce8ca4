// SO_PASSPIDFD and SO_PEERPIDFD: descriptors of the process at the other end of a local socket. What each call gives goes to standard
// output, where it is compared with Linux.
#include "check.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#define SCM_PIDFD_ 4

static pid_t child_pid;

static const char *whose(int fd) {
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = open(path, O_RDONLY);
    if (info < 0) return "nothing";
    CHECK(read(info, text, sizeof text - 1) >= 0);
    close(info);
    char *line = strstr(text, "Pid:\t");
    if (!line) return "no process";
    int pid = atoi(line + 5);
    return pid == getpid() ? "this" : pid == child_pid ? "the child" : pid == -1 ? "ended" : "another";
}

static void describe(int fd) {
    if (fd < 0) {
        printf("%s", strerrorname_np(-fd));
        return;
    }
    struct pollfd ended = {fd, POLLIN, 0};
    int count = poll(&ended, 1, 0);
    printf("%s, cloexec %d, ended %d", whose(fd), fcntl(fd, F_GETFD) & FD_CLOEXEC, count);
    close(fd);
}

static void peer(int fd) {
    int process = -1;
    socklen_t len = sizeof process;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process, &len) < 0) process = -errno;
    printf("  peer: ");
    describe(process);
    printf("\n");
}

static void receive(int fd, size_t room) {
    char data[16], control[256];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    printf("  receive with room for %zu: %zd %s%s", room, got, got < 0 ? strerrorname_np(errno) : "",
           message.msg_flags & MSG_CTRUNC ? "truncated" : "");
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message); got >= 0 && it; it = CMSG_NXTHDR(&message, it)) {
        int value;
        memcpy(&value, CMSG_DATA(it), sizeof value);
        printf(" [%d %d %zu: ", it->cmsg_level, it->cmsg_type, (size_t)it->cmsg_len);
        if (it->cmsg_type == SCM_PIDFD_) describe(value);
        if (it->cmsg_type == SCM_RIGHTS) close(value);
        printf("]");
    }
    printf("\n");
}

static void turn(int fd, int option, int on) {
    CHECK(setsockopt(fd, SOL_SOCKET, option, &on, sizeof on) == 0);
}

static void send_file(int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {"file", 4};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *it = CMSG_FIRSTHDR(&message);
    it->cmsg_level = SOL_SOCKET, it->cmsg_type = SCM_RIGHTS, it->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(it), &fd, sizeof fd);
    CHECK(sendmsg(fd, &message, 0) == 4);
}

static void pairs(int kind, const char *name) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, kind, 0, pair) == 0);
    printf("%s\n", name);
    peer(pair[0]);
    turn(pair[1], SO_PASSPIDFD, 1);
    CHECK(write(pair[0], "a", 1) == 1);
    receive(pair[1], 256);
    // In the order of credentials, files, process.
    turn(pair[1], SO_PASSCRED, 1);
    send_file(pair[0]);
    receive(pair[1], 256);
    for (size_t room = 0; room <= 56; room += 4) {
        CHECK(write(pair[0], "b", 1) == 1);
        receive(pair[1], room);
    }
    turn(pair[1], SO_PASSCRED, 0);
    // What two processes sent is not read at once.
    int start[2];
    CHECK(pipe(start) == 0);
    CHECK(write(pair[0], "c", 1) == 1);
    child_pid = fork();
    CHECK(child_pid >= 0);
    if (child_pid == 0) {
        char byte;
        CHECK(write(pair[0], "d", 1) == 1 && write(start[1], "x", 1) == 1);
        CHECK(read(pair[0], &byte, 1) == 1);
        _exit(0);
    }
    char byte;
    CHECK(read(start[0], &byte, 1) == 1);
    receive(pair[1], 256);
    receive(pair[1], 256);
    CHECK(write(pair[1], "e", 1) == 1);
    CHECK(waitpid(child_pid, NULL, 0) == child_pid);
    close(start[0]), close(start[1]), close(pair[0]), close(pair[1]);
}

static void listener(void) {
    printf("listener\n");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    peer(fd);
    CHECK(listen(fd, 5) == 0);
    peer(fd);
    peer(client);
    CHECK(connect(client, (struct sockaddr *)&address, len) == 0);
    peer(client);
    int server = accept(fd, NULL, NULL);
    CHECK(server >= 0);
    peer(server);
    close(client), close(server), close(fd);
}

static void other_sockets(void) {
    const int families[] = {AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
    for (unsigned i = 0; i < sizeof families / sizeof *families; i++) {
        int fd = socket(families[i], SOCK_DGRAM, 0), on = 1;
        CHECK(fd >= 0);
        printf("family %d: %s", families[i], setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) ? strerrorname_np(errno) : "set");
        socklen_t len = sizeof on;
        on = -1;
        printf(" %s", getsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &on, &len) ? strerrorname_np(errno) : "got");
        printf(" %d\n", on);
        peer(fd);
        close(fd);
    }
}

int main(void) {
    other_sockets();
    listener();
    pairs(SOCK_STREAM, "stream");
    pairs(SOCK_DGRAM, "datagrams");
    pairs(SOCK_SEQPACKET, "packets");
    return 0;
}
