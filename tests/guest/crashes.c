// A process that crashes ends with the signal that fits, and its parent sees it.

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static volatile int zero;

static int deep(int n)
{
    volatile char block[4096];
    block[0] = (char)n;
    return n < 1 << 30 ? deep(n + 1) + block[0] : 0;
}

static void write_null(void) { *(volatile int *)(uintptr_t)(zero + 8) = 1; }
static void abort_it(void) { abort(); }
static void trap(void) { __builtin_trap(); }
static void divide(void) { zero = 7 / zero; }
static void overflow_stack(void) { zero = deep(zero); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void jump_away(void) { ((void (*)(void))(uintptr_t)(zero + 0x7000))(); }
static void non_canonical(void) { *(volatile int *)((uintptr_t)zero + 0x8000000000000000) = 1; }

static void write_text(void)
{
    *(volatile char *)(uintptr_t)divide = 1;
}

static void run_data(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = (char)0xc3;
    ((void (*)(void))(uintptr_t)page)();
}

static void beyond_the_file(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    *(volatile char *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0) = 1;
}

static void too_much_time(void)
{
    struct rlimit limit = { .rlim_cur = 1, .rlim_max = 1 };
    setrlimit(RLIMIT_CPU, &limit);
    for (;;) {
        zero = 0;
    }
}

static const struct {
    const char *name;
    void (*crash)(void);
    int signal;
} CRASHES[] = {
    { "write to nothing", write_null, SIGSEGV },
    { "abort", abort_it, SIGABRT },
    { "undefined instruction", trap, SIGILL },
    { "division by zero", divide, SIGFPE },
    { "stack overflow", overflow_stack, SIGSEGV },
    { "privileged instruction", privileged, SIGSEGV },
    { "breakpoint", breakpoint, SIGTRAP },
    { "jump to nothing", jump_away, SIGSEGV },
    { "address that is none", non_canonical, SIGSEGV },
    { "write to code", write_text, SIGSEGV },
    { "run data", run_data, SIGSEGV },
    { "page behind the file", beyond_the_file, SIGBUS },
    { "limit of time", too_much_time, SIGKILL },
};

int main(int argc, char **argv)
{
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    if (argc > 1) {
        CRASHES[atoi(argv[1])].crash();
        return 0;
    }
    for (size_t i = 0; i < sizeof CRASHES / sizeof *CRASHES; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            CRASHES[i].crash();
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == CRASHES[i].signal);
        CHECK(!WCOREDUMP(status));
        printf("%s: signal %d\n", CRASHES[i].name, WTERMSIG(status));
    }
    return 0;
}
