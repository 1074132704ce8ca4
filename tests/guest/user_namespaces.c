// User namespaces: maps, capabilities relative to a namespace, what must stay out of reach (user_namespaces(7)).
#include "check.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <grp.h>

enum { USER = 1000, GROUP = 1001, OTHER = 1500 };

// A folder that all may enter, and the file of root's in it.
static char folder[] = "/tmp/user-namespaces-XXXXXX";
static char secret[64];

static int try_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static void read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t n = read(fd, text, size - 1);
    CHECK(n >= 0);
    text[n] = 0;
    close(fd);
}

static unsigned long long capabilities(const char *name)
{
    char text[4096];
    read_file("/proc/self/status", text, sizeof text);
    char *line = strstr(text, name);
    CHECK(line);
    return strtoull(line + strlen(name) + 1, NULL, 16);
}

static void drop_to_user(void)
{
    CHECK(setgroups(0, NULL) == 0);
    CHECK(setresgid(GROUP, GROUP, GROUP) == 0 && setresuid(USER, USER, USER) == 0);
    // Whose identity has changed is not open to himself.
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
}

// Becomes a user and root of a namespace of its own.
static void become_root_inside(void)
{
    drop_to_user();
    CHECK(unshare(CLONE_NEWUSER) == 0);
    CHECK(try_write("/proc/self/setgroups", "deny") == 0);
    CHECK(try_write("/proc/self/uid_map", "0 1000 1") == 0);
    CHECK(try_write("/proc/self/gid_map", "0 1001 1\n") == 0);
}

static void unmapped(void)
{
    drop_to_user();
    CHECK(prctl(PR_SET_SECUREBITS, 0) == -1);
    CHECK(capabilities("CapEff:") == 0);
    CHECK(unshare(CLONE_NEWUSER) == 0);
    unsigned long long all = (1ULL << 41) - 1;
    CHECK(capabilities("CapEff:") == all && capabilities("CapPrm:") == all && capabilities("CapBnd:") == all);
    CHECK(capabilities("CapInh:") == 0 && capabilities("CapAmb:") == 0);
    CHECK(prctl(PR_GET_SECUREBITS) == SECUREBITS_DEFAULT);
    CHECK(getuid() == 65534 && geteuid() == 65534 && getgid() == 65534 && getegid() == 65534);
    CHECK(syscall(SYS_getuid) == 65534);
    uid_t r, e, s;
    CHECK(getresuid(&r, &e, &s) == 0 && r == 65534 && e == 65534 && s == 65534);
    CHECK(getresgid(&r, &e, &s) == 0 && r == 65534 && e == 65534 && s == 65534);
    CHECK(setfsuid(-1) == 65534 && setfsgid(-1) == 65534);
    CHECK_FAILS(setuid(0), EINVAL);
    CHECK_FAILS(setuid(1000), EINVAL);
    CHECK_FAILS(setresuid(-1, 0, -1), EINVAL);
    CHECK(setresuid(-1, -1, -1) == 0);
    CHECK_FAILS(setgid(0), EINVAL);
    CHECK_FAILS(setregid(1001, -1), EINVAL);
    gid_t none[1] = {0};
    CHECK_FAILS(setgroups(0, none), EPERM);
    struct stat st;
    CHECK(stat("/", &st) == 0 && st.st_uid == 65534 && st.st_gid == 65534);
    CHECK(stat("/proc/self", &st) == 0 && st.st_uid == 65534);
    struct statx stx;
    CHECK(statx(AT_FDCWD, "/", 0, STATX_BASIC_STATS, &stx) == 0 && stx.stx_uid == 65534);
    char text[256];
    read_file("/proc/self/uid_map", text, sizeof text);
    CHECK(text[0] == 0);
    read_file("/proc/self/setgroups", text, sizeof text);
    CHECK(strcmp(text, "allow\n") == 0);
    // Nothing that is root's.
    CHECK_FAILS(open(secret, O_RDONLY), EACCES);
    CHECK_FAILS(chown(secret, 0, 0), EINVAL);
    CHECK_FAILS(chmod(secret, 0777), EPERM);
    CHECK_FAILS(sethostname("x", 1), EPERM);
    CHECK_FAILS(mount("none", "/tmp", "tmpfs", 0, NULL), EPERM);
    CHECK_FAILS(kill(1, 0), EPERM);
}

