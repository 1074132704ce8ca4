// Linux AIO (io_setup(2) and relatives): contexts, reads and writes, the ring, polls, eventfds, limits.
#include "check.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

static int setup(unsigned events, aio_context_t *context) { return (int)syscall(SYS_io_setup, events, context); }
static int destroy(aio_context_t context) { return (int)syscall(SYS_io_destroy, context); }
static int submit(aio_context_t context, long count, struct iocb **blocks)
{
    return (int)syscall(SYS_io_submit, context, count, blocks);
}
static int get(aio_context_t context, long least, long most, struct io_event *events, struct timespec *timeout)
{
    return (int)syscall(SYS_io_getevents, context, least, most, events, timeout);
}
static int cancel(aio_context_t context, struct iocb *block, struct io_event *event)
{
    return (int)syscall(SYS_io_cancel, context, block, event);
}

static struct iocb block_for(int op, int fd, void *buffer, size_t bytes, long offset)
{
    struct iocb block = {.aio_data = 77, .aio_lio_opcode = op, .aio_fildes = fd};
    block.aio_buf = (__u64)(unsigned long)buffer;
    block.aio_nbytes = bytes;
    block.aio_offset = offset;
    return block;
}

static struct timespec none;

// What one block gives, as its event or as the error of the submission.
static long once(aio_context_t context, struct iocb block)
{
    struct iocb *blocks[] = {&block};
    struct io_event event;
    if (submit(context, 1, blocks) != 1)
        return -10000 - errno;
    struct timespec second = {5, 0};
    CHECK(get(context, 1, 1, &event, &second) == 1);
    CHECK(event.data == 77 && event.obj == (__u64)(unsigned long)&block && event.res2 == 0);
    return (long)event.res;
}

static int temporary(void)
{
    char name[] = "/tmp/aio-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && unlink(name) == 0);
    return fd;
}

static void contexts(void)
{
    aio_context_t context = 0, other = 0, set = 1;
    CHECK_FAILS(setup(0, &context), EINVAL);
    CHECK_FAILS(setup(1, &set), EINVAL);
    CHECK_FAILS(setup(1, (void *)8), EFAULT);
    CHECK(setup(8, &context) == 0 && context != 0 && setup(1, &other) == 0 && other != context);
    CHECK(destroy(other) == 0);
    CHECK_FAILS(destroy(other), EINVAL);
    CHECK_FAILS(destroy(12345), EINVAL);
    struct io_event event;
    CHECK(get(context, 0, 1, &event, NULL) == 0);
    CHECK(get(context, 1, 1, &event, &none) == 0);
    CHECK_FAILS(get(context, 2, 1, &event, &none), EINVAL);
    CHECK_FAILS(get(context, -1, 1, &event, &none), EINVAL);
    CHECK_FAILS(get(other, 0, 1, &event, &none), EINVAL);
    CHECK(submit(context, 0, NULL) == 0);
    CHECK_FAILS(submit(context, -1, NULL), EINVAL);
    CHECK_FAILS(submit(other, 0, NULL), EINVAL);
    CHECK_FAILS(submit(context, 1, (void *)8), EFAULT);
    struct iocb *nowhere[] = {(void *)8};
    CHECK_FAILS(submit(context, 1, nowhere), EFAULT);
    // A child has none of them.
    pid_t child = fork();
    if (child == 0) {
        CHECK_FAILS(get(context, 0, 1, &event, NULL), EINVAL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(destroy(context) == 0);
}

static void files(void)
{
    aio_context_t context = 0;
    CHECK(setup(8, &context) == 0);
    int fd = temporary();
    char buffer[100] = {0};
    CHECK(once(context, block_for(IOCB_CMD_PWRITE, fd, "hello world", 11, 0)) == 11);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, fd, buffer, 100, 6)) == 5 && strcmp(buffer, "world") == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 0);
    struct iovec vecs[] = {{buffer, 2}, {buffer + 50, 98}};
    CHECK(once(context, block_for(IOCB_CMD_PREADV, fd, vecs, 2, 0)) == 11);
    CHECK(memcmp(buffer, "he", 2) == 0 && memcmp(buffer + 50, "llo world", 9) == 0);
    CHECK(once(context, block_for(IOCB_CMD_PWRITEV, fd, (struct iovec[]){{"ab", 2}, {"cd", 2}}, 2, 100)) == 4);
    CHECK(lseek(fd, 0, SEEK_END) == 104);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, fd, buffer, 10, 1000)) == 0);
    CHECK(once(context, block_for(IOCB_CMD_FSYNC, fd, NULL, 0, 0)) == 0);
    CHECK(once(context, block_for(IOCB_CMD_FDSYNC, fd, NULL, 0, 0)) == 0);
    // Errors of the operation are its result, those of the block the call's.
    CHECK(once(context, block_for(IOCB_CMD_PREAD, fd, (void *)8, 10, 0)) == -EFAULT);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, fd, buffer, 10, -1)) == -10000 - EINVAL);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, 999, buffer, 10, 0)) == -10000 - EBADF);
    CHECK(once(context, block_for(IOCB_CMD_FSYNC, fd, buffer, 0, 0)) == -10000 - EINVAL);
    CHECK(once(context, block_for(IOCB_CMD_NOOP, fd, NULL, 0, 0)) == -10000 - EINVAL);
    CHECK(once(context, block_for(99, fd, NULL, 0, 0)) == -10000 - EINVAL);
    struct iocb odd = block_for(IOCB_CMD_PREAD, fd, buffer, 10, 0);
    odd.aio_reserved2 = 1;
    CHECK(once(context, odd) == -10000 - EINVAL);
    odd.aio_reserved2 = 0;
    odd.aio_rw_flags = 0x40000000;
    CHECK(once(context, odd) == -10000 - EOPNOTSUPP);
    int reader = open("/proc/self/exe", O_RDONLY), writer = open("/dev/null", O_WRONLY);
    CHECK(once(context, block_for(IOCB_CMD_PWRITE, reader, "x", 1, 0)) == -10000 - EBADF);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, writer, buffer, 1, 0)) == -10000 - EBADF);

    // Several at once; the first bad one ends the submission.
    struct iocb many[4];
    struct iocb *blocks[4];
    for (int i = 0; i < 4; i++) {
        many[i] = block_for(IOCB_CMD_PREAD, i == 2 ? 999 : fd, buffer, 10, i);
        many[i].aio_data = i;
        blocks[i] = &many[i];
    }
    struct io_event events[4];
    CHECK(submit(context, 4, blocks) == 2 && many[0].aio_key == 0);
    CHECK(get(context, 2, 4, events, NULL) == 2 && events[0].data == 0 && events[1].data == 1);
    CHECK(get(context, 0, 4, events, NULL) == 0);
    // Done already, so there is nothing to cancel.
    CHECK_FAILS(cancel(context, &many[0], events), EINVAL);
    many[0].aio_key = 5;
    CHECK_FAILS(cancel(context, &many[0], events), EINVAL);
    CHECK_FAILS(cancel(context, (void *)8, events), EFAULT);

    // Direct I/O, as databases use it.
    char *page = aligned_alloc(4096, 4096);
    memset(page, 'd', 4096);
    CHECK(once(context, block_for(IOCB_CMD_PWRITE, fd, page, 4096, 4096)) == 4096);
    memset(page, 0, 4096);
    CHECK(once(context, block_for(IOCB_CMD_PREAD, fd, page, 4096, 4096)) == 4096 && page[4095] == 'd');
    free(page);
    CHECK(destroy(context) == 0);
    close(fd);
    close(reader);
    close(writer);
}

