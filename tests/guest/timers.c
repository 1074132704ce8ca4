// Clocks, sleeping and POSIX timers (clock_gettime(2), timer_create(2)).
#include "check.h"
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now(clockid_t clock)
{
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void clocks_advance_and_agree(void)
{
    int64_t last = now(CLOCK_MONOTONIC);
    for (int i = 0; i < 100000; i++) {
        int64_t t = now(CLOCK_MONOTONIC);
        CHECK(t >= last);
        last = t;
    }
    struct timeval day;
    CHECK(gettimeofday(&day, NULL) == 0);
    int64_t seconds = now(CLOCK_REALTIME) / 1000000000;
    // Readings one after the other, between which any time may pass.
    CHECK(day.tv_sec - 1 <= seconds && seconds - 1 <= time(NULL));
    struct timespec raw;
    int64_t before = now(CLOCK_MONOTONIC);
    CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &raw) == 0);
    int64_t between = raw.tv_sec * 1000000000ll + raw.tv_nsec, after = now(CLOCK_MONOTONIC);
    CHECK(before < between + 1000000 && between < after + 1000000);
    CHECK(clock_getres(CLOCK_MONOTONIC, &raw) == 0 && raw.tv_sec == 0 && raw.tv_nsec == 1);
    CHECK_FAILS(clock_gettime(99, &raw), EINVAL);
    CHECK(now(CLOCK_MONOTONIC_COARSE) <= now(CLOCK_MONOTONIC) && now(CLOCK_BOOTTIME) > 0);
}

static void processor_time_is_charged(void)
{
    int64_t start = now(CLOCK_PROCESS_CPUTIME_ID), thread = now(CLOCK_THREAD_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
    volatile unsigned x = 0;
    // On a busy machine others have most of the time that passes.
    int64_t process_used = 0, thread_used = 0;
    while (process_used <= 10000000 || thread_used <= 10000000) {
        for (int i = 0; i < 10000; i++)
            x += (unsigned)i;
        process_used = now(CLOCK_PROCESS_CPUTIME_ID) - start;
        thread_used = now(CLOCK_THREAD_CPUTIME_ID) - thread;
        CHECK(now(CLOCK_MONOTONIC) - wall < 20000000000);
    }
    // Not more than has passed, on one processor; the kernel of the sandbox may compute beside.
    CHECK(thread_used <= 3 * (now(CLOCK_MONOTONIC) - wall));
    struct tms t;
    CHECK(times(&t) != (clock_t)-1);
}

static void sleeping_takes_at_least_its_time(void)
{
    struct timespec t = {0, 20000000}, bad = {0, -1};
    int64_t start = now(CLOCK_MONOTONIC);
    CHECK(nanosleep(&t, NULL) == 0 && now(CLOCK_MONOTONIC) - start >= 20000000);
    int64_t until = now(CLOCK_MONOTONIC) + 20000000;
    t = (struct timespec){until / 1000000000, until % 1000000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0 && now(CLOCK_MONOTONIC) >= until);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
    CHECK_FAILS(nanosleep(&bad, NULL), EINVAL);
    CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL) == EINVAL);
}

static volatile sig_atomic_t fired, value, code;

static void on_timer(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    fired++;
    value = info->si_value.sival_int;
    code = info->si_code;
}

static void posix_timers(void)
{
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77};
    timer_t timer;
    CHECK(sigaction(SIGRTMIN, &action, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec every = {{0, 5000000}, {0, 5000000}}, off = {{0, 0}, {0, 0}}, got;
    CHECK(timer_settime(timer, 0, &every, NULL) == 0 && timer_gettime(timer, &got) == 0);
    CHECK(got.it_interval.tv_nsec == 5000000);
    while (fired < 3)
        pause();
    CHECK(value == 77 && code == SI_TIMER);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    sigset_t waiting;
    do {
        usleep(1000);
        CHECK(sigpending(&waiting) == 0);
    } while (!sigismember(&waiting, SIGRTMIN));
    fired = 0;
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && fired >= 1 && timer_getoverrun(timer) >= 0);
    CHECK(timer_settime(timer, 0, &off, NULL) == 0 && timer_gettime(timer, &got) == 0 && got.it_value.tv_nsec == 0);
    CHECK(timer_delete(timer) == 0);
    CHECK_FAILS(syscall(SYS_timer_delete, 12345), EINVAL);
}

static void alarm_replaces_and_tells(void)
{
    CHECK(alarm(100) == 0 && alarm(0) > 98);
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct itimerval soon = {{0, 0}, {0, 10000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        for (;;)
            pause();
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    child = fork();
    if (child == 0) {
        struct itimerval soon = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_PROF, &soon, NULL);
        for (;;)
            ;
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF);
}

// adjtimex(2) tells how the clock is disciplined, and nobody but root changes that.
static void clock_adjustment_can_be_read(void)
{
    struct timex asked = { .modes = 0 };
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    int state = adjtimex(&asked);
    CHECK(state >= TIME_OK && state <= TIME_ERROR && asked.tick > 9000 && asked.tick < 11000);
    CHECK(asked.time.tv_sec >= now.tv_sec && asked.time.tv_sec < now.tv_sec + 60 && asked.tolerance == 500 << 16);
    CHECK((state == TIME_ERROR) == ((asked.status & STA_UNSYNC) != 0));
    CHECK(clock_adjtime(CLOCK_REALTIME, &asked) == state);
    CHECK_FAILS(clock_adjtime(CLOCK_MONOTONIC, &asked), EOPNOTSUPP);
    CHECK_FAILS(clock_adjtime(99, &asked), EINVAL);
    asked.modes = ADJ_OFFSET_SS_READ;
    CHECK(adjtimex(&asked) == state);
    asked.modes = 0x8000;
    CHECK_FAILS(adjtimex(&asked), EINVAL);
    if (fork() == 0) {
        CHECK(setuid(1000) == 0);
        asked.modes = ADJ_FREQUENCY;
        CHECK_FAILS(adjtimex(&asked), EPERM);
        _exit(0);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0);
}

int main(void)
{
    PART(clocks_advance_and_agree);
    PART(processor_time_is_charged);
    PART(sleeping_takes_at_least_its_time);
    PART(posix_timers);
    PART(alarm_replaces_and_tells);
    PART(clock_adjustment_can_be_read);
    return 0;
}
