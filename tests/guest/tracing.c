// ptrace(2): attaching, stops, registers, memory, breakpoints, steps, events, signals, permission.
#include "check.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long ptrace(long request, pid_t pid, uintptr_t addr, uintptr_t data) {
    return syscall(SYS_ptrace, request, pid, addr, data);
}

static int next(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, __WALL) == pid);
    return status;
}

#define STOPPED(signal) ((signal) << 8 | 0x7f)
#define EVENT(event) (STOPPED(SIGTRAP) | (event) << 16)
#define GO(request, pid, signal) CHECK(ptrace(request, pid, 0, (uintptr_t)(signal)) == 0)

// A child that asks to be traced and stops.
static pid_t traced(void (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    CHECK(next(pid) == STOPPED(SIGSTOP));
    return pid;
}

static void end(pid_t pid, int status) {
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == status);
}

static volatile long counter = 5;
static void calls(void) {
    if (syscall(SYS_getppid, 11, 22, 33, 44, 55, 66) != 4242) _exit(1);
    if (syscall(SYS_getpgid, 0) != -1 || errno != ENOSYS) _exit(2);
    if (syscall(SYS_close, -5L) != getpid()) _exit(3);
    _exit(7);
}

// Entries and exits, changed numbers and results, calls that are left out.
static void test_calls(void) {
    pid_t pid = traced(calls);
    GO(PTRACE_SETOPTIONS, pid, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    struct user_regs_struct regs;
    struct ptrace_syscall_info info;
    for (int seen = 0; seen < 3;) {
        GO(PTRACE_SYSCALL, pid, 0);
        CHECK(next(pid) == STOPPED(SIGTRAP | 0x80));
        GO(PTRACE_GETREGS, pid, &regs);
        CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (uintptr_t)&info) == 80);
        CHECK(info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == regs.orig_rax && info.instruction_pointer == regs.rip);
        CHECK(regs.rax == (unsigned long)-ENOSYS);
        long nr = regs.orig_rax;
        if (nr == SYS_getppid) {
            CHECK(regs.rdi == 11 && regs.rsi == 22 && regs.rdx == 33 && regs.r10 == 44 && regs.r8 == 55 && regs.r9 == 66);
            CHECK(info.entry.args[5] == 66);
        }
        if (nr == SYS_getpgid) {
            regs.orig_rax = -1;
            GO(PTRACE_SETREGS, pid, &regs);
        }
        if (nr == SYS_close && regs.rdi == (unsigned long)-5) CHECK(ptrace(PTRACE_POKEUSR, pid, 8 * 15, SYS_getpid) == 0);
        GO(PTRACE_SYSCALL, pid, 0);
        CHECK(next(pid) == STOPPED(SIGTRAP | 0x80));
        GO(PTRACE_GETREGS, pid, &regs);
        CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (uintptr_t)&info) == 33);
        CHECK(info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval == (long)regs.rax);
        if (nr == SYS_getppid) {
            CHECK((long)regs.rax == getpid());
            regs.rax = 4242;
            GO(PTRACE_SETREGS, pid, &regs);
            seen++;
        } else if (nr == SYS_getpgid) {
            CHECK((long)regs.rax == -ENOSYS && info.exit.is_error);
            seen++;
        } else if (nr == SYS_close && (long)regs.orig_rax == SYS_getpid) {
            CHECK((long)regs.rax == pid);
            seen++;
        }
    }
    end(pid, 7 << 8);
    // Calls that are not made at all.
    pid = traced(calls);
    GO(PTRACE_SYSEMU, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTRAP));
    GO(PTRACE_GETREGS, pid, &regs);
    CHECK(regs.orig_rax == SYS_getppid);
    regs.rax = 4242;
    GO(PTRACE_SETREGS, pid, &regs);
    GO(PTRACE_SYSEMU, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTRAP));
    GO(PTRACE_KILL, pid, 0);
    CHECK(next(pid) == SIGKILL);
    puts("calls");
}

__attribute__((noinline)) static long add(long a, long b) {
    asm volatile("" : "+r"(a), "+r"(b));
    return a + b;
}

static void computes(void) {
    long sum = 0;
    for (int n = 0; n < 200; n++) sum += getppid() > 0, getpid();
    counter = add(counter, 1);
    raise(SIGUSR1);
    _exit(counter == 99 && sum ? 0 : 1);
}

