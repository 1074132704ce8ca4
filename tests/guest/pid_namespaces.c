// PID namespaces: numbers, the first process, what others see (pid_namespaces(7)).
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t in_new_namespace(void)
{
    return syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
}

static void end_well(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

// Runs `body` as the first process of a namespace.
static void as_init(void (*body)(void))
{
    pid_t child = in_new_namespace();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    end_well(child);
}

static void ids(void)
{
    CHECK(getpid() == 1 && gettid() == 1 && getppid() == 0);
    CHECK(syscall(SYS_getpid) == 1 && syscall(SYS_gettid) == 1);
    CHECK(getpgid(0) == 0 && getsid(0) == 0);
    CHECK(syscall(SYS_set_tid_address, NULL) == 1);
    pid_t tid_in_parent = 0, tid_in_child = 0;
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, 0, &tid_in_parent,
                          &tid_in_child, 0);
    if (child == 0) {
        CHECK(getpid() == 2 && getppid() == 1 && tid_in_child == 2);
        CHECK(setsid() == 2 && getpgrp() == 2 && getsid(0) == 2);
        CHECK(write(fds[1], "x", 1) == 1);
        pause();
        _exit(0);
    }
    char c;
    CHECK(child == 2 && tid_in_parent == 2 && read(fds[0], &c, 1) == 1);
    CHECK(getpgid(2) == 2 && getsid(2) == 2);
    CHECK_FAILS(getpgid(3), ESRCH);
    CHECK_FAILS(kill(3, 0), ESRCH);
    CHECK_FAILS(syscall(SYS_tgkill, 2, 3, 0), ESRCH);
    CHECK(syscall(SYS_tgkill, 2, 2, 0) == 0 && syscall(SYS_tkill, 2, 0) == 0);
    CHECK_FAILS(waitpid(3, NULL, 0), ECHILD);
    CHECK_FAILS(syscall(SYS_pidfd_open, 3, 0), ESRCH);
    CHECK_FAILS(setpriority(PRIO_PROCESS, 3, 0), ESRCH);
    CHECK(getpriority(PRIO_PROCESS, 2) == 0);
    cpu_set_t cpus;
    CHECK(sched_getaffinity(2, sizeof cpus, &cpus) == 0);
    CHECK_FAILS(sched_getaffinity(3, sizeof cpus, &cpus), ESRCH);
    struct rlimit limit;
    CHECK(prlimit(2, RLIMIT_NOFILE, NULL, &limit) == 0);
    CHECK_FAILS(prlimit(3, RLIMIT_NOFILE, NULL, &limit), ESRCH);
    CHECK_FAILS(ptrace(PTRACE_ATTACH, 3, 0, 0), ESRCH);
    CHECK(ptrace(PTRACE_SEIZE, 2, 0, 0) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, 2, 0, 0) == 0);
    int status;
    CHECK(waitpid(2, &status, 0) == 2 && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_DETACH, 2, 0, 0) == 0);
    CHECK(kill(-2, SIGTERM) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, 2, &info, WEXITED) == 0 && info.si_pid == 2 && info.si_status == SIGTERM);
    CHECK(kill(-1, 0) == -1 && errno == ESRCH);
}

static void numbers_begin_with_one(void)
{
    as_init(ids);
}

static void both_sides_have_a_number(void)
{
    int fds[2], back[2];
    CHECK(pipe(fds) == 0 && pipe(back) == 0);
    char c, path[64], text[4096], expected[64];
    pid_t child = in_new_namespace();
    if (child == 0) {
        pid_t below = in_new_namespace();
        if (below == 0) {
            CHECK(getpid() == 1 && getppid() == 0);
            pause();
            _exit(0);
        }
        CHECK(below == 2);
        CHECK(write(fds[1], &below, sizeof below) == sizeof below);
        CHECK(read(back[0], &c, 1) == 1);
        kill(below, SIGKILL);
        CHECK(waitpid(below, NULL, 0) == below);
        _exit(0);
    }
    CHECK(child > 1);
    pid_t below;
    CHECK(read(fds[0], &below, sizeof below) == sizeof below);
    // /proc shows the numbers of the namespace it was mounted for.
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", child, child);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = 0;
    close(fd);
    pid_t grandchild = atoi(text);
    CHECK(grandchild > child);
    snprintf(path, sizeof path, "/proc/%d/status", grandchild);
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && (n = read(fd, text, sizeof text - 1)) > 0);
    text[n] = 0;
    close(fd);
    char *line = strstr(text, "NSpid:");
    CHECK(line);
    snprintf(expected, sizeof expected, "NSpid:\t%d\t2\t1\n", grandchild);
    CHECK(strncmp(line, expected, strlen(expected)) == 0);
    // The file that stands for it, and for the one above.
    snprintf(path, sizeof path, "/proc/%d/ns/pid", grandchild);
    int low = open(path, O_RDONLY);
    snprintf(path, sizeof path, "/proc/%d/ns/pid", child);
    int middle = open(path, O_RDONLY), own = open("/proc/self/ns/pid", O_RDONLY);
    CHECK(low >= 0 && middle >= 0 && own >= 0);
    int parent = ioctl(low, NS_GET_PARENT);
    struct stat a, b;
    CHECK(parent >= 0 && fstat(parent, &a) == 0 && fstat(middle, &b) == 0 && a.st_ino == b.st_ino);
    CHECK(ioctl(low, NS_GET_NSTYPE) == CLONE_NEWPID);
    parent = ioctl(middle, NS_GET_PARENT);
    CHECK(parent >= 0 && fstat(parent, &a) == 0 && fstat(own, &b) == 0 && a.st_ino == b.st_ino);
    CHECK(write(back[1], "x", 1) == 1);
    end_well(child);
}

