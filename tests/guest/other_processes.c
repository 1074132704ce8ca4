// What a user may learn about processes of others, and change of them, through /proc and what execve(2) leaves.
#include "check.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>

#define SOMEBODY 12345

static char folder[] = "/tmp/other-processes-XXXXXX";
// Copies of this program: one that is root's for whoever starts it, one that cannot be read.
static char set_id[64], unreadable[64];

static void become(uid_t user)
{
    CHECK(setgroups(0, NULL) == 0);
    CHECK(setresgid(user, user, user) == 0);
    CHECK(setresuid(user, user, user) == 0);
}

static void copy_self(char *path, const char *name, mode_t mode)
{
    char buffer[65536];
    ssize_t n;
    snprintf(path, sizeof set_id, "%s/%s", folder, name);
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_CREAT | O_WRONLY, 0700);
    CHECK(from >= 0 && to >= 0);
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        CHECK(write(to, buffer, n) == n);
    CHECK(fchmod(to, mode) == 0);
    close(from);
    close(to);
}

static int open_of(pid_t pid, const char *name, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, flags);
}

// A child with a pipe to it: `start` is written to by whoever lets it go on.
static int start[2], ready[2];

static void pipes(void)
{
    CHECK(pipe(start) == 0 && pipe(ready) == 0);
}

static void let_go(void)
{
    CHECK(write(start[1], "x", 1) == 1);
}

static void wait_ready(void)
{
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
}

// What the copies do: say that they run, and stay until they are killed.
static int copy_main(void)
{
    char byte;
    if (write(atoi(getenv("READY")), "x", 1) != 1)
        return 1;
    while (read(atoi(getenv("START")), &byte, 1) == 1)
        ;
    return 0;
}

static void execute(const char *path)
{
    char numbers[2][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", ready[1]);
    snprintf(numbers[1], sizeof numbers[1], "%d", start[0]);
    setenv("READY", numbers[0], 1);
    setenv("START", numbers[1], 1);
    execl(path, "copy", NULL);
    CHECK(!"execl");
}

static pid_t child_that_executes(const char *path)
{
    char byte;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(read(start[0], &byte, 1) == 1);
        execute(path);
    }
    return child;
}

static void end(pid_t child)
{
    int status;
    // Whose child it is may not be who may kill it: it ends with the pipe as well.
    close(start[1]);
    close(start[0]);
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child);
}

static void sees_nothing_of_a_set_id_program_through_old_files_body(void)
{
    static const char *const names[] = {"maps", "smaps", "environ"};
    int fds[3];
    char text[256], before[256];
    become(SOMEBODY);
    prctl(PR_SET_DUMPABLE, 1);
    pipes();
    pid_t child = child_that_executes(set_id);
    for (int i = 0; i < 3; i++)
        CHECK((fds[i] = open_of(child, names[i], O_RDONLY)) >= 0);
    int vector = open_of(child, "auxv", O_RDONLY);
    CHECK(read(fds[0], text, 10) == 10);
    CHECK(pread(vector, before, sizeof before, 0) == sizeof before);
    let_go();
    wait_ready();
    for (int i = 0; i < 3; i++) {
        CHECK(lseek(fds[i], 0, SEEK_SET) == 0);
        ssize_t n = read(fds[i], text, sizeof text);
        if (n != 0)
            fprintf(stderr, "%s: %zd bytes\n", names[i], n);
        CHECK(n == 0);
    }
    // That of the old program, at most.
    ssize_t n = pread(vector, text, sizeof text, 0);
    CHECK(n == 0 || (n == sizeof text && !memcmp(text, before, sizeof text)));
    CHECK(open_of(child, "maps", O_RDONLY) == -1 && errno == EACCES);
    end(child);
}

static void sees_nothing_of_a_set_id_program_through_old_files(void)
{
    check_in_child(sees_nothing_of_a_set_id_program_through_old_files_body);
}

static void addresses_in_stat_body(void)
{
    char path[64], text[1024];
    unsigned long code, code_end, stack;
    become(SOMEBODY);
    snprintf(path, sizeof path, "/proc/%d/stat", getppid());
    for (int own = 0; own < 2; own++) {
        FILE *file = fopen(own ? "/proc/self/stat" : path, "r");
        CHECK(file && fgets(text, sizeof text, file));
        fclose(file);
        // The fields from the 26th on; the second one ends with the last parenthesis.
        char *at = strrchr(text, ')');
        for (int field = 3; field <= 26; field++)
            CHECK((at = strchr(at + 1, ' ')));
        CHECK(sscanf(at, "%lu %lu %lu", &code, &code_end, &stack) == 3);
        CHECK(own ? code > 4096 && code_end > code && stack > 4096 : code <= 1 && code_end <= 1 && stack == 0);
    }
}

static void addresses_of_others_are_hidden_in_stat(void)
{
    check_in_child(addresses_in_stat_body);
}

static void descriptors_body(void)
{
    become(SOMEBODY);
    CHECK_FAILS(open_of(getppid(), "fdinfo/1", O_RDONLY), EACCES);
    CHECK_FAILS(open_of(getppid(), "fd/1", O_RDONLY), EACCES);
    CHECK_FAILS(open_of(getppid(), "environ", O_RDONLY), EACCES);
    CHECK_FAILS(open_of(getppid(), "io", O_RDONLY), EACCES);
    int own = open("/proc/self/fdinfo/1", O_RDONLY);
    CHECK(own >= 0);
}

