// Process groups that nobody can continue: which ends orphan them, and what their stopped members hear of it
// (_exit(2), setpgid(2), credentials(7)).
#include "check.h"
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t hang_ups;

static void count(int signal)
{
    (void)signal;
    hang_ups++;
}

// Where a stopped process says which signals it got.
static int news[2];

static void tell(int signal)
{
    char letter = signal == SIGHUP ? 'H' : 'C';
    (void)!write(news[1], &letter, 1);
}

static pid_t start(void (*body)(void))
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    return child;
}

static void end_well(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

// Stops, in the group of its parent. Ends when it was hung up and continued.
static void stop_here(void)
{
    CHECK(signal(SIGHUP, tell) != SIG_ERR && signal(SIGCONT, tell) != SIG_ERR);
    raise(SIGSTOP);
}

static void stop_in_own_group(void)
{
    CHECK(setpgid(0, 0) == 0);
    stop_here();
}

static void wait_for_stop(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
}

// The leader of a session whose parent is outside of it: its group is orphaned from the start.
static void leader_of_an_orphaned_group(void)
{
    CHECK(setsid() == getpid() && signal(SIGHUP, count) != SIG_ERR);
    pid_t stopped = start(stop_here);
    wait_for_stop(stopped);
    pid_t brief = fork();
    if (brief == 0)
        _exit(0);
    end_well(brief);
    // Nothing has been orphaned newly. A hang-up would have come before the news of the end.
    int status;
    CHECK(hang_ups == 0 && waitpid(stopped, &status, WNOHANG | WCONTINUED) == 0);
    CHECK(kill(stopped, SIGKILL) == 0 && waitpid(stopped, &status, 0) == stopped);
}

static void an_end_in_an_orphaned_group_changes_nothing(void)
{
    end_well(start(leader_of_an_orphaned_group));
}

static void (*middle_body)(void);

// In a group of its own, which is linked with the session by its parent; leaves a stopped process behind.
static void middle(void)
{
    CHECK(setpgid(0, 0) == 0 && signal(SIGHUP, count) != SIG_ERR);
    wait_for_stop(start(middle_body));
    CHECK(hang_ups == 0);
}

static void session_with_a_middle(void)
{
    CHECK(setsid() == getpid() && signal(SIGHUP, count) != SIG_ERR);
    end_well(start(middle));
    CHECK(hang_ups == 0);
}

// The stopped process goes to us, who are outside of its session.
static void middle_ends_and_hangs_up(void (*stopped)(void))
{
    middle_body = stopped;
    CHECK(pipe(news) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    end_well(start(session_with_a_middle));
    char letters[2];
    CHECK(read(news[0], &letters[0], 1) == 1 && read(news[0], &letters[1], 1) == 1);
    CHECK(letters[0] != letters[1]);
    int status;
    CHECK(wait(&status) > 0 && status == 0);
    CHECK(close(news[0]) == 0 && close(news[1]) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

static void the_last_link_of_its_own_group_hangs_it_up(void)
{
    middle_ends_and_hangs_up(stop_here);
}

static void the_last_link_of_a_childs_group_hangs_it_up(void)
{
    middle_ends_and_hangs_up(stop_in_own_group);
}

// The leader adopts the stopped process, and so keeps its group linked with the session.
static void adopting_leader(void)
{
    CHECK(setsid() == getpid() && signal(SIGHUP, count) != SIG_ERR);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    end_well(start(middle));
    // The signal would have come before the end of the process in the middle was known.
    int status;
    CHECK(hang_ups == 0 && waitpid(-1, &status, WNOHANG | WCONTINUED) == 0);
}

static void a_group_that_stays_linked_is_left_alone(void)
{
    middle_body = stop_in_own_group;
    CHECK(pipe(news) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    end_well(start(adopting_leader));
    // Only now, with the end of the leader, is it hung up.
    char letters[2];
    CHECK(read(news[0], &letters[0], 1) == 1 && read(news[0], &letters[1], 1) == 1);
    int status;
    CHECK(wait(&status) > 0 && status == 0);
    CHECK(close(news[0]) == 0 && close(news[1]) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

static void raise_terminal_stops(void)
{
    CHECK(setsid() == getpid());
    CHECK(raise(SIGTSTP) == 0 && raise(SIGTTIN) == 0 && raise(SIGTTOU) == 0);
}

static void terminal_stops_do_nothing_to_an_orphaned_group(void)
{
    end_well(start(raise_terminal_stops));
}

static void pause_for_ever(void)
{
    for (;;)
        pause();
}

// A group in which processes are made all the time.
static void growing_group(void)
{
    CHECK(setpgid(0, 0) == 0);
    // These take the one who signals a moment, and then come those who make more.
    for (int i = 0; i < 20; i++)
        if (fork() == 0)
            pause_for_ever();
    for (int i = 0; i < 3 && fork() != 0; i++)
        ;
    (void)!write(news[1], "g", 1);
    for (int i = 0; i < 100; i++)
        if (fork() == 0)
            break;
    pause_for_ever();
}

static void a_signal_for_a_group_misses_no_fork(void)
{
    CHECK(pipe(news) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int round = 0; round < 20; round++) {
        char letter;
        pid_t group = start(growing_group);
        // Either of us may be first.
        (void)!setpgid(group, group);
        CHECK(read(news[0], &letter, 1) == 1);
        usleep(100 * (unsigned)round);
        CHECK(kill(-group, SIGKILL) == 0);
        // Whoever was missed is in nobody's way but ours: no child of it ends.
        alarm(20);
        int status;
        while (wait(&status) > 0)
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        alarm(0);
        CHECK_FAILS(kill(-group, 0), ESRCH);
        // The others said that they begin, too.
        for (int left; ioctl(news[0], FIONREAD, &left) == 0 && left > 0;)
            CHECK(read(news[0], &letter, 1) == 1);
    }
    CHECK(close(news[0]) == 0 && close(news[1]) == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

int main(void)
{
    PART(an_end_in_an_orphaned_group_changes_nothing);
    PART(the_last_link_of_its_own_group_hangs_it_up);
    PART(the_last_link_of_a_childs_group_hangs_it_up);
    PART(a_group_that_stays_linked_is_left_alone);
    PART(terminal_stops_do_nothing_to_an_orphaned_group);
    PART(a_signal_for_a_group_misses_no_fork);
    return 0;
}
