// Capabilities of files (capabilities(7)): security.capability, and what execve(2) makes of it.
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define CAP(n) (1ull << (n))
#define NAME "security.capability"
enum { NOBODY = 65534 };

static const char *program = "/tmp/capable/program";

struct report {
    uint64_t permitted, effective, inheritable, ambient;
    int secure, error;
};

// What the program says of itself when it is started to do so.
static void report(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    struct report r = {.secure = (int)getauxval(AT_SECURE)};
    CHECK(syscall(SYS_capget, &header, data) == 0);
    r.permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    r.effective = data[0].effective | (uint64_t)data[1].effective << 32;
    r.inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
            r.ambient |= CAP(cap);
    CHECK(write(1, &r, sizeof r) == sizeof r);
    exit(0);
}

static void set_own(uint64_t permitted, uint64_t inheritable)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)permitted, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(permitted >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    CHECK(syscall(SYS_capset, &header, data) == 0);
}

static void become_nobody(void)
{
    CHECK(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void nothing(void) {}

// Starts the program in a child that has done `first`, as nobody.
static struct report run_after(void (*first)(void))
{
    int ends[2];
    struct report r = {0};
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        first();
        if (getuid() == 0)
            become_nobody();
        dup2(ends[1], 1);
        execl(program, program, "report", NULL);
        r.error = errno;
        CHECK(write(1, &r, sizeof r) == sizeof r);
        _exit(0);
    }
    close(ends[1]);
    CHECK(read(ends[0], &r, sizeof r) == sizeof r);
    close(ends[0]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return r;
}

static int give(const char *path, uint64_t permitted, uint64_t inheritable, bool effective)
{
    struct vfs_cap_data data = {
        .magic_etc = VFS_CAP_REVISION_2 | (effective ? VFS_CAP_FLAGS_EFFECTIVE : 0),
        .data = {{(uint32_t)permitted, (uint32_t)inheritable},
                 {(uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)}},
    };
    return setxattr(path, NAME, &data, sizeof data, 0);
}

static bool has_caps(const char *path)
{
    ssize_t n = getxattr(path, NAME, NULL, 0);
    CHECK(n > 0 || errno == ENODATA);
    return n > 0;
}

static void copy_program(const char *to)
{
    char buf[65536];
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buf, sizeof buf)) != 0;)
        CHECK(n > 0 && write(out, buf, (size_t)n) == n);
    close(in);
    close(out);
}

static void the_attribute_is_checked(void)
{
    struct vfs_ns_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE};
    struct vfs_ns_cap_data got;
    CHECK(!has_caps(program));
    CHECK_FAILS(setxattr(program, NAME, &data, 12, 0), EINVAL);
    CHECK_FAILS(setxattr(program, NAME, &data, 24, 0), EINVAL);
    data.magic_etc = VFS_CAP_REVISION_3;
    CHECK_FAILS(setxattr(program, NAME, &data, 20, 0), EINVAL);
    data.magic_etc = VFS_CAP_REVISION_1;
    CHECK_FAILS(setxattr(program, NAME, &data, 12, 0), EINVAL);
    // The root of the first namespace is shown as version 2, any other user as version 3.
    data.magic_etc = VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE;
    data.data[0].permitted = 1u << CAP_NET_RAW;
    CHECK(setxattr(program, NAME, &data, 24, 0) == 0);
    CHECK(getxattr(program, NAME, &got, sizeof got) == 20);
    CHECK(got.magic_etc == (VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE) && got.data[0].permitted == 1u << CAP_NET_RAW);
    data.rootid = 1000;
    CHECK(setxattr(program, NAME, &data, 24, 0) == 0);
    CHECK(getxattr(program, NAME, &got, sizeof got) == 24 && got.rootid == 1000);
    CHECK_FAILS(getxattr(program, NAME, &got, 20), ERANGE);
    // They count in a namespace whose root is that user, and not here.
    CHECK(run_after(nothing).permitted == 0);
    char names[256];
    ssize_t n = listxattr(program, names, sizeof names);
    CHECK(n == sizeof NAME && strcmp(names, NAME) == 0);
    CHECK(removexattr(program, NAME) == 0 && !has_caps(program));
}