struct ring {
    unsigned id, nr, head, tail, magic, compat, incompat, header_length;
    struct io_event events[];
};

static void the_ring(void)
{
    aio_context_t context = 0;
    CHECK(setup(4, &context) == 0);
    volatile struct ring *ring = (struct ring *)context;
    CHECK(ring->magic == 0xa10a10a1 && ring->incompat == 0 && ring->header_length == 32 && ring->nr >= 5);
    CHECK(ring->head == 0 && ring->tail == 0);
    int fd = temporary();
    char buffer[10];
    struct iocb block = block_for(IOCB_CMD_PREAD, fd, buffer, 10, 0), *blocks[] = {&block};
    struct io_event event;
    // More rounds than the ring has places, read from memory and by calls in turn.
    for (unsigned i = 0; i < 1000; i++) {
        block.aio_data = i;
        CHECK(submit(context, 1, blocks) == 1);
        CHECK(ring->head != ring->tail && ring->tail < ring->nr);
        if (i % 3 == 0) {
            CHECK(get(context, 1, 1, &event, NULL) == 1 && event.data == i);
        } else {
            CHECK(ring->events[ring->head].data == i);
            ring->head = (ring->head + 1) % ring->nr;
        }
    }
    CHECK(ring->head == ring->tail && get(context, 0, 1, &event, NULL) == 0);
    // A full ring takes no more.
    int taken = 0;
    while (submit(context, 1, blocks) == 1)
        CHECK(++taken < 100000);
    CHECK(errno == EAGAIN && taken >= 4 && (unsigned)taken < ring->nr);
    for (int i = 0; i < taken; i++)
        CHECK(get(context, 1, 1, &event, NULL) == 1);
    CHECK(submit(context, 1, blocks) == 1);
    CHECK(destroy(context) == 0);
    close(fd);
}

static void *write_later(void *fd)
{
    usleep(50000);
    CHECK(write((int)(long)fd, "x", 1) == 1);
    return NULL;
}