// Words of memory and code, a breakpoint, steps, vector registers, process_vm_readv, /proc/PID/mem.
static void test_memory(void) {
    pid_t pid = traced(computes);
    long word = 0;
    CHECK(ptrace(PTRACE_PEEKDATA, pid, (uintptr_t)&counter, (uintptr_t)&word) == 0 && word == 5);
    CHECK(ptrace(PTRACE_PEEKDATA, pid, 8, (uintptr_t)&word) == -1 && errno == EIO);
    CHECK(ptrace(PTRACE_POKEDATA, pid, 8, 0) == -1 && errno == EIO);
    uintptr_t at = (uintptr_t)add;
    long code;
    CHECK(ptrace(PTRACE_PEEKTEXT, pid, at, (uintptr_t)&code) == 0);
    CHECK(ptrace(PTRACE_POKETEXT, pid, at, (code & ~0xffL) | 0xcc) == 0);
    CHECK(*(unsigned char *)add != 0xcc);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTRAP));
    siginfo_t info;
    GO(PTRACE_GETSIGINFO, pid, &info);
    CHECK(info.si_signo == SIGTRAP && info.si_code == SI_KERNEL);
    struct user_regs_struct regs;
    struct iovec vec = {&regs, sizeof regs};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (uintptr_t)&vec) == 0 && vec.iov_len == sizeof regs);
    CHECK(regs.rip == at + 1 && regs.rdi == 5 && regs.rsi == 1 && (long)regs.orig_rax == -1 && regs.cs == 0x33);
    CHECK(ptrace(PTRACE_POKETEXT, pid, at, code) == 0);
    regs.rip = at;
    regs.rsi = 94;
    GO(PTRACE_SETREGS, pid, &regs);
    // Instruction by instruction to the end of the function.
    int steps = 0;
    unsigned long sp = regs.rsp;
    do {
        GO(PTRACE_SINGLESTEP, pid, 0);
        CHECK(next(pid) == STOPPED(SIGTRAP));
        GO(PTRACE_GETREGS, pid, &regs);
        CHECK((regs.eflags & 0x100) == 0);
        steps++;
    } while (regs.rsp <= sp && steps < 50);
    GO(PTRACE_GETSIGINFO, pid, &info);
    CHECK(info.si_code == TRAP_TRACE && steps < 20 && regs.rax == 99);
    // A watchpoint: four bytes, written.
    CHECK(ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, u_debugreg[0]), (uintptr_t)&counter) == 0);
    CHECK(ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, u_debugreg[7]), 0xd0001) == 0);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTRAP));
    GO(PTRACE_GETSIGINFO, pid, &info);
    CHECK(info.si_code == TRAP_HWBKPT);
    CHECK(ptrace(PTRACE_PEEKUSR, pid, offsetof(struct user, u_debugreg[6]), (uintptr_t)&word) == 0 && (word & 15) == 1);
    CHECK(ptrace(PTRACE_PEEKDATA, pid, (uintptr_t)&counter, (uintptr_t)&word) == 0 && word == 99);
    CHECK(ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, u_debugreg[7]), 0) == 0);
    // Vector registers.
    static struct user_fpregs_struct fp;
    GO(PTRACE_GETFPREGS, pid, &fp);
    fp.xmm_space[0] = 0x11223344;
    GO(PTRACE_SETFPREGS, pid, &fp);
    static unsigned char state[16384];
    struct iovec whole = {state, sizeof state};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, (uintptr_t)&whole) == 0 && whole.iov_len >= 576);
    unsigned xmm, features;
    memcpy(&xmm, state + 160, 4);
    memcpy(&features, state + 464, 4);
    CHECK(xmm == 0x11223344 && (features & 3) == 3);
    CHECK(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, (uintptr_t)&whole) == 0);
    // Other ways to the memory.
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK(pread(fd, &word, 8, (off_t)&counter) == 8 && word == 99);
    CHECK(pread(fd, &word, 8, (off_t)at) == 8 && word == code);
    CHECK(pwrite(fd, &code, 8, (off_t)at) == 8);
    CHECK(pread(fd, &word, 8, 8) == -1 && errno == EIO);
    close(fd);
    struct iovec local = {&word, 8}, remote = {(void *)&counter, 8};
    CHECK(process_vm_readv(pid, &local, 1, &remote, 1, 0) == 8 && word == 99);
    // A signal, left out.
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGUSR1));
    GO(PTRACE_GETSIGINFO, pid, &info);
    CHECK(info.si_code == SI_TKILL && info.si_pid == pid);
    end(pid, 0);
    puts("memory and registers");
}

