// Many who wait for what only one can have: the kernel wakes one of them, and nothing is lost when that one goes away
// (pipe(7), accept(2), eventfd(2), EPOLLEXCLUSIVE in epoll_ctl(2)).
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { HERD = 12 };

// A child that runs `body` with `fd`, and sleeps there when this returns.
static pid_t start(void (*body)(int), int fd)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        body(fd);
        _exit(0);
    }
    wait_until_asleep(child);
    return child;
}

static void ends_well(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static int herd_pipe[2];

static void pass_tokens(int fd)
{
    for (;;) {
        int left;
        CHECK(read(fd, &left, sizeof left) == sizeof left);
        int next = left > 0 ? left - 1 : 0;
        CHECK(write(herd_pipe[1], &next, sizeof next) == sizeof next);
        if (left == 0)
            return;
    }
}

static void a_herd_passes_tokens_over_one_pipe(void)
{
    pid_t herd[HERD];
    int tokens = 400;
    CHECK(pipe(herd_pipe) == 0);
    for (int i = 0; i < HERD; i++)
        herd[i] = start(pass_tokens, herd_pipe[0]);
    CHECK(write(herd_pipe[1], &tokens, sizeof tokens) == sizeof tokens);
    for (int i = 0; i < HERD; i++)
        ends_well(herd[i]);
    close(herd_pipe[0]);
    close(herd_pipe[1]);
}

static void read_one(int fd)
{
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
}

// pipe(2) has given the write end the next number.
static void read_end(int fd)
{
    char byte;
    close(fd + 1);
    CHECK(read(fd, &byte, 1) == 0);
}

static void what_comes_at_once_reaches_all(void)
{
    pid_t herd[HERD];
    char bytes[HERD] = {0};
    int ends[2];
    CHECK(pipe(ends) == 0 && ends[1] == ends[0] + 1);
    for (int i = 0; i < HERD; i++)
        herd[i] = start(read_one, ends[0]);
    CHECK(write(ends[1], bytes, sizeof bytes) == sizeof bytes);
    for (int i = 0; i < HERD; i++)
        ends_well(herd[i]);
    for (int i = 0; i < 3; i++)
        herd[i] = start(read_end, ends[0]);
    close(ends[0]);
    close(ends[1]);
    for (int i = 0; i < 3; i++)
        ends_well(herd[i]);
}

static void on_signal(int number) { (void)number; }

static void read_or_be_interrupted(int fd)
{
    struct sigaction action = {.sa_handler = on_signal};
    char byte;
    sigaction(SIGUSR1, &action, NULL);
    ssize_t n = read(fd, &byte, 1);
    CHECK(n == 1 || (n == -1 && errno == EINTR));
    _exit(n == 1 ? 0 : 7);
}

// The first in the row is woken for the byte and interrupted at the same time. If it leaves without the byte, the second has it.
static void who_is_interrupted_lets_the_next_have_it(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 60; i++) {
        pid_t first = start(read_or_be_interrupted, ends[0]);
        pid_t second = start(read_one, ends[0]);
        int status;
        if (i % 2) {
            CHECK(write(ends[1], "x", 1) == 1 && kill(first, SIGUSR1) == 0);
        } else {
            CHECK(kill(first, SIGUSR1) == 0 && write(ends[1], "x", 1) == 1);
        }
        CHECK(waitpid(first, &status, 0) == first && WIFEXITED(status));
        if (WEXITSTATUS(status) == 0)
            CHECK(write(ends[1], "y", 1) == 1);
        else
            CHECK(WEXITSTATUS(status) == 7);
        ends_well(second);
    }
    close(ends[0]);
    close(ends[1]);
}

static void take_one(int fd)
{
    CHECK(accept(fd, NULL, NULL) >= 0);
}