static void a_new_namespace_maps_nobody(void)
{
    check_in_child(unmapped);
}

static void map_for_oneself(void)
{
    drop_to_user();
    CHECK(unshare(CLONE_NEWUSER) == 0);
    const char *bad[] = {"x", "0", "0 1000", "0 1000 0", "0 1000 1 1", "0 1000 1x", "-1 1000 1",
                         "4294967295 1000 1", "0 4294967295 1", "1 1000 4294967295", "0 1000 1\n0 2000 1",
                         "0 1000 5\n10 1004 1"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(try_write("/proc/self/uid_map", bad[i]), EINVAL);
    CHECK_FAILS(try_write("/proc/self/gid_map", "0 1001 1"), EPERM);
    CHECK_FAILS(try_write("/proc/self/uid_map", "0 0 1"), EPERM);
    CHECK_FAILS(try_write("/proc/self/uid_map", "0 1001 1"), EPERM);
    CHECK_FAILS(try_write("/proc/self/uid_map", "0 1000 2"), EPERM);
    CHECK_FAILS(try_write("/proc/self/uid_map", "0 1000 1\n1 1001 1"), EPERM);
    int fd = open("/proc/self/uid_map", O_WRONLY);
    CHECK(fd >= 0 && write(fd, "5 1000 1\n", 9) == 9);
    close(fd);
    CHECK(getuid() == 5 && geteuid() == 5 && getgid() == 65534);
    CHECK_FAILS(try_write("/proc/self/uid_map", "5 1000 1"), EPERM);
    CHECK_FAILS(try_write("/proc/self/setgroups", "maybe"), EINVAL);
    CHECK(try_write("/proc/self/setgroups", "allow") == 0);
    CHECK(try_write("/proc/self/setgroups", "deny\n") == 0);
    CHECK_FAILS(try_write("/proc/self/setgroups", "allow"), EPERM);
    CHECK(try_write("/proc/self/setgroups", "deny") == 0);
    CHECK(try_write("/proc/self/gid_map", "7 1001 1") == 0);
    CHECK(getgid() == 7);
    gid_t groups[1] = {7};
    CHECK_FAILS(setgroups(1, groups), EPERM);
    CHECK_FAILS(setuid(6), EINVAL);
    CHECK(setuid(5) == 0);
    char text[256];
    read_file("/proc/self/uid_map", text, sizeof text);
    CHECK(strcmp(text, "         5       1000          1\n") == 0);
    read_file("/proc/self/gid_map", text, sizeof text);
    CHECK(strcmp(text, "         7       1001          1\n") == 0);
    char path[96];
    snprintf(path, sizeof path, "%s/open/mine", folder);
    fd = open(path, O_CREAT | O_RDWR | O_EXCL, 0600);
    CHECK(fd >= 0);
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && st.st_uid == 5 && st.st_gid == 7);
    CHECK(fchown(fd, 5, 7) == 0);
    CHECK_FAILS(fchown(fd, 1000, -1), EINVAL);
    CHECK(unlink(path) == 0);
    CHECK(lstat(secret, &st) == 0 && st.st_uid == 65534 && st.st_gid == 65534);
}

static void a_user_maps_only_himself(void)
{
    check_in_child(map_for_oneself);
}

