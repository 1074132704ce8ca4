// What every guest program uses: CHECK ends the program with the failed line and errno.
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno,        \
                    strerror(errno));                                                                   \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

// The call fails with this errno.
#define CHECK_FAILS(call, number)                                                                       \
    do {                                                                                                \
        errno = 0;                                                                                      \
        long result_ = (long)(call);                                                                    \
        if (result_ != -1 || errno != (number)) {                                                       \
            fprintf(stderr, "%s:%d: %s returned %ld, errno %d: %s; expected errno %d: %s\n", __FILE__,  \
                    __LINE__, #call, result_, errno, strerror(errno), (number), strerror(number));      \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

// Waits until a thread of any process sleeps in a system call (state S of proc(5)): for what has to happen then.
static inline void wait_until_asleep(pid_t tid)
{
    char path[64], stat[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
    for (int i = 0; i < 20000; i++) {
        FILE *file = fopen(path, "r");
        CHECK(file && fgets(stat, sizeof stat, file));
        fclose(file);
        // Behind the name, in which anything may be.
        char *state = strrchr(stat, ')');
        CHECK(state);
        if (state[2] == 'S')
            return;
        usleep(1000);
    }
    CHECK(!"asleep within 20 seconds");
}

// Runs `body` in a child, which has to end well.
static inline void check_in_child(void (*body)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

// A part of the program, named on standard output when it passed.
#define PART(function)                                                                                  \
    do {                                                                                                \
        function();                                                                                     \
        printf("%s\n", #function);                                                                      \
        fflush(stdout);                                                                                 \
    } while (0)

#endif
