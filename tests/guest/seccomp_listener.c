// Filters that leave calls to a listener (seccomp_unotify(2)).
#include "check.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND 2
#endif

static int install(unsigned flags, long number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void give(int socket, int fd)
{
    char byte = 'f', room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec vec = {&byte, 1};
    struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int take(int socket)
{
    int fd;
    char byte, room[CMSG_SPACE(sizeof fd)];
    struct iovec vec = {&byte, 1};
    struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    CHECK(recvmsg(socket, &message, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

// Runs `child` in a process whose calls of `number` come to the listener that is returned.
static int listen_to(void (*child)(void), long number, pid_t *pid)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    *pid = fork();
    if (*pid == 0) {
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        int listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER, number);
        CHECK(listener >= 0 && fcntl(listener, F_GETFD) == FD_CLOEXEC);
        give(pair[1], listener);
        close(listener);
        close(pair[0]);
        close(pair[1]);
        child();
        _exit(0);
    }
    close(pair[1]);
    int listener = take(pair[0]);
    close(pair[0]);
    return listener;
}

static struct seccomp_notif receive(int listener)
{
    struct seccomp_notif notice = {0};
    CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notice) == 0);
    return notice;
}

static int answer(int listener, __u64 id, long value, int error, unsigned flags)
{
    struct seccomp_notif_resp response = {.id = id, .val = value, .error = error, .flags = flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static void expect_success(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

static void flags_and_sizes(void)
{
    struct seccomp_notif_sizes sizes = {0};
    CHECK(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0);
    CHECK(sizes.seccomp_notif == 80 && sizes.seccomp_notif_resp == 24 && sizes.seccomp_data == 64);
    CHECK_FAILS(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 1, &sizes), EINVAL);
    unsigned action = SECCOMP_RET_USER_NOTIF;
    CHECK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK_FAILS(install(32, SYS_mkdir), EINVAL);
        CHECK_FAILS(install(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC, SYS_mkdir), EINVAL);
        // Nobody listens.
        CHECK(install(0, SYS_rmdir) == 0);
        CHECK_FAILS(rmdir("/nowhere"), ENOSYS);
        int listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_mkdir);
        CHECK(listener >= 0);
        CHECK_FAILS(install(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_chdir), EBUSY);
        CHECK_FAILS(ioctl(listener, 0x1234, 0), EINVAL);
        CHECK(close(listener) == 0);
        CHECK_FAILS(mkdir("/nowhere", 0), ENOSYS);
        _exit(0);
    }
    expect_success(child);
}

static void make_three(void)
{
    CHECK(syscall(SYS_mkdir, "/anywhere", 0123) == 42);
    CHECK_FAILS(syscall(SYS_mkdir, "/anywhere", 0), EXDEV);
    CHECK_FAILS(syscall(SYS_mkdir, "/", 0), EEXIST);
}

static void answers(void)
{
    pid_t child;
    int listener = listen_to(make_three, SYS_mkdir, &child);
    struct pollfd poller = {listener, POLLIN | POLLOUT, 0};
    CHECK(poll(&poller, 1, 5000) == 1 && poller.revents == POLLIN);
    struct seccomp_notif notice = receive(listener);
    CHECK(notice.pid == (unsigned)child && notice.flags == 0 && notice.data.nr == SYS_mkdir);
    CHECK(notice.data.arch == AUDIT_ARCH_X86_64 && notice.data.args[1] == 0123);
    CHECK(poll(&poller, 1, 0) == 1 && poller.revents == POLLOUT);
    CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notice.id) == 0);
    __u64 other = notice.id + 1;
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &other), ENOENT);
    CHECK_FAILS(answer(listener, other, 0, 0, 0), ENOENT);
    CHECK_FAILS(answer(listener, notice.id, 0, 0, 2), EINVAL);
    CHECK_FAILS(answer(listener, notice.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE), EINVAL);
    // The memory of the caller is there to be looked at.
    char path[64], name[16] = {0};
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int memory = open(path, O_RDONLY);
    CHECK(pread(memory, name, 10, (off_t)notice.data.args[0]) == 10 && strcmp(name, "/anywhere") == 0);
    close(memory);
    CHECK(answer(listener, notice.id, 42, 0, 0) == 0);
    // Done with, or about to be seen by the caller.
    CHECK(answer(listener, notice.id, 42, 0, 0) == -1 && (errno == ENOENT || errno == EINPROGRESS));
    struct seccomp_notif dirty = {.pid = 1};
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &dirty), EINVAL);
    CHECK(answer(listener, receive(listener).id, 0, -EXDEV, 0) == 0);
    CHECK(answer(listener, receive(listener).id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE) == 0);
    expect_success(child);
    // Nobody has the filter any more.
    CHECK(poll(&poller, 1, 5000) == 1 && (poller.revents & POLLHUP));
    struct seccomp_notif last = {0};
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &last), ENOENT);
    close(listener);
}

