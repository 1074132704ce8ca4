// seccomp(2): modes, answers, stacking, threads, inheritance, what filters may do and what they see.
#include "check.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IF(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1)

static int seccomp(unsigned op, unsigned flags, void *arg) { return syscall(SYS_seccomp, op, flags, arg); }

static int install(struct sock_filter *code, unsigned short len, unsigned flags) {
    struct sock_fprog program = {len, code};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
}

// Answers `answer` to one call and allows the others.
static int one(int nr, unsigned answer, unsigned flags) {
    struct sock_filter code[] = {LOAD(nr), IF(nr), ANSWER(answer), ANSWER(SECCOMP_RET_ALLOW)};
    return install(code, 4, flags);
}

// Runs a function in a child and gives its wait status.
static int in_child(void (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        run();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void field(const char *name, char *value) {
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file);
    char line[256];
    size_t len = strlen(name);
    value[0] = 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, len) && line[len] == ':') sscanf(line + len + 1, "%s", value);
    fclose(file);
}

static int caught, caught_code, caught_errno, caught_nr;
static unsigned caught_arch;
static uintptr_t caught_at, caught_ip;
static void on_sigsys(int signal, siginfo_t *info, void *context) {
    caught = signal;
    caught_code = info->si_code;
    caught_errno = info->si_errno;
    caught_nr = info->si_syscall;
    caught_arch = info->si_arch;
    caught_at = (uintptr_t)info->si_call_addr;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    caught_ip = regs[REG_RIP];
    regs[REG_RAX] = 4711;
}

static void answers(void) {
    CHECK(prctl(PR_GET_SECCOMP) == 0);
    CHECK(one(SYS_getppid, SECCOMP_RET_ERRNO | 77, 0) == 0);
    CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHECK(syscall(SYS_getppid) == -1 && errno == 77);
    // Errors are at most 4095.
    CHECK(one(SYS_getpgrp, SECCOMP_RET_ERRNO | 0xffff, 0) == 0);
    CHECK(syscall(SYS_getpgrp) == -1 && errno == 4095);
    // An error of 0 is success.
    CHECK(one(SYS_sync, SECCOMP_RET_ERRNO, 0) == 0);
    CHECK(syscall(SYS_sync) == 0);
    // Nobody traces.
    CHECK(one(SYS_getsid, SECCOMP_RET_TRACE | 5, 0) == 0);
    CHECK(syscall(SYS_getsid, 0) == -1 && errno == ENOSYS);
    CHECK(one(SYS_getpgid, SECCOMP_RET_LOG, 0) == 0);
    CHECK(syscall(SYS_getpgid, 0) > 0);
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    CHECK(one(SYS_getpriority, SECCOMP_RET_TRAP | 123, 0) == 0);
    CHECK(syscall(SYS_getpriority, 0, 0) == 4711);
    CHECK(caught == SIGSYS && caught_code == SYS_SECCOMP && caught_errno == 123 && caught_nr == SYS_getpriority);
    CHECK(caught_arch == AUDIT_ARCH_X86_64 && caught_at == caught_ip);
    char value[64];
    field("Seccomp", value);
    CHECK(!strcmp(value, "2"));
    field("Seccomp_filters", value);
    CHECK(!strcmp(value, "6"));
}

// Calls of one place, which become fast after a while: a filter that is installed then has to be asked.
// The functions that "always succeed" return the error as it is.
static void hot_calls(void) {
    pid_t pid = getpid();
    for (int n = 0; n < 300; n++) {
        CHECK(getpid() == pid && syscall(SYS_getpid) == pid && getuid() == syscall(SYS_getuid) && getppid() > 0);
    }
    CHECK(one(SYS_getuid, SECCOMP_RET_ERRNO | 3, 0) == 0);
    for (int n = 0; n < 300; n++) {
        CHECK(getpid() == pid && (int)getuid() == -3);
        CHECK(syscall(SYS_getuid) == -1 && errno == 3);
    }
    CHECK(one(SYS_getpid, SECCOMP_RET_ERRNO | 2, 0) == 0);
    for (int n = 0; n < 300; n++) CHECK(getpid() == -2 && getppid() > 0);
}

static void arguments(void) {
    struct sock_filter code[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        ANSWER(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x12345678, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff),
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_A, 0),
        ANSWER(SECCOMP_RET_ERRNO | 1),
        ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK(install(code, sizeof code / sizeof *code, 0) == 0);
    CHECK(syscall(SYS_getpriority, 0, 0, 0, 0, 0, 0x1234567800000042) == -1 && errno == 0x42);
    CHECK(syscall(SYS_getpriority, 0, 0, 0, 0, 0, 0x1234567900000042) == -1 && errno == 1);
}

