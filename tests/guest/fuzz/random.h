// A generator of one thread: the same seed gives the same calls (what the calls answer depends on the other threads).
#ifndef RANDOM_H
#define RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef int64_t s64;

#define COUNT(array) (sizeof(array) / sizeof *(array))

static __thread u64 random_state;

// splitmix64.
static inline u64 any64(void)
{
    u64 z = (random_state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline u64 below(u64 limit)
{
    return any64() % limit;
}

// True once in `n`.
static inline int one_in(u64 n)
{
    return below(n) == 0;
}

#define PICK(...)                                                                                       \
    ({                                                                                                  \
        const s64 choices_[] = {__VA_ARGS__};                                                           \
        choices_[below(COUNT(choices_))];                                                               \
    })

// Small, or where something overflows or changes its sign.
static inline s64 number(void)
{
    switch (below(8)) {
    case 0: case 1: case 2:
        return below(8);
    case 3:
        return below(300);
    case 4:
        return (1LL << below(64)) - (s64)below(3) + 1;
    case 5:
        return -(s64)below(5);
    case 6:
        return PICK(0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX, INT64_MIN, -1, 4095, 4096, 4097,
                    65535, 65536, INT64_MAX - 4095, 0x7fffffffffff, 0x7fffffff000, 0xffff8000, INT32_MIN);
    default:
        return any64() >> below(64);
    }
}

// Few bits, among the lower `width`.
static inline u64 bits(int width)
{
    u64 value = 0;
    for (int n = below(4); n > 0; n--)
        value |= 1ULL << below(width);
    return value;
}

#endif
