// Shared subtrees: the examples and tables of mount_namespaces(7), and what mountinfo says about them (proc_pid_mountinfo(5)).
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

// What mountinfo has behind the options of a mount.
struct fields {
    bool found;
    int shared, master, from;
    bool unbindable;
};

static struct fields fields_of(const char *place)
{
    char line[4096];
    struct fields last = {0};
    FILE *file = fopen("/proc/thread-self/mountinfo", "r");
    if (!file)
        file = fopen("proc/thread-self/mountinfo", "r");
    CHECK(file);
    while (fgets(line, sizeof line, file)) {
        char at[1024];
        int end;
        CHECK(sscanf(line, "%*d %*d %*s %*s %1023s %*s%n", at, &end) == 1);
        if (strcmp(at, place) != 0)
            continue;
        struct fields now = {.found = true};
        char *rest = strstr(line + end, " - ");
        CHECK(rest);
        *rest = 0;
        for (char *word = strtok(line + end, " "); word; word = strtok(NULL, " ")) {
            bool known = sscanf(word, "shared:%d", &now.shared) == 1 || sscanf(word, "master:%d", &now.master) == 1 ||
                         sscanf(word, "propagate_from:%d", &now.from) == 1;
            if (strcmp(word, "unbindable") == 0)
                known = now.unbindable = true;
            CHECK(known);
        }
        last = now;
    }
    fclose(file);
    return last;
}

static bool mounted(const char *place) { return fields_of(place).found; }

static bool is_private(const char *place)
{
    struct fields f = fields_of(place);
    return f.found && !f.shared && !f.master && !f.unbindable;
}

static void tmpfs(const char *place)
{
    mkdir(place, 0755);
    CHECK(mount("none", place, "tmpfs", 0, NULL) == 0);
}

static void change(const char *place, unsigned long type) { CHECK(mount(NULL, place, NULL, type, NULL) == 0); }

static void typed(const char *place, unsigned long type)
{
    tmpfs(place);
    change(place, type);
}

static void binds(const char *from, const char *to)
{
    mkdir(to, 0755);
    CHECK(mount(from, to, NULL, MS_BIND, NULL) == 0);
}

// A playground of each part: an own mount namespace with a private tmpfs as working directory.
static void enter(void)
{
    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mkdir("/tmp/play", 0755) == 0 || errno == EEXIST);
    CHECK(mount("none", "/tmp/play", "tmpfs", 0, NULL) == 0);
    CHECK(chdir("/tmp/play") == 0);
}

// Another process in a namespace of its own does one thing after the other, each when it is told to.
struct other {
    pid_t pid;
    int go, done;
};

static struct other begin(int flags, void (*steps[])(void))
{
    int go[2], done[2];
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char byte;
        close(go[1]);
        close(done[0]);
        CHECK(unshare(flags) == 0 && write(done[1], "", 1) == 1);
        for (int i = 0; steps[i]; i++) {
            CHECK(read(go[0], &byte, 1) == 1);
            steps[i]();
            CHECK(write(done[1], "", 1) == 1);
        }
        _exit(0);
    }
    close(go[0]);
    close(done[1]);
    char byte;
    CHECK(read(done[0], &byte, 1) == 1);
    return (struct other){pid, go[1], done[0]};
}

static void step(struct other *other)
{
    char byte;
    CHECK(write(other->go, "", 1) == 1 && read(other->done, &byte, 1) == 1);
}

static void end(struct other *other)
{
    int status;
    close(other->go);
    CHECK(waitpid(other->pid, &status, 0) == other->pid && status == 0);
    close(other->done);
}

// "MS_SHARED and MS_PRIVATE example"
static void mount_in_both(void)
{
    tmpfs("/tmp/play/S/a");
    tmpfs("/tmp/play/P/b");
    CHECK(mounted("/tmp/play/S/a") && mounted("/tmp/play/P/b"));
}

static void unmount_what_was_shared(void)
{
    CHECK(umount("/tmp/play/S/a") == 0);
    CHECK(!mounted("/tmp/play/S/c") && is_private("/tmp/play/P/b"));
}

