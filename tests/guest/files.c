// Files and directories: opening, positions, links, renaming, attributes, locks, listing (path_resolution(7)).
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdint.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static char folder[] = "/tmp/files-XXXXXX";

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static int has(const char *path, const char *text)
{
    char buffer[1000] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, buffer, sizeof buffer - 1) < 0)
        return 0;
    close(fd);
    return strcmp(buffer, text) == 0;
}

static void open_flags(void)
{
    put("a", "text");
    CHECK_FAILS(open("a", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
    CHECK_FAILS(open("none", O_RDONLY), ENOENT);
    CHECK_FAILS(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_FAILS(open(".", O_WRONLY), EISDIR);
    CHECK_FAILS(open("a/b", O_RDONLY), ENOTDIR);
    CHECK_FAILS(open("", O_RDONLY), ENOENT);
    int fd = open("a", O_WRONLY | O_APPEND);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && write(fd, "+", 1) == 1 && has("a", "text+") && lseek(fd, 0, SEEK_CUR) == 5);
    CHECK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
    char c;
    CHECK_FAILS(read(fd, &c, 1), EBADF);
    CHECK(close(fd) == 0);
    CHECK_FAILS(close(fd), EBADF);
    fd = open("a", O_PATH);
    CHECK_FAILS(read(fd, &c, 1), EBADF);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == 5 && close(fd) == 0);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && fstat(fd, &s) == 0 && s.st_nlink == 0 && close(fd) == 0);
    char name[NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_MAX + 1] = 0;
    CHECK_FAILS(open(name, O_CREAT | O_WRONLY, 0600), ENAMETOOLONG);
}

static void positions_and_holes(void)
{
    char buffer[20] = "";
    int fd = open("holes", O_RDWR | O_CREAT, 0600), copy = dup(fd);
    CHECK(pwrite(fd, "end", 3, 100000) == 3 && lseek(fd, 0, SEEK_CUR) == 0 && lseek(fd, 0, SEEK_END) == 100003);
    CHECK(lseek(copy, 0, SEEK_CUR) == 100003 && lseek(fd, -3, SEEK_CUR) == 100000);
    CHECK(read(copy, buffer, 20) == 3 && read(fd, buffer, 20) == 0);
    CHECK_FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_FAILS(lseek(fd, 0, 99), EINVAL);
    CHECK_FAILS(lseek(fd, 200000, SEEK_DATA), ENXIO);
    CHECK(lseek(fd, 100001, SEEK_HOLE) == 100003);
    struct iovec iov[2] = {{"ab", 2}, {"cd", 2}};
    CHECK(pwritev(fd, iov, 2, 10) == 4 && pread(fd, buffer, 6, 9) == 6 && memcmp(buffer, "\0abcd\0", 6) == 0);
    CHECK(ftruncate(fd, 12) == 0 && ftruncate(fd, 20) == 0 && pread(fd, buffer, 20, 0) == 20);
    CHECK(memcmp(buffer + 10, "ab\0\0\0\0\0\0\0\0", 10) == 0);
    CHECK_FAILS(ftruncate(fd, -1), EINVAL);
    CHECK_FAILS(pread(fd, buffer, 1, -1), EINVAL);
    CHECK(fallocate(fd, 0, 0, 5000) == 0);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == 5000 && s.st_blksize > 0);
}

