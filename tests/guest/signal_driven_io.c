// SIGIO and SIGURG: who gets them, with which code, band and descriptor, for sockets, pipes and terminals (fcntl(2),
// socket(7), signal(7)).
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS(name) (struct sockaddr *)&(name), sizeof(name)

enum { IN_BAND = POLLIN | POLLRDNORM, OUT_BAND = POLLOUT | POLLWRNORM | POLLWRBAND, URGENT_BAND = POLLPRI | POLLRDBAND };

static sigset_t watched;

// The next signal within a while; 0 if there is none.
static int next_signal(siginfo_t *info, int milliseconds) {
    struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    memset(info, 0, sizeof *info);
    int number = sigtimedwait(&watched, info, &limit);
    return number > 0 ? number : 0;
}

static void expect_nothing(void) {
    siginfo_t info;
    int number = next_signal(&info, 30);
    if (number)
        fprintf(stderr, "signal %d code %d band %#lx\n", number, info.si_code, info.si_band);
    CHECK(number == 0);
}

static void drain(void) {
    siginfo_t info;
    while (next_signal(&info, 20))
        ;
}

static void expect_plain(int number) {
    siginfo_t info;
    CHECK(next_signal(&info, 5000) == number);
    CHECK(info.si_signo == number && info.si_code == SI_KERNEL && info.si_errno == 0);
    CHECK(info.si_pid == 0 && info.si_uid == 0);
}

static void expect_queued(int number, int code, long band, int fd) {
    siginfo_t info;
    CHECK(next_signal(&info, 5000) == number);
    if (info.si_code != code || info.si_band != band || info.si_fd != fd)
        fprintf(stderr, "code %d band %#lx fd %d, not %d\n", info.si_code, info.si_band, info.si_fd, fd);
    CHECK(info.si_code == code && info.si_band == band && info.si_fd == fd);
}

static void make_async(int fd) {
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0);
    CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC) == 0);
    CHECK(fcntl(fd, F_GETFL) & O_ASYNC);
}

static void connected(int pair[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t length = sizeof address;
    CHECK(bind(server, ADDRESS(address)) == 0 && listen(server, 4) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(pair[0], ADDRESS(address)) == 0);
    pair[1] = accept(server, NULL, NULL);
    CHECK(pair[1] >= 0);
    close(server);
}

static void owners_are_kept(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), pipes[2], value;
    struct f_owner_ex owner = {-1, -1};
    CHECK(fcntl(fd, F_GETOWN) == 0 && fcntl(fd, F_GETSIG) == 0);
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_GETOWN) == getpid());
    CHECK(fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PID && owner.pid == getpid());
    CHECK(fcntl(fd, F_SETOWN, -getpgrp()) == 0);
    CHECK(fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PGRP && owner.pid == getpgrp());
    CHECK(ioctl(fd, FIOGETOWN, &value) == 0 && value == -getpgrp());
    value = getpid();
    CHECK(ioctl(fd, FIOSETOWN, &value) == 0);
    value = 0;
    CHECK(ioctl(fd, SIOCGPGRP, &value) == 0 && value == getpid());
    value = -getpgrp();
    CHECK(ioctl(fd, SIOCSPGRP, &value) == 0 && syscall(SYS_fcntl, fd, F_GETOWN_EX, &owner) == 0);
    CHECK(owner.type == F_OWNER_PGRP);
    owner = (struct f_owner_ex){F_OWNER_TID, (int)syscall(SYS_gettid)};
    CHECK(fcntl(fd, F_SETOWN_EX, &owner) == 0);
    owner = (struct f_owner_ex){-1, -1};
    CHECK(fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == getpid());
    owner.type = 3;
    CHECK_FAILS(fcntl(fd, F_SETOWN_EX, &owner), EINVAL);
    owner = (struct f_owner_ex){F_OWNER_PID, 4000000};
    CHECK_FAILS(fcntl(fd, F_SETOWN_EX, &owner), ESRCH);
    CHECK_FAILS(fcntl(fd, F_SETOWN, 4000000), ESRCH);
    value = 4000000;
    CHECK_FAILS(ioctl(fd, SIOCSPGRP, &value), ESRCH);
    CHECK_FAILS(fcntl(fd, F_SETOWN, (int)0x80000000), EINVAL);
    // Nobody.
    CHECK(fcntl(fd, F_SETOWN, 0) == 0 && fcntl(fd, F_GETOWN) == 0);
    CHECK(fcntl(fd, F_SETSIG, SIGRTMIN) == 0 && fcntl(fd, F_GETSIG) == SIGRTMIN);
    CHECK(fcntl(fd, F_SETSIG, 0) == 0 && fcntl(fd, F_GETSIG) == 0);
    CHECK_FAILS(fcntl(fd, F_SETSIG, 65), EINVAL);
    CHECK_FAILS(fcntl(fd, F_SETSIG, -1), EINVAL);
    // A process that has ended is nobody.
    int child = fork();
    if (child == 0)
        pause();
    CHECK(fcntl(fd, F_SETOWN, child) == 0);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(fcntl(fd, F_GETOWN) == 0);
    CHECK(pipe(pipes) == 0);
    value = 1;
    CHECK_FAILS(ioctl(pipes[0], SIOCSPGRP, &value), ENOTTY);
    CHECK(fcntl(pipes[0], F_SETOWN, getpid()) == 0 && fcntl(pipes[0], F_GETOWN) == getpid());
    close(fd), close(pipes[0]), close(pipes[1]);
}

