// The modes of a terminal in the form of System V: TCGETA and its like (ioctl_tty(2)).
#include "check.h"
#include <asm/termbits.h>
#include <fcntl.h>
#include <sys/ioctl.h>

static int master, terminal;

static void old_form_shows_the_low_bits(void)
{
    struct termios now;
    struct termio old;
    memset(&old, 0xff, sizeof old);
    CHECK(ioctl(terminal, TCGETS, &now) == 0 && ioctl(terminal, TCGETA, &old) == 0);
    CHECK(old.c_iflag == (now.c_iflag & 0xffff) && old.c_oflag == (now.c_oflag & 0xffff));
    CHECK(old.c_cflag == (now.c_cflag & 0xffff) && old.c_lflag == (now.c_lflag & 0xffff));
    CHECK(memcmp(old.c_cc, now.c_cc, sizeof old.c_cc) == 0);
}

static void old_form_changes_the_low_bits(void)
{
    struct termios before, after;
    struct termio old;
    CHECK(ioctl(terminal, TCGETS, &before) == 0);
    before.c_cflag |= CRTSCTS;
    before.c_cc[VWERASE] = 7;
    CHECK(ioctl(terminal, TCSETS, &before) == 0 && ioctl(terminal, TCGETA, &old) == 0);
    old.c_lflag &= ~(ICANON | ECHO);
    old.c_cc[VMIN] = 3;
    const unsigned long requests[] = { TCSETA, TCSETAW, TCSETAF };
    for (int i = 0; i < 3; i++) {
        old.c_cc[VTIME] = i;
        CHECK(ioctl(terminal, requests[i], &old) == 0 && ioctl(terminal, TCGETS, &after) == 0);
        CHECK((after.c_lflag & (ICANON | ECHO)) == 0 && after.c_cflag == before.c_cflag);
        CHECK(after.c_cc[VMIN] == 3 && after.c_cc[VTIME] == i && after.c_cc[VWERASE] == 7);
    }
    // The last of the three throws away what was not read.
    int waiting = 0;
    CHECK(write(master, "typed", 5) == 5);
    // Linux passes it on by a thread of its own.
    for (int i = 0; waiting != 5 && i < 20000; i++) {
        CHECK(ioctl(terminal, FIONREAD, &waiting) == 0);
        usleep(1000);
    }
    CHECK(waiting == 5);
    CHECK(ioctl(terminal, TCSETAF, &old) == 0 && ioctl(terminal, FIONREAD, &waiting) == 0 && waiting == 0);
}

static void nothing_is_locked(void)
{
    struct termios locked;
    memset(&locked, 0xff, sizeof locked);
    CHECK(ioctl(terminal, TIOCGLCKTRMIOS, &locked) == 0);
    CHECK(locked.c_iflag == 0 && locked.c_oflag == 0 && locked.c_cflag == 0 && locked.c_lflag == 0);
}

int main(void)
{
    int unlocked = 0, number;
    char name[32];
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(master >= 0 && ioctl(master, TIOCSPTLCK, &unlocked) == 0 && ioctl(master, TIOCGPTN, &number) == 0);
    sprintf(name, "/dev/pts/%d", number);
    terminal = open(name, O_RDWR | O_NOCTTY);
    CHECK(terminal >= 0);
    PART(old_form_shows_the_low_bits);
    PART(old_form_changes_the_low_bits);
    PART(nothing_is_locked);
    return 0;
}
