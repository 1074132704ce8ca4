// SSE and AVX registers survive system calls, signals, threads, fork.
#include "check.h"
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Loads eight vector registers from `seed`, makes system calls without going through C, and compares.
__attribute__((target("avx"), noinline)) static int ymm_survives(uint64_t seed, long calls)
{
    uint64_t in[4] = {seed, seed * 3, seed ^ 0x5555, ~seed}, out[8][4];
    __asm__ volatile(
        "vmovdqu %[in], %%ymm0; vmovdqu %[in], %%ymm1; vmovdqu %[in], %%ymm5; vmovdqu %[in], %%ymm15\n"
        "1: mov $39, %%eax; syscall; mov $110, %%eax; syscall; dec %[calls]; jnz 1b\n"
        "vmovdqu %%ymm0, 0(%[out]); vmovdqu %%ymm1, 32(%[out]); vmovdqu %%ymm5, 64(%[out]); vmovdqu %%ymm15, 96(%[out])\n"
        : [calls] "+r"(calls)
        : [in] "m"(in), [out] "r"(out)
        : "rax", "rcx", "r11", "xmm0", "xmm1", "xmm5", "xmm15", "memory");
    for (int i = 0; i < 4; i++)
        if (memcmp(out[i], in, sizeof in) != 0)
            return 0;
    return 1;
}

static void *churn(void *seed)
{
    for (int i = 0; i < 50; i++)
        CHECK(ymm_survives((uint64_t)(uintptr_t)seed * 1000003 + (uint64_t)i, 20));
    return NULL;
}

static void across_system_calls_in_many_threads(void)
{
    if (!__builtin_cpu_supports("avx"))
        return;
    pthread_t t[8];
    for (uintptr_t i = 0; i < 8; i++)
        CHECK(pthread_create(&t[i], NULL, churn, (void *)(i + 1)) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
}

static volatile sig_atomic_t handled;

__attribute__((target("avx"))) static void trash(int signal)
{
    (void)signal;
    __asm__ volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0; vmovdqa %%xmm0, %%xmm1; vmovdqa %%xmm0, %%xmm5; vzeroall" ::
                         : "xmm0", "xmm1", "xmm5");
    handled++;
}

static void across_signal_handlers(void)
{
    if (!__builtin_cpu_supports("avx"))
        return;
    struct sigaction action = {.sa_handler = trash};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &every, NULL) == 0);
    for (uint64_t i = 1; handled < 30; i++)
        CHECK(ymm_survives(i * 77, 50));
    CHECK(timer_delete(timer) == 0);
}

static void handler_sees_and_changes_the_state(void)
{
    void change(int signal, siginfo_t *info, void *context)
    {
        (void)signal, (void)info;
        ucontext_t *u = context;
        CHECK(u->uc_mcontext.fpregs->_xmm[7].element[0] == 0x1234);
        u->uc_mcontext.fpregs->_xmm[7].element[0] = 0x4321;
    }
    struct sigaction action = {.sa_sigaction = change, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    uint32_t value = 0x1234;
    __asm__ volatile("movd %[value], %%xmm7; mov %[pid], %%edi; mov $10, %%esi; mov $62, %%eax; syscall; movd %%xmm7, %[value]"
                     : [value] "+r"(value)
                     : [pid] "r"(getpid())
                     : "rax", "rcx", "rdi", "rsi", "r11", "xmm7", "memory");
    CHECK(value == 0x4321);
}

static void child_inherits(void)
{
    uint64_t value = 0xfeedface12345678, got = 0;
    long child;
    __asm__ volatile("movq %[value], %%xmm9; mov $57, %%eax; syscall; movq %%xmm9, %[got]"
                     : [got] "=r"(got), "=a"(child)
                     : [value] "r"(value)
                     : "rcx", "r11", "xmm9", "memory");
    if (child == 0)
        _exit(got == value ? 0 : 1);
    int status;
    CHECK(got == value && waitpid((pid_t)child, &status, 0) == child && status == 0);
}

int main(void)
{
    PART(across_system_calls_in_many_threads);
    PART(across_signal_handlers);
    PART(handler_sees_and_changes_the_state);
    PART(child_inherits);
    return 0;
}
