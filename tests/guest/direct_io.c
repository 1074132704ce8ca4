// Reads and writes of files that go straight between the file and the program's memory: every kind of memory and of end.
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define LEN (1 << 20)

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 31 + (at >> 8) * 7 + 1);
}

static int temporary(void)
{
    char name[] = "/tmp/direct-io-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK(unlink(name) == 0);
    return fd;
}

static void *map(size_t len)
{
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static int is_pattern(const unsigned char *data, size_t from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != pattern(from + i))
            return 0;
    return 1;
}

static int filled(void)
{
    int fd = temporary();
    unsigned char *data = map(LEN);
    for (size_t i = 0; i < LEN; i++)
        data[i] = pattern(i);
    CHECK(write(fd, data, LEN) == LEN);
    CHECK(munmap(data, LEN) == 0);
    return fd;
}

static void odd_sizes_and_places(int fd)
{
    static const size_t lens[] = {1, 7, 4095, 4096, 4097, 65536, 65537, 300001};
    static const size_t offsets[] = {0, 1, 4095, 4096, 65535, 700000};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        for (size_t j = 0; j < sizeof offsets / sizeof *offsets; j++) {
            // Fresh memory, at an odd address, with something behind it that must stay.
            unsigned char *buf = map(lens[i] + 3 * PAGE);
            unsigned char *to = buf + 4093;
            to[lens[i]] = 0xee;
            CHECK(pread(fd, to, lens[i], (off_t)offsets[j]) == (ssize_t)lens[i]);
            CHECK(is_pattern(to, offsets[j], lens[i]));
            CHECK(to[lens[i]] == 0xee && to[-1] == 0);
            CHECK(munmap(buf, lens[i] + 3 * PAGE) == 0);
        }
    puts("sizes");
}

static void ends(int fd)
{
    unsigned char *buf = map(4 * PAGE);
    CHECK(pread(fd, buf, 4 * PAGE, LEN - 100) == 100);
    CHECK(is_pattern(buf, LEN - 100, 100) && buf[100] == 0);
    CHECK(pread(fd, buf, 10, LEN) == 0);
    CHECK(pread(fd, buf, 10, LEN + 100000) == 0);
    CHECK(lseek(fd, LEN - 3 * PAGE, SEEK_SET) == LEN - 3 * PAGE);
    CHECK(read(fd, buf, 2 * PAGE) == 2 * PAGE && read(fd, buf, 2 * PAGE) == PAGE && read(fd, buf, 2 * PAGE) == 0);
    // A hole reads as zeros, over what was there.
    int sparse = temporary();
    CHECK(ftruncate(sparse, 3 * PAGE) == 0);
    CHECK(pwrite(sparse, "x", 1, PAGE + 5) == 1);
    memset(buf, 0xff, 4 * PAGE);
    CHECK(pread(sparse, buf, 4 * PAGE, 0) == 3 * PAGE);
    for (int i = 0; i < 3 * PAGE; i++)
        CHECK(buf[i] == (i == PAGE + 5 ? 'x' : 0));
    CHECK(buf[3 * PAGE] == 0xff);
    close(sparse);
    puts("ends");
}

static void bad_memory(int fd)
{
    unsigned char *buf = map(4 * PAGE);
    CHECK(mprotect(buf + PAGE, PAGE, PROT_READ) == 0);
    CHECK(munmap(buf + 2 * PAGE, PAGE) == 0);
    CHECK(pread(fd, buf + 100, 2 * PAGE, 50) == PAGE - 100);
    CHECK(is_pattern(buf + 100, 50, PAGE - 100));
    CHECK_FAILS(pread(fd, buf + PAGE, 10, 0), EFAULT);
    CHECK_FAILS(pread(fd, buf + 2 * PAGE, 10, 0), EFAULT);
    void *volatile nowhere = (void *)8;
    CHECK_FAILS(pread(fd, nowhere, 10, 0), EFAULT);
    CHECK(pread(fd, buf + 2 * PAGE, 10, LEN) == 0);
    // Out: the read-only page can be written from, the missing one cannot.
    int out = temporary();
    CHECK(pwrite(out, buf, 4 * PAGE, 0) == 2 * PAGE);
    CHECK_FAILS(pwrite(out, buf + 2 * PAGE, 10, 0), EFAULT);
    struct stat s;
    CHECK(fstat(out, &s) == 0 && s.st_size == 2 * PAGE);
    // The position moves by what was moved.
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    CHECK(read(fd, buf + 96, PAGE) == PAGE - 96 && lseek(fd, 0, SEEK_CUR) == PAGE - 96);
    close(out);
    puts("bad memory");
}