static volatile int handled;
static void on_usr2(int signal) { handled = signal; }
static void signals(void) {
    signal(SIGUSR2, on_usr2);
    raise(SIGUSR1);
    if (handled != SIGUSR2) _exit(1);
    signal(SIGWINCH, SIG_IGN);
    raise(SIGWINCH);
    // Restarted as if nothing had been.
    struct timespec wait = {1, 0};
    if (nanosleep(&wait, NULL)) _exit(2);
    raise(SIGTSTP);
    _exit(0);
}

static void test_signals(void) {
    pid_t pid = traced(signals);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGUSR1));
    uint64_t mask = 0;
    CHECK(ptrace(PTRACE_GETSIGMASK, pid, 8, (uintptr_t)&mask) == 0);
    CHECK(ptrace(PTRACE_GETSIGMASK, pid, 4, (uintptr_t)&mask) == -1 && errno == EINVAL);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 77) == -1 && errno == EIO);
    GO(PTRACE_CONT, pid, SIGUSR2);
    // Ignored, and seen all the same.
    CHECK(next(pid) == STOPPED(SIGWINCH));
    GO(PTRACE_CONT, pid, SIGWINCH);
    wait_until_asleep(pid);
    kill(pid, SIGURG);
    CHECK(next(pid) == STOPPED(SIGURG));
    struct user_regs_struct regs;
    GO(PTRACE_GETREGS, pid, &regs);
    // ERESTART_RESTARTBLOCK, or ERESTARTNOHAND.
    CHECK((long)regs.rax == -516 || (long)regs.rax == -514);
    CHECK(regs.orig_rax == SYS_nanosleep || regs.orig_rax == SYS_clock_nanosleep);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTSTP));
    siginfo_t info;
    GO(PTRACE_GETSIGINFO, pid, &info);
    GO(PTRACE_CONT, pid, SIGSTOP);
    // The stop of the process, which has no information.
    CHECK(next(pid) == STOPPED(SIGSTOP));
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info) == -1 && errno == EINVAL);
    kill(pid, SIGCONT);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGCONT));
    end(pid, 0);
    puts("signals");
}

static void *thread(void *arg) {
    syscall(SYS_getppid);
    return arg;
}

static void makes_processes(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(3);
    waitpid(pid, NULL, 0);
    pid = vfork();
    if (pid == 0) _exit(4);
    waitpid(pid, NULL, 0);
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    execl("/proc/self/exe", "tracing", "after exec", NULL);
    _exit(9);
}

// Children and threads are traced from their first instruction; each end is told.
static void test_events(void) {
    pid_t pid = traced(makes_processes);
    GO(PTRACE_SETOPTIONS, pid,
       PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEVFORKDONE |
           PTRACE_O_TRACEEXIT);
    int events[16] = {0}, ends = 0, births = 0;
    pid_t children[8] = {0};
    unsigned long message;
    GO(PTRACE_CONT, pid, 0);
    for (;;) {
        int status;
        pid_t who = waitpid(-1, &status, __WALL);
        CHECK(who > 0);
        if (WIFEXITED(status)) {
            ends++;
            if (who == pid) {
                CHECK(WEXITSTATUS(status) == 42);
                break;
            }
            continue;
        }
        CHECK(WIFSTOPPED(status));
        int event = status >> 16, signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        if (event) {
            events[event]++;
            GO(PTRACE_GETEVENTMSG, who, &message);
            if (event <= PTRACE_EVENT_CLONE) children[births++] = message;
            if (event == PTRACE_EVENT_EXEC) CHECK(message == (unsigned long)pid);
            if (event == PTRACE_EVENT_EXIT && who == pid) CHECK(message == 42 << 8);
        }
        if (who != pid && signal == SIGSTOP) signal = 0;
        CHECK(ptrace(PTRACE_CONT, who, 0, signal) == 0);
    }
    CHECK(births == 3 && children[0] && children[1] && children[2]);
    CHECK(events[PTRACE_EVENT_FORK] == 1 && events[PTRACE_EVENT_VFORK] == 1 && events[PTRACE_EVENT_CLONE] == 1);
    CHECK(events[PTRACE_EVENT_EXEC] == 1 && events[PTRACE_EVENT_VFORK_DONE] == 1 && events[PTRACE_EVENT_EXIT] == 4);
    CHECK(ends == 4);
    puts("events");
}

static void spins(void) {
    for (;;) getppid();
}

