// Processes: fork, vfork, exit statuses, wait variants, groups and sessions (fork(2), wait(2), setpgid(2)).
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void child_has_a_copy(void)
{
    int value = 1;
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        value = 2;
        *shared = getppid();
        _exit(value + 5);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && value == 1 && *shared == getpid());
}

static void parent_writes_do_not_reach_the_child(void)
{
    enum { SIZE = 4 << 20 };
    char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 'a', SIZE);
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        char c;
        (void)!read(fds[0], &c, 1);
        for (int i = 0; i < SIZE; i += 512)
            if (memory[i] != 'a')
                _exit(1);
        memset(memory, 'c', SIZE);
        _exit(0);
    }
    memset(memory, 'p', SIZE);
    CHECK(write(fds[1], "x", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    for (int i = 0; i < SIZE; i += 512)
        CHECK(memory[i] == 'p');
}

static void vfork_shares_memory_until_exit(void)
{
    volatile int value = 1;
    pid_t child = vfork();
    if (child == 0) {
        value = 2;
        _exit(3);
    }
    int status;
    CHECK(value == 2 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
}

static void wait_variants(void)
{
    int status;
    CHECK_FAILS(waitpid(-1, &status, 0), ECHILD);
    CHECK_FAILS(waitpid(-1, &status, 0x1000000), EINVAL);
    int go[2];
    CHECK(pipe(go) == 0);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        // Its end would take the news that it went on with it.
        char c;
        CHECK(read(go[0], &c, 1) == 1);
        _exit(9);
    }
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PID, (id_t)child, &info, WSTOPPED) == 0);
    CHECK(info.si_pid == child && info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    CHECK(kill(child, SIGCONT) == 0 && waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
    CHECK(write(go[1], "x", 1) == 1 && close(go[0]) == 0 && close(go[1]) == 0);
    CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0 && info.si_code == CLD_EXITED && info.si_status == 9);
    struct rusage usage;
    CHECK(wait4(child, &status, 0, &usage) == child && WEXITSTATUS(status) == 9);
}

