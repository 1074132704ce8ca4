// What pointers of the calls point to: an arena with every kind of page, and the values in it.
#ifndef MEMORY_H
#define MEMORY_H

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

#define PAGE 4096UL

// Writable, then one page of each: nothing, read only, unreadable, behind the end of a file.
#define ARENA_PAGES 16
enum { READ_ONLY = ARENA_PAGES + 1, UNREADABLE, BEHIND_END, ALL_PAGES };

// Where calls that change mappings mostly do: nothing else is there.
#define PLAYGROUND 0x200000000UL
#define PLAYGROUND_PAGES 256

static __thread char *arena;

static void make_arena(void)
{
    char *at = mmap(NULL, ALL_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(3);
    munmap(at + ARENA_PAGES * PAGE, PAGE);
    mprotect(at + READ_ONLY * PAGE, PAGE, PROT_READ);
    mprotect(at + UNREADABLE * PAGE, PAGE, PROT_NONE);
    int fd = syscall(SYS_memfd_create, "short", 0);
    if (fd >= 0) {
        mmap(at + BEHIND_END * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        close(fd);
    }
    arena = at;
}

// Room for `size` writable bytes; what was there stays there.
static void *room(size_t size)
{
    size_t space = ARENA_PAGES * PAGE;
    if (size > space)
        size = space;
    // Often up to the last byte before nothing.
    if (one_in(4))
        return arena + space - size;
    return arena + (below(space - size + 1) & ~7UL);
}

// A pointer where none should be.
static u64 bad_pointer(void)
{
    switch (below(12)) {
    case 0: case 1: case 2:
        return 0;
    case 3:
        return (u64)arena + ARENA_PAGES * PAGE - below(16);
    case 4:
        return (u64)arena + READ_ONLY * PAGE + below(PAGE);
    case 5:
        return (u64)arena + UNREADABLE * PAGE + below(64);
    case 6:
        return (u64)arena + BEHIND_END * PAGE + below(64);
    case 7:
        return PLAYGROUND + below(PLAYGROUND_PAGES * PAGE);
    case 8:
        return (u64)arena + below(ARENA_PAGES * PAGE);
    case 9:
        return 0x7ffffffff000 - below(64);
    default:
        return PICK(1, 8, 4095, -1, -8, -4096, 0xffff800000000000, 0xffffffff81000000, 0x800000000000,
                    0x7fffffffffff, 0xffffffffff600000, 0x00ff000000000000);
    }
}

// `size` bytes that the kernel may write or that hold anything.
static u64 buffer(size_t size)
{
    if (one_in(12))
        return bad_pointer();
    char *at = room(size);
    if (one_in(3)) {
        for (size_t i = 0; i + 8 <= size && i < 256; i += 8) {
            u64 value = number();
            memcpy(at + i, &value, 8);
        }
    }
    return (u64)at;
}

static u64 copy_of(const void *what, size_t size)
{
    if (one_in(32))
        return bad_pointer();
    char *at = room(size);
    memmove(at, what, size);
    if (one_in(16) && size > 0)
        at[below(size)] ^= 1 << below(8);
    return (u64)at;
}

static u64 length(void)
{
    switch (below(16)) {
    case 0:
        return number();
    case 1: case 2:
        return 0;
    case 3: case 4:
        return below(ARENA_PAGES * PAGE);
    case 5:
        return PICK(4095, 4096, 4097, 65535, 65536);
    default:
        return below(200);
    }
}

static u64 time_spec(void)
{
    if (one_in(8))
        return 0;
    struct timespec t = {0, below(3000000)};
    if (one_in(12))
        t = (struct timespec){number(), number()};
    return copy_of(&t, sizeof t);
}

static u64 time_pair(void)
{
    if (one_in(8))
        return 0;
    s64 t[4] = {below(2) ? 0 : number(), below(1000000), below(3) ? 0 : number(), below(1000000)};
    if (one_in(12))
        t[below(4)] = number();
    return copy_of(t, sizeof t);
}

static u64 vectors(u64 *count)
{
    struct { u64 base, size; } v[8];
    *count = below(9);
    for (u64 i = 0; i < *count; i++)
        v[i].size = below(3) ? below(300) : length(), v[i].base = buffer(v[i].size);
    u64 at = copy_of(v, *count * sizeof *v);
    if (one_in(20))
        *count = number();
    return at;
}

static u64 map_address(void)
{
    if (one_in(30))
        return bad_pointer();
    return PLAYGROUND + below(PLAYGROUND_PAGES) * PAGE + (one_in(16) ? below(PAGE) : 0);
}

static u64 map_length(void)
{
    if (one_in(12))
        return number();
    return (one_in(6) ? below(PLAYGROUND_PAGES) : below(6)) * PAGE + (one_in(10) ? below(PAGE) : 0);
}

#endif
