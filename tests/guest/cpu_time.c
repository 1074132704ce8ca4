// CPU time: a spinning thread uses it, a sleeping one does not, and every way to ask agrees.
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    CHECK(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t used(int who, uint64_t *system)
{
    struct rusage r;
    CHECK(getrusage(who, &r) == 0);
    *system = (uint64_t)r.ru_stime.tv_sec * 1000000000ull + (uint64_t)r.ru_stime.tv_usec * 1000ull;
    return (uint64_t)r.ru_utime.tv_sec * 1000000000ull + (uint64_t)r.ru_utime.tv_usec * 1000ull;
}

// Computes until the caller has used `ns` more of its CPU time.
static void spin(uint64_t ns)
{
    uint64_t end = read_clock(CLOCK_THREAD_CPUTIME_ID) + ns;
    while (read_clock(CLOCK_THREAD_CPUTIME_ID) < end)
        for (volatile int i = 0; i < 2000000; i++)
            ;
}

static atomic_int stop;
static uint64_t slept_used, spun_used;
static clockid_t sleeper_clock;

static void *sleeper(void *unused)
{
    (void)unused;
    uint64_t before = read_clock(CLOCK_THREAD_CPUTIME_ID);
    while (!atomic_load(&stop))
        usleep(20000);
    slept_used = read_clock(CLOCK_THREAD_CPUTIME_ID) - before;
    return NULL;
}

static void *spinner(void *unused)
{
    (void)unused;
    uint64_t before = read_clock(CLOCK_THREAD_CPUTIME_ID);
    spin(150 * MS);
    spun_used = read_clock(CLOCK_THREAD_CPUTIME_ID) - before;
    return NULL;
}

static void threads(void)
{
    pthread_t a, b;
    uint64_t process = read_clock(CLOCK_PROCESS_CPUTIME_ID), wall = read_clock(CLOCK_MONOTONIC);
    uint64_t own = read_clock(CLOCK_THREAD_CPUTIME_ID);
    CHECK(pthread_create(&a, NULL, sleeper, NULL) == 0);
    CHECK(pthread_create(&b, NULL, spinner, NULL) == 0);
    CHECK(pthread_getcpuclockid(a, &sleeper_clock) == 0);
    pthread_join(b, NULL);
    uint64_t of_sleeper = read_clock(sleeper_clock);
    atomic_store(&stop, 1);
    pthread_join(a, NULL);
    process = read_clock(CLOCK_PROCESS_CPUTIME_ID) - process;
    own = read_clock(CLOCK_THREAD_CPUTIME_ID) - own;
    wall = read_clock(CLOCK_MONOTONIC) - wall;
    CHECK(spun_used >= 150 * MS);
    CHECK(slept_used < spun_used / 3);
    CHECK(of_sleeper < spun_used / 3);
    CHECK(own < spun_used / 3);
    CHECK(process >= spun_used);
    // Two threads computed at no time, but the sentry's may have at the same time as the guest's.
    CHECK(process <= 3 * wall);
    puts("threads");
}

static void sleeping_takes_no_time(void)
{
    uint64_t before = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    usleep(300000);
    uint64_t took = read_clock(CLOCK_PROCESS_CPUTIME_ID) - before;
    CHECK(took < 100 * MS);
    puts("sleeping");
}

static void ways_to_ask_agree(void)
{
    uint64_t system, clock1 = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t user = used(RUSAGE_SELF, &system);
    struct tms t;
    CHECK(times(&t) != (clock_t)-1);
    uint64_t clock2 = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    // The kernel's own tables round to ticks.
    CHECK(user + system + 30 * MS >= clock1);
    CHECK(user + system <= clock2 + 30 * MS);
    uint64_t ticks = ((uint64_t)t.tms_utime + (uint64_t)t.tms_stime) * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
    CHECK(ticks + 50 * MS >= clock1);
    CHECK(ticks <= clock2 + 50 * MS);
    FILE *f = fopen("/proc/self/stat", "r");
    unsigned long u = 0, s = 0;
    CHECK(f != NULL);
    CHECK(fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2);
    fclose(f);
    CHECK((u + s) * 10 * MS + 50 * MS >= clock1);
    // Computing is user time.
    uint64_t system_before = system, user_before = user;
    spin(100 * MS);
    user = used(RUSAGE_SELF, &system) - user_before;
    system -= system_before;
    CHECK(user > 50 * MS);
    CHECK(user > system);
    puts("agree");
}

static void children(void)
{
    uint64_t system, before = used(RUSAGE_CHILDREN, &system);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // The child's clocks begin at zero.
        uint64_t mine = read_clock(CLOCK_PROCESS_CPUTIME_ID);
        if (mine > 60 * MS)
            _exit(1);
        spin(100 * MS);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    uint64_t took = used(RUSAGE_CHILDREN, &system) - before;
    CHECK(took + system >= 80 * MS);
    puts("children");
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

// ITIMER_PROF counts CPU time: it does not expire in a sleep.
static void profiling_timer(void)
{
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct itimerval timer = {.it_value = {.tv_usec = 200000}};
    CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
    usleep(400000);
    CHECK(alarms == 0);
    uint64_t end = read_clock(CLOCK_MONOTONIC) + 20000 * MS;
    while (alarms == 0 && read_clock(CLOCK_MONOTONIC) < end)
        for (volatile int i = 0; i < 1000000; i++)
            ;
    CHECK(alarms == 1);
    puts("profiling timer");
}

// Which threads profiling signals came to, by the number that each has given itself.
static _Thread_local int number;
static atomic_int samples[4];

static void on_sample(int signal)
{
    (void)signal;
    atomic_fetch_add(&samples[number], 1);
}

static void *profiled(void *argument)
{
    number = (int)(long)argument;
    // The last of them only waits.
    if (number == 3)
        while (!atomic_load(&stop))
            usleep(1000);
    else
        spin(600 * MS);
    return NULL;
}

static int total(void)
{
    int sum = 0;
    for (int i = 0; i < 4; i++)
        sum += atomic_load(&samples[i]);
    return sum;
}

// Signals about the CPU time of the process come to the threads that use it.
static void profiled_threads(void)
{
    struct sigaction action = {.sa_handler = on_sample, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF};
    timer_t posix;
    CHECK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &posix) == 0);
    for (int way = 0; way < 2; way++) {
        for (int spinners = 1; spinners <= 2; spinners++) {
            pthread_t ids[4];
            for (int i = 0; i < 4; i++)
                atomic_store(&samples[i], 0);
            atomic_store(&stop, 0);
            struct itimerval every = {{0, 10000}, {0, 10000}};
            struct itimerspec each = {{0, 10000000}, {0, 10000000}};
            if (way == 0)
                CHECK(setitimer(ITIMER_PROF, &every, NULL) == 0);
            else
                CHECK(timer_settime(posix, 0, &each, NULL) == 0);
            for (long i = 1; i <= spinners; i++)
                CHECK(pthread_create(&ids[i], NULL, profiled, (void *)i) == 0);
            CHECK(pthread_create(&ids[3], NULL, profiled, (void *)3l) == 0);
            for (int i = 1; i <= spinners; i++)
                CHECK(pthread_join(ids[i], NULL) == 0);
            atomic_store(&stop, 1);
            CHECK(pthread_join(ids[3], NULL) == 0);
            memset(&every, 0, sizeof every);
            memset(&each, 0, sizeof each);
            CHECK(setitimer(ITIMER_PROF, &every, NULL) == 0 && timer_settime(posix, 0, &each, NULL) == 0);
            int sum = total();
            fprintf(stderr, "%d %d: %d %d %d %d\n", way, spinners, samples[0], samples[1], samples[2], samples[3]);
            CHECK(sum >= 10 * spinners);
            for (int i = 1; i <= spinners; i++)
                CHECK(samples[i] * 10 >= (spinners == 1 ? sum * 7 : sum));
        }
    }
    CHECK(timer_delete(posix) == 0);
    puts("profiled threads");
}

int main(void)
{
    threads();
    sleeping_takes_no_time();
    ways_to_ask_agree();
    children();
    profiling_timer();
    profiled_threads();
    return 0;
}