static void many_children_are_all_reaped(void)
{
    int sum = 0;
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(i);
    }
    for (int i = 0; i < 40; i++) {
        int status;
        CHECK(wait(&status) > 0 && WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK(sum == 780);
}

static void ignored_sigchld_reaps_by_itself(void)
{
    signal(SIGCHLD, SIG_IGN);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    CHECK_FAILS(waitpid(child, NULL, 0), ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void orphans_go_to_the_subreaper(void)
{
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            pid_t parent;
            while ((parent = getppid()) == middle)
                usleep(1000);
            (void)!write(fds[1], &parent, sizeof parent);
            _exit(4);
        }
        _exit(3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    pid_t parent;
    CHECK(read(fds[0], &parent, sizeof parent) == sizeof parent && parent == getpid());
    CHECK(wait(&status) > 0 && WEXITSTATUS(status) == 4);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

static void groups_and_sessions(void)
{
    pid_t child = fork();
    if (child == 0) {
        CHECK(setpgid(0, 0) == 0 && getpgrp() == getpid());
        CHECK_FAILS(setsid(), EPERM);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            CHECK(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
            _exit(0);
        }
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_FAILS(setpgid(0x3fffffff, 0), ESRCH);
    CHECK_FAILS(getsid(0x3fffffff), ESRCH);
}

// setpgid(2), _exit(2): SIGHUP and SIGCONT go to the stopped members of a group that becomes orphaned, and only then.
static void groups_are_hung_up_when_they_become_orphaned(void)
{
    int hung_up[2];
    CHECK(pipe(hung_up) == 0);
    pid_t leader = fork();
    if (leader == 0) {
        // In a session without the parent, so that nobody there can continue the group once it has lost the member's parent.
        CHECK(setsid() == getpid());
        int status;
        pid_t member = fork();
        if (member == 0) {
            CHECK(setpgid(0, 0) == 0);
            pid_t stopped = fork();
            if (stopped == 0) {
                sigset_t both;
                sigemptyset(&both);
                sigaddset(&both, SIGHUP);
                sigaddset(&both, SIGCONT);
                CHECK(sigprocmask(SIG_BLOCK, &both, NULL) == 0);
                raise(SIGSTOP);
                for (int i = 0; i < 2; i++) {
                    int number;
                    CHECK(sigwait(&both, &number) == 0);
                    CHECK(write(hung_up[1], number == SIGHUP ? "h" : "c", 1) == 1);
                }
                _exit(0);
            }
            CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
            // Of the group, but its end takes no link away: the parent is in the group itself.
            pid_t other = fork();
            if (other == 0)
                _exit(0);
            CHECK(waitpid(other, &status, 0) == other && status == 0);
            CHECK(write(hung_up[1], ".", 1) == 1);
            _exit(0);
        }
        CHECK(waitpid(member, &status, 0) == member && status == 0);

        // A group that was orphaned all along, as this session's first one.
        pid_t stopped = fork();
        if (stopped == 0) {
            raise(SIGSTOP);
            _exit(8);
        }
        CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
        pid_t other = fork();
        if (other == 0)
            _exit(0);
        CHECK(waitpid(other, &status, 0) == other && status == 0);
        CHECK(waitpid(stopped, &status, WUNTRACED | WNOHANG) == 0);
        CHECK(kill(stopped, SIGCONT) == 0);
        CHECK(waitpid(stopped, &status, 0) == stopped && WIFEXITED(status) && WEXITSTATUS(status) == 8);
        _exit(0);
    }
    int status;
    CHECK(waitpid(leader, &status, 0) == leader && status == 0);
    char said[4] = "";
    for (int i = 0; i < 3; i++)
        CHECK(read(hung_up[0], said + i, 1) == 1);
    CHECK(said[0] == '.' && said[1] + said[2] == 'h' + 'c');
    CHECK(close(hung_up[0]) == 0 && close(hung_up[1]) == 0);
}

static void killed_child_tells_the_signal(void)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    CHECK(kill(child, SIGKILL) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_FAILS(kill(child, 0), ESRCH);
}

static void pidfd_polls_and_signals(void)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == 0);
    siginfo_t info;
    CHECK(waitid(P_PIDFD, (id_t)fd, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == SIGTERM);
    close(fd);
    // A process's directory serves as well, nothing else does.
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    char path[40];
    sprintf(path, "/proc/%d", (int)child);
    fd = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    int other = openat(fd, "task", O_RDONLY | O_DIRECTORY);
    CHECK(other >= 0);
    CHECK_FAILS(syscall(SYS_pidfd_send_signal, other, SIGTERM, NULL, 0), EBADF);
    CHECK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK_FAILS(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), ESRCH);
    close(other);
    close(fd);
}

static void exec_failures_leave_the_process_as_it_was(void)
{
    char *argv[] = {"x", NULL};
    CHECK_FAILS(execv("/no/such/file", argv), ENOENT);
    CHECK_FAILS(execv("/etc", argv), EACCES);
    CHECK_FAILS(execv("/etc/passwd", argv), EACCES);
    CHECK_FAILS(execv("/etc/passwd/x", argv), ENOTDIR);
    CHECK_FAILS(execv("", argv), ENOENT);
}

static void exec_keeps_the_pid_and_closes_marked_files(void)
{
    int fds[2];
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        char script[100];
        sprintf(script, "test $$ = %d && ! test -e /proc/self/fd/%d", getpid(), fds[1]);
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(99);
    }
    int status;
    close(fds[1]);
    char c;
    CHECK(read(fds[0], &c, 1) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void limits_are_inherited(void)
{
    struct rlimit limit = {100, 200}, got;
    pid_t child = fork();
    if (child == 0) {
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        if (fork() == 0) {
            CHECK(getrlimit(RLIMIT_NOFILE, &got) == 0 && got.rlim_cur == 100 && got.rlim_max == 200);
            CHECK_FAILS(fcntl(0, F_DUPFD, 100), EINVAL);
            CHECK_FAILS(dup2(0, 100), EBADF);
            _exit(0);
        }
        int status;
        CHECK(wait(&status) > 0 && status == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    PART(child_has_a_copy);
    PART(parent_writes_do_not_reach_the_child);
    PART(vfork_shares_memory_until_exit);
    PART(wait_variants);
    PART(many_children_are_all_reaped);
    PART(ignored_sigchld_reaps_by_itself);
    PART(orphans_go_to_the_subreaper);
    PART(groups_and_sessions);
    PART(groups_are_hung_up_when_they_become_orphaned);
    PART(killed_child_tells_the_signal);
    PART(pidfd_polls_and_signals);
    PART(exec_failures_leave_the_process_as_it_was);
    PART(exec_keeps_the_pid_and_closes_marked_files);
    PART(limits_are_inherited);
    return 0;
}
