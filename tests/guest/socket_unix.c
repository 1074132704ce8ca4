// Local sockets: pairs, names, files and credentials under way, ends.
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static socklen_t abstract_name(struct sockaddr_un *address, const char *name) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    return offsetof(struct sockaddr_un, sun_path) + 1 +
           snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s-%d", name, getpid());
}

static short polled(int fd, short events) {
    struct pollfd entry = {.fd = fd, .events = events};
    CHECK(poll(&entry, 1, 0) >= 0);
    return entry.revents;
}

static void packets_have_boundaries(void) {
    int kinds[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 2; i++) {
        int pair[2];
        char buffer[8];
        CHECK(socketpair(AF_UNIX, kinds[i] | SOCK_CLOEXEC, 0, pair) == 0);
        CHECK(fcntl(pair[0], F_GETFD) == FD_CLOEXEC);
        CHECK(send(pair[0], "abcdef", 6, 0) == 6);
        CHECK(send(pair[0], "", 0, 0) == 0);
        CHECK(recv(pair[1], buffer, 2, MSG_PEEK | MSG_TRUNC) == 6);
        CHECK(recv(pair[1], buffer, 2, 0) == 2);
        CHECK(recv(pair[1], buffer, 2, 0) == 0);
        CHECK_FAILS(recv(pair[1], buffer, 2, MSG_DONTWAIT), EAGAIN);
        close(pair[0]);
        close(pair[1]);
    }
}

