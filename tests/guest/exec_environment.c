// What a new program finds: arguments, environment, auxiliary vector, registers, descriptors (execve(2), getauxval(3)).
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void arguments_and_environment(void)
{
    pid_t child = fork();
    if (child == 0) {
        char *argv[] = {"sh", "-c", "test \"$0|$1|$A|$#\" = 'zero|two words|1 2|1'", "zero", "two words", NULL};
        char *envp[] = {"A=1 2", NULL};
        execve("/bin/sh", argv, envp);
        _exit(99);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void large_argument_list(void)
{
    enum { COUNT = 5000 };
    static char text[COUNT][20];
    static char *argv[COUNT + 5];
    int n = 0;
    argv[n++] = "sh";
    argv[n++] = "-c";
    argv[n++] = "test $# = 5000 && test \"${5000}\" = argument-4999";
    argv[n++] = "name";
    for (int i = 0; i < COUNT; i++) {
        sprintf(text[i], "argument-%d", i);
        argv[n++] = text[i];
    }
    pid_t child = fork();
    if (child == 0) {
        execv("/bin/bash", argv);
        _exit(99);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    static char huge[3 << 20];
    memset(huge, 'x', sizeof huge - 1);
    char *too_long[] = {"sh", huge, NULL};
    CHECK_FAILS(execv("/bin/sh", too_long), E2BIG);
}

static void auxiliary_vector(void)
{
    CHECK(getauxval(AT_PAGESZ) == 4096 && getauxval(AT_PHENT) == sizeof(ElfW(Phdr)) && getauxval(AT_PHNUM) > 3);
    CHECK(getauxval(AT_UID) == getuid() && getauxval(AT_EGID) == getegid() && getauxval(AT_SECURE) == 0);
    CHECK(getauxval(AT_RANDOM) != 0 && getauxval(AT_CLKTCK) == 100 && getauxval(AT_ENTRY) != 0);
    CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    CHECK(strstr((char *)getauxval(AT_EXECFN), "exec_environment") != NULL);
    const unsigned char *phdr = (const unsigned char *)getauxval(AT_PHDR);
    CHECK(((const ElfW(Phdr) *)phdr)->p_type == PT_PHDR);
}

static void scripts_run_their_interpreter(void)
{
    char path[] = "/tmp/exec-XXXXXX";
    int fd = mkstemp(path);
    const char *text = "#!/bin/sh -e\ntest \"$0\" = \"$EXPECTED\" && test \"$1\" = argument\n";
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fchmod(fd, 0700) == 0 && close(fd) == 0);
    setenv("EXPECTED", path, 1);
    int status;
    pid_t child = fork();
    if (child == 0) {
        execl(path, "ignored", "argument", (char *)NULL);
        _exit(99);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    FILE *file = fopen(path, "w");
    fputs("#!/no/such/interpreter\n", file);
    fclose(file);
    CHECK_FAILS(execl(path, path, (char *)NULL), ENOENT);
    file = fopen(path, "w");
    fputs("\177ELF garbage that is long enough to be read as a header, perhaps, but is none at all", file);
    fclose(file);
    CHECK_FAILS(execl(path, path, (char *)NULL), ENOEXEC);
    unlink(path);
}

static void proc_tells_the_program(void)
{
    char link[200] = "", name[100] = "", comm[32] = "";
    CHECK(readlink("/proc/self/exe", link, sizeof link - 1) > 0 && strstr(link, "exec_environment") != NULL);
    FILE *file = fopen("/proc/self/cmdline", "r");
    CHECK(file != NULL && fread(name, 1, sizeof name - 1, file) > 0 && strstr(name, "exec_environment") != NULL);
    fclose(file);
    file = fopen("/proc/self/comm", "r");
    CHECK(file != NULL && fgets(comm, sizeof comm, file) != NULL && strcmp(comm, "exec_environmen\n") == 0);
    fclose(file);
}

static void system_identity(void)
{
    struct utsname name;
    CHECK(uname(&name) == 0 && strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, "x86_64") == 0);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PHYS_PAGES) > 1000);
}

int main(void)
{
    PART(arguments_and_environment);
    PART(large_argument_list);
    PART(auxiliary_vector);
    PART(scripts_run_their_interpreter);
    PART(proc_tells_the_program);
    PART(system_identity);
    return 0;
}