static void accept_each_one(int listener, const struct sockaddr *address, socklen_t length)
{
    pid_t herd[4];
    int connections[4];
    for (int i = 0; i < 4; i++)
        herd[i] = start(take_one, listener);
    for (int i = 0; i < 4; i++) {
        connections[i] = socket(address->sa_family, SOCK_STREAM, 0);
        CHECK(connections[i] >= 0 && connect(connections[i], address, length) == 0);
    }
    for (int i = 0; i < 4; i++) {
        ends_well(herd[i]);
        close(connections[i]);
    }
    close(listener);
}

static void each_connection_finds_one_who_accepts(void)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    socklen_t length = sizeof local;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&local, sizeof(sa_family_t)) == 0 && listen(listener, 8) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&local, &length) == 0);
    accept_each_one(listener, (struct sockaddr *)&local, length);

    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    length = sizeof inet;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&inet, sizeof inet) == 0 && listen(listener, 8) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&inet, &length) == 0);
    accept_each_one(listener, (struct sockaddr *)&inet, length);
}

static void read_event(int fd)
{
    uint64_t value;
    CHECK(read(fd, &value, 8) == 8 && value == 1);
}

static void a_semaphore_lets_as_many_go_as_it_counts(void)
{
    int event = eventfd(0, EFD_SEMAPHORE);
    uint64_t many = HERD;
    pid_t herd[HERD];
    for (int i = 0; i < HERD; i++)
        herd[i] = start(read_event, event);
    CHECK(write(event, &many, 8) == 8);
    for (int i = 0; i < HERD; i++)
        ends_well(herd[i]);
    close(event);
}

static void wait_for_event(int epoll)
{
    struct epoll_event got;
    CHECK(epoll_wait(epoll, &got, 1, -1) == 1);
}

static int watch(int fd, uint32_t events)
{
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = events, .data.fd = fd};
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    return epoll;
}

// Nobody waits for the first: the event has to wake who waits for the second.
static void exclusive_watches_wake_one_that_is_waited_for(void)
{
    int event = eventfd(0, 0);
    uint64_t one = 1;
    int idle = watch(event, EPOLLIN | EPOLLEXCLUSIVE), waited = watch(event, EPOLLIN | EPOLLEXCLUSIVE);
    pid_t child = start(wait_for_event, waited);
    CHECK(write(event, &one, 8) == 8);
    ends_well(child);
    struct epoll_event got;
    CHECK(epoll_wait(idle, &got, 1, 0) == 1 && got.data.fd == event);
    struct epoll_event change = {.events = EPOLLIN};
    CHECK_FAILS(epoll_ctl(idle, EPOLL_CTL_MOD, event, &change), EINVAL);
    close(idle);
    close(waited);
    close(event);
}

// Level-triggered events are there for all who wait for one instance; one-shot events are for one each.
static void one_instance_wakes_as_many_as_it_has_events_for(void)
{
    pid_t herd[4];
    uint64_t one = 1;
    int event = eventfd(0, 0), epoll = watch(event, EPOLLIN);
    for (int i = 0; i < 4; i++)
        herd[i] = start(wait_for_event, epoll);
    CHECK(write(event, &one, 8) == 8);
    for (int i = 0; i < 4; i++)
        ends_well(herd[i]);
    close(epoll);

    epoll = epoll_create1(0);
    int events[4];
    for (int i = 0; i < 4; i++) {
        struct epoll_event watch = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = i};
        events[i] = eventfd(0, 0);
        CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, events[i], &watch) == 0);
        herd[i] = start(wait_for_event, epoll);
    }
    for (int i = 0; i < 4; i++)
        CHECK(write(events[i], &one, 8) == 8);
    for (int i = 0; i < 4; i++) {
        ends_well(herd[i]);
        close(events[i]);
    }
    close(epoll);
    close(event);
}

int main(void)
{
    alarm(60);
    PART(a_herd_passes_tokens_over_one_pipe);
    PART(what_comes_at_once_reaches_all);
    PART(who_is_interrupted_lets_the_next_have_it);
    PART(each_connection_finds_one_who_accepts);
    PART(a_semaphore_lets_as_many_go_as_it_counts);
    PART(exclusive_watches_wake_one_that_is_waited_for);
    PART(one_instance_wakes_as_many_as_it_has_events_for);
    return 0;
}