static void map_for_child(void)
{
    int fds[2], back[2];
    CHECK(pipe(fds) == 0 && pipe(back) == 0);
    pid_t child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    char c;
    if (child == 0) {
        CHECK(write(back[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1);
        CHECK(getuid() == 65534 && getgid() == 65534);
        CHECK(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
        CHECK(getuid() == 0 && getgid() == 0);
        gid_t groups[2] = {1, 9}, now[2];
        CHECK(setgroups(2, groups) == 0 && getgroups(2, now) == 2 && now[0] == 1 && now[1] == 9);
        groups[1] = 10;
        CHECK_FAILS(setgroups(2, groups), EINVAL);
        CHECK(setresgid(3, 3, 3) == 0);
        CHECK(setresuid(1, 2, 3) == 0);
        CHECK(getuid() == 1 && geteuid() == 2);
        CHECK(capabilities("CapEff:") == 0);
        char text[256];
        read_file("/proc/self/uid_map", text, sizeof text);
        CHECK(strcmp(text, "         0     100000         10\n        10     200000          5\n") == 0);
        _exit(0);
    }
    CHECK(read(back[0], &c, 1) == 1);
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%d/uid_map", child);
    // More lines than there may be.
    size_t len = 0;
    for (int i = 0; i < 341; i++)
        len += sprintf(text + len, "%d %d 1\n", i, i);
    CHECK(len < 4096);
    CHECK_FAILS(try_write(path, text), EINVAL);
    memset(text, ' ', 4096);
    text[4096] = 0;
    CHECK_FAILS(try_write(path, text), EINVAL);
    CHECK(try_write(path, "0 100000 10\n10 200000 5\n") == 0);
    snprintf(path, sizeof path, "/proc/%d/gid_map", child);
    CHECK(try_write(path, "0 100000 10") == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void root_maps_for_others(void)
{
    check_in_child(map_for_child);
}

static void capable_inside(void)
{
    become_root_inside();
    CHECK(getuid() == 0 && getgid() == 0);
    // What belongs to the namespace.
    CHECK_FAILS(sethostname("inside", 6), EPERM);
    CHECK(unshare(CLONE_NEWUTS) == 0);
    CHECK(sethostname("inside", 6) == 0);
    CHECK(unshare(CLONE_NEWIPC) == 0);
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    struct shmid_ds ds;
    CHECK(id >= 0 && shmctl(id, IPC_STAT, &ds) == 0);
    CHECK(ds.shm_perm.uid == 0 && ds.shm_perm.cuid == 0 && ds.shm_perm.gid == 0);
    ds.shm_perm.uid = 1000;
    CHECK_FAILS(shmctl(id, IPC_SET, &ds), EINVAL);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    // What does not.
    CHECK_FAILS(open(secret, O_RDONLY), EACCES);
    CHECK_FAILS(chown(secret, 0, 0), EPERM);
    CHECK_FAILS(unlink(secret), EACCES);
    char path[96];
    snprintf(path, sizeof path, "%s/open/device", folder);
    CHECK_FAILS(mknod(path, S_IFCHR | 0600, makedev(1, 3)), EPERM);
    CHECK_FAILS(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL), EPERM);
    CHECK_FAILS(setns(open("/proc/self/ns/user", O_RDONLY), CLONE_NEWUSER), EINVAL);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_max = limit.rlim_cur = 100;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_max = 101;
    CHECK_FAILS(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    CHECK_FAILS(setpriority(PRIO_PROCESS, 0, -5), EACCES);
    CHECK_FAILS(kill(getppid(), 0), EPERM);
    CHECK_FAILS(ptrace(PTRACE_ATTACH, getppid(), 0, 0), EPERM);
    // Its own capabilities can be used to give them up.
    CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME) == 0);
    CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT) == 0);
}

static void capabilities_count_inside_only(void)
{
    check_in_child(capable_inside);
}

static void dac_inside(void)
{
    char path[96], mine[96];
    snprintf(path, sizeof path, "%s/open/of-other", folder);
    snprintf(mine, sizeof mine, "%s/open/of-user", folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && fchown(fd, OTHER, GROUP) == 0);
    close(fd);
    fd = open(mine, O_CREAT | O_WRONLY, 0);
    CHECK(fd >= 0 && fchown(fd, USER, GROUP) == 0);
    close(fd);
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        // Its own file without a permission bit: CAP_DAC_OVERRIDE counts.
        CHECK((fd = open(mine, O_RDWR)) >= 0);
        close(fd);
        // The file of somebody who is nobody here: it doesn't.
        CHECK_FAILS(open(path, O_RDONLY), EACCES);
        CHECK_FAILS(chmod(path, 0666), EPERM);
        CHECK_FAILS(chown(path, 0, 0), EPERM);
        CHECK_FAILS(access(path, R_OK), EACCES);
        CHECK_FAILS(link(path, "/tmp/x-of-other"), EPERM);
        CHECK(access(mine, R_OK | W_OK) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(unlink(path) == 0 && unlink(mine) == 0);
}

static void files_of_others_stay_closed(void)
{
    check_in_child(dac_inside);
}

static void mount_inside(void)
{
    become_root_inside();
    CHECK(unshare(CLONE_NEWNS) == 0);
    char path[96];
    snprintf(path, sizeof path, "%s/open", folder);
    CHECK(mount("none", path, "tmpfs", 0, "mode=700") == 0);
    struct stat st;
    CHECK(stat(path, &st) == 0 && st.st_uid == 0 && st.st_gid == 0 && (st.st_mode & 07777) == 0700);
    CHECK_FAILS(mount("none", path, "tmpfs", 0, "uid=1000"), EINVAL);
    // The proc of a PID namespace that is not ours.
    CHECK_FAILS(mount("none", path, "proc", 0, NULL), EPERM);
    CHECK_FAILS(mount("none", path, "nosuchfs", 0, NULL), ENODEV);
    // Everything that came with the namespace stays.
    CHECK_FAILS(umount("/proc"), EINVAL);
    CHECK_FAILS(umount2("/proc", MNT_DETACH), EINVAL);
    CHECK_FAILS(mount("/", path, NULL, MS_BIND, NULL), EINVAL);
    CHECK(mount("/", path, NULL, MS_BIND | MS_REC, NULL) == 0);
    char below[128];
    snprintf(below, sizeof below, "%s/proc", path);
    CHECK_FAILS(umount(below), EINVAL);
    // Who is still inside a tree that was taken off sees no more than before.
    CHECK(chdir(path) == 0);
    CHECK(umount2(path, MNT_DETACH) == 0);
    CHECK(access("proc/self", F_OK) == 0);
    CHECK(chdir("/") == 0);
    CHECK(umount(path) == 0);
    // A device node on a file system of a user namespace is none.
    CHECK(mount("/dev/null", secret, NULL, MS_BIND, NULL) == 0);
    CHECK(open(secret, O_RDONLY) >= 0);
    CHECK(umount2(secret, MNT_DETACH) == 0);
    CHECK_FAILS(open(secret, O_RDONLY), EACCES);
    // A file of others that was covered is still closed, and what was laid over a name of root's is seen here only.
}

static void mounts_inside_are_limited(void)
{
    check_in_child(mount_inside);
}

static void mount_over_a_name(void)
{
    // What somebody mounts in his own namespace does not keep others from removing the name.
    char path[96];
    snprintf(path, sizeof path, "%s/open/folder", folder);
    CHECK(mkdir(path, 0777) == 0);
    int fds[2], back[2];
    CHECK(pipe(fds) == 0 && pipe(back) == 0);
    char c;
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        CHECK(unshare(CLONE_NEWNS) == 0 && mount("none", path, "tmpfs", 0, NULL) == 0);
        CHECK_FAILS(rmdir(path), EBUSY);
        CHECK(write(fds[1], "x", 1) == 1 && read(back[0], &c, 1) == 1);
        _exit(0);
    }
    CHECK(read(fds[0], &c, 1) == 1);
    CHECK(rmdir(path) == 0);
    CHECK(write(back[1], "x", 1) == 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void names_of_others_stay_theirs(void)
{
    check_in_child(mount_over_a_name);
}

static void read_only_mount(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/open", folder);
    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("none", path, "tmpfs", 0, "mode=777") == 0);
    CHECK(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) == 0);
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        CHECK(unshare(CLONE_NEWNS) == 0);
        CHECK_FAILS(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL), EPERM);
        CHECK_FAILS(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EPERM);
        CHECK(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0);
        CHECK_FAILS(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL), EPERM);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void restrictions_of_mounts_are_locked(void)
{
    check_in_child(read_only_mount);
}