static void shared_mounts_are_heard_of_in_other_namespaces(void)
{
    enter();
    typed("/tmp/play/S", MS_SHARED);
    typed("/tmp/play/P", MS_PRIVATE);
    int group = fields_of("/tmp/play/S").shared;
    CHECK(group > 0 && is_private("/tmp/play/P"));
    void (*steps[])(void) = {mount_in_both, unmount_what_was_shared, NULL};
    struct other other = begin(CLONE_NEWNS, steps);
    step(&other);
    CHECK(mounted("/tmp/play/S/a") && !mounted("/tmp/play/P/b"));
    CHECK(fields_of("/tmp/play/S").shared == group && fields_of("/tmp/play/S/a").shared > 0);
    CHECK(mkdir("/tmp/play/S/c", 0755) == 0);
    step(&other);
    CHECK(!mounted("/tmp/play/S/a"));
    end(&other);
}

// "MS_SLAVE example"
static int group_y;

static void become_slave_and_mount(void)
{
    change("/tmp/play/Y", MS_SLAVE);
    struct fields f = fields_of("/tmp/play/Y");
    CHECK(f.master == group_y && !f.shared);
    tmpfs("/tmp/play/X/a");
    tmpfs("/tmp/play/Y/b");
}

static void see_what_the_master_mounted(void)
{
    struct fields f = fields_of("/tmp/play/Y/c");
    CHECK(f.found && f.master > 0 && !f.shared);
    CHECK(mounted("/tmp/play/Y/b") && umount("/tmp/play/Y/c") == 0);
}

static void slaves_hear_and_are_not_heard(void)
{
    enter();
    typed("/tmp/play/X", MS_SHARED);
    typed("/tmp/play/Y", MS_SHARED);
    group_y = fields_of("/tmp/play/Y").shared;
    CHECK(group_y != fields_of("/tmp/play/X").shared);
    void (*steps[])(void) = {become_slave_and_mount, see_what_the_master_mounted, NULL};
    struct other other = begin(CLONE_NEWNS, steps);
    step(&other);
    CHECK(mounted("/tmp/play/X/a") && !mounted("/tmp/play/Y/b"));
    tmpfs("/tmp/play/Y/c");
    step(&other);
    CHECK(mounted("/tmp/play/Y/c"));
    end(&other);
}

// "MS_UNBINDABLE example": binding the tree into itself for each user does not copy the copies.
static void unbindable_mounts_are_left_out(void)
{
    enter();
    tmpfs("/tmp/play/top");
    tmpfs("/tmp/play/top/x");
    const char *homes[] = {"/tmp/play/top/cecilia", "/tmp/play/top/henry", "/tmp/play/top/otto"};
    for (int i = 0; i < 3; i++)
        CHECK(mkdir(homes[i], 0755) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(mount("/tmp/play/top", homes[i], NULL, MS_BIND | MS_REC, NULL) == 0);
        change(homes[i], MS_UNBINDABLE);
        CHECK(fields_of(homes[i]).unbindable);
    }
    CHECK(mounted("/tmp/play/top/otto/x") && !mounted("/tmp/play/top/otto/henry"));
    CHECK(!mounted("/tmp/play/top/henry/cecilia"));
    CHECK(mkdir("/tmp/play/y", 0755) == 0);
    CHECK_FAILS(mount(homes[0], "/tmp/play/y", NULL, MS_BIND, NULL), EINVAL);
    CHECK_FAILS(mount(homes[0], "/tmp/play/y", NULL, MS_BIND | MS_REC, NULL), EINVAL);
}

