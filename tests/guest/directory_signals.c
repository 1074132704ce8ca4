// Signals about directories (fcntl(2), F_NOTIFY): which events send how many, with which code, band and descriptor, and when they end.
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

enum { EVERYTHING = DN_ACCESS | DN_MODIFY | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB };

static sigset_t watched;

// How many signals came, each about `fd`.
static int signals_of(int number, int fd)
{
    struct timespec limit = {0, 20000000};
    siginfo_t info;
    int count = 0;
    for (; sigtimedwait(&watched, &info, &limit) > 0; count++) {
        CHECK(info.si_signo == number);
        if (number == SIGIO)
            CHECK(info.si_code == SI_KERNEL);
        else
            CHECK(info.si_code == POLL_MSG && info.si_band == (POLLIN | POLLRDNORM | POLLMSG) && info.si_fd == fd);
    }
    return count;
}

static void make(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0);
    close(fd);
}

static int watched_directory(int signal, long events)
{
    int fd = open("watched", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && fcntl(fd, F_SETSIG, signal) == 0 && fcntl(fd, F_NOTIFY, events) == 0);
    return fd;
}

static void requests(void)
{
    int file = open("file", O_RDWR | O_CREAT, 0644), path = open("watched", O_PATH);
    CHECK_FAILS(fcntl(file, F_NOTIFY, DN_CREATE), ENOTDIR);
    CHECK_FAILS(fcntl(file, F_NOTIFY, 0x40), ENOTDIR);
    CHECK_FAILS(fcntl(path, F_NOTIFY, DN_CREATE), EBADF);
    CHECK_FAILS(fcntl(-1, F_NOTIFY, DN_CREATE), EBADF);
    // Nothing can be taken back from anything.
    CHECK(fcntl(file, F_NOTIFY, 0) == 0 && fcntl(file, F_NOTIFY, DN_MULTISHOT) == 0);
    int fd = open("watched", O_RDONLY);
    CHECK(fcntl(fd, F_NOTIFY, 0x40) == 0 && fcntl(fd, F_GETOWN) == getpid());
    close(fd);
    fd = open("watched", O_RDONLY);
    CHECK(fcntl(fd, F_SETOWN, -getpgrp()) == 0 && fcntl(fd, F_NOTIFY, DN_CREATE) == 0);
    struct f_owner_ex owner;
    CHECK(fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PGRP && owner.pid == getpgrp());
    close(fd);
    close(file);
    close(path);
}

static void one_signal_unless_asked_for_more(void)
{
    int fd = watched_directory(0, DN_CREATE);
    CHECK(mkdir("watched/one", 0755) == 0 && signals_of(SIGIO, fd) == 1);
    CHECK(mkdir("watched/two", 0755) == 0 && signals_of(SIGIO, fd) == 0);
    CHECK(fcntl(fd, F_SETSIG, SIGRTMIN) == 0 && fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT) == 0);
    CHECK(rmdir("watched/one") == 0 && rmdir("watched/two") == 0 && signals_of(SIGRTMIN, fd) == 2);
    close(fd);
}

static void events(void)
{
    char byte = 0;
    int fd = watched_directory(SIGRTMIN, EVERYTHING | DN_MULTISHOT), file;
#define SENDS(call, count) CHECK((call) >= 0 && signals_of(SIGRTMIN, fd) == (count))
    SENDS(file = open("watched/a", O_RDWR | O_CREAT, 0644), 1);
    SENDS(write(file, "xyz", 3), 1);
    SENDS(pread(file, &byte, 1, 0), 1);
    SENDS(fchmod(file, 0600), 1);
    SENDS(ftruncate(file, 0), 1);
    SENDS(close(file), 0);
    SENDS(file = open("watched/a", O_RDONLY), 0);
    SENDS(close(file), 0);
    SENDS(rename("watched/a", "watched/b"), 3);
    SENDS(rename("watched/b", "other/b"), 1);
    SENDS(rename("other/b", "watched/c"), 1);
    SENDS(link("watched/c", "watched/d"), 1);
    SENDS(unlink("watched/d"), 1);
    SENDS(mkdir("watched/sub", 0755), 1);
    SENDS(rmdir("watched/sub"), 1);
    SENDS(chmod("watched", 0700), 1);
    SENDS(utimensat(AT_FDCWD, "watched/c", NULL, 0), 1);
    SENDS(rename("watched", "moved"), 0);
    SENDS(rename("moved", "watched"), 0);
    SENDS(symlink("nowhere", "watched/link"), 1);
    SENDS(unlink("watched/link"), 1);
    SENDS(unlink("watched/c"), 1);
#undef SENDS
    close(fd);
}

