// One micro-benchmark a call: `micro NAME [ARG]` prints nanoseconds per operation.
//
// Runs unchanged natively and in the sandbox. Each benchmark repeats until it has taken MIN_NS.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIN_NS 200000000ull

static const char *argument = "";

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

// ---- system calls ----

static void op_getpid(long n)
{
    for (long i = 0; i < n; i++)
        syscall(SYS_getpid);
}

// One that no stub can answer by itself.
static void op_getppid(long n)
{
    for (long i = 0; i < n; i++)
        getppid();
}

static void op_read1(long n)
{
    static int fd = -1;
    char c;
    if (fd < 0 && (fd = open("/dev/zero", O_RDONLY)) < 0)
        die("/dev/zero");
    for (long i = 0; i < n; i++)
        if (read(fd, &c, 1) != 1)
            die("read");
}

static void op_clock(long n)
{
    struct timespec t;
    for (long i = 0; i < n; i++)
        clock_gettime(CLOCK_MONOTONIC, &t);
}

static void op_stat(long n)
{
    struct stat s;
    for (long i = 0; i < n; i++)
        if (stat("/etc/passwd", &s) != 0)
            die("stat");
}

static void op_open(long n)
{
    struct stat s;
    for (long i = 0; i < n; i++) {
        int fd = open("/etc/passwd", O_RDONLY);
        if (fd < 0 || fstat(fd, &s) != 0)
            die("open");
        close(fd);
    }
}

// ---- hand-overs ----

static atomic_int turn;

static long futex(atomic_int *word, int op, int value)
{
    return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void futex_turn(long n, int me)
{
    for (long i = 0; i < n; i++) {
        while (atomic_load(&turn) != me)
            futex(&turn, FUTEX_WAIT_PRIVATE, !me);
        atomic_store(&turn, !me);
        futex(&turn, FUTEX_WAKE_PRIVATE, 1);
    }
}

static void *futex_peer(void *n)
{
    futex_turn((long)n, 1);
    return NULL;
}

static void op_futex_pingpong(long n)
{
    pthread_t t;
    atomic_store(&turn, 0);
    if (pthread_create(&t, NULL, futex_peer, (void *)n) != 0)
        die("pthread_create");
    futex_turn(n, 0);
    pthread_join(t, NULL);
}

static int ping[2], pong[2];

static void *pipe_peer(void *n)
{
    char c;
    for (long i = 0; i < (long)n; i++)
        if (read(ping[0], &c, 1) != 1 || write(pong[1], &c, 1) != 1)
            die("pipe peer");
    return NULL;
}

static void pipe_main(long n)
{
    char c = 0;
    for (long i = 0; i < n; i++)
        if (write(ping[1], &c, 1) != 1 || read(pong[0], &c, 1) != 1)
            die("pipe");
}

static void pipes(void)
{
    if (ping[1] == 0 && (pipe(ping) != 0 || pipe(pong) != 0))
        die("pipe");
}

static void op_pipe_threads(long n)
{
    pthread_t t;
    pipes();
    if (pthread_create(&t, NULL, pipe_peer, (void *)n) != 0)
        die("pthread_create");
    pipe_main(n);
    pthread_join(t, NULL);
}

static void op_pipe_processes(long n)
{
    pipes();
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        pipe_peer((void *)n);
        _exit(0);
    }
    pipe_main(n);
    waitpid(child, NULL, 0);
}

// ---- processes ----

static void op_fork(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
}

static pid_t spawn_true(void)
{
    pid_t child = vfork();
    if (child < 0)
        die("vfork");
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    return child;
}

static void op_fork_exec(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t child = spawn_true();
        int status;
        waitpid(child, &status, 0);
        if (status != 0)
            die("exec");
    }
}

static void *nothing(void *p)
{
    return p;
}

static void op_thread(long n)
{
    for (long i = 0; i < n; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, nothing, NULL) != 0)
            die("pthread_create");
        pthread_join(t, NULL);
    }
}

// ---- memory ----

static void op_map_touch(long n)
{
    for (long i = 0; i < n; i++) {
        char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            die("mmap");
        *p = 1;
        munmap(p, 4096);
    }
}

// Pages of one large mapping; an operation is one page.
static void op_fault(long n)
{
    const long batch = 4096;
    for (long done = 0; done < n; done += batch) {
        long pages = n - done < batch ? n - done : batch;
        char *p = mmap(NULL, (size_t)pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            die("mmap");
        for (long i = 0; i < pages; i++)
            p[i * 4096] = 1;
        munmap(p, (size_t)pages * 4096);
    }
}

// ---- files ----

// Reads the file ARG from start to end; an operation is 64 KiB.
static void op_seqread(long n)
{
    static char buffer[65536];
    static int fd = -1;
    if (fd < 0 && (fd = open(argument, O_RDONLY)) < 0)
        die(argument);
    for (long i = 0; i < n; i++) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got < 0)
            die("read");
        if (got == 0)
            lseek(fd, 0, SEEK_SET);
    }
}

// A new file in ARG of 64 KiB, written, closed, removed.
static void op_create_write(long n)
{
    static char buffer[65536];
    char path[4096];
    snprintf(path, sizeof path, "%s/micro-%d", argument, (int)getpid());
    for (long i = 0; i < n; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, buffer, sizeof buffer) != sizeof buffer)
            die(path);
        close(fd);
        unlink(path);
    }
}

static const struct {
    const char *name;
    void (*run)(long n);
} benchmarks[] = {
    {"getpid", op_getpid},
    {"getppid", op_getppid},
    {"read1", op_read1},
    {"clock_gettime", op_clock},
    {"stat", op_stat},
    {"open_fstat_close", op_open},
    {"futex_pingpong", op_futex_pingpong},
    {"pipe_pingpong_threads", op_pipe_threads},
    {"pipe_pingpong_processes", op_pipe_processes},
    {"fork_wait", op_fork},
    {"fork_exec_wait", op_fork_exec},
    {"thread_create_join", op_thread},
    {"map_touch_unmap", op_map_touch},
    {"page_fault", op_fault},
    {"sequential_read_64k", op_seqread},
    {"create_write_64k_unlink", op_create_write},
};

int main(int argc, char **argv)
{
    if (argc > 2)
        argument = argv[2];
    for (size_t i = 0; argc > 1 && i < sizeof benchmarks / sizeof *benchmarks; i++) {
        if (strcmp(benchmarks[i].name, argv[1]) != 0)
            continue;
        for (long n = 1;; n *= 2) {
            uint64_t start = now_ns();
            benchmarks[i].run(n);
            uint64_t took = now_ns() - start;
            if (took >= MIN_NS) {
                printf("%.1f\n", (double)took / (double)n);
                return 0;
            }
        }
    }
    fprintf(stderr, "usage: micro NAME [ARG]; names:");
    for (size_t i = 0; i < sizeof benchmarks / sizeof *benchmarks; i++)
        fprintf(stderr, " %s", benchmarks[i].name);
    fprintf(stderr, "\n");
    return 2;
}