// "Propagation type transitions"
static void types_change_as_the_table_says(void)
{
    enter();
    typed("/tmp/play/a", MS_SHARED);
    // Alone in its group a shared mount becomes private.
    change("/tmp/play/a", MS_SLAVE);
    CHECK(is_private("/tmp/play/a"));
    change("/tmp/play/a", MS_SHARED);
    int group = fields_of("/tmp/play/a").shared;
    binds("/tmp/play/a", "/tmp/play/b");
    CHECK(fields_of("/tmp/play/b").shared == group);
    change("/tmp/play/b", MS_SLAVE);
    struct fields f = fields_of("/tmp/play/b");
    CHECK(f.master == group && !f.shared);
    // A slave that is made shared is both.
    change("/tmp/play/b", MS_SHARED);
    f = fields_of("/tmp/play/b");
    CHECK(f.master == group && f.shared > 0 && f.shared != group);
    change("/tmp/play/b", MS_SLAVE);
    f = fields_of("/tmp/play/b");
    CHECK(f.master == group && !f.shared);
    change("/tmp/play/b", MS_PRIVATE);
    CHECK(is_private("/tmp/play/b"));
    // Private mounts have no master to be a slave of.
    change("/tmp/play/b", MS_SLAVE);
    CHECK(is_private("/tmp/play/b"));
    change("/tmp/play/b", MS_UNBINDABLE);
    CHECK(fields_of("/tmp/play/b").unbindable);
    change("/tmp/play/b", MS_SLAVE);
    CHECK(fields_of("/tmp/play/b").unbindable);
    change("/tmp/play/b", MS_SHARED);
    CHECK(fields_of("/tmp/play/b").shared > 0 && !fields_of("/tmp/play/b").unbindable);
    // The whole tree at once.
    tmpfs("/tmp/play/b/below");
    change("/tmp/play/b", MS_REC | MS_PRIVATE);
    CHECK(is_private("/tmp/play/b") && is_private("/tmp/play/b/below"));
    // When the last of a group leaves, its slaves are those of its master.
    binds("/tmp/play/a", "/tmp/play/c");
    change("/tmp/play/c", MS_SLAVE);
    change("/tmp/play/c", MS_SHARED);
    binds("/tmp/play/c", "/tmp/play/d");
    change("/tmp/play/d", MS_SLAVE);
    CHECK(fields_of("/tmp/play/d").master == fields_of("/tmp/play/c").shared);
    CHECK(umount("/tmp/play/c") == 0);
    CHECK(fields_of("/tmp/play/d").master == group);
    CHECK(umount("/tmp/play/a") == 0);
    CHECK(is_private("/tmp/play/d"));
}