static void vectors(int fd)
{
    unsigned char *buf = map(8 * PAGE);
    struct iovec v[4] = {{buf + 10, 5000}, {buf, 0}, {buf + 20000, 1}, {buf + 24000, 7000}};
    CHECK(preadv(fd, v, 4, 12345) == 12001);
    CHECK(is_pattern(buf + 10, 12345, 5000) && is_pattern(buf + 20000, 17345, 1) && is_pattern(buf + 24000, 17346, 7000));
    int out = temporary();
    CHECK(pwritev(out, v, 4, 3) == 12001);
    unsigned char *back = map(4 * PAGE);
    CHECK(pread(out, back, 4 * PAGE, 0) == 12004);
    CHECK(back[2] == 0 && is_pattern(back + 3, 12345, 12001));
    // The second buffer is bad: what the first took counts.
    v[1] = (struct iovec){(void *)8, 100};
    CHECK(preadv(fd, v, 4, 0) == 5000);
    CHECK(pwritev(out, v, 4, 0) == 5000);
    close(out);
    puts("vectors");
}

// Files that are mapped, also over themselves.
static void mapped_files(int fd)
{
    int file = filled();
    unsigned char *shared = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *own = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    CHECK(shared != MAP_FAILED && own != MAP_FAILED);
    // From a file into a mapping of itself.
    CHECK(pread(file, shared + 4 * PAGE, 2 * PAGE, PAGE) == 2 * PAGE);
    CHECK(is_pattern(shared + 4 * PAGE, PAGE, 2 * PAGE));
    // From a mapping into its file.
    CHECK(pwrite(file, shared, 100, 7 * PAGE) == 100);
    CHECK(is_pattern(shared + 7 * PAGE, 0, 100));
    // A private mapping takes what is read and the file keeps what it had.
    CHECK(pread(fd, own, PAGE, 50000) == PAGE);
    CHECK(is_pattern(own, 50000, PAGE) && is_pattern(shared, 0, PAGE));
    // Behind the end of a mapped file there is no memory.
    CHECK(ftruncate(file, PAGE) == 0);
    CHECK_FAILS(pread(fd, shared + 2 * PAGE, 10, 0), EFAULT);
    close(file);
    CHECK(munmap(shared, 8 * PAGE) == 0 && munmap(own, 8 * PAGE) == 0);
    // A file of the system's: mapped, and read, it is the same.
    int program = open("/proc/self/exe", O_RDONLY);
    struct stat s;
    CHECK(program >= 0 && fstat(program, &s) == 0);
    size_t len = (size_t)s.st_size;
    unsigned char *there = mmap(NULL, len, PROT_READ, MAP_PRIVATE, program, 0), *here = map(len + PAGE);
    CHECK(there != MAP_FAILED);
    CHECK(pread(program, here, len + PAGE, 0) == (ssize_t)len);
    CHECK(memcmp(there, here, len) == 0);
    // Out of the mapping of one file into another.
    int copy = temporary();
    CHECK(write(copy, there, len) == (ssize_t)len);
    memset(here, 0, len);
    CHECK(pread(copy, here, len, 0) == (ssize_t)len && memcmp(there, here, len) == 0);
    close(copy);
    close(program);
    puts("mapped files");
}

// Memory that a parent and its child share until one of them writes: a read is a write.
static void copied_memory(int fd)
{
    unsigned char *buf = map(4 * PAGE);
    memset(buf, 0x55, 4 * PAGE);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(pread(fd, buf, 4 * PAGE, 0) == 4 * PAGE && is_pattern(buf, 0, 4 * PAGE));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    for (int i = 0; i < 4 * PAGE; i++)
        CHECK(buf[i] == 0x55);
    puts("copied memory");
}

static void appending(void)
{
    char name[] = "/tmp/direct-io-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    int again = open(name, O_WRONLY | O_APPEND);
    CHECK(again >= 0 && unlink(name) == 0);
    unsigned char *buf = map(3 * PAGE);
    for (size_t i = 0; i < 3 * PAGE; i++)
        buf[i] = pattern(i);
    CHECK(write(again, buf, PAGE + 1) == PAGE + 1 && write(again, buf + PAGE + 1, PAGE) == PAGE);
    CHECK(lseek(again, 0, SEEK_CUR) == 2 * PAGE + 1);
    unsigned char *back = map(3 * PAGE);
    CHECK(read(fd, back, 3 * PAGE) == 2 * PAGE + 1 && is_pattern(back, 0, 2 * PAGE + 1));
    close(fd);
    close(again);
    puts("appending");
}

int main(void)
{
    int fd = filled();
    odd_sizes_and_places(fd);
    ends(fd);
    bad_memory(fd);
    vectors(fd);
    mapped_files(fd);
    copied_memory(fd);
    appending();
    return 0;
}
