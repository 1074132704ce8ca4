// POSIX threads on clone(2): creation, joining, locks, conditions, thread-local storage, exit from any thread.
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 16 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static _Thread_local int local;
static int counter;

static void *count(void *id)
{
    local = (int)(intptr_t)id;
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)(intptr_t)(local * 2);
}

static void counting_with_a_mutex(void)
{
    pthread_t t[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&t[i], NULL, count, (void *)i) == 0);
    for (intptr_t i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(t[i], &result) == 0 && (intptr_t)result == 2 * i);
    }
    CHECK(counter == THREADS * 2000);
}

static int turn;

static void *take_turns(void *id)
{
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != (int)(intptr_t)id)
            pthread_cond_wait(&condition, &mutex);
        turn = (turn + 1) % 4;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void conditions(void)
{
    pthread_t t[4];
    for (intptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, take_turns, (void *)i) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(turn == 0);
}

static void *report_ids(void *ids)
{
    ((pid_t *)ids)[0] = getpid();
    ((pid_t *)ids)[1] = gettid();
    return NULL;
}

static void ids_of_threads(void)
{
    pid_t ids[2];
    pthread_t t;
    CHECK(pthread_create(&t, NULL, report_ids, ids) == 0 && pthread_join(t, NULL) == 0);
    CHECK(ids[0] == getpid() && ids[1] != getpid() && gettid() == getpid());
    // The kernel wakes the joiner before the thread has left the process, so its id may live on for a moment.
    for (int i = 0; i < 1000 && syscall(SYS_tgkill, getpid(), ids[1], 0) == 0; i++)
        usleep(1000);
    CHECK_FAILS(syscall(SYS_tgkill, getpid(), ids[1], 0), ESRCH);
}

static void many_short_threads(void)
{
    for (int i = 0; i < 300; i++) {
        pthread_t t;
        pid_t ids[2];
        CHECK(pthread_create(&t, NULL, report_ids, ids) == 0 && pthread_join(t, NULL) == 0);
    }
}

static void *wait_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static void *exit_the_process(void *unused)
{
    (void)unused;
    usleep(10000);
    exit(6);
}

static void exit_from_a_thread_ends_all(void)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_t t;
        for (int i = 0; i < 5; i++)
            pthread_create(&t, NULL, wait_for_ever, NULL);
        pthread_create(&t, NULL, exit_the_process, NULL);
        wait_for_ever(NULL);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

static void *exec_something(void *unused)
{
    (void)unused;
    usleep(10000);
    execl("/bin/sh", "sh", "-c", "exit 8", (char *)NULL);
    return NULL;
}

static void exec_from_a_thread_keeps_the_pid(void)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_t t;
        pthread_create(&t, NULL, wait_for_ever, NULL);
        pthread_create(&t, NULL, exec_something, NULL);
        wait_for_ever(NULL);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 8);
}

static void *leave_after_main(void *unused)
{
    (void)unused;
    usleep(20000);
    _exit(5);
}

static void main_thread_may_leave_first(void)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_t t;
        pthread_create(&t, NULL, leave_after_main, NULL);
        pthread_exit(NULL);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void *crash(void *unused)
{
    (void)unused;
    *(volatile char *)8 = 1;
    return NULL;
}

static void crash_in_a_thread_kills_the_process(void)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_t t;
        pthread_create(&t, NULL, crash, NULL);
        wait_for_ever(NULL);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void cancellation(void)
{
    pthread_t t;
    void *result;
    CHECK(pthread_create(&t, NULL, wait_for_ever, NULL) == 0 && pthread_cancel(t) == 0);
    CHECK(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
}

static void affinity(void)
{
    cpu_set_t set, one;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) {
            CPU_SET(i, &one);
            break;
        }
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0 && sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK(CPU_EQUAL(&set, &one));
    CPU_ZERO(&one);
    CHECK_FAILS(sched_setaffinity(0, sizeof one, &one), EINVAL);
    CHECK_FAILS(sched_getaffinity(-1, sizeof set, &set), ESRCH);
    CHECK_FAILS(sched_setaffinity(-1, sizeof set, &set), ESRCH);
    CHECK_FAILS(sched_getscheduler(-1), EINVAL);
}

static int threads_in_proc(void)
{
    int threads = 0;
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        threads += entry->d_name[0] != '.';
    closedir(folder);
    return threads;
}

static void threads_show_in_proc(void)
{
    pthread_t t;
    // Those that were joined may not have left yet.
    for (int i = 0; i < 10000 && threads_in_proc() != 1; i++)
        usleep(1000);
    CHECK(threads_in_proc() == 1);
    CHECK(pthread_create(&t, NULL, wait_for_ever, NULL) == 0);
    CHECK(threads_in_proc() == 2);
    pthread_cancel(t);
    pthread_join(t, NULL);
}

int main(void)
{
    PART(counting_with_a_mutex);
    PART(conditions);
    PART(ids_of_threads);
    PART(many_short_threads);
    PART(exit_from_a_thread_ends_all);
    PART(exec_from_a_thread_keeps_the_pid);
    PART(main_thread_may_leave_first);
    PART(crash_in_a_thread_kills_the_process);
    PART(cancellation);
    PART(affinity);
    PART(threads_show_in_proc);
    return 0;
}