static void wrong_changes_are_refused(void)
{
    enter();
    tmpfs("/tmp/play/a");
    CHECK(mkdir("/tmp/play/a/dir", 0755) == 0);
    CHECK_FAILS(mount(NULL, "/tmp/play/a/dir", NULL, MS_SHARED, NULL), EINVAL);
    CHECK_FAILS(mount(NULL, "/tmp/play/a", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
    CHECK_FAILS(mount(NULL, "/tmp/play/a", NULL, MS_SHARED | MS_RDONLY, NULL), EINVAL);
    CHECK_FAILS(mount(NULL, "/tmp/play/none", NULL, MS_SHARED, NULL), ENOENT);
}

// "Bind (MS_BIND) semantics"
static void binds_follow_the_table(void)
{
    enter();
    typed("/tmp/play/shared", MS_SHARED);
    typed("/tmp/play/private", MS_PRIVATE);
    binds("/tmp/play/shared", "/tmp/play/slave");
    change("/tmp/play/slave", MS_SLAVE);
    int group = fields_of("/tmp/play/shared").shared;
    typed("/tmp/play/dest", MS_SHARED);
    binds("/tmp/play/dest", "/tmp/play/peer");
    // On a shared mount: shared in any case, and seen at the peer.
    binds("/tmp/play/shared", "/tmp/play/dest/a");
    CHECK(fields_of("/tmp/play/dest/a").shared == group && fields_of("/tmp/play/peer/a").shared == group);
    binds("/tmp/play/private", "/tmp/play/dest/b");
    int made = fields_of("/tmp/play/dest/b").shared;
    CHECK(made > 0 && made != group && fields_of("/tmp/play/peer/b").shared == made);
    CHECK(is_private("/tmp/play/private"));
    binds("/tmp/play/slave", "/tmp/play/dest/c");
    struct fields f = fields_of("/tmp/play/dest/c");
    CHECK(f.shared > 0 && f.shared != group && f.master == group);
    f = fields_of("/tmp/play/peer/c");
    CHECK(f.shared == fields_of("/tmp/play/dest/c").shared && f.master == group);
    // On a private mount: as it was.
    binds("/tmp/play/shared", "/tmp/play/private/a");
    binds("/tmp/play/private", "/tmp/play/x");
    binds("/tmp/play/slave", "/tmp/play/private/c");
    CHECK(fields_of("/tmp/play/private/a").shared == group && is_private("/tmp/play/x"));
    f = fields_of("/tmp/play/private/c");
    CHECK(f.master == group && !f.shared);
}

// "Move (MS_MOVE) semantics"
static void moves_follow_the_table(void)
{
    enter();
    typed("/tmp/play/dest", MS_SHARED);
    binds("/tmp/play/dest", "/tmp/play/peer");
    typed("/tmp/play/private", MS_PRIVATE);
    tmpfs("/tmp/play/private/below");
    CHECK(mkdir("/tmp/play/dest/a", 0755) == 0 && mkdir("/tmp/play/y", 0755) == 0);
    CHECK(mount("/tmp/play/private", "/tmp/play/dest/a", NULL, MS_MOVE, NULL) == 0);
    CHECK(!mounted("/tmp/play/private") && mounted("/tmp/play/dest/a/below") && mounted("/tmp/play/peer/a/below"));
    CHECK(fields_of("/tmp/play/dest/a").shared == fields_of("/tmp/play/peer/a").shared);
    CHECK(fields_of("/tmp/play/dest/a/below").shared == fields_of("/tmp/play/peer/a/below").shared);
    CHECK(fields_of("/tmp/play/dest/a").shared > 0);
    // Not from below a shared mount, and no unbindable tree to one.
    CHECK_FAILS(mount("/tmp/play/dest/a", "/tmp/play/y", NULL, MS_MOVE, NULL), EINVAL);
    typed("/tmp/play/u", MS_PRIVATE);
    typed("/tmp/play/u/unbindable", MS_UNBINDABLE);
    CHECK(mkdir("/tmp/play/dest/u", 0755) == 0);
    CHECK_FAILS(mount("/tmp/play/u", "/tmp/play/dest/u", NULL, MS_MOVE, NULL), EINVAL);
    CHECK(mount("/tmp/play/u", "/tmp/play/y", NULL, MS_MOVE, NULL) == 0);
    CHECK(fields_of("/tmp/play/y/unbindable").unbindable);
}

// "Mount semantics", "Unmount semantics"
static void unmounts_are_heard_of(void)
{
    enter();
    typed("/tmp/play/a", MS_SHARED);
    binds("/tmp/play/a", "/tmp/play/b");
    binds("/tmp/play/a", "/tmp/play/s");
    change("/tmp/play/s", MS_SLAVE);
    tmpfs("/tmp/play/a/x");
    CHECK(fields_of("/tmp/play/b/x").shared == fields_of("/tmp/play/a/x").shared);
    CHECK(fields_of("/tmp/play/s/x").master == fields_of("/tmp/play/a/x").shared);
    // What the slave has in addition stays, and what it is mounted on, too.
    tmpfs("/tmp/play/s/x/own");
    CHECK(umount("/tmp/play/b/x") == 0);
    CHECK(!mounted("/tmp/play/a/x") && !mounted("/tmp/play/b/x"));
    CHECK(mounted("/tmp/play/s/x") && mounted("/tmp/play/s/x/own"));
    CHECK(umount("/tmp/play/s/x/own") == 0 && umount("/tmp/play/s/x") == 0);
    // A copy in use keeps all of them.
    tmpfs("/tmp/play/a/x");
    int fd = open("/tmp/play/s/x", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0);
    CHECK_FAILS(umount("/tmp/play/a/x"), EBUSY);
    CHECK(mounted("/tmp/play/a/x") && mounted("/tmp/play/b/x"));
    CHECK(umount2("/tmp/play/a/x", MNT_DETACH) == 0);
    CHECK(!mounted("/tmp/play/s/x"));
    close(fd);
    // Whole trees.
    tmpfs("/tmp/play/a/x");
    tmpfs("/tmp/play/a/x/y");
    tmpfs("/tmp/play/b/x/y/z");
    CHECK(mounted("/tmp/play/s/x/y/z"));
    CHECK(umount2("/tmp/play/b/x", MNT_DETACH) == 0);
    CHECK(!mounted("/tmp/play/a/x") && !mounted("/tmp/play/s/x/y/z") && !mounted("/tmp/play/s/x"));
}

// What is mounted at a slave's place already comes to lie on top of what it hears of.
static void own_mounts_cover_what_comes_later(void)
{
    enter();
    typed("/tmp/play/a", MS_SHARED);
    binds("/tmp/play/a", "/tmp/play/s");
    change("/tmp/play/s", MS_SLAVE);
    CHECK(mkdir("/tmp/play/a/x", 0755) == 0);
    tmpfs("/tmp/play/s/x");
    CHECK(mkdir("/tmp/play/s/x/own", 0755) == 0 && access("/tmp/play/a/x/own", F_OK) == -1);
    tmpfs("/tmp/play/a/x");
    CHECK(mkdir("/tmp/play/a/x/new", 0755) == 0);
    CHECK(access("/tmp/play/s/x/own", F_OK) == 0 && access("/tmp/play/s/x/new", F_OK) == -1);
    CHECK(umount("/tmp/play/a/x") == 0);
    CHECK(access("/tmp/play/s/x/own", F_OK) == 0 && umount("/tmp/play/s/x") == 0 && !mounted("/tmp/play/s/x"));
    tmpfs("/tmp/play/s/x");
    tmpfs("/tmp/play/a/x");
    CHECK(mkdir("/tmp/play/a/x/new", 0755) == 0 && umount("/tmp/play/s/x") == 0);
    CHECK(access("/tmp/play/s/x/new", F_OK) == 0);
}

// A bind of a directory hears of what happens below it only.
static void parts_hear_of_their_part(void)
{
    enter();
    typed("/tmp/play/a", MS_SHARED);
    CHECK(mkdir("/tmp/play/a/in", 0755) == 0 && mkdir("/tmp/play/a/out", 0755) == 0);
    binds("/tmp/play/a/in", "/tmp/play/part");
    tmpfs("/tmp/play/a/in/x");
    tmpfs("/tmp/play/a/out/y");
    CHECK(mounted("/tmp/play/part/x") && !mounted("/tmp/play/part/y"));
    tmpfs("/tmp/play/part/z");
    CHECK(mounted("/tmp/play/a/in/z"));
    // Into itself: once.
    CHECK(mkdir("/tmp/play/a/self", 0755) == 0);
    CHECK(mount("/tmp/play/a", "/tmp/play/a/self", NULL, MS_BIND | MS_REC, NULL) == 0);
    CHECK(mounted("/tmp/play/a/self/in/x") && !mounted("/tmp/play/a/self/self/in/x"));
    CHECK(umount2("/tmp/play/a/self", MNT_DETACH) == 0 && !mounted("/tmp/play/a/self"));
}

// "propagate_from" of mountinfo: the master is out of sight, but not its own.
static void the_nearest_visible_group_is_shown(void)
{
    enter();
    tmpfs("/tmp/play/root");
    CHECK(mkdir("/tmp/play/root/proc", 0755) == 0);
    CHECK(mount("/proc", "/tmp/play/root/proc", NULL, MS_BIND | MS_REC, NULL) == 0);
    typed("/tmp/play/root/a", MS_SHARED);
    int first = fields_of("/tmp/play/root/a").shared;
    binds("/tmp/play/root/a", "/tmp/play/b");
    change("/tmp/play/b", MS_SLAVE);
    change("/tmp/play/b", MS_SHARED);
    int second = fields_of("/tmp/play/b").shared;
    binds("/tmp/play/b", "/tmp/play/root/c");
    change("/tmp/play/root/c", MS_SLAVE);
    struct fields f = fields_of("/tmp/play/root/c");
    CHECK(f.master == second && f.from == 0 && second != first);
    CHECK(chroot("/tmp/play/root") == 0 && chdir("/") == 0);
    f = fields_of("/c");
    CHECK(f.master == second && f.from == first);
}

static void roots_cannot_change_among_shared_mounts(void)
{
    enter();
    typed("/tmp/play/a", MS_SHARED);
    tmpfs("/tmp/play/a/root");
    CHECK(mkdir("/tmp/play/a/root/old", 0755) == 0 && chdir("/tmp/play/a/root") == 0);
    CHECK_FAILS(syscall(SYS_pivot_root, ".", "old"), EINVAL);
    change("/tmp/play/a", MS_PRIVATE);
    CHECK_FAILS(syscall(SYS_pivot_root, ".", "old"), EINVAL);
    change("/tmp/play/a/root", MS_PRIVATE);
    CHECK(syscall(SYS_pivot_root, ".", "old") == 0 && chdir("/") == 0 && access("/old/tmp/play", F_OK) == 0);
}

// "Restrictions on mount namespaces": in a namespace of another user namespace shared mounts are slaves, and what came together
// stays together.
static void look_and_mount_with_less_privilege(void)
{
    struct fields f = fields_of("/tmp/play/S");
    CHECK(f.master == group_y && !f.shared);
    CHECK(is_private("/tmp/play/P"));
    tmpfs("/tmp/play/S/mine");
    CHECK_FAILS(umount("/tmp/play/P"), EINVAL);
}

static void see_what_came_from_above(void)
{
    CHECK(mounted("/tmp/play/S/theirs") && fields_of("/tmp/play/S/theirs").master > 0);
    CHECK(umount("/tmp/play/S/theirs") == 0);
    // A tree that comes at once stays together.
    CHECK(mounted("/tmp/play/S/tree/below"));
    CHECK_FAILS(umount("/tmp/play/S/tree/below"), EINVAL);
    CHECK(umount2("/tmp/play/S/tree", MNT_DETACH) == 0);
}

static void lesser_namespaces_get_slaves(void)
{
    enter();
    typed("/tmp/play/S", MS_SHARED);
    typed("/tmp/play/P", MS_PRIVATE);
    group_y = fields_of("/tmp/play/S").shared;
    void (*steps[])(void) = {look_and_mount_with_less_privilege, see_what_came_from_above, NULL};
    struct other other = begin(CLONE_NEWUSER | CLONE_NEWNS, steps);
    step(&other);
    CHECK(!mounted("/tmp/play/S/mine"));
    tmpfs("/tmp/play/S/theirs");
    tmpfs("/tmp/play/tree");
    tmpfs("/tmp/play/tree/below");
    CHECK(mkdir("/tmp/play/S/tree", 0755) == 0);
    CHECK(mount("/tmp/play/tree", "/tmp/play/S/tree", NULL, MS_BIND | MS_REC, NULL) == 0);
    step(&other);
    CHECK(mounted("/tmp/play/S/theirs") && mounted("/tmp/play/S/tree/below"));
    end(&other);
}

static void make_shared(void)
{
    change("/tmp/play/S", MS_SHARED);
    tmpfs("/tmp/play/S/mine");
}

// Shared among themselves, slaves of the first: both of them hear of it, and it does not hear of them.
static void see_mine(void) { CHECK(mounted("/tmp/play/S/theirs") && mounted("/tmp/play/S/mine")); }

static void groups_below_a_group_hear_of_it(void)
{
    enter();
    typed("/tmp/play/S", MS_SHARED);
    binds("/tmp/play/S", "/tmp/play/T");
    change("/tmp/play/T", MS_SLAVE);
    change("/tmp/play/T", MS_SHARED);
    binds("/tmp/play/T", "/tmp/play/U");
    binds("/tmp/play/U", "/tmp/play/V");
    change("/tmp/play/V", MS_SLAVE);
    tmpfs("/tmp/play/S/x");
    int top = fields_of("/tmp/play/S/x").shared;
    struct fields t = fields_of("/tmp/play/T/x"), u = fields_of("/tmp/play/U/x"), v = fields_of("/tmp/play/V/x");
    CHECK(t.master == top && t.shared > 0 && u.shared == t.shared && u.master == top);
    CHECK(v.master == t.shared && !v.shared);
    tmpfs("/tmp/play/U/y");
    CHECK(mounted("/tmp/play/T/y") && mounted("/tmp/play/V/y") && !mounted("/tmp/play/S/y"));
    void (*steps[])(void) = {make_shared, see_mine, NULL};
    struct other other = begin(CLONE_NEWNS, steps);
    step(&other);
    CHECK(mounted("/tmp/play/S/mine") && mounted("/tmp/play/T/mine"));
    tmpfs("/tmp/play/S/theirs");
    step(&other);
    end(&other);
}

int main(void)
{
    // Each in a process of its own, for each has its own namespace.
    void (*parts[])(void) = {
        shared_mounts_are_heard_of_in_other_namespaces,
        slaves_hear_and_are_not_heard,
        unbindable_mounts_are_left_out,
        types_change_as_the_table_says,
        wrong_changes_are_refused,
        binds_follow_the_table,
        moves_follow_the_table,
        unmounts_are_heard_of,
        own_mounts_cover_what_comes_later,
        parts_hear_of_their_part,
        the_nearest_visible_group_is_shown,
        roots_cannot_change_among_shared_mounts,
        lesser_namespaces_get_slaves,
        groups_below_a_group_hear_of_it,
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        alarm(60);
        check_in_child(parts[i]);
        printf("part %u\n", i);
        fflush(stdout);
    }
    rmdir("/tmp/play");
    return 0;
}
