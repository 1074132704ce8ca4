// Random system calls, for the sandbox only: it refuses to run where it could do harm.
//
//   syscalls SEED SECONDS [WORKERS] [USER]
//
// The supervisor keeps WORKERS processes with seeds of their own going, takes away what they leave, and checks that each
// of them can be killed. It ends with 0 unless one of them could not, after a line with the number of calls.
#define _GNU_SOURCE
#include "makers.h"

#include <dirent.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

#define MOST_WORKERS 16
// A worker lives for so many calls of each thread, and without a new one for so many seconds.
#define LIFE 6000
#define STALL 2
// How long the death of a killed process may take on a busy machine.
#define DYING 30

static pid_t workers[MOST_WORKERS];
// Workers may unmount what the name leads to.
static int proc;
static volatile u64 *progress;
static volatile u64 *counter;

static void act(void);

static void run(u64 calls)
{
    while (calls-- > 0) {
        act();
        ++*counter;
    }
}

static int descend(void *unused)
{
    (void)unused;
    make_arena();
    run(below(300));
    syscall(SYS_exit, 0);
    return 0;
}

static void have_child(void)
{
    static char stack[4][65536];
    int slot = below(CHILDREN), status;
    for (int i = 0; i < CHILDREN; i++)
        if (children[i] > 0 && syscall(SYS_wait4, children[i], &status, WNOHANG, 0) == children[i])
            children[i] = 0;
    if (children[slot] > 0)
        return;
    u64 seed = any64();
    u64 flags = SIGCHLD;
    if (one_in(3))
        flags |= 1ULL << PICK(17, 26, 27, 28, 29, 30, 9, 10, 13, 15, 25);
    int child;
    if (one_in(4)) {
        struct clone_args a = {.flags = flags & ~0xffULL, .exit_signal = SIGCHLD};
        if (one_in(6))
            a.flags |= bits(36) & ~0x10100ULL;
        if (a.flags & 0x1000)
            a.pidfd = (u64)room(8);
        child = syscall(SYS_clone3, copy_of(&a, sizeof a), PICK(64, 80, 88, sizeof a));
    } else if (one_in(4)) {
        // Shares the memory, on a stack that others may use as well.
        random_state = seed;
        child = clone(descend, stack[below(4)] + sizeof *stack - 64, CLONE_VM | flags, NULL);
    } else {
        child = syscall(SYS_clone, flags, 0, 0, 0, 0);
    }
    if (child > 0)
        children[slot] = child;
    if (child != 0)
        return;
    random_state = seed;
    memset((void *)children, 0, sizeof children);
    if (one_in(3))
        syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
    if (one_in(8)) {
        // Whatever registers the frame on the stack says.
        u64 frame[128];
        for (size_t i = 0; i < COUNT(frame); i++)
            frame[i] = one_in(3) ? buffer(64) : (u64)number();
        __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" : : "r"(frame) : "memory");
    }
    if (one_in(8)) {
        char *const words[] = {"/bin/true", NULL};
        syscall(one_in(2) ? SYS_execve : SYS_execveat, one_in(2) ? path() : text("/bin/true"), words, words, 0, 0);
    }
    run(below(300));
    syscall(SYS_exit_group, 0);
}

static void act(void)
{
    switch (below(40)) {
    case 0: case 1: case 2: make_file(); break;
    case 3: case 4: case 5: socket_option(); break;
    case 6: case 7: io_control(); break;
    case 8: file_control(); break;
    case 9: case 10: case 11: mapping(); break;
    case 12: fast_mutex(); break;
    case 13: case 14: talk_netlink(); break;
    case 15: if (one_in(3)) make_ipc(); break;
    case 16: if (one_in(3)) mounting(); break;
    case 17: process_control(); break;
    case 18: if (one_in(6)) have_child(); break;
    case 19: write_packet(); break;
    default: plain_call();
    }
}

static void *thread(void *seed)
{
    random_state = (u64)seed;
    make_arena();
    run(LIFE);
    return NULL;
}

static void nothing(int signal)
{
    (void)signal;
}