static volatile sig_atomic_t got;
static volatile pid_t got_from;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    got = signal;
    got_from = info->si_pid;
}

static void init_is_protected(void)
{
    int fds[2], back[2];
    CHECK(pipe(fds) == 0 && pipe(back) == 0);
    char c;
    pid_t child = in_new_namespace();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        // From inside: only what has a handler.
        CHECK(kill(1, SIGKILL) == 0 && kill(1, SIGTERM) == 0 && kill(1, SIGSTOP) == 0);
        pid_t below = fork();
        if (below == 0) {
            CHECK(kill(1, SIGKILL) == 0 && kill(1, SIGTERM) == 0);
            CHECK(kill(1, SIGUSR1) == 0);
            _exit(0);
        }
        end_well(below);
        CHECK(got == SIGUSR1 && got_from == below);
        got = 0;
        CHECK(write(fds[1], "x", 1) == 1 && read(back[0], &c, 1) == 1);
        CHECK(got == SIGUSR1 && got_from == 0);
        CHECK(write(fds[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(fds[0], &c, 1) == 1);
    // From outside: the same, but for SIGKILL and SIGSTOP.
    CHECK(kill(child, SIGTERM) == 0 && kill(child, SIGUSR1) == 0);
    CHECK(write(back[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1);
    int status;
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(kill(child, SIGCONT) == 0);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void the_end_of_init_is_the_end_of_all(void)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = in_new_namespace();
    if (child == 0) {
        close(fds[0]);
        for (int i = 0; i < 3; i++)
            if (fork() == 0) {
                setsid();
                signal(SIGTERM, SIG_IGN);
                if (i == 2 && fork() != 0)
                    pause();
                for (;;)
                    pause();
            }
        usleep(50000);
        _exit(7);
    }
    close(fds[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    // Nobody is left who could hold the other end.
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    char c;
    CHECK(read(fds[0], &c, 1) == 0);
    close(fds[0]);
}

static void orphans(void)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            while (getppid() == 2)
                usleep(1000);
            pid_t parent = getppid();
            CHECK(write(fds[1], &parent, sizeof parent) == sizeof parent);
            _exit(5);
        }
        _exit(0);
    }
    pid_t parent;
    end_well(child);
    CHECK(read(fds[0], &parent, sizeof parent) == sizeof parent && parent == 1);
    int status;
    CHECK(waitpid(3, &status, 0) == 3 && WEXITSTATUS(status) == 5);
}

static void init_adopts_orphans(void)
{
    as_init(orphans);
}

static void only_children(void)
{
    int own = open("/proc/self/ns/pid", O_RDONLY);
    pid_t me = getpid();
    CHECK(unshare(CLONE_NEWPID) == 0);
    CHECK(getpid() == me);
    CHECK_FAILS(unshare(CLONE_NEWPID), EINVAL);
    // No threads while children go elsewhere.
    static char stack[4096];
    CHECK_FAILS(syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, stack + sizeof stack, 0, 0, 0), EINVAL);
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t first = fork();
    if (first == 0) {
        CHECK(getpid() == 1 && getppid() == 0);
        char c;
        (void)!read(fds[0], &c, 1);
        _exit(0);
    }
    pid_t second = fork();
    if (second == 0) {
        CHECK(getpid() == 2);
        _exit(0);
    }
    end_well(second);
    CHECK(write(fds[1], "x", 1) == 1);
    end_well(first);
    // init is gone.
    CHECK_FAILS(fork(), ENOMEM);
    CHECK(setns(own, CLONE_NEWPID) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(getppid() == me ? 0 : 1);
    end_well(child);
}

static void unshare_is_for_children(void)
{
    pid_t child = fork();
    if (child == 0) {
        only_children();
        _exit(0);
    }
    end_well(child);
}

static void rules(void)
{
    static char stack[4096];
    CHECK_FAILS(syscall(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, stack + sizeof stack, 0, 0, 0),
                EINVAL);
    CHECK_FAILS(syscall(SYS_clone, CLONE_NEWPID | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0), EINVAL);
    CHECK_FAILS(syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0), EINVAL);
}

static void not_for_threads(void)
{
    as_init(rules);
}

static void enter_and_leave(void)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    int own = open("/proc/self/ns/pid", O_RDONLY);
    pid_t child = in_new_namespace();
    if (child == 0) {
        // Not up again.
        CHECK_FAILS(setns(own, CLONE_NEWPID), EINVAL);
        char c;
        (void)!read(fds[0], &c, 1);
        _exit(0);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", child);
    int inside = open(path, O_RDONLY);
    CHECK(inside >= 0 && setns(inside, CLONE_NEWPID) == 0);
    pid_t second = fork();
    if (second == 0) {
        CHECK(getpid() == 2 && getppid() == 0);
        _exit(0);
    }
    end_well(second);
    CHECK(setns(own, 0) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    end_well(child);
}

static void setns_goes_down_only(void)
{
    enter_and_leave();
}

static void look_at_proc(void)
{
    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    // The old view shows us by the number there.
    char text[64];
    struct stat st;
    CHECK(readlink("/proc/self", text, sizeof text) > 0);
    CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
    ssize_t n = readlink("/proc/self", text, sizeof text);
    CHECK(n == 1 && text[0] == '1');
    n = readlink("/proc/thread-self", text, sizeof text);
    CHECK(n == 8 && memcmp(text, "1/task/1", 8) == 0);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    DIR *dir = opendir("/proc");
    CHECK(dir);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') {
            count++;
            CHECK(strcmp(entry->d_name, "1") == 0 || strcmp(entry->d_name, "2") == 0);
        }
    closedir(dir);
    CHECK(count == 2);
    CHECK(stat("/proc/2/task/2", &st) == 0 && stat("/proc/3", &st) == -1);
    FILE *file = fopen("/proc/2/stat", "r");
    int pid, ppid;
    char name[64], state;
    CHECK(file && fscanf(file, "%d %63s %c %d", &pid, name, &state, &ppid) == 4 && pid == 2 && ppid == 1);
    fclose(file);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(umount2("/proc", MNT_DETACH) == 0);
}

static void proc_is_of_its_namespace(void)
{
    as_init(look_at_proc);
}

static void pass_credentials(void)
{
    int pair[2], on = 1;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    char c, control[256];
    struct iovec iov = {&c, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct ucred who;
    int shm = shmget(IPC_PRIVATE, 4096, 0600);
    CHECK(shm >= 0);
    pid_t child = in_new_namespace();
    if (child == 0) {
        CHECK(send(pair[1], "x", 1, 0) == 1);
        CHECK(recvmsg(pair[1], &msg, 0) == 1);
        memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof who);
        CHECK(who.pid == 0);
        struct shmid_ds ds;
        CHECK(shmctl(shm, IPC_STAT, &ds) == 0 && ds.shm_cpid == 0);
        struct flock lock = {.l_type = F_WRLCK};
        int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        CHECK(fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0);
        pid_t below = fork();
        if (below == 0) {
            CHECK(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == 1);
            CHECK(fcntl(pair[0], F_SETOWN, 2) == 0 && fcntl(pair[0], F_GETOWN) == 2);
            CHECK_FAILS(fcntl(pair[0], F_SETOWN, 77), ESRCH);
            _exit(0);
        }
        end_well(below);
        _exit(0);
    }
    CHECK(recvmsg(pair[0], &msg, 0) == 1);
    memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof who);
    CHECK(who.pid == child);
    CHECK(send(pair[0], "y", 1, 0) == 1);
    end_well(child);
    CHECK(shmctl(shm, IPC_RMID, NULL) == 0);
}

static void others_are_named_as_they_are_seen(void)
{
    pass_credentials();
}

static void execute(const char *program)
{
    pid_t child = in_new_namespace();
    if (child == 0) {
        execl(program, program, "init", (char *)NULL);
        _exit(1);
    }
    end_well(child);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        // Started by execute().
        CHECK(getpid() == 1 && syscall(SYS_getpid) == 1 && gettid() == 1 && getppid() == 0);
        return 0;
    }
    PART(numbers_begin_with_one);
    PART(both_sides_have_a_number);
    PART(init_is_protected);
    PART(the_end_of_init_is_the_end_of_all);
    PART(init_adopts_orphans);
    PART(unshare_is_for_children);
    PART(not_for_threads);
    PART(setns_goes_down_only);
    PART(proc_is_of_its_namespace);
    PART(others_are_named_as_they_are_seen);
    execute(argv[0]);
    return 0;
}