static pid_t running(void) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        spins();
        _exit(0);
    }
    struct timespec soon = {0, 20000000};
    nanosleep(&soon, NULL);
    return pid;
}

static int tracer_of(pid_t pid) {
    char path[64], line[256];
    int tracer = -1;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file)) sscanf(line, "TracerPid: %d", &tracer);
    fclose(file);
    return tracer;
}

static void test_attach(void) {
    pid_t pid = running();
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
    CHECK(tracer_of(pid) == 0);
    GO(PTRACE_ATTACH, pid, 0);
    CHECK(next(pid) == STOPPED(SIGSTOP));
    CHECK(tracer_of(pid) == getpid());
    CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == -1 && errno == EPERM);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == -1 && errno == EIO);
    GO(PTRACE_SYSCALL, pid, 0);
    CHECK(next(pid) == STOPPED(SIGTRAP));
    GO(PTRACE_DETACH, pid, 0);
    CHECK(tracer_of(pid) == 0);
    // Without a stop, and at will.
    GO(PTRACE_SEIZE, pid, PTRACE_O_TRACESYSGOOD);
    CHECK(ptrace(PTRACE_GETREGS, pid, 0, 0) == -1 && errno == ESRCH);
    GO(PTRACE_INTERRUPT, pid, 0);
    CHECK(next(pid) == EVENT(PTRACE_EVENT_STOP));
    GO(PTRACE_CONT, pid, 0);
    kill(pid, SIGSTOP);
    CHECK(next(pid) == STOPPED(SIGSTOP));
    GO(PTRACE_CONT, pid, SIGSTOP);
    CHECK(next(pid) == (STOPPED(SIGSTOP) | PTRACE_EVENT_STOP << 16));
    GO(PTRACE_LISTEN, pid, 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH);
    kill(pid, SIGCONT);
    CHECK(next(pid) == EVENT(PTRACE_EVENT_STOP));
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == STOPPED(SIGCONT));
    GO(PTRACE_CONT, pid, 0);
    kill(pid, SIGKILL);
    CHECK(next(pid) == SIGKILL);
    // The tracer's end frees, or kills.
    for (int kills = 0; kills < 2; kills++) {
        pid = running();
        pid_t tracer = fork();
        if (tracer == 0) {
            GO(PTRACE_SEIZE, pid, kills ? PTRACE_O_EXITKILL : 0);
            _exit(0);
        }
        int status;
        CHECK(waitpid(tracer, &status, 0) == tracer && status == 0);
        if (!kills) {
            CHECK(waitpid(pid, &status, WNOHANG) == 0 && tracer_of(pid) == 0);
            kill(pid, SIGTERM);
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == (kills ? SIGKILL : SIGTERM));
    }
    // Who is somebody else may not.
    pid = running();
    pid_t other = fork();
    if (other == 0) {
        CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
        CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == -1 && errno == EPERM);
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        CHECK(open(path, O_RDONLY) == -1 && errno == EACCES);
        CHECK(prctl(PR_GET_DUMPABLE) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(other, &status, 0) == other && status == 0);
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(ptrace(PTRACE_ATTACH, getpid(), 0, 0) == -1 && errno == EPERM);
    CHECK(ptrace(PTRACE_ATTACH, 99999, 0, 0) == -1 && errno == ESRCH);
    puts("attaching");
}

static void filtered(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 321),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(1);
    _exit(syscall(SYS_getsid, 0) == getpid() ? 0 : 2);
}

static void test_filter_events(void) {
    pid_t pid = traced(filtered);
    GO(PTRACE_SETOPTIONS, pid, PTRACE_O_TRACESECCOMP);
    GO(PTRACE_CONT, pid, 0);
    CHECK(next(pid) == EVENT(PTRACE_EVENT_SECCOMP));
    unsigned long message;
    GO(PTRACE_GETEVENTMSG, pid, &message);
    struct ptrace_syscall_info info;
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (uintptr_t)&info) > 80);
    CHECK(message == 321 && info.op == PTRACE_SYSCALL_INFO_SECCOMP && info.seccomp.ret_data == 321);
    CHECK(info.seccomp.nr == SYS_getsid);
    CHECK(ptrace(PTRACE_POKEUSR, pid, 8 * 15, SYS_getpid) == 0);
    end(pid, 0);
    puts("filters that ask");
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "after exec")) return 42;
    test_calls();
    test_memory();
    test_signals();
    test_events();
    test_attach();
    test_filter_events();
    return 0;
}
