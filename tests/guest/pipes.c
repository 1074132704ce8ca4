// Pipes and FIFOs (pipe(7), fifo(7)), splice and tee.
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void end_of_file_and_broken_pipe(void)
{
    int fds[2];
    char buffer[10];
    signal(SIGPIPE, SIG_IGN);
    CHECK(pipe(fds) == 0 && write(fds[1], "abc", 3) == 3 && close(fds[1]) == 0);
    CHECK(read(fds[0], buffer, 10) == 3 && read(fds[0], buffer, 10) == 0);
    close(fds[0]);
    CHECK(pipe(fds) == 0 && close(fds[0]) == 0);
    CHECK_FAILS(write(fds[1], "x", 1), EPIPE);
    CHECK_FAILS(read(fds[1], buffer, 1), EBADF);
    CHECK_FAILS(lseek(fds[1], 0, SEEK_SET), ESPIPE);
    CHECK_FAILS(pread(fds[1], buffer, 1, 0), ESPIPE);
}

static void capacity_and_nonblocking(void)
{
    int fds[2], available;
    static char block[65536];
    CHECK(pipe2(fds, O_NONBLOCK) == 0);
    CHECK_FAILS(read(fds[0], block, 1), EAGAIN);
    CHECK(fcntl(fds[0], F_GETPIPE_SZ) == 65536);
    CHECK(write(fds[1], block, sizeof block) == 65536);
    CHECK_FAILS(write(fds[1], block, 1), EAGAIN);
    CHECK(ioctl(fds[0], FIONREAD, &available) == 0 && available == 65536);
    CHECK(fcntl(fds[0], F_SETPIPE_SZ, 131072) == 131072 && write(fds[1], block, sizeof block) == 65536);
    CHECK_FAILS(fcntl(fds[0], F_SETPIPE_SZ, 4096), EBUSY);
    // A write of at most PIPE_BUF bytes is all or nothing; a larger one takes what fits.
    CHECK(read(fds[0], block, 4096) == 4096 && read(fds[0], block, 4095) == 4095);
    CHECK(write(fds[1], block, 4096) == 4096);
    CHECK_FAILS(write(fds[1], block, 4096), EAGAIN);
}

static void poll_follows_the_state(void)
{
    int fds[2];
    char c;
    CHECK(pipe(fds) == 0);
    struct pollfd p[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLOUT, 0}};
    CHECK(poll(p, 2, 0) == 1 && p[0].revents == 0 && p[1].revents == POLLOUT);
    CHECK(write(fds[1], "x", 1) == 1 && poll(p, 1, 0) == 1 && p[0].revents == POLLIN);
    CHECK(read(fds[0], &c, 1) == 1 && poll(p, 1, 10) == 0);
    CHECK(close(fds[1]) == 0 && poll(p, 1, -1) == 1 && p[0].revents == POLLHUP);
    p[0].fd = 999;
    CHECK(poll(p, 1, 0) == 1 && p[0].revents == POLLNVAL);
}

static void large_transfer_between_processes(void)
{
    int fds[2];
    static unsigned char buffer[100000];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[0]);
        for (int i = 0; i < 100; i++) {
            memset(buffer, i, sizeof buffer);
            CHECK(write(fds[1], buffer, sizeof buffer) == sizeof buffer);
        }
        _exit(0);
    }
    close(fds[1]);
    size_t total = 0;
    for (ssize_t n; (n = read(fds[0], buffer, 7777)) > 0; total += (size_t)n)
        for (ssize_t i = 0; i < n; i++)
            CHECK(buffer[i] == (total + (size_t)i) / sizeof buffer);
    CHECK(total == 100 * sizeof buffer);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void fifo_pairs_its_ends(void)
{
    char folder[] = "/tmp/pipes-XXXXXX", path[100], buffer[10];
    CHECK(mkdtemp(folder) != NULL);
    sprintf(path, "%s/fifo", folder);
    struct stat s;
    CHECK(mkfifo(path, 0600) == 0 && stat(path, &s) == 0 && S_ISFIFO(s.st_mode));
    CHECK_FAILS(mkfifo(path, 0600), EEXIST);
    CHECK_FAILS(open(path, O_WRONLY | O_NONBLOCK), ENXIO);
    CHECK_FAILS(truncate(path, 0), EINVAL);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_WRONLY);
        CHECK(fd >= 0 && write(fd, "through", 7) == 7);
        _exit(0);
    }
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, buffer, 10) == 7 && memcmp(buffer, "through", 7) == 0 && read(fd, buffer, 10) == 0);
    CHECK(waitpid(child, NULL, 0) == child && unlink(path) == 0 && rmdir(folder) == 0);
}

static void splice_tee_sendfile(void)
{
    int a[2], b[2];
    char buffer[20] = "";
    CHECK(pipe(a) == 0 && pipe(b) == 0 && write(a[1], "hello splice", 12) == 12);
    CHECK(tee(a[0], b[1], 5, 0) == 5 && read(b[0], buffer, 20) == 5 && memcmp(buffer, "hello", 5) == 0);
    CHECK(splice(a[0], NULL, b[1], NULL, 100, 0) == 12 && read(b[0], buffer, 20) == 12);
    CHECK(memcmp(buffer, "hello splice", 12) == 0);
    int file = open("/etc/passwd", O_RDONLY);
    off_t offset = 2;
    CHECK(sendfile(a[1], file, &offset, 10) == 10 && offset == 12 && lseek(file, 0, SEEK_CUR) == 0);
    CHECK(read(a[0], buffer, 20) == 10);
    // Only what is not read by waiting for it can be sent from.
    CHECK(write(a[1], "hello", 5) == 5);
    CHECK_FAILS(sendfile(b[1], a[0], NULL, 5), EINVAL);
    CHECK(read(a[0], buffer, 20) == 5);
    CHECK_FAILS(splice(file, NULL, file, NULL, 10, 0), EBADF);
    int other = open("/dev/null", O_WRONLY);
    CHECK_FAILS(splice(file, NULL, other, NULL, 10, 0), EINVAL);
}

int main(void)
{
    PART(end_of_file_and_broken_pipe);
    PART(capacity_and_nonblocking);
    PART(poll_follows_the_state);
    PART(large_transfer_between_processes);
    PART(fifo_pairs_its_ends);
    PART(splice_tee_sendfile);
    return 0;
}