static void open_twice(void)
{
    char text[8] = {0};
    int fd = (int)syscall(SYS_open, "/given", O_RDONLY);
    CHECK(fd == 50 && fcntl(fd, F_GETFD) == FD_CLOEXEC && read(fd, text, 5) == 5 && strcmp(text, "hello") == 0);
    fd = (int)syscall(SYS_open, "/given", O_RDONLY);
    CHECK(fd > 2 && fd != 50 && fcntl(fd, F_GETFD) == 0);
    CHECK(close(fd) == 0);
}

static void descriptors(void)
{
    pid_t child;
    int listener = listen_to(open_twice, SYS_open, &child);
    struct seccomp_notif notice = receive(listener);
    int pipes[2];
    CHECK(pipe(pipes) == 0 && write(pipes[1], "hello", 5) == 5);
    struct seccomp_notif_addfd add = {.id = notice.id, .srcfd = (unsigned)pipes[0], .newfd = 50, .newfd_flags = O_CLOEXEC};
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EINVAL);
    add.flags = SECCOMP_ADDFD_FLAG_SETFD;
    add.srcfd = 999;
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EBADF);
    add.srcfd = (unsigned)pipes[0];
    add.newfd_flags = O_APPEND;
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), EINVAL);
    add.newfd_flags = O_CLOEXEC;
    add.id++;
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add), ENOENT);
    add.id--;
    CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) == 50);
    CHECK(answer(listener, notice.id, 50, 0, 0) == 0);
    notice = receive(listener);
    // In and answered at once.
    add = (struct seccomp_notif_addfd){.id = notice.id, .srcfd = (unsigned)pipes[0], .flags = SECCOMP_ADDFD_FLAG_SEND};
    CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) > 2);
    CHECK(answer(listener, notice.id, 0, 0, 0) == -1 && (errno == ENOENT || errno == EINPROGRESS));
    expect_success(child);
    close(listener);
    close(pipes[0]);
    close(pipes[1]);
}

static volatile int handled;

static void handle(int signal) { handled += signal; }

static void interrupted(void)
{
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
    CHECK_FAILS(syscall(SYS_mkdir, "/anywhere", 1), EINTR);
    CHECK(handled == SIGUSR1 && syscall(SYS_mkdir, "/anywhere", 2) == 7 && handled == SIGUSR1 + SIGUSR2);
    // The listener goes.
    CHECK_FAILS(syscall(SYS_mkdir, "/anywhere", 3), ENOSYS);
}

static void signals_and_ends(void)
{
    pid_t child;
    int listener = listen_to(interrupted, SYS_mkdir, &child);
    struct seccomp_notif notice = receive(listener);
    CHECK(notice.data.args[1] == 1 && kill(child, SIGUSR1) == 0);
    // The call has ended without an answer; the next one comes.
    struct seccomp_notif next = receive(listener);
    CHECK(next.data.args[1] == 2 && next.id != notice.id);
    CHECK_FAILS(answer(listener, notice.id, 0, 0, 0), ENOENT);
    CHECK(kill(child, SIGUSR2) == 0);
    struct seccomp_notif again = receive(listener);
    CHECK(again.data.args[1] == 2 && again.id != next.id && answer(listener, again.id, 7, 0, 0) == 0);
    CHECK(receive(listener).data.args[1] == 3);
    close(listener);
    expect_success(child);

    listener = listen_to(make_three, SYS_mkdir, &child);
    notice = receive(listener);
    CHECK(kill(child, SIGKILL) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    CHECK_FAILS(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notice.id), ENOENT);
    CHECK_FAILS(answer(listener, notice.id, 0, 0, 0), ENOENT);
    close(listener);
}

int main(void)
{
    PART(flags_and_sizes);
    PART(answers);
    PART(descriptors);
    PART(signals_and_ends);
    return 0;
}
