// epoll(7), eventfd(2), signalfd(2), timerfd_create(2), select(2).
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int add(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void level_edge_and_oneshot(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), fds[2];
    struct epoll_event got[4];
    CHECK(epoll >= 0 && pipe(fds) == 0 && add(epoll, fds[0], EPOLLIN) == 0);
    CHECK_FAILS(add(epoll, fds[0], EPOLLIN), EEXIST);
    CHECK(epoll_wait(epoll, got, 4, 0) == 0 && write(fds[1], "ab", 2) == 2);
    CHECK(epoll_wait(epoll, got, 4, -1) == 1 && got[0].data.fd == fds[0] && got[0].events == EPOLLIN);
    CHECK(epoll_wait(epoll, got, 4, 0) == 1);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = 7};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_MOD, fds[0], &event) == 0);
    CHECK(epoll_wait(epoll, got, 4, 0) == 1 && got[0].data.fd == 7);
    CHECK(epoll_wait(epoll, got, 4, 0) == 0 && write(fds[1], "c", 1) == 1 && epoll_wait(epoll, got, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    CHECK(epoll_ctl(epoll, EPOLL_CTL_MOD, fds[0], &event) == 0);
    CHECK(epoll_wait(epoll, got, 4, 0) == 1 && epoll_wait(epoll, got, 4, 0) == 0);
    CHECK(close(fds[1]) == 0 && epoll_wait(epoll, got, 4, 0) == 0);
    CHECK(epoll_ctl(epoll, EPOLL_CTL_MOD, fds[0], &event) == 0 && epoll_wait(epoll, got, 4, 0) == 1);
    CHECK(got[0].events == (EPOLLIN | EPOLLHUP));
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, fds[0], NULL) == 0);
    CHECK_FAILS(epoll_ctl(epoll, EPOLL_CTL_DEL, fds[0], NULL), ENOENT);
}

static void errors(void)
{
    int epoll = epoll_create1(0), file = open("/etc/passwd", O_RDONLY);
    struct epoll_event got;
    CHECK_FAILS(add(epoll, file, EPOLLIN), EPERM);
    CHECK_FAILS(add(epoll, epoll, EPOLLIN), EINVAL);
    CHECK_FAILS(add(epoll, 999, EPOLLIN), EBADF);
    CHECK_FAILS(add(file, eventfd(0, 0), EPOLLIN), EINVAL);
    CHECK_FAILS(epoll_wait(epoll, &got, 0, 0), EINVAL);
    CHECK_FAILS(epoll_create(0), EINVAL);
}

static void nesting_and_closing(void)
{
    int inner = epoll_create1(0), outer = epoll_create1(0), event = eventfd(0, 0);
    struct epoll_event got;
    uint64_t one = 1;
    CHECK(add(inner, event, EPOLLIN) == 0 && add(outer, inner, EPOLLIN) == 0 && epoll_wait(outer, &got, 1, 0) == 0);
    CHECK_FAILS(add(inner, outer, EPOLLIN), ELOOP);
    CHECK(write(event, &one, 8) == 8 && epoll_wait(outer, &got, 1, -1) == 1 && got.data.fd == inner);
    int copy = dup(event);
    CHECK(close(event) == 0 && epoll_wait(outer, &got, 1, 0) == 1);
    CHECK(close(copy) == 0 && epoll_wait(outer, &got, 1, 0) == 0);
}

static int wake;

static void *wake_later(void *unused)
{
    uint64_t one = 1;
    (void)unused;
    usleep(20000);
    CHECK(write(wake, &one, 8) == 8);
    return NULL;
}

static void waiting_is_woken(void)
{
    int epoll = epoll_create1(0);
    struct epoll_event got;
    pthread_t t;
    wake = eventfd(0, EFD_NONBLOCK);
    CHECK(add(epoll, wake, EPOLLIN | EPOLLET) == 0 && pthread_create(&t, NULL, wake_later, NULL) == 0);
    CHECK(epoll_wait(epoll, &got, 1, 5000) == 1);
    pthread_join(t, NULL);
}