static void become(u64 seed, uid_t user)
{
    random_state = seed;
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rlimit files = {256, 256}, memory = {1 << 30, 1 << 30}, data = {64 << 20, 64 << 20}, processes = {64, 64};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_AS, &memory);
    setrlimit(RLIMIT_FSIZE, &data);
    setrlimit(RLIMIT_NPROC, &processes);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    // Blocking calls end soon.
    struct sigaction action = {.sa_handler = nothing};
    for (int s = 1; s <= 64; s++)
        if (s != SIGSEGV && s != SIGBUS && s != SIGILL && s != SIGFPE && s != SIGTERM)
            sigaction(s, &action, NULL);
    struct itimerval tick = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &tick, NULL);
    close(proc);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (user != 0 && (setgroups(0, NULL) != 0 || setgid(user) != 0 || setuid(user) != 0))
        _exit(3);
    if (user != 0 && one_in(2))
        unshare(CLONE_NEWUSER);
    if (!one_in(8))
        unshare(CLONE_NEWNET | CLONE_NEWIPC | (one_in(2) ? CLONE_NEWNS : 0) | (one_in(2) ? CLONE_NEWUTS : 0) | (one_in(3) ? CLONE_NEWPID : 0));
    system("ip link set lo up 2>/dev/null");
    make_arena();
    shared_words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    syscall(SYS_mmap, PLAYGROUND, PLAYGROUND_PAGES * PAGE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; i < 40; i++)
        make_file();
    pthread_t others[2];
    int threads = below(3);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&others[i], NULL, thread, (void *)any64()) != 0)
            threads = i;
    run(LIFE);
    _exit(0);
}

static void empty(int folder)
{
    DIR *list = fdopendir(folder);
    if (!list)
        return;
    struct dirent *entry;
    while ((entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        for (int n = 0; n < 3; n++)
            if (unlinkat(dirfd(list), entry->d_name, 0) != 0 && unlinkat(dirfd(list), entry->d_name, AT_REMOVEDIR) != 0) {
                int inner = openat(dirfd(list), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
                char name[300];
                snprintf(name, sizeof name, "/proc/self/fd/%d/%s", dirfd(list), entry->d_name);
                umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW);
                if (inner >= 0)
                    empty(inner);
            }
    }
    closedir(list);
}

// Takes note of who has ended; what workers leave behind becomes the supervisor's.
static void reap(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG | __WALL)) > 0)
        for (int i = 0; i < MOST_WORKERS; i++)
            if (workers[i] == pid)
                workers[i] = 0;
}

static int bury(int worker)
{
    pid_t pid = workers[worker];
    char name[64], text[2048] = "";
    for (int tenth = 0; tenth < DYING * 10; tenth++) {
        kill(pid, SIGKILL);
        usleep(tenth == 0 ? 1000 : 100000);
        reap();
        if (workers[worker] == 0)
            return 0;
    }
    snprintf(name, sizeof name, "%d/status", pid);
    int status = openat(proc, name, O_RDONLY);
    ssize_t size = read(status, text, sizeof text - 1);
    printf("stuck: process %d does not die\n%s", pid, size > 0 ? text : "");
    fflush(stdout);
    // For who wants to look at the sandbox in this state.
    if (getenv("FUZZ_HOLD"))
        sleep(atoi(getenv("FUZZ_HOLD")));
    return 1;
}

// Kills all processes of the namespace but this one and what belongs to a worker.
static void sweep(void)
{
    int copy = openat(proc, ".", O_RDONLY | O_DIRECTORY);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        pid_t pid = atoi(entry->d_name), session = pid > 1 ? getsid(pid) : 0;
        int known = pid <= 1;
        for (int i = 0; i < MOST_WORKERS; i++)
            known |= workers[i] > 0 && (pid == workers[i] || session == workers[i]);
        if (!known)
            kill(pid, SIGKILL);
    }
    if (list)
        closedir(list);
    reap();
}

