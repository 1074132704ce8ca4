// Who may do what with files, in which order it is checked, and what changes take away: the rules at the edges of open(2),
// write(2), chown(2), rename(2), link(2), xattr(7) and utimensat(2).
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { OWNER = 1000, OTHER = 1001 };

static char folder[] = "/tmp/file-rules-XXXXXX";

static void make(const char *path, mode_t mode, uid_t owner)
{
    unlink(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    CHECK(fd >= 0 && write(fd, "hello", 5) == 5 && close(fd) == 0);
    CHECK(chown(path, owner, owner) == 0 && chmod(path, mode) == 0);
}

static void become(uid_t id)
{
    CHECK(setgroups(0, NULL) == 0 && setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0);
}

static mode_t mode_of(const char *path)
{
    struct stat s;
    CHECK(stat(path, &s) == 0);
    return s.st_mode & 07777;
}

// The ways to change what is in the file "program".
static void by_write(void)
{
    int fd = open("program", O_WRONLY);
    CHECK(write(fd, "", 0) == 0 && mode_of("program") & S_ISUID);
    CHECK(write(fd, "x", 1) == 1);
}
static void by_pwrite(void) { CHECK(pwrite(open("program", O_WRONLY), "x", 1, 2) == 1); }
static void by_truncate(void) { CHECK(truncate("program", 2) == 0); }
static void by_ftruncate(void) { CHECK(ftruncate(open("program", O_WRONLY), 5) == 0); }
static void by_opening(void) { CHECK(open("program", O_WRONLY | O_TRUNC) >= 0); }
static void by_allocating(void) { CHECK(fallocate(open("program", O_WRONLY), 0, 0, 10) == 0); }
static void by_sendfile(void) { CHECK(sendfile(open("program", O_WRONLY), open("source", O_RDONLY), NULL, 5) == 5); }
static void by_copying(void)
{
    CHECK(copy_file_range(open("source", O_RDONLY), NULL, open("program", O_WRONLY), NULL, 5, 0) == 5);
}
static void by_chown(void) { CHECK(chown("program", -1, -1) == 0); }

static void (*const changes[])(void) = { by_write,      by_pwrite,   by_truncate, by_ftruncate, by_opening,
                                         by_allocating, by_sendfile, by_copying,  by_chown };

static void (*change)(void);
static void change_as_owner(void)
{
    become(OWNER);
    change();
}
static void change_as_root(void) { change(); }

static void changes_take_set_id_bits(void)
{
    make("source", 0644, 0);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        change = changes[i];
        make("program", 06755, OWNER);
        check_in_child(change_as_owner);
        printf("change %zu by the owner: %o", i, mode_of("program"));
        make("program", 06745, OWNER);
        check_in_child(change_as_owner);
        printf(", without execution by the group: %o", mode_of("program"));
        make("program", 06755, OWNER);
        check_in_child(change_as_root);
        printf(", by root: %o\n", mode_of("program"));
    }
    // Somebody else's group is not left to a file that the group does not execute.
    make("program", 02646, 0);
    change = by_pwrite;
    check_in_child(change_as_owner);
    CHECK(mode_of("program") == 0646);
}

static void changing_nothing_of_others_is_a_change_of_set_id_bits(void)
{
    make("program", 04755, 0);
    make("plain", 0644, 0);
    if (fork() == 0) {
        become(OWNER);
        CHECK(chown("plain", -1, -1) == 0);
        CHECK_FAILS(chown("program", -1, -1), EPERM);
        _exit(0);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0 && mode_of("program") == 04755);
}