static void links_and_renames(void)
{
    struct stat s, t;
    char buffer[100] = "";
    put("one", "1");
    CHECK(link("one", "two") == 0 && stat("one", &s) == 0 && s.st_nlink == 2 && stat("two", &t) == 0 && t.st_ino == s.st_ino);
    CHECK_FAILS(link("one", "two"), EEXIST);
    CHECK_FAILS(link(".", "three"), EPERM);
    CHECK(symlink("one", "soft") == 0 && readlink("soft", buffer, 100) == 3 && memcmp(buffer, "one", 3) == 0);
    CHECK(lstat("soft", &t) == 0 && S_ISLNK(t.st_mode) && t.st_size == 3 && has("soft", "1"));
    CHECK_FAILS(readlink("one", buffer, 100), EINVAL);
    CHECK_FAILS(open("soft", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK(symlink("loop", "loop") == 0);
    CHECK_FAILS(open("loop", O_RDONLY), ELOOP);
    CHECK(symlink("nowhere", "dangling") == 0);
    CHECK_FAILS(stat("dangling", &t), ENOENT);
    CHECK(close(open("dangling", O_CREAT | O_WRONLY, 0600)) == 0 && stat("nowhere", &t) == 0);
    put("source", "s");
    CHECK(rename("source", "one") == 0 && has("one", "s") && has("two", "1") && stat("two", &t) == 0 && t.st_nlink == 1);
    CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && mkdir("f", 0755) == 0);
    CHECK_FAILS(rename("d", "d/e/x"), EINVAL);
    CHECK_FAILS(rename("one", "d"), EISDIR);
    CHECK_FAILS(rename("d", "one"), ENOTDIR);
    CHECK_FAILS(rename("f", "d"), ENOTEMPTY);
    CHECK(rename("d", "f") == 0 && stat("f/e", &t) == 0);
    CHECK_FAILS(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_NOREPLACE), EEXIST);
    CHECK(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE) == 0 && has("one", "1") && has("two", "s"));
    CHECK_FAILS(rmdir("f"), ENOTEMPTY);
    CHECK_FAILS(unlink("f"), EISDIR);
    CHECK_FAILS(rmdir("one"), ENOTDIR);
    CHECK_FAILS(rmdir("f/."), EINVAL);
    CHECK(rmdir("f/e") == 0 && rmdir("f") == 0);
    CHECK_FAILS(mkdir("one", 0700), EEXIST);
}

static void unlinked_file_lives_on(void)
{
    char buffer[10] = "";
    put("gone", "still");
    int fd = open("gone", O_RDWR);
    CHECK(unlink("gone") == 0 && pread(fd, buffer, 10, 0) == 5 && pwrite(fd, "here!", 5, 0) == 5);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_nlink == 0 && close(fd) == 0);
}

static void attributes(void)
{
    struct stat s;
    put("attributes", "x");
    CHECK(chmod("attributes", 04755) == 0 && stat("attributes", &s) == 0 && (s.st_mode & 07777) == 04755);
    CHECK(chown("attributes", 123, 456) == 0 && stat("attributes", &s) == 0 && s.st_uid == 123 && s.st_gid == 456);
    CHECK((s.st_mode & 07777) == 0755);
    struct timespec times[2] = {{1000, 5}, {0, UTIME_OMIT}};
    struct timespec before = s.st_mtim;
    CHECK(utimensat(AT_FDCWD, "attributes", times, 0) == 0 && stat("attributes", &s) == 0);
    CHECK(s.st_atim.tv_sec == 1000 && s.st_atim.tv_nsec == 5 && s.st_mtim.tv_sec == before.tv_sec);
    CHECK(access("attributes", R_OK | W_OK) == 0);
    CHECK_FAILS(access("none", F_OK), ENOENT);
    mode_t old = umask(077);
    CHECK(close(open("masked", O_CREAT | O_WRONLY, 0666)) == 0 && stat("masked", &s) == 0 && (s.st_mode & 0777) == 0600);
    CHECK(umask(old) == 077);
    struct statx x;
    CHECK(statx(AT_FDCWD, "attributes", 0, STATX_ALL, &x) == 0 && x.stx_size == 1 && (x.stx_mask & STATX_SIZE));
    struct statfs f;
    CHECK(statfs(".", &f) == 0 && f.f_bsize > 0 && f.f_namelen == 255);
}