static void a_stream_tells_of_data_and_ends(void) {
    int pair[2];
    connected(pair);
    make_async(pair[1]);
    CHECK(write(pair[0], "x", 1) == 1);
    expect_plain(SIGIO);
    expect_nothing();
    // Each arrival, although nothing was read.
    CHECK(write(pair[0], "y", 1) == 1);
    expect_plain(SIGIO);
    CHECK(fcntl(pair[1], F_SETSIG, SIGRTMIN) == 0);
    CHECK(write(pair[0], "z", 1) == 1);
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, pair[1]);
    CHECK(shutdown(pair[0], SHUT_WR) == 0);
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, pair[1]);
    drain();
    CHECK(fcntl(pair[1], F_SETFL, 0) == 0);
    close(pair[0]);
    expect_nothing();
    close(pair[1]);
}

static void nothing_without_the_flag_or_an_owner(void) {
    int pair[2], on = 1;
    connected(pair);
    CHECK(fcntl(pair[1], F_SETOWN, getpid()) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    expect_nothing();
    CHECK(ioctl(pair[1], FIOASYNC, &on) == 0 && (fcntl(pair[1], F_GETFL) & O_ASYNC));
    CHECK(write(pair[0], "x", 1) == 1);
    expect_plain(SIGIO);
    on = 0;
    CHECK(ioctl(pair[1], FIOASYNC, &on) == 0 && !(fcntl(pair[1], F_GETFL) & O_ASYNC));
    CHECK(write(pair[0], "x", 1) == 1);
    expect_nothing();
    CHECK(fcntl(pair[1], F_SETOWN, 0) == 0);
    CHECK(fcntl(pair[1], F_SETFL, O_ASYNC) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    expect_nothing();
    close(pair[0]), close(pair[1]);
    drain();
}

static void a_reset_is_an_error(void) {
    int pair[2];
    connected(pair);
    make_async(pair[1]);
    CHECK(fcntl(pair[1], F_SETSIG, SIGRTMIN + 1) == 0);
    struct linger linger = {1, 0};
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(pair[0]);
    expect_queued(SIGRTMIN + 1, POLL_ERR, POLLERR, pair[1]);
    drain();
    close(pair[1]);
}

static void a_listener_tells_of_connections(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof address;
    CHECK(bind(server, ADDRESS(address)) == 0 && listen(server, 4) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &length) == 0);
    make_async(server);
    make_async(client);
    CHECK(fcntl(server, F_SETSIG, SIGRTMIN) == 0 && fcntl(client, F_SETSIG, SIGRTMIN + 1) == 0);
    CHECK_FAILS(connect(client, ADDRESS(address)), EINPROGRESS);
    // The lowest number comes first.
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, server);
    expect_queued(SIGRTMIN + 1, POLL_OUT, OUT_BAND, client);
    // What waits to be accepted is reset.
    close(server);
    expect_queued(SIGRTMIN + 1, POLL_ERR, POLLERR, client);
    close(client);
    drain();
}