static void forget_ipc(void)
{
    char rest[1024];
    const struct { const char *list; int call; } kinds[] = {{"/proc/sysvipc/shm", SYS_shmctl}, {"/proc/sysvipc/sem", SYS_semctl},
                                                            {"/proc/sysvipc/msg", SYS_msgctl}};
    for (size_t i = 0; i < COUNT(kinds); i++) {
        FILE *file = fopen(kinds[i].list, "r");
        int key, id;
        while (file && fgets(rest, sizeof rest, file))
            if (sscanf(rest, "%d %d", &key, &id) == 2)
                kinds[i].call == SYS_semctl ? syscall(SYS_semctl, id, 0, 0, 0) : syscall(kinds[i].call, id, 0, 0);
        if (file)
            fclose(file);
    }
    syscall(SYS_mq_unlink, "q");
    syscall(SYS_mq_unlink, "r");
}

// Anywhere else this would do harm.
static int is_sandbox(void)
{
    char version[256] = "";
    FILE *file = fopen("/proc/version", "r");
    int read = file && fgets(version, sizeof version, file);
    if (file)
        fclose(file);
    return read && strstr(version, "(root@sandbox)") && getpid() < 1000;
}

// In a PID namespace of its own: signals of the workers do not end its first process.
static int supervise(u64 seed, int seconds, int count, uid_t user);

int main(int argc, char **argv)
{
    if (argc < 3 || !is_sandbox()) {
        fprintf(stderr, "syscalls SEED SECONDS [WORKERS] [USER], in a sandbox\n");
        return 2;
    }
    int count = argc > 3 ? atoi(argv[3]) : 2, status;
    if (count < 1 || count > MOST_WORKERS || unshare(CLONE_NEWPID | CLONE_NEWNS) != 0)
        return 2;
    pid_t child = fork();
    if (child == 0)
        return supervise(strtoull(argv[1], NULL, 0), atoi(argv[2]), count, argc > 4 ? atoi(argv[4]) : 0);
    if (waitpid(child, &status, 0) != child)
        return 2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int supervise(u64 seed, int seconds, int count, uid_t user)
{
    int stuck = 0;
    if (mount("proc", "/proc", "proc", 0, NULL) != 0 || (proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 3;
    progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGTERM, SIG_IGN);
    // Kept open, since workers rename and cover what names lead to.
    char folder[] = "/tmp/fuzz-XXXXXX";
    if (!mkdtemp(folder) || mount("fuzz", folder, "tmpfs", 0, "mode=0711") != 0)
        return 3;
    int base = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    u64 seen[MOST_WORKERS] = {0}, lives = 0;
    struct timespec moved[MOST_WORKERS], now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t last = now.tv_sec + seconds;
    while (now.tv_sec < last && !stuck) {
        for (int i = 0; i < count; i++) {
            reap();
            if (progress[i] != seen[i])
                seen[i] = progress[i], moved[i] = now;
            else if (workers[i] > 0 && now.tv_sec - moved[i].tv_sec > STALL)
                stuck |= bury(i);
            if (workers[i] == 0) {
                char name[16];
                snprintf(name, sizeof name, "%d", i);
                sweep();
                int old = openat(base, name, O_RDONLY | O_DIRECTORY);
                if (old >= 0)
                    empty(old);
                mkdirat(base, name, 0777), fchmodat(base, name, 0777, 0);
                if (fchdir(base) != 0 || chdir(name) != 0)
                    perror(name);
                counter = progress + i, moved[i] = now;
                lives++;
                pid_t pid = fork();
                if (pid == 0)
                    become(seed + (lives << 32 | i), user);
                workers[i] = pid > 0 ? pid : 0;
                if (chdir("/") != 0)
                    perror("/");
            }
        }
        if (lives % 32 == 0)
            forget_ipc();
        usleep(20000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    u64 calls = 0;
    for (int i = 0; i < count; i++) {
        calls += progress[i];
        if (workers[i] > 0)
            stuck |= bury(i);
    }
    sweep();
    printf("%llu calls, %llu lives\n", (unsigned long long)calls, (unsigned long long)lives);
    fflush(stdout);
    return stuck;
}
