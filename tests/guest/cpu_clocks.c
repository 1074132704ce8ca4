// Clocks that count CPU time: which of them can be read, have timers and be slept on, by the numbers of clock_getcpuclockid(3); timers and
// sleeps that end when somebody has used time.
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

enum { PER_THREAD = 4 };

static atomic_int worker_id, stop;

static clockid_t numbered(unsigned number, int kind)
{
    return (clockid_t)(~number << 3 | (unsigned)kind);
}

static void *work(void *unused)
{
    (void)unused;
    atomic_store(&worker_id, (int)syscall(SYS_gettid));
    while (!atomic_load(&stop))
        for (volatile int i = 0; i < 10000; i++)
            ;
    return NULL;
}

static int errno_of(long result)
{
    return result == 0 ? 0 : errno;
}

// By system calls: the C library translates some numbers and refuses others.
static void show(const char *whose, clockid_t id)
{
    struct timespec time, shortly = {0, 1000000};
    struct sigevent silent = {.sigev_notify = SIGEV_NONE};
    struct itimerspec far = {{0, 0}, {1000, 0}}, left;
    int timer = -1;
    printf("%s %d: read %d", whose, id < 0 ? id & 7 : id, errno_of(syscall(SYS_clock_gettime, id, &time)));
    printf(", resolution %d", errno_of(syscall(SYS_clock_getres, id, &time)));
    int created = errno_of(syscall(SYS_timer_create, id, &silent, &timer));
    printf(", timer %d", created);
    if (created == 0) {
        CHECK(syscall(SYS_timer_settime, timer, 0, &far, NULL) == 0 && syscall(SYS_timer_gettime, timer, &left) == 0);
        printf(" (%d)", left.it_value.tv_sec > 900);
        CHECK(syscall(SYS_timer_delete, timer) == 0);
    }
    printf(", sleep %d\n", errno_of(syscall(SYS_clock_nanosleep, id, 0, &shortly, NULL)));
}

static void table(void)
{
    pid_t child = fork();
    if (child == 0)
        work(NULL);
    // The clocks of alarms depend on the machine.
    for (int id = 0; id < 14; id++)
        if (id != CLOCK_REALTIME_ALARM && id != CLOCK_BOOTTIME_ALARM)
            show("fixed", id);
    for (int kind = 0; kind < 8; kind++) {
        show("own", numbered(0, kind));
        show("own by number", numbered((unsigned)getpid(), kind));
        show("thread", numbered((unsigned)atomic_load(&worker_id), kind));
        show("child", numbered((unsigned)child, kind));
        show("nobody", numbered(3999999, kind));
    }
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

// Of timers; blocked by all threads.
static sigset_t set;

static int64_t now(clockid_t id)
{
    struct timespec time;
    CHECK(clock_gettime(id, &time) == 0);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

// Signals by timers of the C library, on the clock of the process, of a thread, and of a child.
static void timers_expire(void)
{
    pid_t child = fork();
    if (child == 0)
        work(NULL);
    clockid_t of_child;
    CHECK(clock_getcpuclockid(child, &of_child) == 0);
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, numbered((unsigned)atomic_load(&worker_id), PER_THREAD | 2), of_child};
    for (int i = 0; i < 3; i++) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = i};
        struct itimerspec soon = {{0, 0}, {0, 30000000}}, left;
        CHECK(timer_create(clocks[i], &event, &timer) == 0);
        for (int absolute = 0; absolute < 2; absolute++) {
            int64_t end = now(clocks[i]) + 30000000;
            if (absolute) {
                soon.it_value.tv_sec = end / 1000000000;
                soon.it_value.tv_nsec = end % 1000000000;
            }
            CHECK(timer_settime(timer, absolute ? TIMER_ABSTIME : 0, &soon, NULL) == 0);
            siginfo_t info;
            CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_TIMER && info.si_value.sival_int == i);
            CHECK(now(clocks[i]) >= end && timer_gettime(timer, &left) == 0 && left.it_value.tv_sec == 0);
        }
        CHECK(timer_delete(timer) == 0);
    }
    // A timer of the calling thread does not advance while the others work.
    timer_t own;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {{0, 0}, {0, 100000000}};
    struct timespec limit = {0, 300000000};
    CHECK(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &own) == 0 && timer_settime(own, 0, &soon, NULL) == 0);
    CHECK_FAILS(sigtimedwait(&set, NULL, &limit), EAGAIN);
    CHECK(timer_delete(own) == 0);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void sleeps_end(void)
{
    struct timespec shortly = {0, 30000000}, left = {0, 0};
    int64_t end = now(CLOCK_PROCESS_CPUTIME_ID) + 30000000;
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &shortly, NULL) == 0 && now(CLOCK_PROCESS_CPUTIME_ID) >= end);
    end = now(CLOCK_PROCESS_CPUTIME_ID) + 30000000;
    struct timespec then = {end / 1000000000, end % 1000000000};
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &then, NULL) == 0);
    CHECK(now(CLOCK_PROCESS_CPUTIME_ID) >= end);
    // A time that is over.
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &shortly, NULL) == 0);
    // A handler ends it. The other thread does not take the signal.
    struct sigaction action = {.sa_handler = on_alarm};
    struct timespec long_time = {1000, 0};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec soon = {{0, 0}, {0, 20000000}};
    timer_t timer;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
    CHECK(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &long_time, &left) == EINTR);
    CHECK(left.tv_sec >= 990 && left.tv_sec < 1000);
    CHECK(timer_delete(timer) == 0);
}

int main(void)
{
    pthread_t worker;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(pthread_create(&worker, NULL, work, NULL) == 0);
    while (!atomic_load(&worker_id))
        usleep(1000);
    PART(table);
    PART(timers_expire);
    PART(sleeps_end);
    atomic_store(&stop, 1);
    CHECK(pthread_join(worker, NULL) == 0);
    return 0;
}