// Who changes the socket is told by it, while it does so.
static void the_owner_shuts_down(void) {
    int pair[2], on = 1;
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        connected(pair);
        make_async(pair[1]);
        CHECK(setsockopt(pair[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
        CHECK(shutdown(pair[1], how) == 0);
        // Nobody is told of the other end's.
        close(pair[1]), close(pair[0]);
        drain();
    }
}

static void urgent_data_has_its_own_signal(void) {
    int pair[2], at_mark = -1;
    connected(pair);
    // No O_ASYNC is needed for it.
    CHECK(fcntl(pair[1], F_SETOWN, getpid()) == 0);
    CHECK(send(pair[0], "abc", 3, MSG_OOB) == 3);
    expect_plain(SIGURG);
    expect_nothing();
    char buffer[8];
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 2 && memcmp(buffer, "ab", 2) == 0);
    CHECK(ioctl(pair[1], SIOCATMARK, &at_mark) == 0 && at_mark == 1);
    CHECK(recv(pair[1], buffer, 1, MSG_OOB) == 1 && buffer[0] == 'c');
    // With a signal of one's own and O_ASYNC there are both.
    CHECK(fcntl(pair[1], F_SETSIG, SIGRTMIN) == 0 && fcntl(pair[1], F_SETFL, O_ASYNC) == 0);
    CHECK(send(pair[0], "d", 1, MSG_OOB) == 1);
    siginfo_t info;
    CHECK(next_signal(&info, 5000) == SIGURG && info.si_code == SI_KERNEL);
    int has_seen_urgent = 0;
    while (next_signal(&info, 100) == SIGRTMIN) {
        CHECK(info.si_fd == pair[1]);
        if (info.si_code == POLL_PRI && info.si_band == URGENT_BAND)
            has_seen_urgent = 1;
    }
    CHECK(has_seen_urgent);
    close(pair[0]), close(pair[1]);
    drain();
}

static void urgent_byte_outlives_the_connection(void) {
    int pair[2], at_mark = -1;
    char buffer[8];
    connected(pair);
    CHECK(send(pair[0], "abc", 3, MSG_OOB) == 3);
    close(pair[0]);
    // Our FIN, too: the connection is over now, and nothing was read.
    CHECK(shutdown(pair[1], SHUT_WR) == 0);
    struct tcp_info state;
    socklen_t length = sizeof state;
    for (int i = 0; i < 100; i++) {
        CHECK(getsockopt(pair[1], IPPROTO_TCP, TCP_INFO, &state, &length) == 0);
        if (state.tcpi_state == TCP_CLOSE)
            break;
        usleep(10000);
    }
    CHECK(state.tcpi_state == TCP_CLOSE);
    struct pollfd entry = {.fd = pair[1], .events = POLLIN | POLLPRI};
    CHECK(poll(&entry, 1, 0) == 1 && (entry.revents & (POLLIN | POLLPRI)) == (POLLIN | POLLPRI));
    CHECK(recv(pair[1], buffer, 1, MSG_OOB | MSG_PEEK) == 1 && buffer[0] == 'c');
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 2 && memcmp(buffer, "ab", 2) == 0);
    CHECK(ioctl(pair[1], SIOCATMARK, &at_mark) == 0 && at_mark == 1);
    CHECK(recv(pair[1], buffer, 1, MSG_OOB) == 1 && buffer[0] == 'c');
    CHECK_FAILS(recv(pair[1], buffer, 1, MSG_OOB), EINVAL);
    CHECK(recv(pair[1], buffer, sizeof buffer, 0) == 0);
    close(pair[1]);
}