static void permissions_apply_to_others(void)
{
    put("private", "x");
    CHECK(chmod("private", 0600) == 0 && chmod(".", 0711) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(setgroups(0, NULL) == 0 && setgid(1234) == 0 && setuid(1234) == 0);
        CHECK_FAILS(open("private", O_RDONLY), EACCES);
        CHECK_FAILS(open("new", O_CREAT | O_WRONLY, 0600), EACCES);
        CHECK_FAILS(open(".", O_RDONLY), EACCES);
        CHECK_FAILS(chmod("private", 0666), EPERM);
        CHECK_FAILS(unlink("private"), EACCES);
        CHECK_FAILS(setuid(0), EPERM);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0 && chmod(".", 0700) == 0);
}

static void directories_list_everything_once(void)
{
    enum { COUNT = 500 };
    char name[20], seen[COUNT] = "";
    CHECK(mkdir("many", 0700) == 0 && chdir("many") == 0);
    for (int i = 0; i < COUNT; i++) {
        sprintf(name, "%d", i);
        CHECK(close(open(name, O_CREAT | O_WRONLY, 0600)) == 0);
    }
    DIR *list = opendir(".");
    int dots = 0;
    for (struct dirent *e; (e = readdir(list)) != NULL;) {
        if (e->d_name[0] == '.') {
            dots++;
            continue;
        }
        CHECK(e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
        CHECK(!seen[atoi(e->d_name)]++);
    }
    CHECK(dots == 2 && closedir(list) == 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK(seen[i]);
        sprintf(name, "%d", i);
        CHECK(unlink(name) == 0);
    }
    CHECK(chdir("..") == 0 && rmdir("many") == 0);
}

static void relative_to_descriptors(void)
{
    char cwd[PATH_MAX], here[PATH_MAX];
    CHECK(mkdir("sub", 0755) == 0);
    int dir = open("sub", O_RDONLY | O_DIRECTORY);
    int fd = openat(dir, "inner", O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && close(fd) == 0 && faccessat(dir, "inner", F_OK, 0) == 0);
    CHECK_FAILS(openat(999, "x", O_RDONLY), EBADF);
    CHECK(getcwd(cwd, sizeof cwd) != NULL && fchdir(dir) == 0 && getcwd(here, sizeof here) != NULL);
    CHECK(strcmp(here + strlen(cwd), "/sub") == 0 && chdir("..") == 0);
    struct stat s;
    CHECK(fstatat(dir, "", &s, AT_EMPTY_PATH) == 0 && S_ISDIR(s.st_mode));
    CHECK(unlinkat(dir, "inner", 0) == 0 && unlinkat(AT_FDCWD, "sub", AT_REMOVEDIR) == 0 && fstat(dir, &s) == 0);
    CHECK_FAILS(openat(dir, "again", O_CREAT | O_WRONLY, 0600), ENOENT);
    CHECK_FAILS(syscall(SYS_getcwd, cwd, 2), ERANGE);
}

static void locks_exclude(void)
{
    put("locked", "0123456789");
    int fd = open("locked", O_RDWR), other = open("locked", O_RDWR);
    CHECK(flock(fd, LOCK_EX) == 0);
    CHECK_FAILS(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK(flock(fd, LOCK_UN) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 3};
    CHECK(fcntl(fd, F_SETLK, &range) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct flock probe = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 4, .l_len = 1};
        CHECK_FAILS(fcntl(fd, F_SETLK, &probe), EAGAIN);
        CHECK(fcntl(fd, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK && probe.l_pid == getppid());
        CHECK(probe.l_start == 2 && probe.l_len == 3);
        probe = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 0};
        CHECK(fcntl(fd, F_SETLK, &probe) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void descriptors(void)
{
    int fd = open("/dev/null", O_RDWR);
    CHECK(dup2(fd, 50) == 50 && dup2(50, 50) == 50 && fcntl(50, F_GETFD) == 0);
    CHECK_FAILS(dup3(fd, fd, 0), EINVAL);
    CHECK(dup3(fd, 51, O_CLOEXEC) == 51 && fcntl(51, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(fd, F_DUPFD_CLOEXEC, 60) == 60);
    CHECK(syscall(SYS_close_range, 50, 60, 0) == 0);
    CHECK_FAILS(fcntl(51, F_GETFD), EBADF);
    CHECK_FAILS(dup(-1), EBADF);
    CHECK_FAILS(dup2(fd, -1), EBADF);
    CHECK_FAILS(fcntl(fd, 9999), EINVAL);
}

static void extended_attributes(void)
{
    char value[20] = "";
    put("xattr", "x");
    if (setxattr("xattr", "user.name", "value", 5, 0) != 0) {
        CHECK(errno == EOPNOTSUPP);
        return;
    }
    CHECK(getxattr("xattr", "user.name", value, sizeof value) == 5 && strcmp(value, "value") == 0);
    CHECK(listxattr("xattr", value, sizeof value) == 10 && strcmp(value, "user.name") == 0);
    CHECK_FAILS(getxattr("xattr", "user.none", value, sizeof value), ENODATA);
    CHECK_FAILS(setxattr("xattr", "user.name", "v", 1, XATTR_CREATE), EEXIST);
    CHECK(removexattr("xattr", "user.name") == 0);
}

// Whose writing takes capabilities, and what only a file system could mean: the same on ext4 and tmpfs.
static void attributes_of_other_namespaces(void)
{
    // cap_net_raw for everybody who runs it, as of revision 2.
    static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0x20 };
    char value[40];
    CHECK_FAILS(setxattr("xattr", "system.unheard", "x", 1, 0), EOPNOTSUPP);
    CHECK_FAILS(getxattr("xattr", "system.unheard", value, sizeof value), EOPNOTSUPP);
    CHECK(chmod(".", 0777) == 0 && chown("xattr", 1000, 1000) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setresuid(1000, 1000, 1000) == 0);
        CHECK_FAILS(setxattr("xattr", "security.capability", capability, sizeof capability, 0), EPERM);
        CHECK_FAILS(removexattr("xattr", "security.capability"), EPERM);
        CHECK_FAILS(setxattr("xattr", "security.unheard", "x", 1, 0), EPERM);
        CHECK_FAILS(getxattr("xattr", "security.capability", value, sizeof value), ENODATA);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(setxattr("xattr", "security.capability", capability, sizeof capability, 0) == 0);
    CHECK(getxattr("xattr", "security.capability", value, sizeof value) == 20 && memcmp(value, capability, 20) == 0);
}

// A directory whose name is longer than PATH_MAX: getcwd(2) says so, and getcwd(3) finds the name another way.
static void deep_directories(void)
{
    static char name[201], buffer[100000];
    int deep = 25, before = open(".", O_RDONLY | O_DIRECTORY);
    memset(name, 'n', 200);
    for (int i = 0; i < deep; i++)
        CHECK(mkdir(name, 0700) == 0 && chdir(name) == 0);
    CHECK_FAILS(syscall(SYS_getcwd, buffer, sizeof buffer), ENAMETOOLONG);
    CHECK_FAILS(syscall(SYS_getcwd, buffer, 10), ENAMETOOLONG);
    char *cwd = getcwd(NULL, 0);
    CHECK(cwd && strlen(cwd) > 25 * 201);
    free(cwd);
    for (int i = 0; i < deep; i++)
        CHECK(chdir("..") == 0 && rmdir(name) == 0);
    CHECK(getcwd(buffer, sizeof buffer) && fchdir(before) == 0);
    CHECK_FAILS(syscall(SYS_getcwd, buffer, 2), ERANGE);
    close(before);
}

static void limits_hold_for_allocating(void)
{
    struct rlimit limit = { 8192, 8192 };
    int fd = open("allocated", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(fallocate(fd, 0, 0, 8192) == 0);
    CHECK_FAILS(fallocate(fd, 0, 4096, 8192), EFBIG);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4096, 8192) == 0);
}

static void half_of_the_memory_is_what_a_tmpfs_takes(void)
{
    struct statfs s;
    struct sysinfo info;
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mkdir("t", 0700) == 0);
    CHECK(mount("none", "t", "tmpfs", 0, NULL) == 0 && statfs("t", &s) == 0 && sysinfo(&info) == 0);
    double share = (double)s.f_blocks * s.f_bsize / ((double)info.totalram * info.mem_unit);
    CHECK(share > 0.45 && share < 0.51 && umount("t") == 0);
    CHECK(mount("none", "t", "tmpfs", 0, "size=10%") == 0 && statfs("t", &s) == 0);
    share = (double)s.f_blocks * s.f_bsize / ((double)info.totalram * info.mem_unit);
    CHECK(share > 0.09 && share < 0.11 && umount("t") == 0);
}

static void inotify_events(void)
{
    char buffer[4096] __attribute__((aligned(8)));
    int fd = inotify_init1(IN_NONBLOCK), watch = inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_TO);
    CHECK(fd >= 0 && watch >= 0);
    CHECK_FAILS(read(fd, buffer, sizeof buffer), EAGAIN);
    put("event", "x");
    CHECK(rename("event", "moved") == 0 && unlink("moved") == 0);
    ssize_t n = read(fd, buffer, sizeof buffer);
    uint32_t masks = 0;
    int events = 0;
    for (char *p = buffer; p < buffer + n; events++) {
        struct inotify_event *e = (struct inotify_event *)p;
        CHECK(e->wd == watch);
        masks |= e->mask;
        p += sizeof *e + e->len;
    }
    CHECK(events == 3 && masks == (IN_CREATE | IN_DELETE | IN_MOVED_TO));
}

// The watch of a removed file ends when its last description is closed, behind what happens to it until then.
static void watches_last_as_long_as_files(void)
{
    char buffer[4096] __attribute__((aligned(8)));
    int fd = inotify_init1(IN_NONBLOCK);
    const uint32_t all = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE_SELF;
    put("watched", "x");
    CHECK(inotify_add_watch(fd, "watched", all) >= 0);
    int open_file = open("watched", O_WRONLY);
    CHECK(unlink("watched") == 0 && write(open_file, "y", 1) == 1);
    put("replaced", "x");
    put("replacing", "x");
    CHECK(inotify_add_watch(fd, "replaced", IN_DELETE_SELF) >= 0 && rename("replacing", "replaced") == 0);
    CHECK(close(open_file) == 0);
    CHECK(mkdir("directory", 0700) == 0 && inotify_add_watch(fd, "directory", IN_DELETE_SELF) >= 0);
    CHECK(rmdir("directory") == 0);
    const uint32_t expected[][2] = { { 1, IN_ATTRIB },   { 1, IN_MODIFY },      { 2, IN_DELETE_SELF },
                                     { 2, IN_IGNORED },  { 1, IN_CLOSE_WRITE }, { 1, IN_DELETE_SELF },
                                     { 1, IN_IGNORED },  { 3, IN_DELETE_SELF }, { 3, IN_IGNORED } };
    ssize_t n = read(fd, buffer, sizeof buffer);
    size_t i = 0;
    for (char *p = buffer; p < buffer + n; i++) {
        struct inotify_event *e = (struct inotify_event *)p;
        CHECK(i < sizeof expected / sizeof *expected && (uint32_t)e->wd == expected[i][0]);
        CHECK(e->mask == expected[i][1]);
        p += sizeof *e + e->len;
    }
    CHECK(i == sizeof expected / sizeof *expected && close(fd) == 0);
}

static void device_files(void)
{
    char buffer[16];
    struct stat s;
    CHECK(stat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode) && s.st_rdev == 0x103);
    int fd = open("/dev/zero", O_RDONLY);
    memset(buffer, 1, sizeof buffer);
    CHECK(read(fd, buffer, 16) == 16 && buffer[0] == 0 && buffer[15] == 0);
    fd = open("/dev/full", O_WRONLY);
    CHECK_FAILS(write(fd, "x", 1), ENOSPC);
    fd = open("/dev/urandom", O_RDONLY);
    char again[16];
    CHECK(read(fd, buffer, 16) == 16 && read(fd, again, 16) == 16 && memcmp(buffer, again, 16) != 0);
}