static void polls(void)
{
    aio_context_t context = 0;
    CHECK(setup(8, &context) == 0);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    struct iocb block = {.aio_data = 1, .aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = pipes[0], .aio_buf = POLLIN};
    struct iocb *blocks[] = {&block};
    struct io_event event;
    CHECK(submit(context, 1, blocks) == 1);
    struct timespec soon = {0, 30000000};
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK(get(context, 1, 1, &event, &soon) == 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec >= 30000000);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, write_later, (void *)(long)pipes[1]) == 0);
    CHECK(get(context, 1, 1, &event, NULL) == 1 && event.data == 1 && (event.res & POLLIN));
    pthread_join(thread, NULL);
    // Ready at once.
    CHECK(submit(context, 1, blocks) == 1 && get(context, 1, 1, &event, NULL) == 1 && event.res == POLLIN);
    char byte;
    CHECK(read(pipes[0], &byte, 1) == 1);
    // Cancelled: it ends with nothing.
    CHECK(submit(context, 1, blocks) == 1);
    CHECK_FAILS(cancel(context, &block, &event), EINPROGRESS);
    CHECK(get(context, 1, 1, &event, NULL) == 1 && event.data == 1 && event.res == 0);
    CHECK_FAILS(cancel(context, &block, &event), EINVAL);
    // The other end's end.
    CHECK(submit(context, 1, blocks) == 1 && close(pipes[1]) == 0);
    CHECK(get(context, 1, 1, &event, NULL) == 1 && (event.res & POLLHUP));
    block.aio_nbytes = 1;
    CHECK_FAILS(submit(context, 1, blocks), EINVAL);
    block.aio_nbytes = 0;
    // One that is under way ends with its context.
    CHECK(pipe(pipes) == 0);
    block.aio_fildes = pipes[0];
    CHECK(submit(context, 1, blocks) == 1 && destroy(context) == 0);
    CHECK(write(pipes[1], "x", 1) == 1);
}

static void eventfds(void)
{
    aio_context_t context = 0;
    CHECK(setup(8, &context) == 0);
    int fd = temporary(), events = eventfd(0, EFD_NONBLOCK);
    char buffer[10];
    struct iocb block = block_for(IOCB_CMD_PREAD, fd, buffer, 10, 0), *blocks[] = {&block, &block};
    block.aio_flags = IOCB_FLAG_RESFD;
    block.aio_resfd = events;
    CHECK(submit(context, 2, blocks) == 2);
    eventfd_t count;
    CHECK(eventfd_read(events, &count) == 0 && count == 2);
    struct io_event got[2];
    CHECK(get(context, 2, 2, got, NULL) == 2);
    block.aio_resfd = fd;
    CHECK_FAILS(submit(context, 1, blocks), EINVAL);
    block.aio_resfd = 999;
    CHECK_FAILS(submit(context, 1, blocks), EBADF);
    // The two together, as event loops have them.
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    struct iocb poller = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_fildes = pipes[0], .aio_buf = POLLIN};
    poller.aio_flags = IOCB_FLAG_RESFD;
    poller.aio_resfd = events;
    blocks[0] = &poller;
    CHECK(submit(context, 1, blocks) == 1);
    CHECK_FAILS(eventfd_read(events, &count), EAGAIN);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, write_later, (void *)(long)pipes[1]) == 0);
    struct pollfd waiter = {events, POLLIN, 0};
    CHECK(poll(&waiter, 1, 5000) == 1 && eventfd_read(events, &count) == 0 && count == 1);
    CHECK(get(context, 1, 1, got, &none) == 1 && (got[0].res & POLLIN));
    pthread_join(thread, NULL);
    CHECK(destroy(context) == 0);
}

static void nothing(int signal) { (void)signal; }

static void signals(void)
{
    aio_context_t context = 0;
    CHECK(setup(8, &context) == 0);
    struct io_event event;
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 30000);
    CHECK_FAILS(get(context, 1, 1, &event, NULL), EINTR);
    ualarm(0, 0);
    // io_pgetevents holds it back.
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    struct {
        const sigset_t *set;
        size_t bytes;
    } mask = {&set, 8};
    struct timespec soon = {0, 50000000};
    ualarm(10000, 0);
    CHECK(syscall(SYS_io_pgetevents, context, 1, 1, &event, &soon, &mask) == 0);
    mask.bytes = 7;
    CHECK_FAILS(syscall(SYS_io_pgetevents, context, 1, 1, &event, &none, &mask), EINVAL);
    CHECK(sigprocmask(SIG_SETMASK, NULL, &old) == 0 && !sigismember(&old, SIGALRM));
    CHECK(destroy(context) == 0);
}

static unsigned long number_in(const char *path)
{
    FILE *file = fopen(path, "r");
    unsigned long number;
    CHECK(file && fscanf(file, "%lu", &number) == 1);
    fclose(file);
    return number;
}

static void limits(void)
{
    unsigned long most = number_in("/proc/sys/fs/aio-max-nr"), used = number_in("/proc/sys/fs/aio-nr");
    aio_context_t context = 0, other = 0;
    CHECK_FAILS(setup((unsigned)most + 1, &context), EAGAIN);
    CHECK(setup(1000, &context) == 0);
    CHECK(number_in("/proc/sys/fs/aio-nr") >= used + 1000);
    CHECK_FAILS(setup((unsigned)most - 999, &other), EAGAIN);
    CHECK(destroy(context) == 0);
}

int main(void)
{
    PART(contexts);
    PART(files);
    PART(the_ring);
    PART(polls);
    PART(eventfds);
    PART(signals);
    PART(limits);
    return 0;
}