static void precedence(void) {
    CHECK(one(SYS_getppid, SECCOMP_RET_ERRNO | 1, 0) == 0);
    CHECK(one(SYS_getppid, SECCOMP_RET_ERRNO | 2, 0) == 0);
    CHECK(syscall(SYS_getppid) == -1 && errno == 2);
    CHECK(one(SYS_getppid, SECCOMP_RET_LOG, 0) == 0);
    CHECK(one(SYS_getppid, SECCOMP_RET_TRACE, 0) == 0);
    CHECK(syscall(SYS_getppid) == -1 && errno == 2);
    // Kept over fork and execve.
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(syscall(SYS_getppid) == -1 && errno == 2);
        execl("/proc/self/exe", "seccomp", "filtered", NULL);
        _exit(9);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void killed_process(void) {
    CHECK(one(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0) == 0);
    syscall(SYS_getppid);
}

static void killed_thread(void) {
    CHECK(one(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0) == 0);
    syscall(SYS_getppid);
}

static void unknown_answer(void) {
    CHECK(one(SYS_getppid, 0x00110000, 0) == 0);
    syscall(SYS_getppid);
}

static void *calls_getppid(void *arg) {
    syscall(SYS_getppid);
    return arg;
}

// The thread ends, the process does not.
static void killed_other_thread(void) {
    CHECK(one(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, calls_getppid, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    _exit(5);
}

static void strict(void) {
    CHECK(seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL) == 0);
    CHECK(write(1, "", 0) == 0);
    syscall(SYS_exit, 3);
}

static void strict_killed(void) {
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    getppid();
}

static void strict_is_no_way_back(void) {
    CHECK(one(SYS_getppid, SECCOMP_RET_ALLOW, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 && errno == EINVAL);
    CHECK(seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL) == -1 && errno == EINVAL);
}

static pthread_barrier_t barrier;
static volatile int go, seen;
static pid_t other;
static void *spins(void *arg) {
    other = gettid();
    if (arg) CHECK(one(SYS_getpgrp, SECCOMP_RET_ERRNO | 1, 0) == 0);
    pid_t pid = getpid();
    for (int n = 0; n < 300; n++) CHECK(getpid() == pid);
    pthread_barrier_wait(&barrier);
    while (!go) getpid();
    seen = getpid();
    seen = seen < 0 ? -seen : 0;
    return NULL;
}

static void sync_threads(void) {
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK(pthread_create(&thread, NULL, spins, NULL) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(one(SYS_getpid, SECCOMP_RET_ERRNO | 9, SECCOMP_FILTER_FLAG_TSYNC) == 0);
    go = 1;
    pthread_join(thread, NULL);
    CHECK(seen == 9);
}

static void sync_fails(void) {
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK(pthread_create(&thread, NULL, spins, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(one(SYS_getpid, SECCOMP_RET_ERRNO | 9, SECCOMP_FILTER_FLAG_TSYNC) == other);
    errno = 0;
    CHECK(one(SYS_getpid, SECCOMP_RET_ERRNO | 9, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == -1);
    CHECK(errno == ESRCH);
    CHECK(getpid() > 0);
    go = 1;
    pthread_join(thread, NULL);
    CHECK(seen == 0);
}

static void refused(void) {
    struct sock_filter good[] = {ANSWER(SECCOMP_RET_ALLOW)};
    CHECK(install(good, 0, 0) == -1 && errno == EINVAL);
    CHECK(install(good, 1, 1 << 20) == -1 && errno == EINVAL);
    CHECK(install((void *)8, 1, 0) == -1 && errno == EFAULT);
    CHECK(seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL) == -1 && errno == EFAULT);
    CHECK(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 && errno == EINVAL);
    CHECK(seccomp(99, 0, NULL) == -1 && errno == EINVAL);
    CHECK(prctl(PR_SET_SECCOMP, 7) == -1 && errno == EINVAL);
    struct sock_filter bad[][2] = {
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ANSWER(0)},
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ANSWER(0)},
        {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ANSWER(0)},
        {BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), ANSWER(0)},
        {BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 2), ANSWER(0)},
        {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ANSWER(0)},
        {BPF_STMT(BPF_LD | BPF_MEM, 0), ANSWER(0)},
        {ANSWER(0), BPF_STMT(BPF_LD | BPF_IMM, 0)},
        {BPF_STMT(BPF_JMP | BPF_JA, 1), ANSWER(0)},
    };
    for (unsigned n = 0; n < sizeof bad / sizeof *bad; n++) CHECK(install(bad[n], 2, 0) == -1 && errno == EINVAL);
    unsigned known[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                        SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW};
    for (unsigned n = 0; n < 7; n++) CHECK(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &known[n]) == 0);
    unsigned unknown = 0x00110000;
    CHECK(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &unknown) == -1 && errno == EOPNOTSUPP);
    CHECK(seccomp(SECCOMP_GET_ACTION_AVAIL, 1, known) == -1 && errno == EINVAL);
    // 32768 instructions in all. The kernel counts those that it translates a program to.
    static struct sock_filter full[4096];
    for (int n = 0; n < 4096; n++) full[n] = good[0];
    unsigned flags = SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    int fit = 0;
    while (fit < 9 && install(full, 4096, flags) == 0) fit++;
    CHECK(fit >= 3 && fit < 8 && errno == ENOMEM);
}

static void without_privilege(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(setuid(1000) == 0);
        CHECK(one(SYS_getppid, SECCOMP_RET_ALLOW, 0) == -1 && errno == EACCES);
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(one(SYS_getppid, SECCOMP_RET_ALLOW, 0) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "filtered")) {
        CHECK(syscall(SYS_getppid) == -1 && errno == 2);
        return 0;
    }
    CHECK(in_child(answers) == 0);
    puts("answers");
    CHECK(in_child(hot_calls) == 0);
    puts("hot calls");
    CHECK(in_child(arguments) == 0);
    CHECK(in_child(precedence) == 0);
    puts("precedence, fork and execve");
    CHECK(in_child(killed_process) == SIGSYS);
    CHECK(in_child(killed_thread) == SIGSYS);
    CHECK(in_child(unknown_answer) == SIGSYS);
    CHECK(in_child(killed_other_thread) == 5 << 8);
    puts("kills");
    CHECK(in_child(strict) == 3 << 8);
    CHECK(in_child(strict_killed) == SIGKILL);
    CHECK(in_child(strict_is_no_way_back) == 0);
    puts("strict mode");
    CHECK(in_child(sync_threads) == 0);
    CHECK(in_child(sync_fails) == 0);
    puts("threads");
    CHECK(in_child(refused) == 0);
    without_privilege();
    puts("refusals");
    return 0;
}
