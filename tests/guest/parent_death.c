// PR_SET_PDEATHSIG (prctl(2)): sent when the thread ends that made the process; and SIGCONT to a group in which
// others' processes are, which the session allows (kill(2)).
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { NOBODY = 65534 };

static void only_with_limit(void)
{
    alarm(20);
}

// A child that asks for SIGUSR1, says so through `ready`, and tells what it got through `told`.
static void wait_for_signal(int ready, int told, int changes_identity)
{
    only_with_limit();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
    CHECK(!prctl(PR_SET_PDEATHSIG, SIGUSR1));
    if (changes_identity)
        CHECK(!setresuid(NOBODY, NOBODY, NOBODY));
    int asked;
    CHECK(!prctl(PR_GET_PDEATHSIG, &asked) && asked == (changes_identity ? 0 : SIGUSR1));
    pid_t parent = getppid();
    CHECK(write(ready, "", 1) == 1);
    siginfo_t info = {0};
    struct timespec limit = {changes_identity ? 0 : 10, 200000000};
    char answer = sigtimedwait(&set, &info, &limit) == SIGUSR1 ? 'y' : 'n';
    if (answer == 'y')
        CHECK(info.si_code == SI_USER && info.si_pid == parent);
    CHECK(write(told, &answer, 1) == 1);
    _exit(0);
}

static char told_of_the_end(int changes_identity)
{
    int ready[2], told[2];
    CHECK(!pipe(ready) && !pipe(told));
    pid_t parent = fork();
    CHECK(parent >= 0);
    if (!parent) {
        if (!fork())
            wait_for_signal(ready[1], told[1], changes_identity);
        char byte;
        CHECK(read(ready[0], &byte, 1) == 1);
        _exit(0);
    }
    char answer;
    CHECK(waitpid(parent, NULL, 0) == parent);
    CHECK(read(told[0], &answer, 1) == 1);
    for (int i = 0; i < 2; i++)
        CHECK(!close(ready[i]) && !close(told[i]));
    return answer;
}

static void sent_at_the_end_of_the_process(void)
{
    CHECK(told_of_the_end(0) == 'y');
}

static void forgotten_with_the_identity(void)
{
    CHECK(told_of_the_end(1) == 'n');
}

static int ready_pipe[2], told_pipe[2];

static void *make_and_end(void *unused)
{
    (void)unused;
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child)
        wait_for_signal(ready_pipe[1], told_pipe[1], 0);
    char byte;
    CHECK(read(ready_pipe[0], &byte, 1) == 1);
    return (void *)(long)child;
}

static void sent_at_the_end_of_the_thread(void)
{
    CHECK(!pipe(ready_pipe) && !pipe(told_pipe));
    pthread_t thread;
    void *child;
    CHECK(!pthread_create(&thread, NULL, make_and_end, NULL));
    CHECK(!pthread_join(thread, &child));
    char answer;
    CHECK(read(told_pipe[0], &answer, 1) == 1 && answer == 'y');
    CHECK(waitpid((pid_t)(long)child, NULL, 0) == (pid_t)(long)child);
}

static void continued_by_the_session(void)
{
    pid_t leader = fork();
    CHECK(leader >= 0);
    if (!leader) {
        only_with_limit();
        CHECK(setsid() > 0);
        pid_t other = fork();
        CHECK(other >= 0);
        if (!other) {
            CHECK(!setresuid(NOBODY, NOBODY, NOBODY));
            CHECK_FAILS(kill(getppid(), SIGUSR1), EPERM);
            CHECK(!kill(getppid(), SIGCONT));
            CHECK(!kill(0, SIGCONT));
            _exit(0);
        }
        int status;
        CHECK(waitpid(other, &status, 0) == other && status == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(leader, &status, 0) == leader && status == 0);
}

int main(void)
{
    PART(sent_at_the_end_of_the_process);
    PART(forgotten_with_the_identity);
    PART(sent_at_the_end_of_the_thread);
    PART(continued_by_the_session);
}