static void same_numbers(const char *path, int most)
{
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *entry; most-- > 0 && (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(entry->d_name, "..") == 0 || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (st.st_ino != entry->d_ino)
            fprintf(stderr, "%s/%s\n", path, entry->d_name);
        CHECK(st.st_ino == entry->d_ino);
    }
    closedir(dir);
}

static void listings_number_files_as_stat_does(void)
{
    CHECK(mkdir("numbers", 0755) == 0 && mkdir("numbers/folder", 0755) == 0 && mkfifo("numbers/fifo", 0600) == 0);
    put("numbers/file", "x");
    CHECK(symlink("file", "numbers/symbolic") == 0 && link("numbers/file", "numbers/hard") == 0);
    put("numbers/old", "y");
    CHECK(rename("numbers/old", "numbers/new") == 0 && rename("numbers/folder", "numbers/moved") == 0);
    same_numbers("numbers", 100);
    same_numbers("/etc/security", 100);
}

static blkcnt_t blocks_of(int fd)
{
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_blocks;
}

static void blocks_are_those_that_were_written(void)
{
    char name[] = "/dev/shm/blocks-XXXXXX";
    static char page[4096];
    memset(page, 'p', sizeof page);
    int fd = mkstemp(name);
    CHECK(fd >= 0 && unlink(name) == 0);
    // One after the other, then some that stand alone, beyond and between.
    for (int i = 0; i < 21; i++)
        CHECK(write(fd, page, sizeof page) == sizeof page && blocks_of(fd) == 8 * (i + 1));
    CHECK(pwrite(fd, page, sizeof page, 100 * 4096) == sizeof page && blocks_of(fd) == 8 * 22);
    CHECK(pwrite(fd, page, 1, 60 * 4096) == 1 && blocks_of(fd) == 8 * 23);
    CHECK(lseek(fd, 0, SEEK_HOLE) == 21 * 4096 && lseek(fd, 21 * 4096, SEEK_DATA) == 60 * 4096);
    CHECK(lseek(fd, 60 * 4096, SEEK_HOLE) == 61 * 4096 && lseek(fd, 61 * 4096, SEEK_DATA) == 100 * 4096);
    CHECK(pwrite(fd, page, sizeof page, 101 * 4096) == sizeof page && blocks_of(fd) == 8 * 24);
    // Longer without being written, shorter, and longer again.
    CHECK(ftruncate(fd, 110 * 4096) == 0 && blocks_of(fd) == 8 * 24 && lseek(fd, 101 * 4096, SEEK_HOLE) == 102 * 4096);
    CHECK(ftruncate(fd, 20 * 4096) == 0 && blocks_of(fd) == 8 * 20);
    CHECK(pwrite(fd, page, sizeof page, 20 * 4096) == sizeof page && blocks_of(fd) == 8 * 21);
    CHECK(ftruncate(fd, 40 * 4096) == 0 && pread(fd, page, 1, 21 * 4096) == 1 && page[0] == 0 && blocks_of(fd) == 8 * 21);
    // Asked for beyond the end, they are there.
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 40 * 4096, 10 * 4096) == 0 && blocks_of(fd) == 8 * 31);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 20 * 4096) == 0 && blocks_of(fd) == 8 * 11);
    close(fd);
}

int main(void)
{
    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    PART(open_flags);
    PART(positions_and_holes);
    PART(links_and_renames);
    PART(unlinked_file_lives_on);
    PART(attributes);
    PART(permissions_apply_to_others);
    PART(directories_list_everything_once);
    PART(listings_number_files_as_stat_does);
    PART(blocks_are_those_that_were_written);
    PART(relative_to_descriptors);
    PART(locks_exclude);
    PART(descriptors);
    PART(extended_attributes);
    PART(attributes_of_other_namespaces);
    PART(deep_directories);
    PART(inotify_events);
    PART(watches_last_as_long_as_files);
    check_in_child(limits_hold_for_allocating);
    check_in_child(half_of_the_memory_is_what_a_tmpfs_takes);
    PART(device_files);
    char command[100];
    sprintf(command, "rm -rf %s", folder);
    return system(command) != 0;
}