static void try_to_give(void)
{
    become_nobody();
    CHECK_FAILS(give(program, CAP(CAP_CHOWN), 0, true), EPERM);
    CHECK_FAILS(removexattr(program, NAME), EPERM);
    CHECK(has_caps(program));
}

static void only_the_privileged_give_them(void)
{
    CHECK(give(program, CAP(CAP_NET_RAW), 0, true) == 0);
    CHECK(chown("/tmp/capable", NOBODY, NOBODY) == 0);
    check_in_child(try_to_give);
    CHECK(chown("/tmp/capable", 0, 0) == 0);
}

static void programs_gain_what_their_file_permits(void)
{
    uint64_t raw = CAP(CAP_NET_RAW), bpf = CAP(CAP_BPF);
    CHECK(give(program, raw | bpf, 0, true) == 0);
    struct report r = run_after(nothing);
    CHECK(!r.error && r.permitted == (raw | bpf) && r.effective == (raw | bpf) && r.inheritable == 0 && r.secure == 1);
    CHECK(give(program, raw, 0, false) == 0);
    r = run_after(nothing);
    CHECK(!r.error && r.permitted == raw && r.effective == 0 && r.secure == 1);
    CHECK(give(program, 0, 0, true) == 0);
    r = run_after(nothing);
    CHECK(!r.error && r.permitted == 0 && r.effective == 0);
}

static void inherit_chown(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    CHECK(syscall(SYS_capget, &header, data) == 0);
    uint64_t all = data[0].permitted | (uint64_t)data[1].permitted << 32;
    set_own(all, CAP(CAP_CHOWN) | CAP(CAP_KILL));
}

static void inherited_ones_are_those_of_both(void)
{
    CHECK(give(program, 0, CAP(CAP_CHOWN) | CAP(CAP_SYS_TIME), true) == 0);
    struct report r = run_after(inherit_chown);
    CHECK(!r.error && r.permitted == CAP(CAP_CHOWN) && r.effective == CAP(CAP_CHOWN));
    CHECK(r.inheritable == (CAP(CAP_CHOWN) | CAP(CAP_KILL)));
    CHECK(run_after(nothing).permitted == 0);
}

static void drop_raw(void) { CHECK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0) == 0); }

static void the_bounding_set_limits_them(void)
{
    CHECK(give(program, CAP(CAP_NET_RAW) | CAP(CAP_KILL), 0, false) == 0);
    struct report r = run_after(drop_raw);
    CHECK(!r.error && r.permitted == CAP(CAP_KILL) && r.effective == 0);
    // A program that does not ask for them would not notice.
    CHECK(give(program, CAP(CAP_NET_RAW) | CAP(CAP_KILL), 0, true) == 0);
    CHECK(run_after(drop_raw).error == EPERM);
}

static void want_nothing_new(void) { CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); }