static void set_id(void)
{
    // A set-user-ID program of root's, and one of the user's.
    char text[96], of_root[96], of_user[96];
    snprintf(of_root, sizeof of_root, "%s/open/suid-root", folder);
    snprintf(of_user, sizeof of_user, "%s/open/suid-user", folder);
    snprintf(text, sizeof text, "/proc/self/exe");
    const char *paths[] = {of_root, of_user};
    for (int i = 0; i < 2; i++) {
        int from = open(text, O_RDONLY), to = open(paths[i], O_CREAT | O_WRONLY, 0700);
        CHECK(from >= 0 && to >= 0);
        char buf[65536];
        ssize_t n;
        while ((n = read(from, buf, sizeof buf)) > 0)
            CHECK(write(to, buf, n) == n);
        CHECK(fchown(to, i ? USER : 0, i ? GROUP : 0) == 0 && fchmod(to, 04755) == 0);
        close(from);
        close(to);
    }
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            become_root_inside();
            // Root of the sandbox is nobody here: the bit does nothing.
            execl(paths[i], paths[i], "ids", "0", (char *)NULL);
            _exit(1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(unlink(of_root) == 0 && unlink(of_user) == 0);
}

static void set_id_programs_of_nobody_give_nothing(void)
{
    check_in_child(set_id);
}

static void hostile_to_the_outside(void)
{
    // A process of the same user outside: a namespace inside does not give it up.
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t victim = fork();
    if (victim == 0) {
        drop_to_user();
        CHECK(write(fds[1], "x", 1) == 1);
        pause();
        _exit(0);
    }
    char c;
    CHECK(read(fds[0], &c, 1) == 1);
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        char path[64];
        struct iovec iov = {&c, 1};
        CHECK(kill(victim, 0) == 0);
        CHECK_FAILS(ptrace(PTRACE_ATTACH, victim, 0, 0), EPERM);
        CHECK_FAILS(process_vm_readv(victim, &iov, 1, &iov, 1, 0), EPERM);
        const char *closed[] = {"environ", "maps", "mem", "ns/user", "ns/mnt", "root/etc/passwd", "cwd/etc/passwd"};
        for (unsigned i = 0; i < sizeof closed / sizeof *closed; i++) {
            snprintf(path, sizeof path, "/proc/%d/%s", victim, closed[i]);
            CHECK_FAILS(open(path, O_RDONLY), EACCES);
        }
        int pidfd = syscall(SYS_pidfd_open, victim, 0);
        CHECK(pidfd >= 0);
        CHECK_FAILS(syscall(SYS_pidfd_getfd, pidfd, fds[0], 0), EPERM);
        CHECK_FAILS(setns(pidfd, CLONE_NEWUSER), EPERM);
        snprintf(path, sizeof path, "/proc/%d/uid_map", victim);
        CHECK_FAILS(try_write(path, "0 0 1"), EPERM);
        snprintf(path, sizeof path, "/proc/%d/setgroups", victim);
        CHECK_FAILS(open(path, O_WRONLY), EACCES);
        CHECK_FAILS(ioctl(open("/proc/self/ns/mnt", O_RDONLY), NS_GET_USERNS), EPERM);
        CHECK_FAILS(ioctl(open("/proc/self/ns/user", O_RDONLY), NS_GET_PARENT), EPERM);
        uid_t owner;
        CHECK(ioctl(open("/proc/self/ns/user", O_RDONLY), NS_GET_OWNER_UID, &owner) == 0 && owner == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    kill(victim, SIGKILL);
    CHECK(waitpid(victim, NULL, 0) == victim);
}

static void the_outside_stays_out_of_reach(void)
{
    check_in_child(hostile_to_the_outside);
}

static void from_outside(void)
{
    // The maker of a namespace has all capabilities in it; the same user's other processes, too.
    int fds[2];
    CHECK(pipe(fds) == 0);
    drop_to_user();
    pid_t child = fork();
    if (child == 0) {
        CHECK(unshare(CLONE_NEWUSER) == 0);
        CHECK(write(fds[1], "x", 1) == 1);
        pause();
        _exit(0);
    }
    char c, path[64];
    CHECK(read(fds[0], &c, 1) == 1);
    snprintf(path, sizeof path, "/proc/%d/ns/user", child);
    int inside = open(path, O_RDONLY);
    CHECK(inside >= 0);
    int mine = open("/proc/self/ns/user", O_RDONLY);
    struct stat a, b;
    int parent = ioctl(inside, NS_GET_PARENT);
    CHECK(parent >= 0 && fstat(parent, &a) == 0 && fstat(mine, &b) == 0 && a.st_ino == b.st_ino);
    uid_t owner;
    CHECK(ioctl(inside, NS_GET_OWNER_UID, &owner) == 0 && owner == USER);
    CHECK(ioctl(inside, NS_GET_NSTYPE) == CLONE_NEWUSER);
    snprintf(path, sizeof path, "/proc/%d/uid_map", child);
    CHECK(try_write(path, "0 1000 1") == 0);
    char text[256];
    read_file(path, text, sizeof text);
    CHECK(strcmp(text, "         0       1000          1\n") == 0);
    CHECK_FAILS(setns(mine, 0), EINVAL);
    CHECK(setns(inside, CLONE_NEWUSER) == 0);
    CHECK(getuid() == 0 && capabilities("CapEff:") == (1ULL << 41) - 1);
    // Not back.
    CHECK_FAILS(setns(mine, 0), EPERM);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
}

static void the_maker_may_enter(void)
{
    check_in_child(from_outside);
}

static void send_credentials(void)
{
    int pair[2], on = 1;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        struct ucred peer;
        socklen_t len = sizeof peer;
        CHECK(getsockopt(pair[1], SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0);
        CHECK(peer.uid == 65534 && peer.gid == 65534 && peer.pid == getppid());
        struct ucred me = {getpid(), 0, 0};
        char control[CMSG_SPACE(sizeof me)] = {0};
        struct iovec iov = {"x", 1};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        *cmsg = (struct cmsghdr){CMSG_LEN(sizeof me), SOL_SOCKET, SCM_CREDENTIALS};
        memcpy(CMSG_DATA(cmsg), &me, sizeof me);
        CHECK(sendmsg(pair[1], &msg, 0) == 1);
        me.uid = 1;
        memcpy(CMSG_DATA(cmsg), &me, sizeof me);
        CHECK_FAILS(sendmsg(pair[1], &msg, 0), EINVAL);
        _exit(0);
    }
    char c, control[256];
    struct iovec iov = {&c, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(recvmsg(pair[0], &msg, 0) == 1);
    struct ucred who;
    memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof who);
    CHECK(who.uid == USER && who.gid == GROUP && who.pid == child);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void credentials_are_translated(void)
{
    check_in_child(send_credentials);
}

static void signal_ids(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int fds[2];
    CHECK(pipe(fds) == 0);
    pid_t child = fork();
    if (child == 0) {
        become_root_inside();
        CHECK(write(fds[1], "x", 1) == 1);
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
        CHECK(info.si_uid == 65534 && info.si_pid == getppid());
        CHECK(kill(getpid(), SIGUSR1) == 0 && sigwaitinfo(&set, &info) == SIGUSR1);
        CHECK(info.si_uid == 0);
        _exit(0);
    }
    char c;
    CHECK(read(fds[0], &c, 1) == 1);
    CHECK(kill(child, SIGUSR1) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, child, &info, WEXITED) == 0);
    CHECK(info.si_uid == USER && info.si_status == 0);
}

static void signals_name_users_as_they_are_seen(void)
{
    check_in_child(signal_ids);
}

static void nest(void)
{
    become_root_inside();
    int depth = 1;
    while (unshare(CLONE_NEWUSER) == 0) {
        CHECK(try_write("/proc/self/uid_map", "0 0 1") == 0);
        CHECK(try_write("/proc/self/gid_map", "0 0 1") == 0);
        depth++;
        CHECK(depth < 100);
    }
    CHECK(errno == ENOSPC);
    printf("%d deep\n", depth);
}

static void nesting_is_limited(void)
{
    check_in_child(nest);
}

static int thread_body(void *arg)
{
    (void)arg;
    pause();
    return 0;
}

static void rules(void)
{
    char stack[16384];
    CHECK_FAILS(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    CHECK_FAILS(clone(thread_body, stack + sizeof stack,
                      CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, NULL),
                EINVAL);
    // A root directory that hides something must stay one.
    CHECK(chroot(folder) == 0 && chdir("/") == 0);
    CHECK_FAILS(unshare(CLONE_NEWUSER), EPERM);
    CHECK_FAILS(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), EPERM);
}

static void not_from_everywhere(void)
{
    check_in_child(rules);
}

static void without_a_map(void)
{
    // Who is nobody in his namespace cannot make another.
    drop_to_user();
    CHECK(unshare(CLONE_NEWUSER) == 0);
    CHECK_FAILS(unshare(CLONE_NEWUSER), EPERM);
}

static void nobody_makes_no_namespace(void)
{
    check_in_child(without_a_map);
}

static void with_threads(void)
{
    static char stack[65536];
    int tid = clone(thread_body, stack + sizeof stack, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, NULL);
    CHECK(tid > 0);
    CHECK_FAILS(unshare(CLONE_NEWUSER), EINVAL);
    _exit(0);
}

static void only_alone(void)
{
    check_in_child(with_threads);
}

static void limits(void)
{
    become_root_inside();
    char text[64];
    read_file("/proc/sys/user/max_uts_namespaces", text, sizeof text);
    CHECK(atoi(text) > 1);
    CHECK(try_write("/proc/sys/user/max_uts_namespaces", "1") == 0);
    read_file("/proc/sys/user/max_uts_namespaces", text, sizeof text);
    CHECK(atoi(text) == 1);
    CHECK(unshare(CLONE_NEWUTS) == 0);
    CHECK_FAILS(unshare(CLONE_NEWUTS), ENOSPC);
    CHECK(unshare(CLONE_NEWIPC) == 0);
}

static void the_number_is_limited(void)
{
    check_in_child(limits);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "ids") == 0) {
        // Started by set_id(): nothing was gained, and nothing was lost.
        CHECK((int)geteuid() == atoi(argv[2]) && getuid() == 0);
        CHECK(getauxval(AT_EUID) == geteuid() && getauxval(AT_UID) == 0);
        CHECK(open(secret, O_RDONLY) < 0);
        return 0;
    }
    umask(0);
    CHECK(mkdtemp(folder) && chmod(folder, 0755) == 0);
    snprintf(secret, sizeof secret, "%s/secret", folder);
    char path[96];
    snprintf(path, sizeof path, "%s/open", folder);
    CHECK(mkdir(path, 0777) == 0);
    CHECK(close(open(secret, O_CREAT | O_WRONLY, 0600)) == 0);
    PART(a_new_namespace_maps_nobody);
    PART(a_user_maps_only_himself);
    PART(root_maps_for_others);
    PART(capabilities_count_inside_only);
    PART(files_of_others_stay_closed);
    PART(mounts_inside_are_limited);
    PART(names_of_others_stay_theirs);
    PART(restrictions_of_mounts_are_locked);
    PART(set_id_programs_of_nobody_give_nothing);
    PART(the_outside_stays_out_of_reach);
    PART(the_maker_may_enter);
    PART(credentials_are_translated);
    PART(signals_name_users_as_they_are_seen);
    PART(nesting_is_limited);
    PART(not_from_everywhere);
    PART(nobody_makes_no_namespace);
    PART(only_alone);
    PART(the_number_is_limited);
    CHECK(unlink(secret) == 0 && rmdir(path) == 0 && rmdir(folder) == 0);
    return 0;
}
