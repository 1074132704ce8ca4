// POSIX message queues (mq_overview(7)): names, limits, order, waiting, notification, the file system.
#include "check.h"
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

// As the kernel has them: without the checks and the slash of the C library.
static int raw_open(const char *name, int flags, mode_t mode, struct mq_attr *attr)
{
    return (int)syscall(SYS_mq_open, name, flags, mode, attr);
}

static int raw_unlink(const char *name) { return (int)syscall(SYS_mq_unlink, name); }

static int with(long messages, long bytes)
{
    struct mq_attr attr = {.mq_maxmsg = messages, .mq_msgsize = bytes};
    raw_unlink("q");
    int queue = raw_open("q", O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    CHECK(queue >= 0);
    return queue;
}

static struct timespec in(int milliseconds)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += milliseconds * 1000000L;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

static void names(void)
{
    CHECK_FAILS(raw_open("none", O_RDONLY, 0, NULL), ENOENT);
    CHECK_FAILS(raw_open("", O_RDONLY | O_CREAT, 0600, NULL), ENOENT);
    CHECK_FAILS(raw_open("a/b", O_RDONLY | O_CREAT, 0600, NULL), EACCES);
    CHECK_FAILS(raw_open("/q", O_RDONLY | O_CREAT, 0600, NULL), EACCES);
    CHECK_FAILS(raw_open(".", O_RDONLY, 0, NULL), EACCES);
    CHECK_FAILS(raw_open("..", O_RDONLY | O_CREAT, 0600, NULL), EACCES);
    CHECK_FAILS(raw_open((char *)1, O_RDONLY, 0, NULL), EFAULT);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_FAILS(raw_open(name, O_RDONLY | O_CREAT, 0600, NULL), ENAMETOOLONG);
    name[255] = 0;
    int longest = raw_open(name, O_RDONLY | O_CREAT, 0600, NULL);
    CHECK(longest >= 0 && raw_unlink(name) == 0 && close(longest) == 0);
    CHECK_FAILS(raw_unlink(name), ENOENT);
    CHECK_FAILS(mq_open("none", O_RDONLY), EINVAL);

    int queue = raw_open("n", O_RDWR | O_CREAT | O_EXCL, 0666, NULL);
    CHECK(queue >= 0 && fcntl(queue, F_GETFD) == FD_CLOEXEC);
    CHECK_FAILS(raw_open("n", O_RDWR | O_CREAT | O_EXCL, 0600, NULL), EEXIST);
    int second = raw_open("n", O_RDONLY | O_CREAT | O_NONBLOCK, 0600, NULL);
    CHECK(second >= 0 && (fcntl(second, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_RDONLY | O_NONBLOCK));
    CHECK_FAILS(raw_open("n", O_ACCMODE, 0, NULL), EINVAL);
    // It lives as long as somebody has it open.
    CHECK(raw_unlink("n") == 0 && mq_send(queue, "x", 1, 0) == 0);
    char buffer[8192];
    CHECK(mq_receive(second, buffer, sizeof buffer, NULL) == 1 && buffer[0] == 'x');
    CHECK_FAILS(raw_open("n", O_RDONLY, 0, NULL), ENOENT);
    close(queue);
    close(second);
}

static void attributes(void)
{
    struct mq_attr attr = {0};
    CHECK_FAILS(raw_open("q", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
    attr = (struct mq_attr){.mq_maxmsg = 1, .mq_msgsize = -1};
    CHECK_FAILS(raw_open("q", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
    attr = (struct mq_attr){.mq_maxmsg = 65537, .mq_msgsize = 1};
    CHECK_FAILS(raw_open("q", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
    attr = (struct mq_attr){.mq_maxmsg = 1, .mq_msgsize = 16777217};
    CHECK_FAILS(raw_open("q", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
    CHECK_FAILS(raw_open("q", O_RDWR | O_CREAT, 0600, (void *)1), EFAULT);
    int queue = with(3, 20);
    struct mq_attr old;
    memset(&old, 0x55, sizeof old);
    CHECK(mq_getattr(queue, &old) == 0);
    CHECK(old.mq_flags == 0 && old.mq_maxmsg == 3 && old.mq_msgsize == 20 && old.mq_curmsgs == 0);
    attr = (struct mq_attr){.mq_flags = O_NONBLOCK, .mq_maxmsg = 77};
    CHECK(mq_setattr(queue, &attr, &old) == 0 && old.mq_flags == 0);
    CHECK(fcntl(queue, F_GETFL) & O_NONBLOCK);
    attr.mq_flags = O_NONBLOCK | O_APPEND;
    CHECK_FAILS(mq_setattr(queue, &attr, NULL), EINVAL);
    CHECK(mq_getattr(queue, &old) == 0 && old.mq_flags == O_NONBLOCK && old.mq_maxmsg == 3);
    CHECK_FAILS(mq_getattr(0, &old), EBADF);
    CHECK_FAILS(mq_getattr(-1, &old), EBADF);
    close(queue);
    int usual = raw_open("usual", O_RDWR | O_CREAT, 0600, NULL);
    CHECK(usual >= 0 && mq_getattr(usual, &old) == 0 && old.mq_maxmsg == 10 && old.mq_msgsize == 8192);
    CHECK(raw_unlink("usual") == 0 && close(usual) == 0);
}

// RLIMIT_MSGQUEUE, which counts what all processes of a user have: 10 messages cost 10 * (100 + 48 + 48) bytes.
static void limit_of_user(void)
{
    uid_t own = 100000 + (uid_t)getpid();
    CHECK(setgid(own) == 0 && setuid(own) == 0);
    struct rlimit limit = {1960, 1960};
    CHECK(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 101};
    CHECK_FAILS(raw_open("big", O_RDWR | O_CREAT, 0600, &attr), EMFILE);
    attr.mq_msgsize = 100;
    int queue = raw_open("fits", O_RDWR | O_CREAT, 0600, &attr);
    CHECK(queue >= 0);
    CHECK_FAILS(raw_open("big", O_RDWR | O_CREAT, 0600, NULL), EMFILE);
    CHECK(close(queue) == 0);
    CHECK_FAILS(raw_open("big", O_RDWR | O_CREAT, 0600, &attr), EMFILE);
    CHECK(raw_unlink("fits") == 0);
    queue = raw_open("fits", O_RDWR | O_CREAT, 0600, &attr);
    CHECK(queue >= 0 && raw_unlink("fits") == 0 && close(queue) == 0);
}

static void limits(void)
{
    pid_t child = fork();
    if (child == 0) {
        limit_of_user();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    const char *files[] = {"msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max"};
    for (int i = 0; i < 5; i++) {
        char path[100], line[100];
        snprintf(path, sizeof path, "/proc/sys/fs/mqueue/%s", files[i]);
        FILE *file = fopen(path, "r");
        CHECK(file && fgets(line, sizeof line, file));
        printf("%s %s", files[i], line);
        fclose(file);
    }
}

static void order(void)
{
    int queue = with(10, 20);
    const char *sent[] = {"a1", "b5", "c1", "d0", "e5", "f32767"};
    unsigned priority[] = {1, 5, 1, 0, 5, 32767};
    for (int i = 0; i < 6; i++)
        CHECK(mq_send(queue, sent[i], strlen(sent[i]), priority[i]) == 0);
    struct mq_attr attr;
    CHECK(mq_getattr(queue, &attr) == 0 && attr.mq_curmsgs == 6);
    char buffer[21];
    CHECK_FAILS(mq_receive(queue, buffer, 19, NULL), EMSGSIZE);
    CHECK_FAILS(mq_send(queue, buffer, 21, 0), EMSGSIZE);
    CHECK_FAILS(mq_send(queue, "x", 1, 32768), EINVAL);
    for (int i = 0; i < 6; i++) {
        unsigned got;
        ssize_t n = mq_receive(queue, buffer, sizeof buffer, &got);
        CHECK(n > 0);
        printf("%.*s %u\n", (int)n, buffer, got);
    }
    CHECK(syscall(SYS_mq_timedsend, queue, NULL, 0, 0, NULL) == 0 && mq_receive(queue, buffer, 20, NULL) == 0);
    int reader = raw_open("q", O_RDONLY, 0, NULL), writer = raw_open("q", O_WRONLY, 0, NULL);
    CHECK_FAILS(mq_send(reader, "x", 1, 0), EBADF);
    CHECK_FAILS(mq_receive(writer, buffer, 20, NULL), EBADF);
    CHECK_FAILS(syscall(SYS_mq_timedsend, queue, (void *)1, 5, 0, NULL), EFAULT);
    close(reader);
    close(writer);
    close(queue);
}

// Sends when the main thread waits for it.
static void *send_later(void *queue)
{
    wait_until_asleep(getpid());
    CHECK(mq_send((int)(long)queue, "late", 4, 3) == 0);
    return NULL;
}

static _Atomic pid_t receiver;

static void *receive_four(void *queue)
{
    char buffer[20];
    receiver = gettid();
    CHECK(mq_receive((int)(long)queue, buffer, 20, NULL) == 4);
    return NULL;
}

// Receives when the main thread waits for room.
static void *receive_later(void *queue)
{
    wait_until_asleep(getpid());
    return receive_four(queue);
}

static void nothing(int signal) { (void)signal; }

static void waiting(void)
{
    int queue = with(1, 20);
    char buffer[20];
    struct timespec soon = in(30), past = {1, 0}, bad = {0, 1000000000};
    CHECK_FAILS(mq_timedreceive(queue, buffer, 20, NULL, &soon), ETIMEDOUT);
    CHECK_FAILS(mq_timedreceive(queue, buffer, 20, NULL, &past), ETIMEDOUT);
    CHECK_FAILS(mq_timedreceive(queue, buffer, 20, NULL, &bad), EINVAL);
    CHECK_FAILS(mq_timedreceive(0, buffer, 20, NULL, &bad), EINVAL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_later, (void *)(long)queue) == 0);
    unsigned priority = 0;
    CHECK(mq_receive(queue, buffer, 20, &priority) == 4 && priority == 3);
    pthread_join(thread, NULL);

    struct pollfd poller = {queue, POLLIN | POLLOUT, 0};
    CHECK(poll(&poller, 1, 0) == 1 && poller.revents == POLLOUT);
    CHECK(mq_send(queue, "full", 4, 0) == 0);
    CHECK(poll(&poller, 1, 0) == 1 && poller.revents == POLLIN);
    soon = in(30);
    CHECK_FAILS(mq_timedsend(queue, "more", 4, 0, &soon), ETIMEDOUT);
    CHECK(pthread_create(&thread, NULL, receive_later, (void *)(long)queue) == 0);
    CHECK(mq_send(queue, "more", 4, 0) == 0);
    pthread_join(thread, NULL);
    CHECK(fcntl(queue, F_SETFL, O_NONBLOCK) == 0);
    CHECK_FAILS(mq_send(queue, "x", 1, 0), EAGAIN);
    CHECK(mq_receive(queue, buffer, 20, NULL) == 4);
    CHECK_FAILS(mq_receive(queue, buffer, 20, NULL), EAGAIN);
    CHECK(fcntl(queue, F_SETFL, 0) == 0);

    // Interrupted by a handler, and restarted where it says so.
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 30000);
    CHECK_FAILS(mq_receive(queue, buffer, 20, NULL), EINTR);
    ualarm(0, 0);
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    pid_t child = fork();
    if (child == 0) {
        ualarm(10000, 10000);
        mq_receive(queue, buffer, 20, NULL);
        _exit(buffer[0] == 'r' ? 0 : 1);
    }
    usleep(60000);
    CHECK(mq_send(queue, "r", 1, 0) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(queue);
}

static void notification(void)
{
    int queue = with(10, 20);
    char buffer[20];
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    event.sigev_value.sival_int = 42;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK(mq_notify(queue, &event) == 0);
    CHECK_FAILS(mq_notify(queue, &event), EBUSY);
    pid_t child = fork();
    if (child == 0) {
        CHECK_FAILS(mq_notify(queue, &event), EBUSY);
        // Not ours, so this and the end remove nothing.
        CHECK(mq_notify(queue, NULL) == 0);
        CHECK(mq_send(queue, "one", 3, 0) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    siginfo_t info;
    struct timespec second = {1, 0}, none = {0, 0};
    CHECK(sigtimedwait(&set, &info, &second) == SIGUSR1);
    CHECK(info.si_code == SI_MESGQ && info.si_pid == child && info.si_uid == getuid());
    CHECK(info.si_value.sival_int == 42);
    // Once only, and only for a queue that was empty.
    CHECK(mq_notify(queue, &event) == 0);
    CHECK(mq_send(queue, "two", 3, 0) == 0);
    CHECK_FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
    CHECK(mq_receive(queue, buffer, 20, NULL) == 3 && mq_receive(queue, buffer, 20, NULL) == 3);
    // Somebody who waits gets the message without it.
    pthread_t thread;
    receiver = 0;
    CHECK(pthread_create(&thread, NULL, receive_four, (void *)(long)queue) == 0);
    while (receiver == 0)
        usleep(1000);
    wait_until_asleep(receiver);
    CHECK(mq_send(queue, "four", 4, 0) == 0);
    pthread_join(thread, NULL);
    CHECK_FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
    CHECK(mq_send(queue, "x", 1, 0) == 0 && sigtimedwait(&set, &info, &second) == SIGUSR1);
    CHECK(info.si_pid == getpid() && mq_receive(queue, buffer, 20, NULL) == 1);
    // Taken back, and given up by closing any descriptor.
    CHECK(mq_notify(queue, &event) == 0 && mq_notify(queue, NULL) == 0 && mq_notify(queue, &event) == 0);
    CHECK(close(dup(queue)) == 0);
    CHECK(mq_send(queue, "x", 1, 0) == 0);
    CHECK_FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
    CHECK(mq_receive(queue, buffer, 20, NULL) == 1);
    event.sigev_notify = 77;
    CHECK_FAILS(mq_notify(queue, &event), EINVAL);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 65;
    CHECK_FAILS(mq_notify(queue, &event), EINVAL);
    event.sigev_notify = SIGEV_NONE;
    CHECK(mq_notify(queue, &event) == 0);
    CHECK_FAILS(mq_notify(0, NULL), EBADF);
    close(queue);
}

static volatile int told;

static void tell(union sigval value) { told = value.sival_int; }

static void notification_by_thread(void)
{
    int queue = with(10, 20);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD};
    event.sigev_notify_function = tell;
    event.sigev_value.sival_int = 7;
    CHECK(mq_notify(queue, &event) == 0);
    CHECK(mq_send(queue, "x", 1, 0) == 0);
    for (int i = 0; i < 5000 && told != 7; i++)
        usleep(1000);
    CHECK(told == 7);
    close(queue);
}

static void file_system(void)
{
    CHECK(raw_unlink("q") == 0);
    char place[] = "/tmp/mqueue-XXXXXX", path[64];
    CHECK(unshare(CLONE_NEWNS) == 0 && mkdtemp(place) && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("none", place, "mqueue", 0, NULL) == 0);
    struct statfs fs;
    CHECK(statfs(place, &fs) == 0 && fs.f_type == 0x19800202);
    struct stat info;
    CHECK(stat(place, &info) == 0 && (info.st_mode & 07777) == 01777);
    umask(022);
    int queue = raw_open("shown", O_RDWR | O_CREAT, 0666, NULL);
    snprintf(path, sizeof path, "%s/shown", place);
    CHECK(stat(path, &info) == 0 && info.st_size == 80 && info.st_mode == (S_IFREG | 0644));
    CHECK(mq_send(queue, "hello", 5, 0) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK(mq_notify(queue, &event) == 0);
    char text[200] = {0};
    int file = open(path, O_RDONLY);
    ssize_t n = read(file, text, sizeof text);
    CHECK(n > 0 && read(file, text + n, 10) == 0);
    char *pid = strstr(text, "NOTIFY_PID:");
    CHECK(pid && atoi(pid + 11) == getpid());
    *pid = 0;
    printf("%s\n", text);
    CHECK(mq_receive(file, text, 8192, NULL) == 5);
    close(file);
    CHECK(chmod(path, 0600) == 0 && unlink(path) == 0);
    CHECK_FAILS(raw_open("shown", O_RDWR, 0, NULL), ENOENT);
    snprintf(path, sizeof path, "%s/made", place);
    file = open(path, O_RDWR | O_CREAT, 0600);
    struct mq_attr attr;
    CHECK(file >= 0 && mq_getattr(file, &attr) == 0 && attr.mq_maxmsg == 10);
    CHECK_FAILS(write(file, "x", 1), EINVAL);
    int same = raw_open("made", O_WRONLY, 0, NULL);
    CHECK(same >= 0 && mq_send(same, "x", 1, 0) == 0 && mq_getattr(file, &attr) == 0 && attr.mq_curmsgs == 1);
    CHECK_FAILS(mkdir(path, 0700), EEXIST);
    snprintf(path, sizeof path, "%s/folder", place);
    CHECK_FAILS(mkdir(path, 0700), EPERM);
    CHECK(raw_unlink("made") == 0);
    CHECK(umount2(place, MNT_DETACH) == 0 && rmdir(place) == 0);
}

static void permissions(void)
{
    umask(0);
    int queue = raw_open("mine", O_RDWR | O_CREAT, 0604, NULL);
    CHECK(queue >= 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(setgid(1234) == 0 && setuid(1234) == 0);
        CHECK_FAILS(raw_open("mine", O_RDWR, 0, NULL), EACCES);
        CHECK(raw_open("mine", O_RDONLY, 0, NULL) >= 0);
        CHECK_FAILS(raw_unlink("mine"), EPERM);
        struct mq_attr attr = {.mq_maxmsg = 11, .mq_msgsize = 1};
        CHECK_FAILS(raw_open("more", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
        attr = (struct mq_attr){.mq_maxmsg = 1, .mq_msgsize = 8193};
        CHECK_FAILS(raw_open("more", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
        attr.mq_msgsize = 8192;
        CHECK(raw_open("more", O_RDWR | O_CREAT, 0600, &attr) >= 0 && raw_unlink("more") == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(raw_unlink("mine") == 0);
}

int main(void)
{
    // Queues of its own, natively too.
    CHECK(unshare(CLONE_NEWIPC) == 0);
    PART(names);
    PART(attributes);
    PART(limits);
    PART(order);
    PART(waiting);
    PART(notification);
    PART(notification_by_thread);
    PART(file_system);
    PART(permissions);
    return 0;
}
