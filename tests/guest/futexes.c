// futex(2): waiting, waking, requeueing, priority inheritance, robust lists.
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout, _Atomic uint32_t *word2,
                  uint32_t value3)
{
    return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

static void errors_and_timeouts(void)
{
    _Atomic uint32_t word = 5;
    struct timespec soon = {0, 5000000}, bad = {0, 1000000000};
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 4, NULL, NULL, 0), EAGAIN);
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 5, &soon, NULL, 0), ETIMEDOUT);
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 5, &bad, NULL, 0), EINVAL);
    CHECK_FAILS(futex((_Atomic uint32_t *)((char *)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0), EINVAL);
    CHECK_FAILS(futex(NULL, FUTEX_WAIT, 5, NULL, NULL, 0), EFAULT);
    CHECK_FAILS(futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0), EINVAL);
    CHECK_FAILS(futex(&word, 0x7f & ~FUTEX_PRIVATE_FLAG, 5, NULL, NULL, 0), ENOSYS);
    CHECK(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0) == 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK_FAILS(futex(&word, FUTEX_WAIT_BITSET, 5, &now, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
}

static _Atomic uint32_t gate, gate2;
static _Atomic int awake;

// The threads that wait, to see that they do.
static _Atomic pid_t waiters[6];
static _Atomic int waiter_count;

static void announce(void)
{
    waiters[atomic_fetch_add(&waiter_count, 1)] = gettid();
}

static void wait_for_waiters(int count)
{
    for (int i = 0; i < count; i++) {
        while (waiters[i] == 0)
            usleep(1000);
        wait_until_asleep(waiters[i]);
        waiters[i] = 0;
    }
    waiter_count = 0;
}

static void *wait_at_gate(void *bits)
{
    announce();
    while (atomic_load(&gate) == 0)
        futex(&gate, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, (uint32_t)(uintptr_t)bits);
    atomic_fetch_add(&awake, 1);
    return NULL;
}

static void wake_counts_and_bits(void)
{
    pthread_t t[6];
    for (uintptr_t i = 0; i < 6; i++)
        CHECK(pthread_create(&t[i], NULL, wait_at_gate, (void *)(i < 3 ? 1ul : 2ul)) == 0);
    wait_for_waiters(6);
    atomic_store(&gate, 1);
    CHECK(futex(&gate, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 100, NULL, NULL, 1) == 3);
    CHECK(futex(&gate, FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0) == 2);
    CHECK(futex(&gate, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 1);
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    CHECK(awake == 6);
}

static void *wait_once(void *word)
{
    announce();
    return (void *)(intptr_t)futex(word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void requeue_moves_waiters(void)
{
    pthread_t t[4];
    atomic_store(&gate, 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, wait_once, (void *)&gate) == 0);
    wait_for_waiters(4);
    CHECK_FAILS(futex(&gate, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &gate2, 9), EAGAIN);
    CHECK(futex(&gate, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &gate2, 0) == 4);
    CHECK(futex(&gate, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0) == 0);
    CHECK(futex(&gate2, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0) == 3);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

static void wake_op_changes_the_word(void)
{
    _Atomic uint32_t a = 0, b = 7;
    int op = (int)FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 7);
    CHECK(futex(&a, FUTEX_WAKE_OP, 1, (void *)1, &b, (uint32_t)op) == 0 && b == 10);
}

static void shared_between_processes(void)
{
    _Atomic uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        while (atomic_load(word) == 0)
            futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(0);
    }
    // Until it sleeps, nobody is woken.
    long woken = 0;
    for (int i = 0; i < 10000 && woken == 0; i++) {
        usleep(1000);
        woken = futex(word, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    CHECK(woken == 1);
    atomic_store(word, 1);
    CHECK(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static _Atomic uint32_t lock_word;
static int counter;

static void *lock_and_count(void *unused)
{
    (void)unused;
    for (int i = 0; i < 300; i++) {
        uint32_t zero = 0, tid = (uint32_t)gettid();
        if (!atomic_compare_exchange_strong(&lock_word, &zero, tid))
            CHECK(futex(&lock_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
        CHECK((lock_word & FUTEX_TID_MASK) == tid);
        counter++;
        uint32_t mine = tid;
        if (!atomic_compare_exchange_strong(&lock_word, &mine, 0))
            CHECK(futex(&lock_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    }
    return NULL;
}

static void priority_inheritance_locks(void)
{
    uint32_t tid = (uint32_t)gettid();
    CHECK(futex(&lock_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 && lock_word == tid);
    CHECK_FAILS(futex(&lock_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    CHECK(futex(&lock_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 && lock_word == 0);
    CHECK_FAILS(futex(&lock_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, lock_and_count, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(counter == 1200 && lock_word == 0);
}

static pthread_mutex_t robust;

static void *die_holding(void *unused)
{
    (void)unused;
    CHECK(pthread_mutex_lock(&robust) == 0);
    return NULL;
}

static void robust_mutex_survives_its_owner(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&robust, &attributes) == 0);
    pthread_t t;
    CHECK(pthread_create(&t, NULL, die_holding, NULL) == 0);
    pthread_join(t, NULL);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
}

int main(void)
{
    PART(errors_and_timeouts);
    PART(wake_counts_and_bits);
    PART(requeue_moves_waiters);
    PART(wake_op_changes_the_word);
    PART(shared_between_processes);
    PART(priority_inheritance_locks);
    PART(robust_mutex_survives_its_owner);
    return 0;
}
