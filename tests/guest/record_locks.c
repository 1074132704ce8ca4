// Record locks belong to the descriptor table of a process: they outlive execve(2) and end with the process, however it ends, whoever
// else has the file open (fcntl_locking(2)); tables that are shared and unshared (close_range(2), unshare(2)).
#include "check.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char path[] = "/tmp/record-locks-XXXXXX";
static const char *self;

// Who keeps this process from locking the first byte; 0 if nobody does.
static pid_t holder(void)
{
    int fd = open(path, O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    CHECK(fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0);
    close(fd);
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

static int try_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    return fcntl(fd, F_SETLK, &lock);
}

static int opened(int flags)
{
    int fd = open(path, O_RDWR | flags);
    CHECK(fd >= 0);
    return fd;
}

// A child that runs `body` with two pipes: it says something, and waits until it is told to go on.
struct child {
    pid_t pid;
    int says, hears;
};

static struct child started(void (*body)(int says, int hears))
{
    int up[2], down[2];
    struct child child;
    CHECK(pipe(up) == 0 && pipe(down) == 0);
    child.pid = fork();
    CHECK(child.pid >= 0);
    if (child.pid == 0) {
        close(up[0]);
        close(down[1]);
        body(up[1], down[0]);
        _exit(0);
    }
    close(up[1]);
    close(down[0]);
    child.says = up[0];
    child.hears = down[1];
    return child;
}

static void say(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

// False at the end.
static int hear(int fd)
{
    char byte;
    ssize_t count = read(fd, &byte, 1);
    CHECK(count >= 0);
    return count == 1;
}

static void finish(struct child child)
{
    int status;
    CHECK(waitpid(child.pid, &status, 0) == child.pid);
    if (!WIFSIGNALED(status))
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(child.says);
    close(child.hears);
}

static void lock_and_wait(int says, int hears)
{
    CHECK(try_lock(opened(0)) == 0);
    say(says);
    hear(hears);
}

static void end_of_a_process(void)
{
    struct child child = started(lock_and_wait);
    CHECK(hear(child.says) && holder() == child.pid);
    say(child.hears);
    finish(child);
    CHECK(holder() == 0);

    child = started(lock_and_wait);
    CHECK(hear(child.says) && holder() == child.pid && kill(child.pid, SIGKILL) == 0);
    finish(child);
    CHECK(holder() == 0);
}

// Its child has the same description, and goes on.
static void lock_and_leave_a_child(int says, int hears)
{
    CHECK(try_lock(opened(0)) == 0);
    say(says);
    hear(hears);
    pid_t heir = fork();
    CHECK(heir >= 0);
    if (heir == 0)
        hear(hears);
}

static void another_process_has_the_file(void)
{
    struct child child = started(lock_and_leave_a_child);
    CHECK(hear(child.says) && holder() == child.pid);
    say(child.hears);
    int status;
    CHECK(waitpid(child.pid, &status, 0) == child.pid && status == 0);
    CHECK(holder() == 0);
    // The heir ends when nobody can tell it to go on any more.
    close(child.hears);
    CHECK(!hear(child.says));
    close(child.says);
}

static void lock_and_exec(int says, int hears, int flags)
{
    char numbers[3][12];
    int fd = opened(flags);
    CHECK(try_lock(fd) == 0);
    snprintf(numbers[0], sizeof numbers[0], "%d", fd);
    snprintf(numbers[1], sizeof numbers[1], "%d", says);
    snprintf(numbers[2], sizeof numbers[2], "%d", hears);
    execl(self, self, flags ? "closed" : "kept", numbers[0], numbers[1], numbers[2], NULL);
    CHECK(!"executed");
}

static void lock_and_exec_with(int says, int hears)
{
    lock_and_exec(says, hears, 0);
}

static void lock_and_exec_without(int says, int hears)
{
    lock_and_exec(says, hears, O_CLOEXEC);
}

// The program after execve(2).
static void executed(char **arguments)
{
    int fd = atoi(arguments[1]), says = atoi(arguments[2]), hears = atoi(arguments[3]);
    if (strcmp(arguments[0], "kept") == 0)
        CHECK(try_lock(fd) == 0);
    else
        CHECK_FAILS(fcntl(fd, F_GETFD), EBADF);
    say(says);
    hear(hears);
}

static void execution(void)
{
    struct child child = started(lock_and_exec_with);
    CHECK(hear(child.says) && holder() == child.pid);
    int fd = opened(0);
    CHECK_FAILS(try_lock(fd), EAGAIN);
    say(child.hears);
    finish(child);
    CHECK(try_lock(fd) == 0);
    close(fd);

    child = started(lock_and_exec_without);
    CHECK(hear(child.says) && holder() == 0);
    say(child.hears);
    finish(child);
}

static void lock_and_unshare(int says, int hears)
{
    int fd = opened(0);
    CHECK(try_lock(fd) == 0);
    // Nobody shares the table, so these change nothing.
    CHECK(unshare(CLONE_FILES) == 0);
    CHECK(syscall(SYS_close_range, 1000, 2000, CLOSE_RANGE_UNSHARE) == 0);
    CHECK(try_lock(fd) == 0);
    say(says);
    hear(hears);
    // Closing any descriptor of the file ends them.
    close(opened(0));
    say(says);
    hear(hears);
}

static void one_user_of_a_table(void)
{
    struct child child = started(lock_and_unshare);
    CHECK(hear(child.says) && holder() == child.pid);
    say(child.hears);
    CHECK(hear(child.says) && holder() == 0);
    say(child.hears);
    finish(child);
}

static int shared_fd, results[2];

static void *leave_the_table(void *how)
{
    if (how)
        CHECK(syscall(SYS_close_range, shared_fd, shared_fd, CLOSE_RANGE_UNSHARE) == 0);
    else
        CHECK(unshare(CLONE_FILES) == 0 && close(shared_fd) == 0);
    results[how != NULL] = fcntl(shared_fd, F_GETFD) == -1 && errno == EBADF;
    return NULL;
}

static void threads_that_unshare(void)
{
    pthread_t thread;
    shared_fd = opened(0);
    CHECK(try_lock(shared_fd) == 0);
    for (long how = 0; how < 2; how++) {
        CHECK(pthread_create(&thread, NULL, leave_the_table, (void *)how) == 0);
        CHECK(pthread_join(thread, NULL) == 0 && results[how]);
        CHECK(fcntl(shared_fd, F_GETFD) == 0);
    }
    // The locks stayed with the table that the thread left.
    pid_t child = fork();
    if (child == 0)
        _exit(holder() == getppid() ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(shared_fd);
    CHECK(holder() == 0);
}

static int execute_in_clone(void *unused)
{
    (void)unused;
    // The table is copied; the locks are those of the process that keeps it.
    execl("/bin/true", "true", NULL);
    return 1;
}

static void execution_with_a_shared_table(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int fd = opened(O_CLOEXEC), status;
    CHECK(try_lock(fd) == 0);
    pid_t child = clone(execute_in_clone, stack + sizeof stack, CLONE_FILES | SIGCHLD, NULL);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    child = fork();
    if (child == 0)
        _exit(holder() == getppid() ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(fd);
}

static int lock_range(int fd, int command, short type, off_t start)
{
    struct flock lock = {.l_type = type, .l_start = start, .l_len = 1};
    return fcntl(fd, command, &lock);
}

// Takes the byte that it is told to, and then waits for the one before.
static int place_in_the_ring;

static void stand_in_a_ring(int says, int hears)
{
    int fd = opened(0);
    CHECK(lock_range(fd, F_SETLK, F_WRLCK, place_in_the_ring) == 0);
    say(says);
    hear(hears);
    // From here on it sleeps only for the lock.
    say(says);
    CHECK(lock_range(fd, F_SETLKW, F_WRLCK, place_in_the_ring - 1) == 0);
}

static void circles(void)
{
    for (int members = 2; members <= 5; members++) {
        struct child children[4];
        int fd = opened(0);
        CHECK(lock_range(fd, F_SETLK, F_WRLCK, 0) == 0);
        for (int i = 0; i < members - 1; i++) {
            place_in_the_ring = i + 1;
            children[i] = started(stand_in_a_ring);
            CHECK(hear(children[i].says));
            say(children[i].hears);
            CHECK(hear(children[i].says));
            wait_until_asleep(children[i].pid);
        }
        // The last of them has what would close the circle.
        CHECK_FAILS(lock_range(fd, F_SETLKW, F_WRLCK, members - 1), EDEADLK);
        CHECK_FAILS(lock_range(fd, F_SETLKW, F_RDLCK, members - 1), EDEADLK);
        CHECK_FAILS(lock_range(fd, F_SETLK, F_WRLCK, members - 1), EAGAIN);
        // Nobody waits for the locks of the last.
        CHECK(lock_range(fd, F_SETLK, F_UNLCK, 0) == 0);
        for (int i = 0; i < members - 1; i++)
            finish(children[i]);
        CHECK(lock_range(fd, F_SETLKW, F_WRLCK, members - 1) == 0);
        close(fd);
    }
}

int main(int count, char **arguments)
{
    if (count == 5) {
        executed(arguments + 1);
        return 0;
    }
    self = "/proc/self/exe";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    PART(end_of_a_process);
    PART(another_process_has_the_file);
    PART(execution);
    PART(one_user_of_a_table);
    PART(circles);
    PART(threads_that_unshare);
    PART(execution_with_a_shared_table);
    CHECK(unlink(path) == 0);
    return 0;
}
