// Processes with chosen ids (`set_tid` of clone3(2)), and the last id of a PID namespace (`ns_last_pid`).
#include "check.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

static pid_t chosen_with(uint64_t flags, const pid_t *ids, size_t count)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD, .set_tid = (uintptr_t)ids, .set_tid_size = count};
    return syscall(SYS_clone3, &args, sizeof args);
}

// A child with this id, which ends at once.
static pid_t chosen(pid_t id)
{
    pid_t child = chosen_with(0, &id, 1);
    if (child == 0)
        _exit(getpid() == id ? 0 : 1);
    return child;
}

static void reap(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static int last_pid(int set)
{
    char text[32] = "";
    int fd = open("/proc/sys/kernel/ns_last_pid", set < 0 ? O_RDONLY : O_WRONLY);
    CHECK(fd >= 0);
    if (set >= 0) {
        int length = sprintf(text, "%d", set);
        int wrote = write(fd, text, length) == length;
        int number = errno;
        close(fd);
        errno = number;
        return wrote ? set : -1;
    }
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atoi(text);
}

// Runs `body` as the first process of a PID namespace.
static void in_namespace(void (*body)(void))
{
    pid_t holder = fork();
    CHECK(holder >= 0);
    if (holder == 0) {
        CHECK(unshare(CLONE_NEWPID) == 0);
        check_in_child(body);
        _exit(0);
    }
    reap(holder);
}

static void choose(void)
{
    CHECK(getpid() == 1);
    pid_t child = chosen(77);
    CHECK(child == 77);
    // While it is there, a zombie too, nobody else gets the id.
    CHECK_FAILS(chosen(77), EEXIST);
    reap(child);
    reap(chosen(77));
    CHECK_FAILS(chosen(1), EEXIST);
    CHECK_FAILS(chosen(0), EINVAL);
    CHECK_FAILS(chosen(-5), EINVAL);
    CHECK_FAILS(chosen(1 << 30), EINVAL);
    // Chosen ids do not move the others.
    pid_t next = fork();
    if (next == 0)
        _exit(0);
    CHECK(next == 2);
    reap(next);
}

static void bad_arguments(void)
{
    pid_t ids[33] = {500, 0};
    CHECK_FAILS(chosen_with(0, NULL, 1), EINVAL);
    CHECK_FAILS(chosen_with(0, ids, 0), EINVAL);
    CHECK_FAILS(chosen_with(0, ids, 33), EINVAL);
    CHECK_FAILS(chosen_with(0, ids, 32), EINVAL);
    CHECK_FAILS(chosen_with(0, ids, 2), EINVAL);
    CHECK_FAILS(chosen_with(0, (pid_t *)8, 1), EFAULT);
}

static void first_of_a_namespace(void)
{
    pid_t ids[2] = {1, 901};
    pid_t child = chosen_with(CLONE_NEWPID, ids, 2);
    if (child == 0)
        _exit(getpid() == 1 ? 0 : 1);
    CHECK(child == 901);
    reap(child);
    pid_t other = 2;
    CHECK_FAILS(chosen_with(CLONE_NEWPID, &other, 1), EINVAL);
}

static void last(void)
{
    CHECK(last_pid(500) == 500);
    CHECK(last_pid(-1) == 500);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    CHECK(child == 501);
    reap(child);
    CHECK(last_pid(-1) == 501);
    CHECK_FAILS(last_pid(1 << 30), EINVAL);
}

static void without_capability(void)
{
    CHECK(setuid(1000) == 0);
    CHECK_FAILS(chosen(300), EPERM);
    // A namespace of one's own is another matter.
    CHECK(unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0);
    reap(chosen(1));
}

static void choosing(void) { in_namespace(choose); }
static void refusing(void) { in_namespace(bad_arguments); }
static void nesting(void) { in_namespace(first_of_a_namespace); }
static void counting(void) { in_namespace(last); }
static void unprivileged(void) { in_namespace(without_capability); }

int main(void)
{
    PART(choosing);
    PART(refusing);
    PART(nesting);
    PART(counting);
    PART(unprivileged);
    return 0;
}