static void requests_of_one_description_are_joined(void)
{
    int fd = watched_directory(SIGRTMIN, DN_CREATE | DN_MULTISHOT), copy = dup(fd);
    CHECK(fcntl(copy, F_NOTIFY, DN_DELETE) == 0);
    make("watched/a");
    CHECK(signals_of(SIGRTMIN, copy) == 1 && unlink("watched/a") == 0 && signals_of(SIGRTMIN, copy) == 1);
    // Any descriptor that is closed ends them.
    close(copy);
    make("watched/a");
    CHECK(signals_of(SIGRTMIN, fd) == 0 && fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT) == 0);
    CHECK(unlink("watched/a") == 0 && signals_of(SIGRTMIN, fd) == 1 && fcntl(fd, F_NOTIFY, DN_MULTISHOT) == 0);
    make("watched/a");
    CHECK(unlink("watched/a") == 0 && signals_of(SIGRTMIN, fd) == 0);
    close(fd);
}

static void descriptions_are_told_each(void)
{
    int one = watched_directory(SIGRTMIN, DN_CREATE), two = watched_directory(SIGRTMIN, DN_DELETE);
    make("watched/a");
    CHECK(signals_of(SIGRTMIN, one) == 1 && unlink("watched/a") == 0 && signals_of(SIGRTMIN, two) == 1);
    close(one);
    close(two);
}

static void processes_ask_for_themselves(void)
{
    int fd = watched_directory(SIGRTMIN, DN_CREATE | DN_MULTISHOT), status;
    pid_t child = fork();
    if (child == 0) {
        // That closes nothing of the parent's.
        close(fd);
        make("watched/a");
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0 && signals_of(SIGRTMIN, fd) == 1);
    child = fork();
    if (child == 0) {
        // A request of its own, by the description whose owner is the parent.
        CHECK(fcntl(fd, F_NOTIFY, DN_DELETE) == 0);
        CHECK(unlink("watched/a") == 0);
        make("watched/a");
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0 && signals_of(SIGRTMIN, fd) == 2);
    // It went with the child.
    CHECK(unlink("watched/a") == 0 && signals_of(SIGRTMIN, fd) == 0);
    close(fd);
}

static void removed_directory(void)
{
    CHECK(mkdir("gone", 0755) == 0);
    int fd = open("gone", O_RDONLY);
    CHECK(fcntl(fd, F_SETSIG, SIGRTMIN) == 0 && fcntl(fd, F_NOTIFY, EVERYTHING | DN_MULTISHOT) == 0);
    CHECK(rmdir("gone") == 0);
    signals_of(SIGRTMIN, fd);
    CHECK(fcntl(fd, F_NOTIFY, DN_CREATE) == 0 && fcntl(fd, F_NOTIFY, 0) == 0);
    close(fd);
}

int main(void)
{
    char folder[] = "/tmp/directory-signals-XXXXXX";
    CHECK(mkdtemp(folder) && chdir(folder) == 0 && mkdir("watched", 0755) == 0 && mkdir("other", 0755) == 0);
    sigemptyset(&watched);
    sigaddset(&watched, SIGIO);
    sigaddset(&watched, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &watched, NULL) == 0);
    PART(requests);
    PART(one_signal_unless_asked_for_more);
    PART(events);
    PART(requests_of_one_description_are_joined);
    PART(descriptions_are_told_each);
    PART(processes_ask_for_themselves);
    PART(removed_directory);
    CHECK(unlink("file") == 0 && rmdir("watched") == 0 && rmdir("other") == 0 && chdir("/") == 0 && rmdir(folder) == 0);
    return 0;
}