static void datagrams_are_told_of(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t length = sizeof address;
    CHECK(bind(receiver, ADDRESS(address)) == 0);
    CHECK(getsockname(receiver, (struct sockaddr *)&address, &length) == 0);
    make_async(receiver);
    CHECK(fcntl(receiver, F_SETSIG, SIGRTMIN) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(sendto(sender, "x", 1, 0, ADDRESS(address)) == 1);
    // Real-time signals queue.
    for (int i = 0; i < 3; i++)
        expect_queued(SIGRTMIN, POLL_IN, IN_BAND, receiver);
    expect_nothing();
    // A descriptor that is duplicated later does not change the number told.
    int copy = dup(receiver);
    close(receiver);
    CHECK(sendto(sender, "x", 1, 0, ADDRESS(address)) == 1);
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, receiver);
    close(copy), close(sender);
}

static void unix_sockets_and_pipes_do_the_same(void) {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    make_async(pair[1]);
    CHECK(fcntl(pair[1], F_SETSIG, SIGRTMIN) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, pair[1]);
    expect_nothing();
    close(pair[0]);
    expect_queued(SIGRTMIN, POLL_HUP, POLLHUP | POLLERR, pair[1]);
    drain();
    close(pair[1]);
    CHECK(pipe(pair) == 0);
    make_async(pair[0]);
    CHECK(fcntl(pair[0], F_SETSIG, SIGRTMIN) == 0);
    CHECK(write(pair[1], "x", 1) == 1);
    expect_queued(SIGRTMIN, POLL_IN, IN_BAND, pair[0]);
    expect_nothing();
    close(pair[0]), close(pair[1]);
    drain();
}

static void terminals_do_the_same(void) {
    int master, terminal;
    CHECK(openpty(&master, &terminal, NULL, NULL, NULL) == 0);
    make_async(terminal);
    CHECK(write(master, "line\n", 5) == 5);
    expect_plain(SIGIO);
    CHECK(fcntl(terminal, F_SETFL, 0) == 0);
    drain();
    close(terminal), close(master);
}