static void opening(void)
{
    make("file", 0644, 0);
    CHECK(mkdir("dir", 0755) == 0 && mkfifo("fifo", 0600) == 0 && symlink("dir", "linkdir") == 0);
    // Flags are looked at before paths.
    CHECK_FAILS(open("missing", O_DIRECTORY | O_CREAT, 0600), EINVAL);
    CHECK_FAILS(open("dir", O_TMPFILE | O_RDWR | O_CREAT, 0600), EINVAL);
    CHECK_FAILS(open("missing", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    CHECK_FAILS(open("dir", (O_TMPFILE & ~O_DIRECTORY) | O_RDWR, 0600), EINVAL);
    int fd = open("dir", O_TMPFILE | O_RDWR, 0600);
    CHECK((fcntl(fd, F_GETFL) & O_TMPFILE) == O_TMPFILE && close(fd) == 0);
    // The fourth access mode: checked for reading and writing, and good for neither.
    char c;
    fd = open("file", 3);
    CHECK(fd >= 0);
    CHECK_FAILS(read(fd, &c, 1), EBADF);
    CHECK_FAILS(write(fd, &c, 1), EBADF);
    CHECK(close(fd) == 0);
    CHECK_FAILS(open("dir", 3), EISDIR);
    CHECK_FAILS(open("file/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_FAILS(open("missing/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_FAILS(open("missing/.", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_FAILS(open("linkdir/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_FAILS(open(".", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_FAILS(open(".", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    CHECK_FAILS(open("dir", O_RDONLY | O_DIRECT), EINVAL);
    CHECK_FAILS(open("/dev/null", O_RDONLY | O_DIRECT), EINVAL);
    CHECK_FAILS(open("fifo", O_RDONLY | O_NONBLOCK | O_DIRECT), EINVAL);
}

static void names(void)
{
    CHECK(mkdir("read-only", 0755) == 0 && mount("dir", "read-only", NULL, MS_BIND, NULL) == 0);
    CHECK(mount("dir", "read-only", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK_FAILS(link("file", "read-only/new"), EROFS);
    CHECK_FAILS(link("file", "new/"), ENOENT);
    CHECK_FAILS(setxattr("read-only", "security.capability", "?", 1, 0), EROFS);
    CHECK_FAILS(umount2("read-only", MNT_EXPIRE | MNT_FORCE), EINVAL);
    CHECK(umount("read-only") == 0);
    const int noreplace = 1;
    CHECK_FAILS(syscall(SYS_renameat2, AT_FDCWD, "missing", AT_FDCWD, "file", noreplace), ENOENT);
    CHECK_FAILS(syscall(SYS_renameat2, AT_FDCWD, "file", AT_FDCWD, "dir/.", noreplace), EEXIST);
    CHECK_FAILS(syscall(SYS_renameat2, AT_FDCWD, "dir/.", AT_FDCWD, "new", noreplace), EBUSY);
    if (fork() == 0) {
        // A whiteout is a device that is none.
        become(OWNER);
        CHECK_FAILS(mknod("null", S_IFCHR | 0600, makedev(1, 3)), EPERM);
        CHECK(mknod("whiteout", S_IFCHR | 0600, 0) == 0);
        CHECK_FAILS(open("whiteout", O_RDONLY), ENXIO);
        _exit(0);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0);
}

static void attributes(void)
{
    CHECK_FAILS(setxattr("file", "trusted.", "v", 1, 0), EINVAL);
    CHECK_FAILS(setxattr("file", "other.name", "v", 1, 0), EOPNOTSUPP);
    CHECK_FAILS(setxattr("file", "security.test", "v", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA);
    CHECK(setxattr("file", "security.test", "v", 1, XATTR_CREATE) == 0);
    CHECK_FAILS(setxattr("file", "security.test", "v", 1, XATTR_CREATE | XATTR_REPLACE), EEXIST);
    if (fork() == 0) {
        become(OTHER);
        CHECK_FAILS(setxattr("file", "other.name", "v", 1, 0), EACCES);
        // The folder belongs to root, and everybody may write to it.
        CHECK_FAILS(setxattr(".", "user.name", "v", 1, 0), EPERM);
        _exit(0);
    }
    int status;
    CHECK(wait(&status) > 0 && status == 0);
}

static void times(void)
{
    struct timespec bad[2] = { { 1, 1000000000 }, { 1, 0 } };
    CHECK_FAILS(utimensat(AT_FDCWD, "missing", bad, 0), ENOENT);
    CHECK_FAILS(utimensat(AT_FDCWD, "file", bad, 0), EINVAL);
    struct stat s;
    CHECK(utimensat(AT_FDCWD, "file", NULL, 0) == 0 && stat("file", &s) == 0);
    CHECK(memcmp(&s.st_atim, &s.st_mtim, sizeof s.st_atim) == 0);
}

static void limits_cut_writes(void)
{
    struct rlimit limit = { 10, 10 };
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    int fd = open("limited", O_CREAT | O_RDWR, 0600);
    CHECK(write(fd, "0123456", 7) == 7 && write(fd, "0123456", 7) == 3);
    CHECK_FAILS(write(fd, "0", 1), EFBIG);
    CHECK(write(fd, "0", 0) == 0 && pwrite(fd, "abc", 3, 8) == 2);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == 10);
}

static void copies_within_a_file(void)
{
    int fd = open("within", O_CREAT | O_RDWR, 0600);
    CHECK(write(fd, "0123456789", 10) == 10);
    // What is there to copy does not overlap, however much is asked for.
    loff_t from = 5, to = 100;
    CHECK(copy_file_range(fd, &from, fd, &to, 1000, 0) == 5 && from == 10 && to == 105);
    from = 0, to = 5;
    CHECK_FAILS(copy_file_range(fd, &from, fd, &to, 10, 0), EINVAL);
    CHECK(close(fd) == 0);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    // A file system of its own: the same kind natively and inside.
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mkdtemp(folder) != NULL && mount("rules", folder, "tmpfs", 0, NULL) == 0);
    CHECK(chdir(folder) == 0 && chmod(".", 01777) == 0);
    umask(022);
    PART(changes_take_set_id_bits);
    PART(changing_nothing_of_others_is_a_change_of_set_id_bits);
    PART(opening);
    PART(names);
    PART(attributes);
    PART(times);
    check_in_child(limits_cut_writes);
    PART(copies_within_a_file);
    CHECK(chdir("/") == 0 && umount(folder) == 0 && rmdir(folder) == 0);
    return 0;
}
