// The address space: mmap, munmap, mprotect, mremap, brk, madvise, files (mmap(2)).
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

static sigjmp_buf back;
static volatile int faulted;

static void on_fault(int signal)
{
    faulted = signal;
    siglongjmp(back, 1);
}

// The signal that touching `address` raises, or 0.
static int touch(volatile char *address, int write)
{
    faulted = 0;
    if (sigsetjmp(back, 1) == 0) {
        if (write)
            *address = 1;
        else
            (void)*address;
    }
    return faulted;
}

static char *map(size_t pages, int prot, int flags)
{
    char *p = mmap(NULL, pages * PAGE, prot, flags | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

static void fresh_memory_is_zero(void)
{
    unsigned char *p = (unsigned char *)map(64, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (size_t i = 0; i < 64 * PAGE; i++)
        CHECK(p[i] == 0);
    memset(p, 0xff, 64 * PAGE);
    CHECK(munmap(p, 64 * PAGE) == 0);
    p = (unsigned char *)map(64, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (size_t i = 0; i < 64 * PAGE; i += 100)
        CHECK(p[i] == 0);
}

static void unmapping_a_middle_leaves_the_ends(void)
{
    char *p = map(5, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 'x', 5 * PAGE);
    CHECK(munmap(p + 2 * PAGE, PAGE) == 0);
    CHECK(touch(p + PAGE, 1) == 0 && touch(p + 2 * PAGE, 0) == SIGSEGV && touch(p + 3 * PAGE, 1) == 0);
    CHECK(p[0] == 'x' && p[4 * PAGE] == 'x');
    CHECK(munmap(p, 5 * PAGE) == 0 && munmap(p, 5 * PAGE) == 0);
}

static void protection_splits_and_merges(void)
{
    char *p = map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    p[PAGE] = 'y';
    CHECK(mprotect(p + PAGE, PAGE, PROT_READ) == 0);
    CHECK(touch(p, 1) == 0 && touch(p + PAGE, 1) == SIGSEGV && touch(p + PAGE, 0) == 0 && p[PAGE] == 'y');
    CHECK(mprotect(p + PAGE, PAGE, PROT_NONE) == 0 && touch(p + PAGE, 0) == SIGSEGV);
    CHECK(mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE) == 0 && touch(p + PAGE, 1) == 0);
    CHECK(munmap(p + PAGE, PAGE) == 0);
    CHECK_FAILS(mprotect(p, 3 * PAGE, PROT_READ), ENOMEM);
    CHECK_FAILS(mprotect(p + 1, PAGE, PROT_READ), EINVAL);
}

static void fixed_mapping_replaces(void)
{
    char *p = map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 'z', 3 * PAGE);
    CHECK(mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + PAGE);
    CHECK(p[PAGE] == 0 && p[0] == 'z' && p[2 * PAGE] == 'z');
    CHECK_FAILS((intptr_t)mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK_FAILS((intptr_t)mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    CHECK_FAILS((intptr_t)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_FAILS((intptr_t)mmap(NULL, -2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_FAILS((intptr_t)mmap(NULL, -2 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0), ENOMEM);
}

static void remap_grows_shrinks_and_moves(void)
{
    char *p = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 'r', 4 * PAGE);
    CHECK(mremap(p, 4 * PAGE, 2 * PAGE, 0) == p && touch(p + 2 * PAGE, 0) == SIGSEGV);
    char *q = mremap(p, 2 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q[0] == 'r' && q[2 * PAGE - 1] == 'r' && q[2 * PAGE] == 0 && q[100 * PAGE - 1] == 0);
    char *target = map(100, PROT_NONE, MAP_PRIVATE);
    CHECK(mremap(q, 100 * PAGE, 100 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target && target[0] == 'r');
    CHECK(touch(q, 0) == SIGSEGV);
}

static int temporary(size_t size)
{
    char path[] = "/tmp/mappings-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static void shared_file_mapping_is_the_file(void)
{
    int fd = temporary(3 * PAGE);
    char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    memcpy(p + PAGE - 3, "across", 6);
    char buffer[7] = "";
    CHECK(pread(fd, buffer, 6, PAGE - 3) == 6 && strcmp(buffer, "across") == 0);
    CHECK(pwrite(fd, "written", 7, 2 * PAGE) == 7 && memcmp(p + 2 * PAGE, "written", 7) == 0);
    pid_t child = fork();
    if (child == 0) {
        p[0] = 'C';
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child && p[0] == 'C');
    CHECK(msync(p, 3 * PAGE, MS_SYNC) == 0);
    CHECK(ftruncate(fd, PAGE) == 0 && touch(p + PAGE, 0) == SIGBUS);
}

static void private_file_mapping_copies_on_write(void)
{
    int fd = temporary(2 * PAGE);
    CHECK(pwrite(fd, "original", 8, 0) == 8);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(p != MAP_FAILED && memcmp(p, "original", 8) == 0);
    memcpy(p, "changed!", 8);
    char buffer[9] = "";
    CHECK(pread(fd, buffer, 8, 0) == 8 && strcmp(buffer, "original") == 0 && memcmp(p, "changed!", 8) == 0);
    int read_only = open("/etc/passwd", O_RDONLY);
    CHECK_FAILS((intptr_t)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, read_only, 0), EACCES);
    CHECK((p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only, 0)) != MAP_FAILED);
    p[0] = '!';
    CHECK_FAILS((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, read_only, 1), EINVAL);
    CHECK_FAILS((intptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
}

static void shared_anonymous_memory_crosses_fork(void)
{
    char *p = map(2, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t child = fork();
    if (child == 0) {
        strcpy(p + PAGE, "from the child");
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child && strcmp(p + PAGE, "from the child") == 0);
}

static void dont_need_drops_and_dont_fork_hides(void)
{
    char *p = map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(p, 'd', 2 * PAGE);
    CHECK(madvise(p, PAGE, MADV_DONTNEED) == 0 && p[0] == 0 && p[PAGE] == 'd');
    CHECK(madvise(p, PAGE, MADV_DONTFORK) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(touch(p, 0) == SIGSEGV && touch(p + PAGE, 0) == 0 ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_FAILS(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_FAILS(madvise(p, PAGE, 9999), EINVAL);
}

static void program_break_moves(void)
{
    char *start = sbrk(0);
    CHECK(sbrk(10 * PAGE) == start);
    memset(start, 'b', 10 * PAGE);
    CHECK(sbrk(-5 * (intptr_t)PAGE) != (void *)-1 && touch(start + 9 * PAGE, 0) == SIGSEGV && start[4 * PAGE] == 'b');
    CHECK(sbrk(5 * PAGE) != (void *)-1 && start[9 * PAGE] == 0);
}

static void written_code_runs(void)
{
    unsigned char code[] = {0xb8, 7, 0, 0, 0, 0xc3};
    unsigned char *p = (unsigned char *)map(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
    for (int i = 1; i < 50; i++) {
        code[1] = (unsigned char)i;
        memcpy(p, code, sizeof code);
        CHECK(((int (*)(void))(uintptr_t)p)() == i);
    }
    CHECK(mprotect(p, PAGE, PROT_READ) == 0);
    faulted = 0;
    if (sigsetjmp(back, 1) == 0)
        ((int (*)(void))(uintptr_t)p)();
    CHECK(faulted == SIGSEGV);
}

static void bad_buffers_are_efault(void)
{
    char *p = map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK(munmap(p + PAGE, PAGE) == 0);
    int fd = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), fds[2];
    CHECK_FAILS(read(fd, p + PAGE, 10), EFAULT);
    CHECK_FAILS(read(fd, (void *)0xffff800000000000ul, 10), EFAULT);
    CHECK(pipe(fds) == 0);
    CHECK_FAILS(write(fds[1], p + PAGE, 10), EFAULT);
    CHECK(write(null, "x", 1) == 1);
    CHECK_FAILS(stat((char *)8, (struct stat *)p), EFAULT);
    CHECK_FAILS(stat("/", (struct stat *)8), EFAULT);
    CHECK_FAILS(open((char *)16, O_RDONLY), EFAULT);
    struct iovec iov[2] = {{p + PAGE - 5, 5}, {p + PAGE, 5}};
    CHECK(readv(fd, iov, 2) == 5);
}

static void other_process_memory(void)
{
    char local[32] = "", remote[32] = "remote bytes";
    struct iovec to = {local, sizeof local}, from = {remote, sizeof remote};
    CHECK(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == sizeof local && strcmp(local, remote) == 0);
    CHECK_FAILS(process_vm_readv(0x3fffffff, &to, 1, &from, 1, 0), ESRCH);
}

static void memory_file(void)
{
    int fd = memfd_create("name", MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    strcpy(p, "sealed");
    CHECK_FAILS(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK(munmap(p, PAGE) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK) == 0);
    CHECK_FAILS(write(fd, "x", 1), EPERM);
    CHECK_FAILS(ftruncate(fd, 1), EPERM);
    CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_SHRINK));
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
    PART(fresh_memory_is_zero);
    PART(unmapping_a_middle_leaves_the_ends);
    PART(protection_splits_and_merges);
    PART(fixed_mapping_replaces);
    PART(remap_grows_shrinks_and_moves);
    PART(shared_file_mapping_is_the_file);
    PART(private_file_mapping_copies_on_write);
    PART(shared_anonymous_memory_crosses_fork);
    PART(dont_need_drops_and_dont_fork_hides);
    PART(program_break_moves);
    PART(written_code_runs);
    PART(bad_buffers_are_efault);
    PART(other_process_memory);
    PART(memory_file);
    return 0;
}