static void some_keep_what_they_have(void)
{
    CHECK(give(program, CAP(CAP_NET_RAW), 0, true) == 0);
    struct report r = run_after(want_nothing_new);
    CHECK(!r.error && r.permitted == 0 && r.effective == 0);
    CHECK(mount(NULL, "/tmp/capable", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL) == 0);
    r = run_after(nothing);
    CHECK(!r.error && r.permitted == 0 && r.secure == 0);
    CHECK(mount(NULL, "/tmp/capable", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
    CHECK(run_after(nothing).permitted == CAP(CAP_NET_RAW));
}

// As nobody, with CAP_KILL as ambient capability.
static void make_ambient(void)
{
    CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    become_nobody();
    set_own(CAP(CAP_KILL), CAP(CAP_KILL));
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
}

static void they_end_ambient_ones(void)
{
    CHECK(removexattr(program, NAME) == 0);
    struct report r = run_after(make_ambient);
    CHECK(!r.error && r.permitted == CAP(CAP_KILL) && r.effective == CAP(CAP_KILL) && r.ambient == CAP(CAP_KILL));
    CHECK(r.secure == 0);
    CHECK(give(program, CAP(CAP_NET_RAW), 0, true) == 0);
    r = run_after(make_ambient);
    CHECK(!r.error && r.permitted == CAP(CAP_NET_RAW) && r.effective == CAP(CAP_NET_RAW) && r.ambient == 0);
}

// "Set-user-ID-root programs that have file capabilities": nobody gets only those.
static void set_id_programs_get_only_those(void)
{
    CHECK(chmod(program, 04755) == 0);
    struct report r = run_after(nothing);
    CHECK(!r.error && r.permitted == CAP(CAP_NET_RAW) && r.effective == CAP(CAP_NET_RAW) && r.secure == 1);
    CHECK(removexattr(program, NAME) == 0);
    r = run_after(nothing);
    CHECK(!r.error && (r.permitted & CAP(CAP_CHOWN)) && r.effective == r.permitted);
    CHECK(chmod(program, 0755) == 0);
}

static void changes_take_them_away(void)
{
    const char *file = "/tmp/capable/file";
    copy_program(file);
    int fd = open(file, O_WRONLY);
    CHECK(fd >= 0);
    CHECK(give(file, CAP(CAP_KILL), 0, true) == 0 && has_caps(file) && write(fd, "x", 1) == 1 && !has_caps(file));
    CHECK(give(file, CAP(CAP_KILL), 0, true) == 0 && ftruncate(fd, 100) == 0 && !has_caps(file));
    CHECK(give(file, CAP(CAP_KILL), 0, true) == 0 && truncate(file, 90) == 0 && !has_caps(file));
    CHECK(give(file, CAP(CAP_KILL), 0, true) == 0 && chown(file, 1, 1) == 0 && !has_caps(file));
    CHECK(give(file, CAP(CAP_KILL), 0, true) == 0 && chmod(file, 0700) == 0 && has_caps(file));
    CHECK(rename(file, "/tmp/capable/other") == 0 && has_caps("/tmp/capable/other"));
    close(fd);
    CHECK(unlink("/tmp/capable/other") == 0);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

// Root of his own namespace gives what counts in there: version 3 with his id outside.
static void give_in_namespace(void)
{
    become_nobody();
    CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
    CHECK(unshare(CLONE_NEWUSER) == 0);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", "0 65534 1");
    put("/proc/self/gid_map", "0 65534 1");
    CHECK(give("/tmp/capable/own", CAP(CAP_NET_RAW), 0, true) == 0);
    CHECK(getxattr("/tmp/capable/own", NAME, NULL, 0) == 20);
    // Not to what belongs to others.
    CHECK_FAILS(give(program, CAP(CAP_NET_RAW), 0, true), EPERM);
}

static void namespaces_have_their_own(void)
{
    struct vfs_ns_cap_data got;
    copy_program("/tmp/capable/own");
    CHECK(chown("/tmp/capable/own", NOBODY, NOBODY) == 0);
    check_in_child(give_in_namespace);
    CHECK(getxattr("/tmp/capable/own", NAME, &got, sizeof got) == 24 && got.rootid == NOBODY);
    const char *usual = program;
    program = "/tmp/capable/own";
    struct report r = run_after(nothing);
    CHECK(!r.error && r.permitted == 0);
    program = usual;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "report") == 0)
        report();
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mkdir("/tmp/capable", 0755) == 0 || errno == EEXIST);
    CHECK(mount("none", "/tmp/capable", "tmpfs", 0, "mode=755") == 0);
    copy_program(program);
    PART(the_attribute_is_checked);
    PART(only_the_privileged_give_them);
    PART(programs_gain_what_their_file_permits);
    PART(inherited_ones_are_those_of_both);
    PART(the_bounding_set_limits_them);
    PART(some_keep_what_they_have);
    PART(they_end_ambient_ones);
    PART(set_id_programs_get_only_those);
    PART(changes_take_them_away);
    PART(namespaces_have_their_own);
    CHECK(umount2("/tmp/capable", MNT_DETACH) == 0);
    rmdir("/tmp/capable");
    return 0;
}
