// System V IPC (sysvipc(7)), in a namespace of its own: segments, semaphore sets, message queues.
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static void wait_for_success(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void nothing(int signal) { (void)signal; }

static void interrupt_no_more(void)
{
    struct itimerval off = {0};
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
}

static void interrupt_after(int milliseconds)
{
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    // More than once: the first may come before the call does.
    struct timeval time = {0, milliseconds * 1000};
    struct itimerval timer = {.it_value = time, .it_interval = time};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void segments_by_key(void)
{
    CHECK_FAILS(shmget(1234, 100, 0), ENOENT);
    int id = shmget(1234, 5000, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(id == 0 && shmget(1234, 100, 0) == id && shmget(1234, 0, 0) == id);
    CHECK_FAILS(shmget(1234, 5001, 0), EINVAL);
    CHECK_FAILS(shmget(1234, 100, IPC_CREAT | IPC_EXCL), EEXIST);
    CHECK_FAILS(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    struct shmid_ds info;
    CHECK(shmctl(id, IPC_STAT, &info) == 0);
    CHECK(info.shm_segsz == 5000 && info.shm_perm.mode == 0640 && info.shm_perm.__key == 1234);
    CHECK(info.shm_cpid == getpid() && info.shm_lpid == 0 && info.shm_nattch == 0 && info.shm_atime == 0);
    CHECK(info.shm_ctime >= time(NULL) - 2 && info.shm_perm.uid == geteuid());
    info.shm_perm.mode = 0606;
    CHECK(shmctl(id, IPC_SET, &info) == 0 && shmctl(id, IPC_STAT, &info) == 0 && info.shm_perm.mode == 0606);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    CHECK_FAILS(shmctl(id, IPC_STAT, &info), EINVAL);
    // Places are used in turn; whoever has one again has another id.
    int next = 0;
    for (int i = 1; i <= 64; i++) {
        next = shmget(1234, 1, IPC_CREAT | 0600);
        CHECK(next == (i < 64 ? i : 32768));
        if (i < 64)
            CHECK(shmctl(next, IPC_RMID, NULL) == 0);
    }
    CHECK_FAILS(shmctl(id, IPC_STAT, &info), EINVAL);
    CHECK(shmctl(next, IPC_RMID, NULL) == 0);
    CHECK_FAILS(shmctl(next, 99, NULL), EINVAL);
}

static void segments_attached(void)
{
    int id = shmget(IPC_PRIVATE, 3 * 4096, 0600);
    char *a = shmat(id, NULL, 0);
    CHECK(a != (void *)-1);
    char *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(b != (void *)-1 && b != a);
    strcpy(a + 5000, "shared");
    CHECK(strcmp(b + 5000, "shared") == 0);
    CHECK_FAILS(mprotect(b, 4096, PROT_READ | PROT_WRITE), EACCES);
    struct shmid_ds info;
    CHECK(shmctl(id, IPC_STAT, &info) == 0 && info.shm_nattch == 2 && info.shm_lpid == getpid());
    pid_t child = fork();
    if (child == 0) {
        CHECK(shmctl(id, IPC_STAT, &info) == 0 && info.shm_nattch == 4);
        strcpy(a + 5000, "child");
        CHECK(shmdt(a) == 0);
        CHECK(shmctl(id, IPC_STAT, &info) == 0 && info.shm_nattch == 3 && info.shm_lpid == getpid());
        _exit(0);
    }
    wait_for_success(child);
    CHECK(strcmp(b + 5000, "child") == 0);
    // Removed, but alive while it is attached; new attachments are still possible.
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && shmctl(id, IPC_STAT, &info) == 0);
    CHECK(info.shm_perm.mode == (0600 | SHM_DEST) && info.shm_perm.__key == 0 && info.shm_nattch == 2);
    char *c = shmat(id, NULL, 0);
    CHECK(c != (void *)-1 && strcmp(c + 5000, "child") == 0);
    CHECK(munmap(a + 4096, 4096) == 0);
    CHECK(shmctl(id, IPC_STAT, &info) == 0 && info.shm_nattch == 4);
    CHECK(shmdt(a) == 0 && shmdt(b) == 0);
    CHECK_FAILS(shmdt(a), EINVAL);
    CHECK(shmctl(id, IPC_STAT, &info) == 0 && info.shm_nattch == 1);
    CHECK(shmdt(c) == 0);
    CHECK_FAILS(shmctl(id, IPC_STAT, &info), EINVAL);
}

static void addresses_of_attachments(void)
{
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    char *place = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_FAILS(shmat(id, place, 0), EINVAL);
    CHECK_FAILS(shmat(id, place + 1, SHM_REMAP), EINVAL);
    CHECK_FAILS(shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK(shmat(id, place + 4097, SHM_REMAP | SHM_RND) == place + 4096);
    CHECK(munmap(place, 4096) == 0);
    CHECK(shmat(id, place + 7, SHM_RND) == place);
    place[0] = 'x';
    CHECK(place[4096] == 'x');
    CHECK_FAILS(shmdt(place + 1), EINVAL);
    CHECK(shmdt(place) == 0 && shmdt(place + 4096) == 0);
    CHECK_FAILS(shmat(id + 1, NULL, 0), EINVAL);
    CHECK_FAILS(shmat(-1, NULL, 0), EINVAL);
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
}

static void permissions(void)
{
    int segment = shmget(1, 1, IPC_CREAT | 0604), set = semget(1, 1, IPC_CREAT | 0604);
    int queue = msgget(1, IPC_CREAT | 0604);
    pid_t child = fork();
    if (child == 0) {
        CHECK(setgid(12345) == 0 && setuid(12345) == 0);
        CHECK(shmget(1, 1, 0) == segment && shmget(1, 1, 0400) == segment);
        CHECK_FAILS(shmget(1, 1, 0600), EACCES);
        CHECK(shmat(segment, NULL, SHM_RDONLY) != (void *)-1);
        CHECK_FAILS(shmat(segment, NULL, 0), EACCES);
        CHECK_FAILS(shmctl(segment, IPC_RMID, NULL), EPERM);
        CHECK(semctl(set, 0, GETVAL) == 0);
        CHECK_FAILS(semctl(set, 0, SETVAL, 1), EACCES);
        struct sembuf up = {0, 1, 0}, zero = {0, 0, 0};
        CHECK_FAILS(semop(set, &up, 1), EACCES);
        CHECK(semop(set, &zero, 1) == 0);
        CHECK_FAILS(semctl(set, 0, IPC_RMID), EPERM);
        struct { long type; char text[4]; } message = {1, "abc"};
        CHECK_FAILS(msgsnd(queue, &message, 4, 0), EACCES);
        CHECK_FAILS(msgrcv(queue, &message, 4, 0, IPC_NOWAIT), ENOMSG);
        CHECK_FAILS(msgctl(queue, IPC_RMID, NULL), EPERM);
        _exit(0);
    }
    wait_for_success(child);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0 && semctl(set, 0, IPC_RMID) == 0);
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0);
}

static void semaphores(void)
{
    CHECK_FAILS(semget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_FAILS(semget(IPC_PRIVATE, 32001, 0600), EINVAL);
    int id = semget(77, 3, IPC_CREAT | 0600);
    CHECK(semget(77, 0, 0) == id && semget(77, 3, 0) == id);
    CHECK_FAILS(semget(77, 4, 0), EINVAL);
    unsigned short values[3] = {1, 2, 3};
    CHECK(semctl(id, 0, SETALL, (union semun){.array = values}) == 0);
    CHECK(semctl(id, 2, GETVAL) == 3 && semctl(id, 2, GETPID) == getpid());
    CHECK_FAILS(semctl(id, 3, GETVAL), EINVAL);
    CHECK_FAILS(semctl(id, 0, SETVAL, (union semun){.val = 32768}), ERANGE);
    CHECK_FAILS(semctl(id, 0, SETVAL, (union semun){.val = -1}), ERANGE);
    // All or nothing.
    struct sembuf two[] = {{0, -1, 0}, {1, -3, IPC_NOWAIT}};
    CHECK_FAILS(semop(id, two, 2), EAGAIN);
    CHECK(semctl(id, 0, GETVAL) == 1);
    two[1].sem_op = -2;
    CHECK(semop(id, two, 2) == 0 && semctl(id, 0, GETVAL) == 0 && semctl(id, 1, GETVAL) == 0);
    struct sembuf beyond = {3, 1, 0}, most = {0, 32767, 0};
    CHECK_FAILS(semop(id, &beyond, 1), EFBIG);
    CHECK_FAILS(semop(id, &most, 0), EINVAL);
    CHECK_FAILS(semop(id, &most, 501), E2BIG);
    CHECK(semop(id, &most, 1) == 0);
    CHECK_FAILS(semop(id, &most, 1), ERANGE);
    struct semid_ds info;
    CHECK(semctl(id, 0, IPC_STAT, (union semun){.buf = &info}) == 0);
    CHECK(info.sem_nsems == 3 && info.sem_otime >= info.sem_ctime - 2 && info.sem_perm.mode == 0600);
    CHECK(semctl(id, 0, IPC_RMID) == 0);
    CHECK_FAILS(semop(id, &most, 1), EINVAL);
}

static void semaphores_that_wait(void)
{
    int id = semget(IPC_PRIVATE, 2, 0600);
    struct sembuf down = {0, -2, 0}, up = {0, 1, 0}, zero = {1, 0, 0};
    struct timespec soon = {0, 30000000};
    CHECK_FAILS(semtimedop(id, &down, 1, &soon), EAGAIN);
    interrupt_after(30);
    CHECK_FAILS(semop(id, &down, 1), EINTR);
    interrupt_no_more();
    CHECK(semctl(id, 1, SETVAL, 1) == 0);
    pid_t first = fork();
    if (first == 0)
        _exit(semop(id, &down, 1) != 0);
    pid_t second = fork();
    if (second == 0)
        _exit(semop(id, &zero, 1) != 0);
    while (semctl(id, 0, GETNCNT) != 1 || semctl(id, 1, GETZCNT) != 1)
        usleep(1000);
    CHECK(semop(id, &up, 1) == 0 && semctl(id, 0, GETVAL) == 1);
    CHECK(semop(id, &up, 1) == 0);
    wait_for_success(first);
    CHECK(semctl(id, 0, GETVAL) == 0 && semctl(id, 0, GETPID) == first);
    CHECK(semctl(id, 1, SETVAL, 0) == 0);
    wait_for_success(second);
    pid_t third = fork();
    if (third == 0) {
        CHECK_FAILS(semop(id, &down, 1), EIDRM);
        _exit(0);
    }
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    CHECK(semctl(id, 0, IPC_RMID) == 0);
    wait_for_success(third);
}

static void semaphores_undone(void)
{
    int id = semget(IPC_PRIVATE, 2, 0600);
    CHECK(semctl(id, 0, SETVAL, 5) == 0);
    for (int killed = 0; killed < 2; killed++) {
        pid_t child = fork();
        if (child == 0) {
            struct sembuf take[] = {{0, -3, SEM_UNDO}, {1, 4, SEM_UNDO}, {1, -3, 0}};
            CHECK(semop(id, take, 3) == 0);
            if (killed)
                raise(SIGKILL);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(semctl(id, 0, GETVAL) == 5 && semctl(id, 1, GETVAL) == 0);
        CHECK(semctl(id, 0, GETPID) == child);
    }
    // A lock that its dead owner leaves wakes the next one.
    CHECK(semctl(id, 0, SETVAL, 1) == 0);
    struct sembuf lock = {0, -1, SEM_UNDO};
    pid_t owner = fork();
    if (owner == 0) {
        CHECK(semop(id, &lock, 1) == 0);
        pause();
    }
    while (semctl(id, 0, GETVAL) != 0)
        usleep(1000);
    pid_t next = fork();
    if (next == 0)
        _exit(semop(id, &lock, 1) != 0);
    while (semctl(id, 0, GETNCNT) != 1)
        usleep(1000);
    kill(owner, SIGKILL);
    wait_for_success(next);
    CHECK(semctl(id, 0, GETVAL) == 1);
    CHECK(semctl(id, 0, IPC_RMID) == 0);
    CHECK(waitpid(owner, NULL, 0) == owner);
}

struct message {
    long type;
    char text[100];
};

static void messages(void)
{
    int id = msgget(IPC_PRIVATE, 0600);
    struct message in = {0, "x"}, out;
    CHECK_FAILS(msgsnd(id, &in, 1, 0), EINVAL);
    const char *texts[] = {"three", "one", "two", "one more"};
    const long types[] = {3, 1, 2, 1};
    for (int i = 0; i < 4; i++) {
        in.type = types[i];
        strcpy(in.text, texts[i]);
        CHECK(msgsnd(id, &in, strlen(texts[i]) + 1, 0) == 0);
    }
    struct msqid_ds info;
    CHECK(msgctl(id, IPC_STAT, &info) == 0 && info.msg_qnum == 4 && info.__msg_cbytes == 23);
    CHECK(info.msg_lspid == getpid() && info.msg_lrpid == 0 && info.msg_qbytes == 16384);
    CHECK_FAILS(msgrcv(id, &out, 2, 1, 0), E2BIG);
    CHECK(msgrcv(id, &out, 100, -2, 0) == 4 && out.type == 1 && strcmp(out.text, "one") == 0);
    CHECK(msgrcv(id, &out, 3, 1, MSG_NOERROR) == 3 && memcmp(out.text, "one", 3) == 0);
    CHECK(msgrcv(id, &out, 100, 3, MSG_EXCEPT) == 4 && out.type == 2);
    CHECK_FAILS(msgrcv(id, &out, 100, 2, IPC_NOWAIT), ENOMSG);
    CHECK(msgrcv(id, &out, 100, 0, MSG_COPY | IPC_NOWAIT) == 6 && out.type == 3);
    CHECK(msgrcv(id, &out, 100, 0, 0) == 6 && strcmp(out.text, "three") == 0);
    CHECK_FAILS(msgrcv(id, &out, 100, 0, MSG_COPY), EINVAL);
    CHECK_FAILS(msgsnd(id, &in, 8193, 0), EINVAL);
    interrupt_after(30);
    CHECK_FAILS(msgrcv(id, &out, 100, 0, 0), EINTR);
    interrupt_no_more();
    CHECK(msgctl(id, IPC_RMID, NULL) == 0);
    CHECK_FAILS(msgsnd(id, &in, 1, 0), EINVAL);
}

static void messages_that_wait(void)
{
    int id = msgget(IPC_PRIVATE, 0600);
    struct msqid_ds info;
    CHECK(msgctl(id, IPC_STAT, &info) == 0);
    info.msg_qbytes = 150;
    CHECK(msgctl(id, IPC_SET, &info) == 0);
    struct message message = {1, ""};
    CHECK(msgsnd(id, &message, 100, 0) == 0);
    CHECK_FAILS(msgsnd(id, &message, 51, IPC_NOWAIT), EAGAIN);
    pid_t sender = fork();
    if (sender == 0) {
        message.type = 2;
        _exit(msgsnd(id, &message, 100, 0) != 0);
    }
    pid_t receiver = fork();
    if (receiver == 0)
        _exit(msgrcv(id, &message, 100, 2, 0) != 100);
    wait_until_asleep(sender);
    wait_until_asleep(receiver);
    CHECK(msgrcv(id, &message, 100, 1, 0) == 100);
    wait_for_success(sender);
    wait_for_success(receiver);
    pid_t last = fork();
    if (last == 0) {
        CHECK_FAILS(msgrcv(id, &message, 100, 0, 0), EIDRM);
        _exit(0);
    }
    wait_until_asleep(last);
    CHECK(msgctl(id, IPC_RMID, NULL) == 0);
    wait_for_success(last);
}

static void print_file(const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    CHECK(file);
    printf("%s\n", path);
    while (fgets(line, sizeof line, file))
        printf("%s", line);
    fclose(file);
}

// Ids and times differ from run to run; sizes, modes and limits do not.
static void limits_and_listings(void)
{
    const char *limits[] = {"shmmax", "shmall", "shmmni", "sem", "msgmax", "msgmnb", "msgmni"};
    char path[64];
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof path, "/proc/sys/kernel/%s", limits[i]);
        print_file(path);
    }
    const char *kinds[] = {"shm", "sem", "msg"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/sysvipc/%s", kinds[i]);
        print_file(path);
    }
    int segment = shmget(0x1234, 100, IPC_CREAT | 0600);
    FILE *file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    int key, id, mode;
    unsigned long size;
    CHECK(fgets(line, sizeof line, file) && fgets(line, sizeof line, file));
    CHECK(sscanf(line, "%d %d %o %lu", &key, &id, &mode, &size) == 4);
    CHECK(key == 0x1234 && id == segment && mode == 0600 && size == 100);
    fclose(file);
    struct shminfo info;
    CHECK(shmctl(0, IPC_INFO, (struct shmid_ds *)&info) >= 0 && info.shmmni == 4096 && info.shmmin == 1);
    struct shmid_ds found;
    CHECK(shmctl(segment & 0x7fff, SHM_STAT, &found) == segment && found.shm_segsz == 100);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0);
    file = fopen("/proc/sys/kernel/shmmax", "w");
    CHECK(file && fputs("5000\n", file) >= 0 && fclose(file) == 0);
    CHECK_FAILS(shmget(IPC_PRIVATE, 5001, 0600), EINVAL);
    int fits = shmget(IPC_PRIVATE, 5000, 0600);
    CHECK(fits >= 0 && shmctl(fits, IPC_RMID, NULL) == 0);
}

static void namespaces(void)
{
    int id = msgget(99, IPC_CREAT | 0600);
    pid_t child = fork();
    if (child == 0) {
        CHECK(unshare(CLONE_NEWIPC) == 0);
        CHECK_FAILS(msgget(99, 0), ENOENT);
        CHECK(msgget(99, IPC_CREAT | 0600) == 0);
        _exit(0);
    }
    wait_for_success(child);
    CHECK(msgget(99, 0) == id && msgctl(id, IPC_RMID, NULL) == 0);
}

int main(void)
{
    // What the machine's other programs have is not touched.
    CHECK(unshare(CLONE_NEWIPC) == 0);
    PART(segments_by_key);
    PART(segments_attached);
    PART(addresses_of_attachments);
    PART(permissions);
    PART(semaphores);
    PART(semaphores_that_wait);
    PART(semaphores_undone);
    PART(messages);
    PART(messages_that_wait);
    PART(limits_and_listings);
    PART(namespaces);
    return 0;
}
