// Delivery, masks, queueing, restart, stacks, frames (signal(7)).
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count, last_code, last_value, last_pid;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    count++;
    last_code = info->si_code;
    last_value = info->si_value.sival_int;
    last_pid = info->si_pid;
}

static void handle(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(signal, &action, NULL) == 0);
    count = 0;
}

static void block(int how, int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK(sigprocmask(how, &set, NULL) == 0);
}

static void kill_runs_the_handler_before_it_returns(void)
{
    handle(SIGUSR1, 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(count == 1 && last_code == SI_USER && last_pid == getpid());
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
    CHECK(count == 2 && last_code == SI_TKILL);
}

static void blocked_signal_stays_pending_and_merges(void)
{
    sigset_t pending;
    handle(SIGUSR1, 0);
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    raise(SIGUSR1);
    CHECK(count == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    CHECK(count == 1);
}

static void realtime_signals_queue_in_order(void)
{
    handle(SIGRTMIN + 1, 0);
    block(SIG_BLOCK, SIGRTMIN + 1);
    for (int i = 1; i <= 5; i++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) == 0);
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    for (int i = 1; i <= 2; i++) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1);
        CHECK(info.si_value.sival_int == i && info.si_code == SI_QUEUE);
    }
    block(SIG_UNBLOCK, SIGRTMIN + 1);
    CHECK(count == 3 && last_value == 5);
    struct timespec soon = {0, 1000000};
    CHECK_FAILS(sigtimedwait(&set, &info, &soon), EAGAIN);
}

static void handler_mask_and_nodefer(void)
{
    static volatile sig_atomic_t depth, deepest;
    void nested(int signal)
    {
        depth++;
        if (depth > deepest)
            deepest = depth;
        if (depth < 3)
            raise(signal);
        depth--;
    }
    struct sigaction action = {.sa_handler = nested, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    raise(SIGUSR2);
    CHECK(deepest == 3);
    deepest = 0;
    action.sa_flags = SA_RESETHAND;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    depth = 2;
    raise(SIGUSR2);
    depth = 0;
    CHECK(deepest == 3 && sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
}

// For a main thread that is going to sleep.
static void *signal_main_soon(void *thread)
{
    wait_until_asleep(getpid());
    usleep(1000);
    pthread_kill((pthread_t)thread, SIGUSR1);
    return NULL;
}

static void read_is_interrupted_or_restarted(void)
{
    int fds[2];
    char c;
    pthread_t t;
    CHECK(pipe(fds) == 0);
    handle(SIGUSR1, 0);
    CHECK(pthread_create(&t, NULL, signal_main_soon, (void *)pthread_self()) == 0);
    CHECK_FAILS(read(fds[0], &c, 1), EINTR);
    pthread_join(t, NULL);
    CHECK(count == 1);

    handle(SIGUSR1, SA_RESTART);
    pid_t child = fork();
    if (child == 0) {
        wait_until_asleep(getppid());
        kill(getppid(), SIGUSR1);
        wait_until_asleep(getppid());
        _exit(write(fds[1], "x", 1) != 1);
    }
    CHECK(read(fds[0], &c, 1) == 1 && c == 'x' && count == 1);
    CHECK(waitpid(child, NULL, 0) == child);
}

static long long nanoseconds(struct timespec t) { return t.tv_sec * 1000000000ll + t.tv_nsec; }

static void sleep_reports_the_remainder(void)
{
    pthread_t t;
    struct timespec want = {2, 0}, left = {0, 0}, start, end;
    handle(SIGUSR1, SA_RESTART);
    CHECK(pthread_create(&t, NULL, signal_main_soon, (void *)pthread_self()) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &start) == 0);
    CHECK_FAILS(nanosleep(&want, &left), EINTR);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &end) == 0);
    long long rest = nanoseconds(left), passed = nanoseconds(end) - nanoseconds(start);
    CHECK(rest < nanoseconds(want) && rest >= nanoseconds(want) - passed);
    pthread_join(t, NULL);
}