static void a_terminal_has_an_owner_by_itself(void) {
    int master, terminal, status;
    // One that controls no session: who sets the flag.
    CHECK(openpty(&master, &terminal, NULL, NULL, NULL) == 0);
    CHECK(fcntl(terminal, F_GETOWN) == 0 && fcntl(terminal, F_SETFL, O_ASYNC) == 0);
    CHECK(fcntl(terminal, F_GETOWN) == getpid());
    CHECK(write(master, "line\n", 5) == 5);
    expect_plain(SIGIO);
    CHECK(fcntl(terminal, F_SETFL, 0) == 0);
    drain();
    // Who was named stays.
    CHECK(fcntl(terminal, F_SETOWN, -getpgrp()) == 0 && fcntl(terminal, F_SETFL, O_ASYNC) == 0);
    CHECK(fcntl(terminal, F_GETOWN) == -getpgrp() && fcntl(terminal, F_SETFL, 0) == 0);
    drain();
    // The controlling one: who is in the foreground.
    int child = fork();
    if (child == 0) {
        CHECK(setsid() == getpid() && ioctl(terminal, TIOCSCTTY, 0) == 0);
        int own = open(ttyname(terminal), O_RDWR);
        CHECK(own >= 0 && fcntl(own, F_SETFL, O_ASYNC) == 0 && fcntl(own, F_GETOWN) == -getpid());
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(terminal), close(master);
    drain();
}

static void others_get_them(void) {
    int pair[2], ready[2], status;
    CHECK(pipe(ready) == 0);
    connected(pair);
    int child = fork();
    if (child == 0) {
        siginfo_t info;
        CHECK(setpgid(0, 0) == 0);
        CHECK(write(ready[1], "r", 1) == 1);
        _exit(next_signal(&info, 5000) == SIGIO && info.si_code == SI_KERNEL ? 7 : 1);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    // The group whose only member it is.
    CHECK(fcntl(pair[1], F_SETOWN, -child) == 0 && fcntl(pair[1], F_SETFL, O_ASYNC) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    expect_nothing();
    close(pair[0]), close(pair[1]), close(ready[0]), close(ready[1]);
}

static void *wait_in_thread(void *id) {
    siginfo_t info;
    *(int *)id = (int)syscall(SYS_gettid);
    for (int i = 0; i < 500; i++)
        if (next_signal(&info, 10))
            return (void *)(long)info.si_signo;
    return NULL;
}

static void one_thread_gets_them(void) {
    int pair[2];
    volatile int id = 0;
    pthread_t thread;
    void *got;
    connected(pair);
    CHECK(pthread_create(&thread, NULL, wait_in_thread, (void *)&id) == 0);
    while (id == 0)
        usleep(1000);
    struct f_owner_ex owner = {F_OWNER_TID, id};
    CHECK(fcntl(pair[1], F_SETOWN_EX, &owner) == 0 && fcntl(pair[1], F_SETFL, O_ASYNC) == 0);
    CHECK(write(pair[0], "x", 1) == 1);
    expect_nothing();
    CHECK(pthread_join(thread, &got) == 0 && (long)got == SIGIO);
    close(pair[0]), close(pair[1]);
    drain();
}

static void a_full_queue_falls_back_to_sigio(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0), queued = 0;
    socklen_t length = sizeof address;
    struct rlimit old, few = {0, 0};
    CHECK(bind(receiver, ADDRESS(address)) == 0);
    CHECK(getsockname(receiver, (struct sockaddr *)&address, &length) == 0);
    make_async(receiver);
    CHECK(fcntl(receiver, F_SETSIG, SIGRTMIN) == 0);
    CHECK(getrlimit(RLIMIT_SIGPENDING, &old) == 0);
    few.rlim_max = old.rlim_max;
    CHECK(setrlimit(RLIMIT_SIGPENDING, &few) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(sendto(sender, "x", 1, 0, ADDRESS(address)) == 1);
    usleep(30000);
    CHECK(setrlimit(RLIMIT_SIGPENDING, &old) == 0);
    siginfo_t info;
    // "If the signal cannot be queued, SIGIO is sent", once however often.
    CHECK(next_signal(&info, 5000) == SIGIO);
    while (next_signal(&info, 30))
        queued++;
    CHECK(queued == 0);
    close(receiver), close(sender);
}

int main(void) {
    sigemptyset(&watched);
    sigaddset(&watched, SIGIO);
    sigaddset(&watched, SIGURG);
    sigaddset(&watched, SIGRTMIN);
    sigaddset(&watched, SIGRTMIN + 1);
    CHECK(sigprocmask(SIG_BLOCK, &watched, NULL) == 0);
    PART(owners_are_kept);
    PART(a_stream_tells_of_data_and_ends);
    PART(nothing_without_the_flag_or_an_owner);
    PART(a_reset_is_an_error);
    PART(a_listener_tells_of_connections);
    PART(the_owner_shuts_down);
    PART(urgent_data_has_its_own_signal);
    PART(urgent_byte_outlives_the_connection);
    PART(datagrams_are_told_of);
    PART(unix_sockets_and_pipes_do_the_same);
    PART(terminals_do_the_same);
    PART(a_terminal_has_an_owner_by_itself);
    PART(others_get_them);
    PART(one_thread_gets_them);
    PART(a_full_queue_falls_back_to_sigio);
    return 0;
}