static void descriptors_of_others_are_hidden(void)
{
    check_in_child(descriptors_body);
}

static void names_body(void)
{
    become(SOMEBODY);
    prctl(PR_SET_DUMPABLE, 1);
    pipes();
    pid_t child = fork();
    if (child == 0) {
        char byte;
        _exit(read(start[0], &byte, 1) == 1);
    }
    int fd = open_of(child, "comm", O_WRONLY);
    CHECK(fd >= 0);
    CHECK_FAILS(write(fd, "other", 5), EINVAL);
    CHECK((fd = open("/proc/self/comm", O_WRONLY)) >= 0 && write(fd, "own", 3) == 3);
    end(child);
}

static void names_are_changed_by_the_process_only(void)
{
    check_in_child(names_body);
}

static void out_of_memory_body(void)
{
    become(SOMEBODY);
    prctl(PR_SET_DUMPABLE, 1);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    CHECK(fd >= 0);
    CHECK(write(fd, "500", 3) == 3);
    // Back to what it was, but not below.
    CHECK(pwrite(fd, "0", 1, 0) == 1);
    CHECK_FAILS(pwrite(fd, "-1", 2, 0), EACCES);
    CHECK((fd = open("/proc/self/oom_adj", O_WRONLY)) >= 0);
    CHECK_FAILS(pwrite(fd, "-1", 2, 0), EACCES);
}

static void protection_from_want_of_memory_is_a_privilege(void)
{
    check_in_child(out_of_memory_body);
}

static void unreadable_body(void)
{
    become(SOMEBODY);
    pipes();
    pid_t child = child_that_executes(unreadable);
    let_go();
    wait_ready();
    CHECK_FAILS(open_of(child, "maps", O_RDONLY), EACCES);
    CHECK_FAILS(open_of(child, "mem", O_RDONLY), EACCES);
    CHECK_FAILS(ptrace(PTRACE_SEIZE, child, 0, 0), EPERM);
    end(child);
}

static void what_cannot_be_read_cannot_be_debugged(void)
{
    check_in_child(unreadable_body);
}

static int sharer(void *unused)
{
    (void)unused;
    pause();
    return 0;
}

// Who shares the working directory with others could have it changed under the program.
static void shared_directory_body(void)
{
    static char stack[16384];
    char text[1024];
    unsigned real = 9, effective = 9;
    become(SOMEBODY);
    prctl(PR_SET_DUMPABLE, 1);
    pipes();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(clone(sharer, stack + sizeof stack, CLONE_FS | SIGCHLD, NULL) > 0);
        execute(set_id);
    }
    wait_ready();
    int fd = open_of(child, "status", O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = 0;
    CHECK(sscanf(strstr(text, "\nUid:"), " Uid: %u %u", &real, &effective) == 2);
    CHECK(real == SOMEBODY && effective == SOMEBODY);
    kill(0, SIGTERM);
}

static void set_id_needs_a_working_directory_of_ones_own(void)
{
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGTERM, _exit);
        shared_directory_body();
        pause();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == SIGTERM);
}

static void changed_ids_body(void)
{
    int signal = -1;
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    become(SOMEBODY);
    CHECK(prctl(PR_GET_DUMPABLE) != 1);
    CHECK(prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == 0);
}

static void who_changes_ids_is_left_alone(void)
{
    check_in_child(changed_ids_body);
}

// A map of many ids needs a privilege of who opened the file and of who writes to it.
static void maps_body(void)
{
    pipes();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        become(SOMEBODY);
        prctl(PR_SET_DUMPABLE, 1);
        CHECK(unshare(CLONE_NEWUSER) == 0);
        CHECK(write(ready[1], "x", 1) == 1);
        _exit(read(start[0], &byte, 1) == 1);
    }
    wait_ready();
    int users = open_of(child, "uid_map", O_WRONLY), groups = open_of(child, "gid_map", O_WRONLY), status;
    CHECK(users >= 0 && groups >= 0);
    pid_t writer = fork();
    if (writer == 0) {
        become(SOMEBODY);
        CHECK_FAILS(write(users, "1 1 10\n", 7), EPERM);
        CHECK_FAILS(write(groups, "1 1 10\n", 7), EPERM);
        _exit(0);
    }
    CHECK(waitpid(writer, &status, 0) == writer && status == 0);
    CHECK(write(users, "1 1 10\n", 7) == 7);
    CHECK(write(groups, "1 1 10\n", 7) == 7);
    end(child);
}

static void maps_ask_who_opened_and_who_writes(void)
{
    check_in_child(maps_body);
}

int main(void)
{
    if (getenv("READY"))
        return copy_main();
    CHECK(mkdtemp(folder));
    CHECK(chmod(folder, 0755) == 0);
    copy_self(set_id, "set-id", 04755);
    copy_self(unreadable, "unreadable", 0711);
    PART(sees_nothing_of_a_set_id_program_through_old_files);
    PART(addresses_of_others_are_hidden_in_stat);
    PART(descriptors_of_others_are_hidden);
    PART(names_are_changed_by_the_process_only);
    PART(protection_from_want_of_memory_is_a_privilege);
    PART(what_cannot_be_read_cannot_be_debugged);
    PART(set_id_needs_a_working_directory_of_ones_own);
    PART(who_changes_ids_is_left_alone);
    PART(maps_ask_who_opened_and_who_writes);
    unlink(set_id);
    unlink(unreadable);
    rmdir(folder);
    return 0;
}