static void sigsuspend_swaps_the_mask(void)
{
    sigset_t none, now;
    sigemptyset(&none);
    handle(SIGUSR1, 0);
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    CHECK_FAILS(sigsuspend(&none), EINTR);
    CHECK(count == 1 && sigprocmask(SIG_SETMASK, NULL, &now) == 0 && sigismember(&now, SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
}

static sigjmp_buf back;
static void *volatile fault_address;
static volatile sig_atomic_t fault_code, fault_write;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    ucontext_t *u = context;
    fault_address = info->si_addr;
    fault_code = info->si_code;
    fault_write = (u->uc_mcontext.gregs[REG_ERR] & 2) != 0;
    siglongjmp(back, 1);
}

static void faults_carry_their_address(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)(page + 5) = 1;
        CHECK(!"written to a read-only page");
    }
    CHECK(fault_address == page + 5 && fault_code == SEGV_ACCERR && fault_write);
    CHECK(munmap(page, 4096) == 0);
    if (sigsetjmp(back, 1) == 0) {
        (void)*(volatile char *)(page + 7);
        CHECK(!"read an unmapped page");
    }
    CHECK(fault_address == page + 7 && fault_code == SEGV_MAPERR && !fault_write);
}

static void division_and_illegal_instruction(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGFPE, &action, NULL) == 0 && sigaction(SIGILL, &action, NULL) == 0);
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("xorl %%ecx, %%ecx; movl $1, %%eax; cltd; idivl %%ecx" ::: "eax", "ecx", "edx");
        CHECK(!"divided by zero");
    }
    CHECK(fault_code == FPE_INTDIV);
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("ud2");
        CHECK(!"ran ud2");
    }
    CHECK(fault_code == ILL_ILLOPN);
}

static void handler_may_change_registers(void)
{
    void skip(int signal, siginfo_t *info, void *context)
    {
        (void)signal, (void)info;
        ucontext_t *u = context;
        u->uc_mcontext.gregs[REG_RIP] += 2;
        u->uc_mcontext.gregs[REG_RAX] = 42;
    }
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGILL, &action, NULL) == 0);
    long rax = 0;
    __asm__ volatile("ud2" : "+a"(rax));
    CHECK(rax == 42);
}

static void alternate_stack_is_used(void)
{
    static volatile uintptr_t seen;
    void where(int signal)
    {
        char local;
        (void)signal;
        seen = (uintptr_t)&local;
    }
    size_t size = (size_t)sysconf(_SC_SIGSTKSZ) + 65536;
    char *memory = malloc(size);
    stack_t stack = {.ss_sp = memory, .ss_size = size}, old;
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaltstack(NULL, &old) == 0 && old.ss_sp == memory);
    struct sigaction action = {.sa_handler = where, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    raise(SIGUSR2);
    CHECK(seen >= (uintptr_t)memory && seen < (uintptr_t)memory + size);
    stack.ss_size = 100;
    CHECK_FAILS(sigaltstack(&stack, NULL), ENOMEM);
}

static void stack_overflow_is_caught_on_the_alternate_stack(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    pid_t child = fork();
    if (child == 0) {
        volatile int depth = 0;
        int dive(int n)
        {
            volatile char room[4096];
            room[0] = (char)n;
            depth = n;
            return n > 1000000 ? 0 : dive(n + 1) + room[0];
        }
        if (sigsetjmp(back, 1) == 0)
            dive(0);
        _exit(depth > 100 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void errors_are_those_of_linux(void)
{
    CHECK_FAILS(kill(0x3fffffff, 0), ESRCH);
    CHECK_FAILS(kill(getpid(), 65), EINVAL);
    struct sigaction action = {.sa_handler = SIG_IGN};
    CHECK_FAILS(sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 4), EINVAL);
    CHECK_FAILS(syscall(SYS_rt_sigprocmask, 77, &action, NULL, 8), EINVAL);
}

static void ignored_and_default_actions(void)
{
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    int status;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    int fds[2];
    CHECK(pipe(fds) == 0 && close(fds[0]) == 0);
    child = fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        (void)!write(fds[1], "x", 1);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

static void interval_timer_fires(void)
{
    handle(SIGALRM, 0);
    struct itimerval every = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    while (count < 5)
        pause();
    CHECK(setitimer(ITIMER_REAL, &off, &every) == 0 && every.it_interval.tv_usec == 10000);
}

int main(void)
{
    PART(kill_runs_the_handler_before_it_returns);
    PART(blocked_signal_stays_pending_and_merges);
    PART(realtime_signals_queue_in_order);
    PART(handler_mask_and_nodefer);
    PART(read_is_interrupted_or_restarted);
    PART(sleep_reports_the_remainder);
    PART(sigsuspend_swaps_the_mask);
    PART(faults_carry_their_address);
    PART(division_and_illegal_instruction);
    PART(handler_may_change_registers);
    PART(alternate_stack_is_used);
    PART(stack_overflow_is_caught_on_the_alternate_stack);
    PART(errors_are_those_of_linux);
    PART(ignored_and_default_actions);
    PART(interval_timer_fires);
    return 0;
}
