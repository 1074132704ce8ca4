// Ends of what sockets can do: connections that are reset behind their end, tables that are full, memory that is bad,
// files in flight.
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in address;

static int listener(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    CHECK(listen(fd, 8) == 0);
    return fd;
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    CHECK(poll(&p, 1, 10000) == 1);
}

static int pending_error(int fd)
{
    int error = -1;
    socklen_t len = sizeof error;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
    return error;
}

// The peer ends its stream and resets the connection later: the stream has ended in order, and writing is a broken pipe.
static void reset_behind_the_end(void)
{
    for (int ask = 0; ask < 2; ask++) {
        int server = listener(), client = connected(), peer = accept(server, NULL, NULL);
        CHECK(peer >= 0);
        CHECK(send(peer, "last", 4, 0) == 4 && shutdown(peer, SHUT_WR) == 0);
        char buf[8];
        CHECK(recv(client, buf, 4, MSG_WAITALL) == 4 && recv(client, buf, 8, 0) == 0);
        CHECK(send(client, "unread", 6, 0) == 6);
        wait_for(peer, POLLIN);
        // Unread data makes close(2) reset the connection.
        CHECK(close(peer) == 0);
        wait_for(client, POLLERR);
        CHECK(recv(client, buf, 8, 0) == 0);
        if (ask)
            CHECK(pending_error(client) == EPIPE && pending_error(client) == 0);
        CHECK_FAILS(send(client, "x", 1, MSG_NOSIGNAL), EPIPE);
        CHECK_FAILS(send(client, "x", 1, MSG_NOSIGNAL), EPIPE);
        CHECK(recv(client, buf, 8, 0) == 0);
        close(client);
        close(server);
    }
    // Without the end before it, it is a reset.
    int server = listener(), client = connected(), peer = accept(server, NULL, NULL);
    CHECK(send(client, "unread", 6, 0) == 6);
    wait_for(peer, POLLIN);
    CHECK(close(peer) == 0);
    wait_for(client, POLLIN);
    char c;
    CHECK_FAILS(recv(client, &c, 1, 0), ECONNRESET);
    close(client);
    close(server);
    puts("reset behind the end");
}

// A full table refuses accept(2) and the connection waits on.
static void accept_without_a_descriptor(void)
{
    int server = listener(), client = connected();
    wait_for(server, POLLIN);
    struct rlimit old, none = {0};
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none.rlim_max = old.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_FAILS(accept(server, NULL, NULL), EMFILE);
    CHECK_FAILS(accept(server, NULL, NULL), EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    int peer = accept(server, NULL, NULL);
    CHECK(peer >= 0);
    CHECK(send(peer, "here", 4, 0) == 4);
    char buf[4];
    CHECK(recv(client, buf, 4, MSG_WAITALL) == 4 && memcmp(buf, "here", 4) == 0);
    close(peer);
    close(client);
    close(server);
    puts("accept without a descriptor");
}

// A receive into bad memory leaves the data where it is.
static void receive_into_bad_memory(void)
{
    enum { PIECE = 3000, PIECES = 8 };
    int server = listener(), client = connected(), peer = accept(server, NULL, NULL), on = 1;
    CHECK(setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    static char data[PIECE * PIECES], got[PIECE * PIECES];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + i / 256);
    for (int i = 0; i < PIECES; i++)
        CHECK(send(peer, data + i * PIECE, PIECE, 0) == PIECE);
    CHECK(shutdown(peer, SHUT_WR) == 0);
    wait_for(client, POLLRDHUP);
    void *volatile nowhere = (void *)8;
    CHECK_FAILS(recv(client, nowhere, 1000, 0), EFAULT);
    CHECK_FAILS(recv(client, nowhere, sizeof data, 0), EFAULT);
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(two != MAP_FAILED && munmap(two + 4096, 4096) == 0);
    // Whole pieces that fitted may have been received; nothing is lost.
    ssize_t n = recv(client, two, 8192, 0);
    CHECK(n >= -1 && n <= 4096);
    size_t done = n > 0 ? (size_t)n : 0;
    memcpy(got, two, done);
    for (ssize_t more; (more = recv(client, got + done, sizeof got - done, 0)) > 0; done += (size_t)more)
        ;
    CHECK(done == sizeof data && memcmp(data, got, sizeof data) == 0);
    close(peer);
    close(client);
    close(server);
    puts("receive into bad memory");
}

static int send_file(int socket, int fd)
{
    char byte = 'f';
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    return (int)sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int receive_file(int socket)
{
    char byte;
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(socket, &m, 0) == 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&m);
    CHECK(header != NULL && header->cmsg_type == SCM_RIGHTS);
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

// unix(7), ETOOMANYREFS: a user has no more files under way than it may have open, unless privileged.
static void files_in_flight(void)
{
    enum { LIMIT = 20 };
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
        int privileged[2];
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, privileged) == 0);
        struct rlimit few = {LIMIT, LIMIT};
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        // The superuser is not held to it.
        int fd = open("/dev/null", O_RDONLY), sent = 0;
        CHECK(fd >= 0);
        for (; sent < 2 * LIMIT && send_file(privileged[0], fd) == 1; sent++)
            ;
        int is_root = geteuid() == 0;
        CHECK(!is_root || sent == 2 * LIMIT);
        CHECK(setgid(54321) == 0 && setuid(54321) == 0);
        for (sent = 0; sent < 4 * LIMIT && send_file(pair[0], fd) == 1; sent++)
            ;
        CHECK(sent == LIMIT + 1);
        CHECK_FAILS(send_file(pair[0], fd), ETOOMANYREFS);
        // What is received is under way no longer.
        for (int i = 0; i < 3; i++)
            CHECK(close(receive_file(pair[1])) == 0);
        CHECK(send_file(pair[0], fd) == 1 && send_file(pair[0], fd) == 1 && send_file(pair[0], fd) == 1);
        CHECK_FAILS(send_file(pair[0], fd), ETOOMANYREFS);
        // Neither is what nobody can receive.
        CHECK(close(pair[1]) == 0 && close(pair[0]) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        int again = 0;
        for (int i = 0; i < 100 && again != 1; i++) {
            again = send_file(pair[0], fd);
            usleep(again == 1 ? 0 : 20000);
        }
        CHECK(again == 1);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    puts("files in flight");
}

int main(void)
{
    reset_behind_the_end();
    accept_without_a_descriptor();
    receive_into_bad_memory();
    files_in_flight();
    return 0;
}