static void event_counter_and_semaphore(void)
{
    uint64_t value = 5;
    int fd = eventfd(3, EFD_NONBLOCK);
    CHECK(write(fd, &value, 8) == 8 && read(fd, &value, 8) == 8 && value == 8);
    CHECK_FAILS(read(fd, &value, 8), EAGAIN);
    value = UINT64_MAX;
    CHECK_FAILS(write(fd, &value, 8), EINVAL);
    value = UINT64_MAX - 1;
    CHECK(write(fd, &value, 8) == 8);
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
    CHECK_FAILS(read(fd, &value, 4), EINVAL);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK(read(fd, &value, 8) == 8 && value == 1 && read(fd, &value, 8) == 8);
    CHECK_FAILS(read(fd, &value, 8), EAGAIN);
}

static void signals_as_a_file(void)
{
    sigset_t set;
    struct signalfd_siginfo info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    CHECK_FAILS(read(fd, &info, sizeof info), EAGAIN);
    raise(SIGUSR1);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 0) == 1 && read(fd, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR1 && info.ssi_pid == (uint32_t)getpid());
}

static void timers_as_a_file(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    uint64_t times;
    struct timespec start, end;
    struct itimerspec every = {{0, 5000000}, {0, 5000000}}, now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &start) == 0);
    CHECK_FAILS(read(fd, &times, 8), EAGAIN);
    CHECK(timerfd_settime(fd, 0, &every, NULL) == 0 && timerfd_gettime(fd, &now) == 0);
    CHECK(now.it_interval.tv_nsec == 5000000 && now.it_value.tv_nsec <= 5000000);
    struct pollfd p = {fd, POLLIN, 0};
    CHECK(poll(&p, 1, 1000) == 1);
    usleep(20000);
    CHECK(read(fd, &times, 8) == 8 && clock_gettime(CLOCK_MONOTONIC, &end) == 0);
    int64_t passed = (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec;
    CHECK(times >= 3 && times <= (uint64_t)passed / 5000000);
    CHECK_FAILS(timerfd_create(99, 0), EINVAL);
}

// One call reports all that are ready, however many.
static void many_at_once(void)
{
    enum { COUNT = 6000 };
    static struct epoll_event events[COUNT + 1];
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(limit.rlim_max > COUNT + 100 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int epoll = epoll_create1(0), ready = eventfd(1, 0), first = -1;
    for (int i = 0; i < COUNT; i++) {
        int fd = dup(ready);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        CHECK(fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
        first = first < 0 ? fd : first;
    }
    CHECK(epoll_wait(epoll, events, COUNT + 1, 0) == COUNT);
    CHECK(epoll_wait(epoll, events, COUNT / 2, 0) == COUNT / 2);
    close(epoll);
    for (int i = 0; i < COUNT; i++)
        close(first + i);
    close(ready);
}

static void select_and_its_timeout(void)
{
    int fds[2];
    fd_set set;
    struct timeval soon = {0, 10000};
    CHECK(pipe(fds) == 0);
    FD_ZERO(&set);
    FD_SET(fds[0], &set);
    CHECK(select(fds[0] + 1, &set, NULL, NULL, &soon) == 0 && !FD_ISSET(fds[0], &set) && soon.tv_usec == 0);
    FD_SET(fds[0], &set);
    CHECK(write(fds[1], "x", 1) == 1 && select(fds[0] + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(fds[0], &set));
    close(fds[0]);
    CHECK_FAILS(select(fds[0] + 1, &set, NULL, NULL, NULL), EBADF);
    CHECK_FAILS(select(-1, NULL, NULL, NULL, NULL), EINVAL);
}

int main(void)
{
    PART(level_edge_and_oneshot);
    PART(errors);
    PART(nesting_and_closing);
    PART(waiting_is_woken);
    PART(event_counter_and_semaphore);
    PART(signals_as_a_file);
    PART(timers_as_a_file);
    PART(many_at_once);
    PART(select_and_its_timeout);
    return 0;
}
