// Namespaces and the files that stand for them (namespaces(7), ioctl_ns(2), setns(2), unshare(2)).
#include "check.h"
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static int ns_open(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static ino_t ns_number(const char *name)
{
    int fd = ns_open(name);
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    close(fd);
    return st.st_ino;
}

static void files_name_their_namespace(void)
{
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {
        {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC},   {"mnt", CLONE_NEWNS},
        {"user", CLONE_NEWUSER},     {"uts", CLONE_NEWUTS},
    };
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64], text[64], expected[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
        ssize_t len = readlink(path, text, sizeof text - 1);
        CHECK(len > 0);
        text[len] = 0;
        int fd = ns_open(kinds[i].name);
        struct stat st;
        CHECK(fstat(fd, &st) == 0);
        CHECK(st.st_uid == 0 && st.st_gid == 0 && st.st_mode == (S_IFREG | 0444));
        snprintf(expected, sizeof expected, "%s:[%lu]", kinds[i].name, (unsigned long)st.st_ino);
        CHECK(strcmp(text, expected) == 0);
        CHECK(ioctl(fd, NS_GET_NSTYPE) == kinds[i].kind);
        struct statfs fs;
        CHECK(fstatfs(fd, &fs) == 0 && fs.f_type == 0x6e736673);
        struct stat through;
        CHECK(stat(path, &through) == 0 && through.st_ino == st.st_ino && through.st_dev == st.st_dev);
        char c;
        CHECK_FAILS(read(fd, &c, 1), EINVAL);
        CHECK_FAILS(ioctl(fd, TIOCGWINSZ, &c), ENOTTY);
        CHECK_FAILS(open(path, O_RDONLY | O_NOFOLLOW), ELOOP);
        if (kinds[i].kind != CLONE_NEWUSER) {
            CHECK_FAILS(ioctl(fd, NS_GET_PARENT), EINVAL);
            uid_t uid;
            CHECK_FAILS(ioctl(fd, NS_GET_OWNER_UID, &uid), EINVAL);
            int owner = ioctl(fd, NS_GET_USERNS);
            struct stat user;
            CHECK(owner >= 0 && fstat(owner, &user) == 0 && user.st_ino == ns_number("user"));
            CHECK(fcntl(owner, F_GETFD) == FD_CLOEXEC);
            close(owner);
        }
        close(fd);
    }
}

static void unshare_all(void)
{
    ino_t cgroup = ns_number("cgroup"), ipc = ns_number("ipc"), mnt = ns_number("mnt"), uts = ns_number("uts");
    CHECK(unshare(CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWUTS) == 0);
    CHECK(cgroup != ns_number("cgroup") && ipc != ns_number("ipc"));
    CHECK(mnt != ns_number("mnt") && uts != ns_number("uts"));
}

static void unshare_makes_new_ones(void)
{
    ino_t uts = ns_number("uts");
    check_in_child(unshare_all);
    CHECK(uts == ns_number("uts"));
}

static void enter_uts(void)
{
    char before[65], now[65];
    CHECK(gethostname(before, sizeof before) == 0);
    int old = ns_open("uts");
    CHECK(unshare(CLONE_NEWUTS) == 0);
    int new = ns_open("uts");
    CHECK(sethostname("elsewhere", 9) == 0);
    CHECK_FAILS(setns(old, CLONE_NEWIPC), EINVAL);
    CHECK(setns(old, CLONE_NEWUTS) == 0);
    CHECK(gethostname(now, sizeof now) == 0 && strcmp(before, now) == 0);
    CHECK(setns(new, 0) == 0);
    CHECK(gethostname(now, sizeof now) == 0 && strcmp(now, "elsewhere") == 0);
    int other = open("/dev/null", O_RDONLY);
    CHECK_FAILS(setns(other, 0), EINVAL);
    CHECK_FAILS(setns(-1, 0), EBADF);
}

static void setns_goes_back_and_forth(void)
{
    check_in_child(enter_uts);
}

static void enter_ipc(void)
{
    int old = ns_open("ipc");
    int id = shmget(4711, 4096, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(id >= 0);
    CHECK(unshare(CLONE_NEWIPC) == 0);
    CHECK_FAILS(shmget(4711, 4096, 0600), ENOENT);
    CHECK(setns(old, CLONE_NEWIPC) == 0);
    CHECK(shmget(4711, 4096, 0600) == id);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
}

static void objects_stay_in_their_namespace(void)
{
    check_in_child(enter_ipc);
}

static void enter_mounts(void)
{
    char folder[] = "/tmp/namespaces-XXXXXX", path[64];
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    int old = ns_open("mnt");
    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    int new = ns_open("mnt");
    CHECK(mount("none", folder, "tmpfs", 0, NULL) == 0);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0);
    close(fd);
    CHECK(chdir(folder) == 0);
    CHECK(setns(old, CLONE_NEWNS) == 0);
    char cwd[64];
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(cwd, "/") == 0);
    CHECK(access(path, F_OK) == -1 && errno == ENOENT);
    CHECK(setns(new, CLONE_NEWNS) == 0);
    CHECK(access(path, F_OK) == 0);
    CHECK(umount(folder) == 0);
    CHECK(setns(old, CLONE_NEWNS) == 0);
    CHECK(rmdir(folder) == 0);
}

static void mounts_are_seen_in_their_namespace_only(void)
{
    check_in_child(enter_mounts);
}

static void enter_by_process(void)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0);
        CHECK(write(fds[1], "x", 1) == 1);
        pause();
        _exit(0);
    }
    char c;
    CHECK(read(fds[0], &c, 1) == 1);
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    CHECK(pidfd >= 0);
    ino_t uts = ns_number("uts"), ipc = ns_number("ipc");
    CHECK_FAILS(setns(pidfd, 0), EINVAL);
    CHECK_FAILS(setns(pidfd, CLONE_NEWUTS | CLONE_VM), EINVAL);
    CHECK(setns(pidfd, CLONE_NEWUTS) == 0);
    CHECK(uts != ns_number("uts") && ipc == ns_number("ipc"));
    CHECK(setns(pidfd, CLONE_NEWUTS | CLONE_NEWIPC) == 0);
    CHECK(ipc != ns_number("ipc"));
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK_FAILS(setns(pidfd, CLONE_NEWUTS), ESRCH);
}

static void a_pidfd_names_namespaces(void)
{
    check_in_child(enter_by_process);
}

static void enter_without_privilege(void)
{
    int fd = ns_open("uts");
    CHECK(setgid(1000) == 0 && setuid(1000) == 0);
    CHECK_FAILS(setns(fd, 0), EPERM);
    CHECK_FAILS(unshare(CLONE_NEWUTS), EPERM);
    CHECK_FAILS(syscall(SYS_clone, CLONE_NEWIPC | SIGCHLD, 0, 0, 0, 0), EPERM);
    CHECK_FAILS(open("/proc/1/ns/uts", O_RDONLY), EACCES);
}

static void entering_needs_privilege(void)
{
    check_in_child(enter_without_privilege);
}

int main(void)
{
    PART(files_name_their_namespace);
    PART(unshare_makes_new_ones);
    PART(setns_goes_back_and_forth);
    PART(objects_stay_in_their_namespace);
    PART(mounts_are_seen_in_their_namespace_only);
    PART(a_pidfd_names_namespaces);
    PART(entering_needs_privilege);
    return 0;
}