static void ends_show(void) {
    int pair[2];
    char byte;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(shutdown(pair[0], SHUT_WR) == 0);
    CHECK(polled(pair[1], POLLIN | POLLOUT | POLLRDHUP) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(read(pair[1], &byte, 1) == 0);
    CHECK(send(pair[1], "x", 1, MSG_NOSIGNAL) == 1);
    close(pair[0]);
    CHECK(polled(pair[1], POLLIN) & POLLHUP);
    CHECK_FAILS(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_FAILS(read(pair[1], &byte, 1), ECONNRESET);
    CHECK(read(pair[1], &byte, 1) == 0);
    close(pair[1]);
}

static void a_path_is_a_file(void) {
    char folder[] = "/tmp/socket_unix.XXXXXX";
    CHECK(mkdtemp(folder));
    CHECK(chdir(folder) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "name"}, got;
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_FAILS(connect(client, (struct sockaddr *)&address, sizeof address), ENOENT);
    CHECK(bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    struct stat status;
    CHECK(stat("name", &status) == 0 && S_ISSOCK(status.st_mode));
    CHECK_FAILS(open("name", O_RDWR), ENXIO);
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_FAILS(bind(other, (struct sockaddr *)&address, sizeof address), EADDRINUSE);
    CHECK_FAILS(connect(client, (struct sockaddr *)&address, sizeof address), ECONNREFUSED);
    CHECK(listen(server, 1) == 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    socklen_t length = sizeof got;
    CHECK(getpeername(client, (struct sockaddr *)&got, &length) == 0);
    CHECK(length == offsetof(struct sockaddr_un, sun_path) + 5 && strcmp(got.sun_path, "name") == 0);
    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_FAILS(connect(datagram, (struct sockaddr *)&address, sizeof address), EPROTOTYPE);
    length = sizeof got;
    int end = accept(server, (struct sockaddr *)&got, &length);
    CHECK(end >= 0 && length == 2 && got.sun_family == AF_UNIX);
    struct ucred peer;
    length = sizeof peer;
    CHECK(getsockopt(end, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0);
    CHECK(peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
    CHECK(unlink("name") == 0);
    CHECK(chdir("/") == 0 && rmdir(folder) == 0);
    close(server), close(client), close(end), close(other), close(datagram);
}

static void files_travel(void) {
    int pair[2], pipes[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(pipes) == 0);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char text[4] = "hey";
    struct iovec data = {text, 3};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &pipes[1], sizeof(int));
    CHECK(sendmsg(pair[0], &message, 0) == 3);
    close(pipes[1]);
    memset(&control, 0, sizeof control);
    message.msg_controllen = sizeof control;
    CHECK(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) == 3);
    CHECK(message.msg_controllen == CMSG_SPACE(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS);
    int received;
    memcpy(&received, CMSG_DATA(&control.header), sizeof(int));
    CHECK(fcntl(received, F_GETFD) == FD_CLOEXEC);
    CHECK(write(received, "ok", 2) == 2 && read(pipes[0], text, 3) == 2);
    // A bad descriptor is found before anything is sent.
    int bad = 999;
    memcpy(CMSG_DATA(&control.header), &bad, sizeof(int));
    CHECK_FAILS(sendmsg(pair[0], &message, 0), EBADF);
    // Without room the file is closed and the flag says so.
    memcpy(CMSG_DATA(&control.header), &received, sizeof(int));
    CHECK(sendmsg(pair[0], &message, 0) == 3);
    message.msg_control = NULL, message.msg_controllen = 0;
    CHECK(recvmsg(pair[1], &message, 0) == 3 && (message.msg_flags & MSG_CTRUNC));
    close(received);
    CHECK(read(pipes[0], text, 3) == 0);
    close(pair[0]), close(pair[1]), close(pipes[0]);
}

static void credentials_travel(void) {
    int pair[2], one = 1;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(send(pair[0], "x", 1, 0) != 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char control[CMSG_SPACE(sizeof(struct ucred))], byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(pair[1], &message, 0) == 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_type == SCM_CREDENTIALS);
    struct ucred sender;
    memcpy(&sender, CMSG_DATA(header), sizeof sender);
    CHECK(sender.pid == child && sender.uid == getuid());
    close(pair[0]), close(pair[1]);
}

static void *connect_later(void *address) {
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t length = abstract_name(address, "later");
    CHECK(connect(client, address, length) == 0);
    CHECK(write(client, "hello", 5) == 5);
    close(client);
    return NULL;
}

static void accept_and_read_wait(void) {
    struct sockaddr_un address, same;
    socklen_t length = abstract_name(&address, "later");
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(server, (struct sockaddr *)&address, length) == 0 && listen(server, 5) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, connect_later, &same) == 0);
    int end = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CHECK(end >= 0 && (fcntl(end, F_GETFL) & O_NONBLOCK));
    CHECK(fcntl(end, F_SETFL, 0) == 0);
    char buffer[6];
    CHECK(recv(end, buffer, 6, MSG_WAITALL) == 5);
    CHECK(pthread_join(thread, NULL) == 0);
    close(end), close(server);
}

static void timeouts_end_waits(void) {
    int pair[2];
    char byte;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    struct timeval limit = {0, 50000};
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_FAILS(recv(pair[0], &byte, 1, 0), EAGAIN);
    CHECK_FAILS(read(pair[0], &byte, 1), EAGAIN);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long waited = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    CHECK(waited >= 90);
    close(pair[0]), close(pair[1]);
}

static void wrong_arguments_are_refused(void) {
    CHECK_FAILS(socket(AF_UNIX, SOCK_STREAM, 2), EPROTONOSUPPORT);
    CHECK_FAILS(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
    CHECK_FAILS(socket(999, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_FAILS(socket(AF_UNIX, 11, 0), EINVAL);
    CHECK_FAILS(socket(AF_UNIX, SOCK_STREAM | 0x100, 0), EINVAL);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char byte = 0;
    CHECK_FAILS(listen(fd, 1), EINVAL);
    CHECK_FAILS(accept(fd, NULL, NULL), EINVAL);
    CHECK_FAILS(accept(999, NULL, NULL), EBADF);
    CHECK_FAILS(accept(1, NULL, NULL), ENOTSOCK);
    CHECK_FAILS(accept4(fd, NULL, NULL, 1), EINVAL);
    CHECK_FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), ENOTCONN);
    CHECK_FAILS(recv(fd, &byte, 1, 0), EINVAL);
    CHECK_FAILS(shutdown(fd, 3), EINVAL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK_FAILS(bind(fd, (struct sockaddr *)&address, 1000), EINVAL);
    CHECK_FAILS(bind(fd, (struct sockaddr *)8, 10), EFAULT);
    socklen_t length = -1;
    CHECK_FAILS(getsockname(fd, (struct sockaddr *)&address, &length), EINVAL);
    close(fd);
}

int main(void) {
    PART(packets_have_boundaries);
    PART(ends_show);
    PART(a_path_is_a_file);
    PART(files_travel);
    PART(credentials_travel);
    PART(accept_and_read_wait);
    PART(timeouts_end_waits);
    PART(wrong_arguments_are_refused);
}
